//! The state of the machine that the configuration depends on.

mod forwarding;
mod groups;
pub mod interfaces;
mod ports;
mod tags;

use anyhow::Result;
use lyncwall_policy::config::{Config, Interface};
use lyncwall_policy::plan::Machine;
use lyncwall_policy::problem::{Problem, Problems};

use forwarding::forwards;
use tags::{has_vlan_zones, stripped};

pub use groups::unknown_groups;
pub use ports::ephemeral;

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
    for interface in config.interfaces.iter().filter(|interface| has_vlan_zones(interface)) {
        if let Some(problem) = stripped(interface)? {
            tracing::error!("{problem}");
        }
    }
    look_quietly(config)
}

/// Like [`look_again`], without a log line: for a command that reports [`doubts`] itself.
///
/// # Errors
/// If the kernel does not answer.
pub fn look_quietly(config: &Config) -> Result<Machine> {
    let known = interfaces::all()?;
    let number =
        |wanted: &str| known.iter().find(|(name, _)| name == wanted).map_or(0, |(_, number)| *number);
    machine(config.interfaces.iter().map(|interface| number(&interface.name)).collect())
}

/// What keeps a configuration from being enforced in full on this machine as it is now, one sentence each:
/// missing interfaces, tags that a driver takes away, unknown groups. The file may be meant for another box.
#[must_use]
pub fn doubts(config: &Config) -> Vec<String> {
    let mut doubts = Vec::new();
    match interfaces::all() {
        Ok(known) => {
            let missing = |interface: &&Interface| known.iter().all(|(name, _)| *name != *interface.name);
            doubts.extend(config.interfaces.iter().filter(missing).map(|interface| {
                let name = &interface.name;
                format!(
                    "{}: {name} does not exist on this machine now, and nothing guards it until it does",
                    interface.place
                )
            }));
        }
        Err(error) => doubts.push(format!("cannot list the interfaces of this machine: {error:#}")),
    }
    for interface in config.interfaces.iter().filter(|interface| has_vlan_zones(interface)) {
        match stripped(interface) {
            Ok(problem) => doubts.extend(problem.map(|problem| problem.to_string())),
            Err(error) => doubts.push(format!("{error:#}")),
        }
    }
    doubts.extend(unknown_groups(&config.api).iter().map(ToString::to_string));
    doubts
}

fn machine(interfaces: Vec<u32>) -> Result<Machine> {
    let (members, addresses) = (interfaces::members()?, interfaces::addresses()?);
    Ok(Machine { interfaces, members, addresses, forwards: forwards()? })
}
