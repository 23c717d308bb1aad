//! The open ports, and the difference that a switch makes.

use std::collections::{BTreeMap, BTreeSet};

use lyncwall_common::abi::PortTransport;
use serde::{Deserialize, Serialize};

use crate::compile::TargetInput;

/// The open ports of each target, by any rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpenPorts(BTreeMap<String, [Vec<Ports>; 2]>);

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
                        joined(rules.map(|rule| Ports { first: rule.first, last: rule.last }).collect())
                    });
                    (target.name.clone(), open)
                })
                .collect(),
        )
    }

    /// The open ports of a target, ascending and joined; empty for an unknown target.
    #[must_use]
    pub fn get(&self, target: &str, transport: PortTransport) -> &[Ports] {
        self.0.get(target).map_or(&[], |open| &open[transport as usize])
    }

    /// True if a port of a target is open to any source.
    #[must_use]
    pub fn contains(&self, target: &str, transport: PortTransport, port: u16) -> bool {
        self.get(target, transport).iter().any(|open| open.first <= port && port <= open.last)
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The target's name.
    pub target: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// Ports that open.
    pub opened: Vec<Ports>,
    /// Ports that close.
    pub closed: Vec<Ports>,
}

/// A range of ports, both ends included, in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port, at least `first`.
    pub last: u16,
}

impl Ports {
    /// The ports in `ranges` but not in `others`, ascending and joined.
    #[must_use]
    pub fn without(ranges: &[Self], others: &[Self]) -> Vec<Self> {
        without(&joined(ranges.to_vec()), &joined(others.to_vec()))
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Sorts ports, and joins neighbours and overlaps.
pub(crate) fn joined(mut ranges: Vec<Ports>) -> Vec<Ports> {
    ranges.sort_unstable();
    let mut joined: Vec<Ports> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

/// The ports in `ranges` but not in `others`; all three lists are joined.
pub(crate) fn without(ranges: &[Ports], others: &[Ports]) -> Vec<Ports> {
    let mut rest = Vec::new();
    for range in ranges {
        // Wider than a port, to hold the number after the last one.
        let mut first = u32::from(range.first);
        for other in others.iter().filter(|other| other.first <= range.last && other.last >= range.first) {
            if let Ok(start) = u16::try_from(first)
                && start < other.first
            {
                rest.push(Ports { first: start, last: other.first - 1 });
            }
            first = u32::from(other.last) + 1;
        }
        if let Ok(start) = u16::try_from(first)
            && start <= range.last
        {
            rest.push(Ports { first: start, last: range.last });
        }
    }
    rest
}

#[cfg(test)]
mod tests;
