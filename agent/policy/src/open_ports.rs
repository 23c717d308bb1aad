//! The open ports, and the difference that a switch makes.

use std::collections::{BTreeMap, BTreeSet};

use lyncwall_common::abi::PortTransport;
use serde::Serialize;

use crate::compile::TargetInput;
use crate::net::{PortRange, joined, without};

/// The open ports of each target, by any rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenPorts(BTreeMap<String, [Vec<PortRange>; 2]>);

impl OpenPorts {
    /// The open ports of these targets.
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

    /// The open ports of a target, ascending and joined; empty for an unknown target.
    #[must_use]
    pub fn get(&self, target: &str, transport: PortTransport) -> &[PortRange] {
        self.0.get(target).map_or(&[], |open| &open[transport as usize])
    }

    /// True if a port of a target is open to any source.
    #[must_use]
    pub fn contains(&self, target: &str, transport: PortTransport, port: u16) -> bool {
        self.get(target, transport).iter().any(|open| open.first() <= port && port <= open.last())
    }

    /// The differences in `new`, by target and transport; without unchanged ones.
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

/// The effect of a switch on one transport of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The target's name.
    pub target: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// Ports that open.
    pub opened: Vec<PortRange>,
    /// Ports that close.
    pub closed: Vec<PortRange>,
}

#[cfg(test)]
mod tests;
