//! Turns the program's records of packets into events for people and programs.

mod filter;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lyncwall_common::abi::{self, PortTransport};
use lyncwall_common::fields::{IpAt, addresses};
use lyncwall_common::packet::{Copied, Ipv4Options, Packet, Wire};
use lyncwall_common::parse::{Family, Headers, TAGGED, parse, walk_options};
use lyncwall_common::reason::{Action, Reason};

use lyncwall_api::Event;
use lyncwall_policy::frame::TCP_FLAGS;
use lyncwall_policy::locate::{Located, Locator};
use lyncwall_policy::services::Services;

pub use filter::{Filter, FilterScope};

/// The names to describe packets with.
#[derive(Clone, Default)]
pub struct EventNames {
    /// Names of interfaces, by the kernel's number.
    pub interfaces: Arc<HashMap<u32, String>>,
    /// Services by port.
    pub services: Arc<Services>,
    /// The generation that was installed last; `None` before the first.
    pub locator: Option<Arc<Locator>>,
}

/// A packet with its verdict.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Seconds since 1970 (UTC).
    pub time: f64,
    /// The number of the interface of its arrival.
    pub ifindex: u32,
    /// The reason; `None` for a number that this agent does not know.
    pub reason: Option<Reason>,
    /// The action.
    pub action: Action,
    /// The beginning of the frame.
    pub bytes: &'a [u8],
    /// Length of the frame in bytes.
    pub length: u32,
}

/// The event with its names, as of now.
#[must_use]
pub fn describe(event: &abi::Event, names: &EventNames) -> Event {
    let bytes = event.bytes();
    let captured = usize::from(event.captured).min(bytes.len());
    let observed = Observed {
        time: now(),
        ifindex: event.ifindex,
        reason: Reason::from_value(event.reason),
        action: if event.action == Action::Pass as u8 { Action::Pass } else { Action::Drop },
        bytes: &bytes[..captured],
        length: event.length,
    };
    observed.describe(names)
}

/// Seconds since 1970 (UTC).
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Observed<'_> {
    /// Describes the packet. The program's own parser parses it; a packet that cannot be judged is described
    /// as far as it can be parsed.
    #[must_use]
    pub fn describe(&self, names: &EventNames) -> Event {
        let snap = self.snap();
        let mut headers = Headers::UNREAD;
        let _kind = parse(snap, &mut headers);
        let ends = headers.family.and_then(|_| addresses(snap, IpAt::of(&headers)));
        let protocol = headers.family.map(|family| protocol_name(family, headers.protocol));
        let located = self.locate(names);
        let service = headers
            .ports
            .map(|transport| names.services.at(transport, headers.destination_port.number()).to_owned());
        // The target's own service at the port beats a possible one.
        let service = located
            .as_ref()
            .map(|located| located.service.clone())
            .into_iter()
            .chain(service)
            .find(|service| !service.is_empty());
        let note = located.as_ref().and_then(|located| note(self.reason?, located));
        let rule = located.as_ref().and_then(Located::rule_name);
        let (zone, target) = located.map(|located| (located.zone, located.target)).unwrap_or_default();
        Event {
            time: self.time,
            action: self.action.name().to_owned(),
            reason: self.reason.map_or("unknown", Reason::name).to_owned(),
            interface: names
                .interfaces
                .get(&self.ifindex)
                .cloned()
                .unwrap_or_else(|| format!("#{}", self.ifindex)),
            zone,
            target,
            rule,
            vlan: headers.vlan.iter().filter(|tag| **tag & TAGGED != 0).map(|tag| tag & 0xfff).collect(),
            ether_type: headers
                .family
                .is_none()
                .then(|| format!("{:#06x}", u16::from_be(headers.ether_type))),
            source: ends.map(|(source, _)| source.ip().to_string()),
            destination: ends.map(|(_, destination)| destination.ip().to_string()),
            protocol,
            source_port: headers.ports.map(|_| headers.source_port.number()),
            destination_port: headers.ports.map(|_| headers.destination_port.number()),
            service,
            tcp_flags: (headers.ports == Some(PortTransport::Tcp)).then(|| flag_names(headers.flags)),
            icmp: is_icmp(&headers).then_some([headers.flags, headers.code]),
            length: self.length,
            note,
        }
    }

    /// Its location in the generation that was installed last; `None` if it is not IP, or there is none.
    #[must_use]
    pub fn locate(&self, names: &EventNames) -> Option<Located> {
        names.locator.as_ref()?.locate(self.ifindex, self.snap())
    }

    fn snap(&self) -> Snap<'_> {
        Snap { bytes: self.bytes, length: self.length as usize }
    }
}

/// A note beside the reason of a drop.
fn note(reason: Reason, located: &Located) -> Option<String> {
    match reason {
        Reason::Closed | Reason::NoFlow | Reason::Source
            if located.management_port && !located.management_source =>
        {
            Some("a management port, but not from here".to_owned())
        }
        Reason::Source => {
            let groups = &located.rule.as_ref()?.groups;
            (!groups.is_empty()).then(|| format!("open to {} only", groups.join(" and ")))
        }
        _ => None,
    }
}

/// The beginning of a longer frame.
#[derive(Clone, Copy)]
struct Snap<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl Packet for Snap<'_> {
    fn length(self) -> usize {
        self.length
    }

    type Header<T: Wire> = Copied<T>;

    fn header<T: Wire>(self, offset: usize) -> Option<Copied<T>> {
        self.bytes.header(offset)
    }

    fn ipv4_options(self, start: usize, end: usize) -> Ipv4Options {
        walk_options(self, start, end)
    }
}

fn is_icmp(headers: &Headers) -> bool {
    let icmp = match headers.family {
        Some(Family::V4) => 1,
        Some(Family::V6) => 58,
        None => return false,
    };
    headers.protocol == icmp && headers.transport != 0
}

fn protocol_name(family: Family, protocol: u8) -> String {
    match (family, protocol) {
        (_, 6) => "tcp".to_owned(),
        (_, 17) => "udp".to_owned(),
        (Family::V4, 1) | (Family::V6, 58) => "icmp".to_owned(),
        (_, other) => other.to_string(),
    }
}

fn flag_names(flags: u8) -> String {
    let set: Vec<&str> = TCP_FLAGS
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| flags >> bit & 1 != 0)
        .map(|(_, name)| name)
        .collect();
    set.join(",")
}
