//! The state of the machine that the configuration depends on.

mod answering;
mod forwarding;
mod groups;
pub mod interfaces;
mod memory;
mod own;
mod ports;
mod tags;

use std::time::Duration;

use anyhow::Result;
use lyncwall_policy::config::{Config, Interface};
use lyncwall_policy::plan::Machine;
use lyncwall_policy::problem::Problems;
use nix::time::{ClockId, clock_gettime};

use answering::answering;
use tags::{has_vlan_zones, stripped};

pub use answering::silent_interfaces;
pub use forwarding::forwards;
pub use groups::unknown_groups;
pub use memory::flows as flows_for_memory;
pub use own::own;
pub use ports::ephemeral;

/// Looks up the interfaces of a configuration in this thread's network namespace. A missing one has the number 0:
/// it may appear later.
///
/// # Errors
/// [`Problems`] for VLAN zones that a network card hides.
pub fn look(config: &Config) -> Result<Machine> {
    let mut problems = Problems::default();
    for interface in config.interfaces.iter().filter(|interface| has_vlan_zones(interface)) {
        problems.extend(stripped(interface)?);
    }
    problems.or(())?;
    machine(config)
}

/// Like [`look`], for an agent that enforces already: logs what it finds wrong.
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
    machine(config)
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

/// The time since the boot, sleep included; the longest one if the clock cannot be read.
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

fn machine(config: &Config) -> Result<Machine> {
    let known = interfaces::all()?;
    let number =
        |wanted: &str| known.iter().find(|(name, _)| name == wanted).map_or(0, |(_, number)| *number);
    let interfaces: Vec<u32> = config.interfaces.iter().map(|interface| number(&interface.name)).collect();
    let (members, own) = (interfaces::members()?, own(&interfaces)?);
    let answering = answering(config, &interfaces, &members)?;
    Ok(Machine { interfaces, members, own, forwards: forwards()?, answering })
}
