//! Which ports are open, and what a switch opens and closes.

use std::collections::{BTreeMap, BTreeSet};

use lyncwall_common::abi::PortTransport;
use serde::{Deserialize, Serialize};

use crate::compile::TargetInput;

/// The open ports of each target, whatever rule opens them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpenPorts(BTreeMap<String, [Vec<Ports>; 2]>);

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
                        joined(rules.map(|rule| Ports { first: rule.first, last: rule.last }).collect())
                    });
                    (target.name.clone(), open)
                })
                .collect(),
        )
    }

    /// The open ports of a target, ascending and without neighbours; none for a target that there is not.
    #[must_use]
    pub fn get(&self, target: &str, transport: PortTransport) -> &[Ports] {
        self.0.get(target).map_or(&[], |open| &open[transport as usize])
    }

    /// True where a port of a target is open, to whomever.
    #[must_use]
    pub fn contains(&self, target: &str, transport: PortTransport, port: u16) -> bool {
        self.get(target, transport).iter().any(|open| open.first <= port && port <= open.last)
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The target's name.
    pub target: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// Ports that were closed and are open.
    pub opened: Vec<Ports>,
    /// Ports that were open and are closed.
    pub closed: Vec<Ports>,
}

/// Ports from a first to a last one, both included, in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port, at least `first`.
    pub last: u16,
}

impl Ports {
    /// What is in `ranges` and not in `others`, ascending and without neighbours.
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

/// The same ports in ascending order, neighbours and overlaps joined.
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

/// What is in `ranges` and not in `others`; both are joined, and so is the result.
pub(crate) fn without(ranges: &[Ports], others: &[Ports]) -> Vec<Ports> {
    let mut rest = Vec::new();
    for range in ranges {
        // Wider than a port, so that it can stand behind the last one.
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
