//! Which ports are open, and what a switch opens and closes.

use std::collections::{BTreeMap, BTreeSet};

use lyncwall_common::abi::PortTransport;
use serde::Serialize;

use crate::compile::TargetInput;
use crate::net::{PortRange, joined, without};

/// The open ports of each target, whatever rule opens them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenPorts(BTreeMap<String, [Vec<PortRange>; 2]>);

impl OpenPorts {
    /// What these targets open.
    #[must_use]
    pub fn of(targets: &[TargetInput]) -> Self {
        Self(
            targets
                .iter()
                .map(|target| {
                    let open = PortTransport::ALL.map(|transport| {
                        let rules = target.inbound.iter().filter(|rule| rule.transport == transport);
                        joined(rules.map(|rule| PortRange::between(rule.first, rule.last)).collect())
                    });
                    (target.name.clone(), open)
                })
                .collect(),
        )
    }

    /// The open ports of a target, ascending and without neighbours; none for a target that there is not.
    #[must_use]
    pub fn get(&self, target: &str, transport: PortTransport) -> &[PortRange] {
        self.0.get(target).map_or(&[], |open| &open[transport as usize])
    }

    /// True where a port of a target is open, to whomever.
    #[must_use]
    pub fn contains(&self, target: &str, transport: PortTransport, port: u16) -> bool {
        self.get(target, transport).iter().any(|open| open.first() <= port && port <= open.last())
    }

    /// What is different in `new`, by target and transport; nothing for those that stay as they are.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let targets: BTreeSet<&String> = self.0.keys().chain(new.0.keys()).collect();
        let mut changes = Vec::new();
        for target in targets {
            for transport in PortTransport::ALL {
                let (before, after) = (self.get(target, transport), new.get(target, transport));
                let (opened, closed) = (without(after, before), without(before, after));
                if !opened.is_empty() || !closed.is_empty() {
                    changes.push(Change {
                        target: target.clone(),
                        transport: transport.name().to_owned(),
                        opened,
                        closed,
                    });
                }
            }
        }
        changes
    }
}

/// What a switch does to one transport of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The target's name.
    pub target: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// Ports that were closed and are open.
    pub opened: Vec<PortRange>,
    /// Ports that were open and are closed.
    pub closed: Vec<PortRange>,
}

#[cfg(test)]
mod tests;
