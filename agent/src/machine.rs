//! The state of the machine that the configuration depends on.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::unistd::Group;

use crate::config::{Api, Config, Interface};
use crate::datapath::stripped_tags;
use crate::interfaces;
use crate::plan::Machine;
use crate::policy::Ports;
use crate::problem::{Problem, Problems};

/// The first and the last port for sockets without a chosen port.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The ports in that range that are left out.
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Looks up the names of a configuration on this box: interfaces, in this thread's network namespace, and
/// groups of users.
///
/// # Errors
/// [`Problems`] for interfaces and groups of `[api]` that do not exist.
pub fn look(config: &Config) -> Result<Machine> {
    let known = interfaces::all()?;
    let mut problems = Problems::default();
    let mut numbers = Vec::new();
    for interface in &config.interfaces {
        match known.iter().find(|(name, _)| *name == *interface.name) {
            Some((_, number)) => numbers.push(*number),
            None => {
                let names: Vec<&str> =
                    known.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "lo").collect();
                problems.push(Problem::at(
                    interface.place.clone(),
                    format!("unknown interface {}", interface.name),
                    format!("name one of {}, or create it first", names.join(", ")),
                ));
            }
        }
    }
    for interface in config.interfaces.iter().filter(|interface| has_vlan_zones(interface)) {
        problems.extend(stripped(interface)?);
    }
    problems.extend(unknown_groups(&config.api));
    problems.or(())?;
    machine(numbers)
}

/// Like [`look`], with 0 for missing interfaces: for an agent that enforces already.
///
/// # Errors
/// If the kernel does not answer.
pub fn look_again(config: &Config) -> Result<Machine> {
    let known = interfaces::all()?;
    let number =
        |wanted: &str| known.iter().find(|(name, _)| name == wanted).map_or(0, |(_, number)| *number);
    let interfaces = config.interfaces.iter().map(|interface| number(&interface.name)).collect();
    for interface in config.interfaces.iter().filter(|interface| has_vlan_zones(interface)) {
        if known.iter().any(|(name, _)| *name == *interface.name)
            && let Some(problem) = stripped(interface)?
        {
            tracing::error!("{problem}");
        }
    }
    machine(interfaces)
}

fn machine(interfaces: Vec<u32>) -> Result<Machine> {
    let (members, addresses) = (interfaces::members()?, interfaces::addresses()?);
    Ok(Machine { interfaces, members, addresses, forwards: forwards()? })
}

/// The problems of groups in `[api]`: this box does not have them.
pub fn unknown_groups(api: &Api) -> Vec<Problem> {
    let named = [&api.readers, &api.group].into_iter().flatten();
    let unknown = named.filter_map(|group| {
        let message = match Group::from_name(&group.name) {
            Ok(Some(_)) => return None,
            Ok(None) => format!("unknown group {}", group.name),
            Err(error) => format!("cannot look up the group {}: {error}", group.name),
        };
        let fix = "create it with `groupadd --system`, name another, or remove the key";
        Some(Problem::at(group.place.clone(), message, fix))
    });
    unknown.collect()
}

/// True if a VLAN on the interface is in another zone than the interface.
fn has_vlan_zones(interface: &Interface) -> bool {
    interface.vlans.iter().any(|(_, zone)| *zone != interface.zone)
}

/// The problem of VLANs whose zones are unknown, as an offload takes the tags out of frames before the
/// program sees them. None if the interface does not exist.
fn stripped(interface: &Interface) -> Result<Option<Problem>> {
    let (name, place) = (&interface.name, interface.vlans_place.as_ref().unwrap_or(&interface.place));
    let stripped = stripped_tags(name).with_context(|| format!("asking what {name} does with VLAN tags"))?;
    Ok((!stripped.is_empty()).then(|| {
        Problem::at(
            place.clone(),
            format!("{name} takes the VLAN tags out of frames before the program sees them ({})", stripped.join(", ")),
            format!(
                "disable that with `ethtool -K {name}{}`, or guard the VLAN's own interface with an `[[interface]]`",
                stripped.iter().map(|feature| format!(" {feature} off")).collect::<String>()
            ),
        )
    }))
}

/// True if this network namespace forwards packets of either family, on any interface.
fn forwards() -> Result<bool> {
    for family in ["ipv4", "ipv6"] {
        let place = Path::new("/proc/sys/net").join(family).join("conf");
        let interfaces = match fs::read_dir(&place) {
            Ok(interfaces) => interfaces,
            // The kernel may lack a family.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| place.display().to_string()),
        };
        for interface in interfaces {
            let name = interface.with_context(|| place.display().to_string())?.file_name();
            // The default for future interfaces.
            if name == "default" {
                continue;
            }
            match fs::read_to_string(place.join(&name).join("forwarding")) {
                Ok(value) if value.trim() != "0" => return Ok(true),
                Ok(_) => {}
                // The interface has just gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| place.display().to_string()),
            }
        }
    }
    Ok(false)
}

/// The ports that this network namespace gives to sockets without a chosen port, for IPv6 too: ascending and
/// joined.
///
/// # Errors
/// If the kernel does not answer.
pub fn ephemeral() -> Result<Vec<Ports>> {
    let read = |file| fs::read_to_string(file).with_context(|| format!("reading {file}"));
    let text = read(EPHEMERAL)?;
    let range = pair(&text).with_context(|| format!("{EPHEMERAL} holds {text:?}, not two ports"))?;
    let text = read(RESERVED)?;
    let reserved = list(&text).with_context(|| format!("{RESERVED} holds {text:?}, not a list of ports"))?;
    Ok(Ports::without(&[range], &reserved))
}

/// Parses `32768\t60999`.
fn pair(text: &str) -> Option<Ports> {
    let mut ports = text.split_whitespace().map(|port| port.parse().ok());
    Some(Ports { first: ports.next()??, last: ports.next()?? })
}

/// Parses `8080,49152-65535`, or nothing.
fn list(text: &str) -> Option<Vec<Ports>> {
    let stretches = text.trim().split(',').filter(|stretch| !stretch.is_empty());
    stretches
        .map(|stretch| {
            let (first, last) = stretch.split_once('-').unwrap_or((stretch, stretch));
            Some(Ports { first: first.parse().ok()?, last: last.parse().ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Ports, ephemeral, list, pair};

    #[test]
    fn the_kernel_writes_ports_in_pairs_and_lists() {
        assert_eq!(pair("32768\t60999\n"), Some(Ports { first: 32768, last: 60999 }));
        assert_eq!(pair("32768"), None);
        assert_eq!(pair("32768 70000"), None);
        assert_eq!(list("\n"), Some(vec![]));
        let listed = [Ports { first: 8080, last: 8080 }, Ports { first: 49152, last: 65535 }];
        assert_eq!(list("8080,49152-65535\n"), Some(listed.to_vec()));
        assert_eq!(list("a-b"), None);
    }

    #[test]
    fn this_machine_gives_ports_to_its_sockets() {
        let given = ephemeral().expect("the kernel tells");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        assert!(given.iter().any(|ports| (ports.first..=ports.last).contains(&port)), "{port} of {given:?}");
    }
}
