//! Wide open ranges, such as media ranges, and what of this box is open through them by accident: servers,
//! and the ports of the box's own sockets.

use std::collections::BTreeMap;

use lyncwall_common::abi::PortTransport;

use crate::compile::{Input, Rule};
use crate::connection::Listener;
use crate::net::{PortRange, joined, without};
use crate::reach::{is_here, reached_as};

/// The least number of ports of a wide range: a program chooses ports from it freely, and has no server at
/// each.
const MEDIA_RANGE: u16 = 100;

/// True for a range that a program chooses ports from freely.
pub(crate) fn is_media_range(ports: PortRange) -> bool {
    ports.last() - ports.first() >= MEDIA_RANGE - 1
}

/// A rule that opens a wide range of this box's ports.
#[derive(Debug, Clone, Copy)]
pub struct MediaRange<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The rule.
    pub rule: &'a Rule,
}

impl MediaRange<'_> {
    /// Its ports.
    #[must_use]
    pub fn ports(&self) -> PortRange {
        PortRange::between(self.rule.first, self.rule.last)
    }
}

/// The wide open ranges on this box.
#[must_use]
pub fn media_ranges(input: &Input) -> Vec<MediaRange<'_>> {
    let here = input.targets.iter().filter(|target| is_here(target, &input.local));
    let rules =
        here.flat_map(|target| target.inbound.iter().map(|rule| MediaRange { target: &target.name, rule }));
    rules.filter(|range| is_media_range(range.ports())).collect()
}

/// Sockets of one process that are open through a wide range.
#[derive(Debug, Clone)]
pub struct Exposed<'a> {
    /// The range.
    pub range: MediaRange<'a>,
    /// Their process, if known.
    pub process: Option<String>,
    /// Their ports, ascending.
    pub ports: Vec<u16>,
}

/// The listeners in wide ranges, by range and process.
#[must_use]
pub fn exposed<'a>(ranges: &[MediaRange<'a>], input: &Input, listeners: &[Listener]) -> Vec<Exposed<'a>> {
    let mut exposed = Vec::new();
    for range in ranges {
        let mut ports: BTreeMap<Option<String>, Vec<PortRange>> = BTreeMap::new();
        for listener in listeners {
            if is_within(range, listener) && reached_as(listener, input).contains(range.target) {
                let port = PortRange::one(listener.port);
                ports.entry(listener.process.clone()).or_default().push(port);
            }
        }
        for (process, ports) in ports {
            let ports = joined(ports).into_iter().flat_map(|ports| ports.first()..=ports.last()).collect();
            exposed.push(Exposed { range: *range, process, ports });
        }
    }
    exposed
}

/// True if the port of a listener is in a range.
#[must_use]
pub fn is_within(range: &MediaRange<'_>, listener: &Listener) -> bool {
    let MediaRange { rule, .. } = range;
    rule.transport == listener.transport && (rule.first..=rule.last).contains(&listener.port)
}

/// Ports that the box gives to its own sockets and that a wide range opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The open ones among them, by transport.
    pub open: Vec<(PortTransport, Vec<PortRange>)>,
    /// The longest run of other ports for such sockets; `None` if it is too short for a box (4,096).
    pub left: Option<PortRange>,
}

/// The least number of ports for a box's own sockets.
const ENOUGH: u16 = 4096;

/// The overlap of wide ranges and the ports for the box's own sockets; `None` without one.
#[must_use]
pub fn overlaps(ranges: &[MediaRange<'_>], own: &[PortRange]) -> Option<Overlap> {
    let of = |transport| {
        let of = ranges.iter().filter(|range| range.rule.transport == transport);
        joined(of.map(MediaRange::ports).collect())
    };
    let open: Vec<_> = PortTransport::ALL
        .into_iter()
        .map(|transport| {
            let wide = of(transport);
            // The ports in both.
            (transport, without(&wide, &without(&wide, own)))
        })
        .filter(|(_, both)| !both.is_empty())
        .collect();
    if open.is_empty() {
        return None;
    }
    let wide = joined(ranges.iter().map(MediaRange::ports).collect());
    let left = without(own, &wide).into_iter().max_by_key(|ports| ports.last() - ports.first());
    Some(Overlap { open, left: left.filter(|left| left.last() - left.first() >= ENOUGH - 1) })
}

#[cfg(test)]
mod tests;
