//! Compares two policies: the effect of a change on existing connections and listening sockets.

use lyncwall_common::abi::PortTransport;
use lyncwall_common::reason::Action;

use crate::compile::{Compiled, CounterBook, Input, compile};
use crate::config::{AllowWhat, Mode};
use crate::connection::{Connection, Leg, Listener, Moment};
use crate::judge::judge;
use crate::media_ranges::is_media_range;
use crate::net::{PortRange, joined, without};
use crate::open_ports::OpenPorts;
use crate::problem::Problems;
use crate::reach::{is_here, reached_as};

/// Two policies of one box, side by side.
pub struct Comparison {
    before: Compiled,
    after: Compiled,
    inputs: [Input; 2],
    open: [OpenPorts; 2],
    ways: Ways,
}

/// The ways into a box, one for each zone.
#[derive(Debug, Clone, Default)]
pub struct Ways {
    /// By interfaces that are guarded already.
    pub guarded: Vec<Leg>,
    /// By interfaces that the change guards; until then they drop nothing.
    pub open: Vec<Leg>,
}

impl Comparison {
    /// `counters` are those in use now. The way that a connection uses is unknown, so all `ways` are
    /// examined.
    ///
    /// # Errors
    /// As [`compile()`].
    pub fn new(before: Input, after: Input, counters: &CounterBook, ways: Ways) -> Result<Self, Problems> {
        Ok(Self {
            before: compile(&before, &mut counters.clone())?,
            after: compile(&after, &mut counters.clone())?,
            open: [OpenPorts::of(&before.targets), OpenPorts::of(&after.targets)],
            ways,
            inputs: [before, after],
        })
    }

    /// The input of the new policy.
    #[must_use]
    pub fn after(&self) -> &Input {
        &self.inputs[1]
    }

    /// The ways to examine.
    #[must_use]
    pub fn legs(&self) -> Vec<Leg> {
        [&self.ways.guarded[..], &self.ways.open].concat()
    }

    /// The connections whose packets get in now without a flow, but not after the change. Audit mode lets all
    /// in.
    pub fn shut_out(&self, connections: impl IntoIterator<Item = Connection>) -> Vec<Connection> {
        let closes = |connection: &Connection| {
            let shuts = |leg: &Leg| !lets_in(&self.after, *leg, connection);
            let by = |leg: &Leg| lets_in(&self.before, *leg, connection) && shuts(leg);
            self.ways.guarded.iter().any(by) || self.ways.open.iter().any(shuts)
        };
        connections.into_iter().filter(closes).collect()
    }

    /// The listeners whose port closes, each with its target. In audit mode all ports are open.
    #[must_use]
    pub fn unreached<'a>(&self, listeners: &'a [Listener]) -> Vec<(&str, &'a Listener)> {
        let [before, after] = &self.open;
        let mut found = Vec::new();
        for listener in listeners {
            for target in reached_as(listener, &self.inputs[0]) {
                let is_reached = |input: &Input, open: &OpenPorts| {
                    audits(input, target) || open.contains(target, listener.transport, listener.port)
                };
                if is_reached(&self.inputs[0], before) && !is_reached(&self.inputs[1], after) {
                    found.push((target, listener));
                }
            }
        }
        found
    }

    /// What still lets packets to a listener at a closed port in: `management`, and the names of allow rules.
    #[must_use]
    pub fn still_reached(&self, target: &str, listener: &Listener) -> Vec<String> {
        let input = &self.inputs[1];
        let mut by = Vec::new();
        // Management is for the box itself, which owns the listener.
        if let Some(management) = &input.management {
            let ports = match listener.transport {
                PortTransport::Tcp => &management.tcp,
                PortTransport::Udp => &management.udp,
            };
            if ports.iter().any(|ports| ports.contains(listener.port)) {
                by.push("management".to_owned());
            }
        }
        for rule in &input.allow {
            let here = rule.target.as_deref().is_none_or(|name| name == target);
            if let AllowWhat::Ports { transport, ports } = &rule.what
                && here
                && transport.covers(listener.transport)
                && ports.iter().any(|ports| ports.contains(listener.port))
            {
                by.push(format!("allow rule {}", rule.name));
            }
        }
        by
    }

    /// Ports of this box that open without a listener, by target. Leaves out wide ranges.
    #[must_use]
    pub fn unheard(&self, listeners: &[Listener]) -> Vec<(String, PortTransport, PortRange)> {
        let [before, after] = &self.open;
        let input = &self.inputs[1];
        let mut found = Vec::new();
        for target in input.targets.iter().filter(|target| is_here(target, &input.local)) {
            for transport in PortTransport::ALL {
                let (was, is) = (before.get(&target.name, transport), after.get(&target.name, transport));
                let opened = without(is, was).into_iter().filter(|ports| !is_media_range(*ports));
                let at = listeners.iter().filter(|listener| {
                    listener.transport == transport && reached_as(listener, input).contains(&*target.name)
                });
                let heard = joined(at.map(|at| PortRange::one(at.port)).collect());
                let silent = without(&opened.collect::<Vec<_>>(), &heard);
                found.extend(silent.into_iter().map(|ports| (target.name.clone(), transport, ports)));
            }
        }
        found
    }
}

/// True if nothing to this target is dropped.
fn audits(input: &Input, target: &str) -> bool {
    let at = input.targets.iter().position(|known| known.name == target);
    at.is_some_and(|at| input.mode_of(at) == Mode::Audit)
}

/// True if the packets of a connection get in without a flow.
fn lets_in(compiled: &Compiled, leg: Leg, connection: &Connection) -> bool {
    let frame = connection.incoming(Moment::Middle, leg);
    frame.is_ok_and(|frame| judge(compiled, leg.ifindex, &frame).action == Action::Pass)
}

#[cfg(test)]
mod tests;
