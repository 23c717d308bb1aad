//! What a verdict reads of a packet beyond its [`Summary`]: addresses, and which part of a packet a fragment is.

use core::mem::offset_of;

use crate::{
    abi::{FragmentKey, mapped},
    packet::Packet,
    parse::Family,
    summary::Summary,
    wire::{ExtensionHeader, Ipv4Header, Ipv6Header},
};

/// An address as it lies in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// In 16-bit units.
    V4([u16; 2]),
    /// In 16-bit units.
    V6([u16; 8]),
}

impl Address {
    /// The address as the standard library has it.
    #[must_use]
    pub fn ip(self) -> core::net::IpAddr {
        match self {
            Self::V4([high, low]) => {
                let ([a, b], [c, d]) = (high.to_ne_bytes(), low.to_ne_bytes());
                [a, b, c, d].into()
            }
            Self::V6(units) => units.map(u16::from_be).into(),
        }
    }
}

/// The source of a packet.
#[inline(always)]
pub fn source<P: Packet>(packet: P, summary: Summary) -> Option<Address> {
    match summary.family() {
        Family::V4 => packet.read(summary.network() + offset_of!(Ipv4Header, source)).map(Address::V4),
        Family::V6 => packet.read(summary.network() + offset_of!(Ipv6Header, source)).map(Address::V6),
    }
}

/// The destination, in the form of [`TargetEntry`](crate::abi::TargetEntry).
#[inline(always)]
pub fn destination<P: Packet>(packet: P, summary: Summary) -> Option<[u64; 2]> {
    match summary.family() {
        Family::V4 => packet.read(summary.network() + offset_of!(Ipv4Header, destination)).map(mapped),
        Family::V6 => {
            let [a, b, c, d, e, f, g, h]: [u16; 8] =
                packet.read(summary.network() + offset_of!(Ipv6Header, destination))?;
            Some([word(a, b, c, d), word(e, f, g, h)])
        }
    }
}

/// Four 16-bit units as the 64-bit word that they lie in.
#[inline(always)]
const fn word(a: u16, b: u16, c: u16, d: u16) -> u64 {
    (a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48).to_le()
}

/// A fragment: what it is part of, and which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What all fragments of the packet have in common.
    pub key: FragmentKey,
    /// Where this one belongs, in bytes.
    pub start: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// Which part of a packet a fragment is.
#[inline(always)]
pub fn part<P: Packet>(packet: P, summary: Summary) -> Option<Part> {
    match summary.family() {
        Family::V4 => {
            let ip: Ipv4Header = packet.read(summary.network())?;
            let key = FragmentKey {
                source: first_four(ip.source),
                destination: first_four(ip.destination),
                id: u32::from(ip.id),
                protocol: ip.protocol,
                family: 4,
                zone: 0,
            };
            let start = u32::from(u16::from_be(ip.fragment) & 0x1fff) * 8;
            let length = summary.end().wrapping_sub(summary.transport()) as u32;
            Some(Part { key, start, length })
        }
        Family::V6 => {
            let ip: Ipv6Header = packet.read(summary.network())?;
            let header: ExtensionHeader = packet.read(summary.fragment_header())?;
            let key = FragmentKey {
                source: ip.source,
                destination: ip.destination,
                id: u32::from(header.id[0]) | u32::from(header.id[1]) << 16,
                protocol: 0,
                family: 6,
                zone: 0,
            };
            let start = u32::from(u16::from_be(header.fragment) & !7);
            let length =
                summary.end().wrapping_sub(summary.fragment_header() + size_of::<ExtensionHeader>()) as u32;
            Some(Part { key, start, length })
        }
    }
}

const fn first_four([high, low]: [u16; 2]) -> [u16; 8] {
    [high, low, 0, 0, 0, 0, 0, 0]
}
