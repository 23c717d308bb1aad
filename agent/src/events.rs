//! From the program's events to what people and other programs read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lyncwall_common::abi::{self, PortTransport};
use lyncwall_common::fields::Address;
use lyncwall_common::packet::{Copied, Packet, Wire};
use lyncwall_common::parse::{Family, Headers, TAGGED, parse};
use lyncwall_common::reason::{Action, Reason};
use lyncwall_common::wire::{Ipv4Header, Ipv6Header};

use crate::api::Event;
use crate::services::Services;

/// What events are told with.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Names of interfaces, by the kernel's number.
    pub interfaces: HashMap<u32, String>,
    /// Services by port.
    pub services: Arc<Services>,
}

/// An event in words. The frame is parsed by the program's own parser.
#[must_use]
pub fn describe(event: &abi::Event, names: &Names) -> Event {
    let bytes = event.bytes();
    let captured = usize::from(event.captured).min(bytes.len());
    let snap = Snap { bytes: &bytes[..captured], length: event.length as usize };
    let mut headers = Headers::UNREAD;
    // A frame that cannot be judged is described as far as it can be read.
    let _kind = parse(snap, &mut headers);
    let addresses = addresses(snap, &headers);
    let protocol = headers.family.map(|family| protocol_name(family, headers.protocol));
    let service = headers
        .ports
        .map(|transport| names.services.at(transport, headers.destination_port.number()))
        .filter(|service| !service.is_empty());
    Event {
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        action: if event.action == Action::Pass as u8 { Action::Pass } else { Action::Drop }
            .name()
            .to_owned(),
        reason: Reason::from_value(event.reason).map_or("unknown", Reason::name).to_owned(),
        interface: names
            .interfaces
            .get(&event.ifindex)
            .cloned()
            .unwrap_or_else(|| format!("#{}", event.ifindex)),
        vlan: headers.vlan.iter().filter(|tag| **tag & TAGGED != 0).map(|tag| tag & 0xfff).collect(),
        ether_type: headers.family.is_none().then(|| format!("{:#06x}", u16::from_be(headers.ether_type))),
        source: addresses.map(|[source, _]| source.ip().to_string()),
        destination: addresses.map(|[_, destination]| destination.ip().to_string()),
        protocol,
        source_port: headers.ports.map(|_| headers.source_port.number()),
        destination_port: headers.ports.map(|_| headers.destination_port.number()),
        service: service.map(str::to_owned),
        tcp_flags: (headers.ports == Some(PortTransport::Tcp)).then(|| flag_names(headers.flags)),
        icmp: is_icmp(&headers).then_some([headers.flags, headers.code]),
        length: event.length,
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
}

/// Source and destination.
fn addresses(snap: Snap<'_>, headers: &Headers) -> Option<[Address; 2]> {
    Some(match headers.family? {
        Family::V4 => {
            let ip: Ipv4Header = snap.read(headers.network)?;
            [Address::V4(ip.source), Address::V4(ip.destination)]
        }
        Family::V6 => {
            let ip: Ipv6Header = snap.read(headers.network)?;
            [Address::V6(ip.source), Address::V6(ip.destination)]
        }
    })
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
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set: Vec<&str> = names
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| flags >> bit & 1 != 0)
        .map(|(_, name)| name)
        .collect();
    set.join(",")
}
