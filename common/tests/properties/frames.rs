//! Sound frames: what they say, their bytes, and where their headers lie.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::select;

/// A frame that is sound as far as this program looks.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// (802.1ad rather than 802.1Q, VLAN identifier), outer first; up to two, or many of which most are of priority.
    pub(crate) tags: Vec<(bool, u16)>,
    /// Sent to ff:ff:ff:ff:ff:ff.
    pub(crate) link_broadcast: bool,
    pub(crate) ip: Ip,
    pub(crate) payload: Payload,
    /// Bytes behind the IP packet.
    pub(crate) padding: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum Ip {
    V4 { source: Ipv4Addr, destination: Ipv4Addr, options: Vec<Opt>, part: Option<Part>, ttl: u8 },
    V6 { source: Ipv6Addr, destination: Ipv6Addr, extensions: Vec<Extension>, hop_limit: u8 },
}

/// An IPv4 option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opt {
    NoOperation,
    RouterAlert,
    RecordRoute,
    LooseSourceRoute,
    StrictSourceRoute,
    End,
}

/// An IPv6 extension header; the number counts eight-byte units after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    HopByHop(u8),
    Destination(u8),
    Routing { kind: u8, more: u8 },
    Fragment(Part),
}

/// A fragment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) id: u16,
    /// In eight-byte units.
    pub(crate) start: u16,
    pub(crate) more: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Tcp { source: u16, destination: u16, flags: u8, options: usize, data: usize },
    Udp { source: u16, destination: u16, data: usize },
    Icmp { kind: u8, code: u8, data: usize },
    Other { protocol: u8, data: usize },
}

/// A frame and where its headers lie, in bytes from its start.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) bytes: Vec<u8>,
    pub(crate) network: usize,
    /// Behind all that the specification lists before the payload.
    pub(crate) transport: usize,
    pub(crate) end: usize,
    /// Behind the fragment header, if there is one.
    pub(crate) part: usize,
}

impl Spec {
    pub(crate) fn build(&self) -> Built {
        let mut bytes = if self.link_broadcast { vec![0xff; 6] } else { vec![2, 0, 0, 0, 0, 1] };
        bytes.extend([2, 0, 0, 0, 0, 2]);
        for (service, vid) in &self.tags {
            bytes.extend(if *service { [0x88, 0xa8] } else { [0x81, 0x00] });
            bytes.extend((vid | 0x2000).to_be_bytes());
        }
        bytes.extend(if matches!(self.ip, Ip::V4 { .. }) { [0x08, 0x00] } else { [0x86, 0xdd] });
        let network = bytes.len();
        let payload = self.payload_bytes();
        let mut part = 0;
        match &self.ip {
            Ip::V4 { source, destination, options, part: fragment, ttl } => {
                let options = option_bytes(options);
                let length = 20 + options.len() + payload.len();
                bytes.push(0x45 + (options.len() / 4) as u8);
                bytes.push(0);
                bytes.extend((length as u16).to_be_bytes());
                let (id, word) = fragment
                    .map_or((7, 0x4000), |part| (part.id, part.start | if part.more { 0x2000 } else { 0 }));
                bytes.extend(id.to_be_bytes());
                bytes.extend(word.to_be_bytes());
                bytes.extend([*ttl, self.protocol(), 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(options);
                part = bytes.len();
            }
            Ip::V6 { source, destination, extensions, hop_limit } => {
                let length: usize = extensions.iter().map(|extension| extension.length()).sum();
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(((length + payload.len()) as u16).to_be_bytes());
                let mut next: Vec<u8> = extensions.iter().map(|extension| extension.number()).collect();
                next.push(self.protocol());
                bytes.extend([next[0], *hop_limit]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                for (extension, next) in extensions.iter().zip(&next[1..]) {
                    extension.write(*next, &mut bytes);
                    if let Extension::Fragment(_) = extension {
                        part = bytes.len();
                    }
                }
            }
        }
        let transport = bytes.len();
        bytes.extend(payload);
        let end = bytes.len();
        bytes.resize(end + self.padding, 0xaa);
        Built { bytes, network, transport, end, part }
    }

    /// A frame back: its ends exchanged, and an answer where this asks. TCP has these flags.
    pub(crate) fn answered(&self, flags: u8) -> Self {
        let mut answer = self.clone();
        match &mut answer.ip {
            Ip::V4 { source, destination, .. } => std::mem::swap(source, destination),
            Ip::V6 { source, destination, .. } => std::mem::swap(source, destination),
        }
        match &mut answer.payload {
            Payload::Tcp { source, destination, flags: own, .. } => {
                std::mem::swap(source, destination);
                *own = flags;
            }
            Payload::Udp { source, destination, .. } => std::mem::swap(source, destination),
            Payload::Icmp { kind, .. } => {
                *kind = match *kind {
                    8 => 0,
                    128 => 129,
                    other => other,
                }
            }
            Payload::Other { .. } => {}
        }
        answer
    }

    /// The same, where it is TCP with other flags.
    pub(crate) fn with_flags(&self, flags: u8) -> Self {
        let mut other = self.clone();
        if let Payload::Tcp { flags: own, .. } = &mut other.payload {
            *own = flags;
        }
        other
    }

    /// The fragment header that makes this a part of a packet; none where it is an atomic fragment.
    pub(crate) fn part(&self) -> Option<Part> {
        let part = match &self.ip {
            Ip::V4 { part, .. } => *part,
            Ip::V6 { extensions, .. } => extensions.iter().find_map(|extension| match extension {
                Extension::Fragment(part) => Some(*part),
                Extension::HopByHop(_) | Extension::Destination(_) | Extension::Routing { .. } => None,
            }),
        };
        part.filter(|part| part.start != 0 || part.more)
    }

    /// The same ends and identification (that of `part` where there is none yet) elsewhere in the packet,
    /// with another payload if one is given.
    fn another_part(&self, mut part: Part, payload: Option<Payload>) -> Self {
        let mut other = self.clone();
        other.payload = payload.unwrap_or(other.payload);
        part.id = self.part().map_or(part.id, |before| before.id);
        match &mut other.ip {
            Ip::V4 { part: place, .. } => *place = Some(part),
            Ip::V6 { extensions, .. } => {
                extensions.retain(|extension| !matches!(extension, Extension::Fragment(_)));
                extensions.push(Extension::Fragment(part));
            }
        }
        other
    }

    pub(crate) fn protocol(&self) -> u8 {
        match self.payload {
            Payload::Tcp { .. } => 6,
            Payload::Udp { .. } => 17,
            Payload::Icmp { .. } => {
                if matches!(self.ip, Ip::V4 { .. }) {
                    1
                } else {
                    58
                }
            }
            Payload::Other { protocol, .. } => protocol,
        }
    }

    /// All that follows the IP headers. All but the last fragment carry a multiple of eight bytes from the fragment
    /// header on, and extension headers are such a multiple.
    fn payload_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut data = match self.payload {
            Payload::Tcp { data, .. } | Payload::Udp { data, .. } => data,
            Payload::Icmp { data, .. } | Payload::Other { data, .. } => data,
        };
        let header = match self.payload {
            Payload::Tcp { options, .. } => 20 + 4 * options,
            Payload::Udp { .. } | Payload::Icmp { .. } => 8,
            Payload::Other { .. } => 0,
        };
        if self.part().is_some_and(|part| part.more) {
            data += (8 - (header + data) % 8) % 8;
        }
        if self.part().is_some() && header + data == 0 {
            data = 8;
        }
        match self.payload {
            Payload::Tcp { source, destination, flags, options, .. } => {
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, ((5 + options) << 4) as u8, flags, 1, 0, 0, 0, 0, 0]);
                bytes.resize(header, 1);
            }
            Payload::Udp { source, destination, .. } => {
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                // A first fragment gives the length of the whole datagram.
                let rest = if self.part().is_some_and(|part| part.more) { 1000 } else { 0 };
                bytes.extend(((8 + data + rest) as u16).to_be_bytes());
                bytes.extend([0, 0]);
            }
            Payload::Icmp { kind, code, .. } => bytes.extend([kind, code, 0, 0, 0, 0, 0, 0]),
            Payload::Other { .. } => {}
        }
        bytes.resize(header + data, 0x55);
        bytes
    }
}

impl Extension {
    fn number(self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Routing { .. } => 43,
            Self::Fragment(_) => 44,
            Self::Destination(_) => 60,
        }
    }

    fn length(self) -> usize {
        match self {
            Self::HopByHop(more) | Self::Destination(more) | Self::Routing { more, .. } => {
                8 * (usize::from(more) + 1)
            }
            Self::Fragment(_) => 8,
        }
    }

    fn write(self, next: u8, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        match self {
            Self::HopByHop(more) | Self::Destination(more) => bytes.extend([next, more]),
            Self::Routing { kind, more } => bytes.extend([next, more, kind, 0]),
            Self::Fragment(Part { id, start, more }) => {
                bytes.extend([next, 0]);
                bytes.extend((start << 3 | u16::from(more)).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(id.to_be_bytes());
            }
        }
        bytes.resize(start + self.length(), 0);
    }
}

fn option_bytes(options: &[Opt]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        bytes.extend::<&[u8]>(match option {
            Opt::NoOperation => &[1],
            Opt::RouterAlert => &[148, 4, 0, 0],
            Opt::RecordRoute => &[7, 7, 4, 0, 0, 0, 0],
            Opt::LooseSourceRoute => &[131, 7, 4, 192, 0, 2, 1],
            Opt::StrictSourceRoute => &[137, 7, 4, 192, 0, 2, 1],
            Opt::End => &[0],
        });
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Ports that mean something here, and others.
pub(crate) fn port() -> impl Strategy<Value = u16> {
    let known = [22u16, 53, 67, 68, 123, 443, 546, 547, 5061, 8080, 32_767, 32_768, 60_999, 61_000];
    prop_oneof![6 => select(known.to_vec()), 1 => any::<u16>()]
}

pub(crate) fn address_v4() -> impl Strategy<Value = Ipv4Addr> {
    let known = ["10.0.0.9", "10.1.0.5", "192.0.2.10", "198.51.100.10", "224.0.0.18", "255.255.255.255"];
    select(known.to_vec()).prop_map(|text| text.parse().expect("an address"))
}

pub(crate) fn address_v6() -> impl Strategy<Value = Ipv6Addr> {
    let known = ["fd00::9", "fd00:1::5", "2001:db8::10", "2001:db8::11", "ff02::1", "fe80::1"];
    select(known.to_vec()).prop_map(|text| text.parse().expect("an address"))
}

fn options() -> impl Strategy<Value = Vec<Opt>> {
    let usual = select(&[Opt::NoOperation, Opt::RouterAlert, Opt::RecordRoute][..]);
    let any = select(
        &[
            Opt::NoOperation,
            Opt::RouterAlert,
            Opt::RecordRoute,
            Opt::LooseSourceRoute,
            Opt::StrictSourceRoute,
            Opt::End,
        ][..],
    );
    prop_oneof![
        4 => Just(Vec::new()),
        2 => prop::collection::vec(usual, 1..=5),
        1 => prop::collection::vec(any, 1..=5),
    ]
}

/// Offsets and identifications from a small range, so that fragments meet.
fn part() -> impl Strategy<Value = Part> {
    (0..3u16, prop_oneof![3 => Just(0), 3 => 1..12u16, 2 => 0..8000u16], any::<bool>())
        .prop_map(|(id, start, more)| Part { id, start, more })
}

fn extensions() -> impl Strategy<Value = Vec<Extension>> {
    let other = prop_oneof![
        4 => (0..3u8).prop_map(Extension::Destination),
        2 => (1..5u8, 0..3u8).prop_map(|(kind, more)| Extension::Routing { kind, more }),
        1 => (0..3u8).prop_map(|more| Extension::Routing { kind: 0, more }),
    ];
    let chain = prop_oneof![4 => Just(0..=0), 3 => Just(1..=3), 1 => Just(4..=8)]
        .prop_flat_map(move |length| prop::collection::vec(other.clone(), length));
    let fragment = prop::option::weighted(0.4, (part(), any::<prop::sample::Index>()));
    (prop::option::weighted(0.2, 0..2u8), chain, fragment).prop_map(|(hop, mut chain, fragment)| {
        if let Some((part, index)) = fragment {
            chain.insert(index.index(chain.len() + 1), Extension::Fragment(part));
        }
        hop.map(Extension::HopByHop).into_iter().chain(chain).collect()
    })
}

fn ip() -> impl Strategy<Value = Ip> {
    let hops = || prop_oneof![Just(64u8), Just(255u8)];
    prop_oneof![
        (address_v4(), address_v4(), options(), prop::option::weighted(0.3, part()), hops()).prop_map(
            |(source, destination, options, part, ttl)| Ip::V4 { source, destination, options, part, ttl }
        ),
        (address_v6(), address_v6(), extensions(), hops()).prop_map(
            |(source, destination, extensions, hop_limit)| Ip::V6 {
                source,
                destination,
                extensions,
                hop_limit
            }
        ),
    ]
}

fn payload() -> impl Strategy<Value = Payload> {
    let flags = prop_oneof![3 => select(&[0x02u8, 0x12, 0x10, 0x18, 0xc2][..]), 2 => any::<u8>()];
    let kind = prop_oneof![
        2 => select(&[0u8, 1, 3, 4, 5, 8, 11, 12, 13, 128, 129, 130, 133, 135, 136, 137, 143][..]),
        1 => any::<u8>()
    ];
    // Without those that are judged in another way.
    let protocol = select(&[2u8, 4, 33, 41, 47, 50, 51, 59, 89, 112, 132, 136, 255][..]);
    prop_oneof![
        4 => (port(), port(), flags, 0..=10usize, 0..40usize).prop_map(
            |(source, destination, flags, options, data)| Payload::Tcp {
                source, destination, flags, options, data
            }
        ),
        4 => (port(), port(), 0..40usize)
            .prop_map(|(source, destination, data)| Payload::Udp { source, destination, data }),
        2 => (kind, any::<u8>(), 0..40usize)
            .prop_map(|(kind, code, data)| Payload::Icmp { kind, code, data }),
        1 => (protocol, 0..40usize).prop_map(|(protocol, data)| Payload::Other { protocol, data }),
    ]
}

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let id = prop_oneof![4 => 0..6u16, 1 => 0..4096u16];
    let deep = prop_oneof![9 => Just(0), 1 => 0..6u16];
    let tags = prop_oneof![
        20 => prop::collection::vec((any::<bool>(), id), 0..=2),
        1 => prop::collection::vec((any::<bool>(), deep), 3..=10),
    ];
    let rare = prop::bool::weighted(0.1);
    (tags, rare, ip(), payload(), 0..50usize).prop_map(|(tags, link_broadcast, ip, payload, padding)| Spec {
        tags,
        link_broadcast,
        ip,
        payload,
        padding,
    })
}

/// What a frame is to the one before it.
#[derive(Debug, Clone)]
enum Next {
    Another,
    Again,
    /// Of the same datagram, or with another payload.
    Part(Part, Option<Payload>),
}

/// Frames one after the other, each with the seconds since the one before; about half are another fragment of what the
/// frame before belongs to, and some are the frame before once more.
pub(crate) fn sequence() -> impl Strategy<Value = Vec<(Spec, u64)>> {
    let next = (
        spec(),
        // Two of 15 are just what a fragment lasts.
        prop_oneof![4 => Just(0u64), 1 => Just(15), 1 => Just(30)],
        prop_oneof![
            3 => Just(Next::Another),
            2 => Just(Next::Again),
            5 => (part(), prop::option::weighted(0.3, payload())).prop_map(|(part, payload)| Next::Part(part, payload)),
        ],
    );
    prop::collection::vec(next, 1..8).prop_map(|frames| {
        let mut sequence: Vec<(Spec, u64)> = Vec::new();
        for (spec, seconds, next) in frames {
            let spec = match (sequence.last(), next) {
                (Some((before, _)), Next::Part(part, payload)) => before.another_part(part, payload),
                (Some((before, _)), Next::Again) => before.clone(),
                _ => spec,
            };
            sequence.push((spec, seconds));
        }
        sequence
    })
}
