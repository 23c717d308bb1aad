//! The state of the machine that the configuration depends on.

mod answering;
mod forwarding;
mod groups;
pub mod interfaces;
mod ports;
mod tags;

use std::time::Duration;

use anyhow::Result;
use lyncwall_policy::config::Config;
use lyncwall_policy::plan::Machine;
use lyncwall_policy::problem::{Problem, Problems};
use nix::time::{ClockId, clock_gettime};

use answering::answering;
use forwarding::forwards;
use tags::{has_vlan_zones, stripped};

pub use answering::silent_interfaces;
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
    machine(config, numbers)
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
    machine(config, interfaces)
}

/// The time since the boot, sleep included; the longest one if the clock cannot be read.
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

fn machine(config: &Config, interfaces: Vec<u32>) -> Result<Machine> {
    let (members, addresses) = (interfaces::members()?, interfaces::addresses()?);
    let answering = answering(config, &interfaces, &members)?;
    Ok(Machine { interfaces, members, addresses, forwards: forwards()?, answering })
}
