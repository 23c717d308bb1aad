//! The state of the machine that the configuration depends on.

mod forwarding;
mod groups;
pub mod interfaces;
mod ports;
mod tags;

use anyhow::Result;
use lyncwall_policy::config::Config;
use lyncwall_policy::plan::Machine;
use lyncwall_policy::problem::{Problem, Problems};

use tags::{has_vlan_zones, stripped};

pub use forwarding::forwards;
pub use groups::unknown_groups;
pub use ports::ephemeral;

/// Looks up the interfaces of a configuration in this thread's network namespace.
///
/// # Errors
/// [`Problems`] for interfaces that do not exist.
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
