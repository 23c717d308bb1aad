//! What the configuration needs to know of the machine.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nameindex;
use nix::sys::socket::SockaddrStorage;

use crate::config::Config;
use crate::plan::Machine;
use crate::problem::{Problem, Problems};

/// Looks the interfaces of a configuration up, in the network namespace of this thread.
///
/// # Errors
/// [`Problems`] for interfaces that do not exist.
pub fn look(config: &Config) -> Result<Machine> {
    let known = interfaces()?;
    let mut problems = Problems::default();
    let mut numbers = Vec::new();
    for interface in &config.interfaces {
        match known.iter().find(|(name, _)| *name == *interface.name) {
            Some((_, number)) => numbers.push(*number),
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
                problems.push(Problem::at(
                    interface.place.clone(),
                    format!("there is no interface {}", interface.name),
                    format!("name one of {}, or create it first", names.join(", ")),
                ));
            }
        }
    }
    problems.or(())?;
    Ok(Machine { interfaces: numbers, addresses: addresses()? })
}

/// The same with 0 for interfaces that do not exist at the moment: for an agent that enforces already.
///
/// # Errors
/// Where the kernel does not tell.
pub fn look_again(config: &Config) -> Result<Machine> {
    let known = interfaces()?;
    let number =
        |wanted: &str| known.iter().find(|(name, _)| name == wanted).map_or(0, |(_, number)| *number);
    let interfaces = config.interfaces.iter().map(|interface| number(&interface.name)).collect();
    Ok(Machine { interfaces, addresses: addresses()? })
}

/// The addresses of this network namespace.
pub(crate) fn addresses() -> Result<Vec<IpAddr>> {
    let all = getifaddrs().context("listing the addresses")?;
    let address = |address: SockaddrStorage| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        (None, None) => None,
    };
    Ok(all.filter_map(|interface| address(interface.address?)).collect())
}

/// Names and numbers.
fn interfaces() -> Result<Vec<(String, u32)>> {
    let interfaces = if_nameindex().context("listing the network interfaces")?;
    let known = interfaces.iter();
    Ok(known.map(|interface| (interface.name().to_string_lossy().into_owned(), interface.index())).collect())
}
