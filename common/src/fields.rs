//! What a verdict reads of a packet beyond its ports and flags: addresses, and which part of a packet a fragment is.

use core::mem::offset_of;

use crate::{
    abi::{FragmentKey, mapped},
    packet::Packet,
    parse::{Family, Headers},
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

/// Where the IP header of a packet lies, which it is, and in which zone the packet is judged.
///
/// One word, masked on the way out: the kernel's compiler hands it on in a register, and the verifier knows its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// Bits 0-4 offset of the IP header, 5-18 offset of the IPv6 fragment header, 19 IPv6, 20-23 the zone.
    const IPV6: u32 = 1 << 19;
    const ZONE_SHIFT: u32 = 20;

    /// The same in a zone: a number below 16.
    #[must_use]
    #[inline(always)]
    pub const fn in_zone(self, zone: u32) -> Self {
        Self(self.0 & !(0xf << Self::ZONE_SHIFT) | (zone & 0xf) << Self::ZONE_SHIFT)
    }

    /// The zone; 0 where there is one only.
    #[must_use]
    #[inline(always)]
    pub const fn zone(self) -> u32 {
        self.0 >> Self::ZONE_SHIFT & 0xf
    }

    /// Of a packet whose IP header was read.
    #[must_use]
    #[inline(always)]
    pub const fn of(headers: &Headers) -> Self {
        let version = match headers.family {
            Some(Family::V6) => Self::IPV6,
            Some(Family::V4) | None => 0,
        };
        Self(version | (headers.fragment_header as u32) << 5 | headers.network as u32)
    }

    /// As a number that [`Place::from_bits`] takes back.
    #[must_use]
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From what [`Place::to_bits`] gave.
    #[must_use]
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The version of IP.
    #[must_use]
    #[inline(always)]
    pub const fn family(self) -> Family {
        if self.0 & Self::IPV6 == 0 { Family::V4 } else { Family::V6 }
    }

    #[inline(always)]
    const fn network(self) -> usize {
        self.0 as usize & 0x1f
    }

    #[inline(always)]
    const fn fragment_header(self) -> usize {
        (self.0 >> 5) as usize & 0x3fff
    }
}

/// The source of a packet.
#[inline(always)]
pub fn source<P: Packet>(packet: P, place: Place) -> Option<Address> {
    match place.family() {
        Family::V4 => packet.read(place.network() + offset_of!(Ipv4Header, source)).map(Address::V4),
        Family::V6 => packet.read(place.network() + offset_of!(Ipv6Header, source)).map(Address::V6),
    }
}

/// The destination address of a packet.
#[inline(always)]
pub fn destination_address<P: Packet>(packet: P, place: Place) -> Option<Address> {
    match place.family() {
        Family::V4 => packet.read(place.network() + offset_of!(Ipv4Header, destination)).map(Address::V4),
        Family::V6 => packet.read(place.network() + offset_of!(Ipv6Header, destination)).map(Address::V6),
    }
}

/// Source and destination of a packet, by one look at its header.
#[inline(always)]
pub fn addresses<P: Packet>(packet: P, place: Place) -> Option<(Address, Address)> {
    match place.family() {
        Family::V4 => {
            let ip = packet.header::<Ipv4Header>(place.network())?;
            Some((Address::V4(ip.source), Address::V4(ip.destination)))
        }
        Family::V6 => {
            let ip = packet.header::<Ipv6Header>(place.network())?;
            Some((Address::V6(ip.source), Address::V6(ip.destination)))
        }
    }
}

/// An address in the form of [`TargetEntry`](crate::abi::TargetEntry).
#[inline(always)]
pub const fn words(address: Address) -> [u64; 2] {
    match address {
        Address::V4(address) => mapped(address),
        Address::V6([a, b, c, d, e, f, g, h]) => [word(a, b, c, d), word(e, f, g, h)],
    }
}

/// The destination, in the form of [`TargetEntry`](crate::abi::TargetEntry).
#[inline(always)]
pub fn destination<P: Packet>(packet: P, place: Place) -> Option<[u64; 2]> {
    match place.family() {
        Family::V4 => packet.read(place.network() + offset_of!(Ipv4Header, destination)).map(mapped),
        Family::V6 => {
            let address = packet.read(place.network() + offset_of!(Ipv6Header, destination))?;
            Some(words(Address::V6(address)))
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
pub fn part<P: Packet>(packet: P, place: Place) -> Option<Part> {
    match place.family() {
        Family::V4 => {
            let ip = packet.header::<Ipv4Header>(place.network())?;
            let key = FragmentKey {
                source: first_four(ip.source),
                destination: first_four(ip.destination),
                id: u32::from(ip.id),
                protocol: ip.protocol,
                family: 4,
                zone: place.zone() as u16,
            };
            let start = u32::from(u16::from_be(ip.fragment) & 0x1fff) * 8;
            let header = u16::from(ip.version_and_length & 0xf) * 4;
            let length = u32::from(u16::from_be(ip.total_length).wrapping_sub(header));
            Some(Part { key, start, length })
        }
        Family::V6 => {
            let ip = packet.header::<Ipv6Header>(place.network())?;
            let header = packet.header::<ExtensionHeader>(place.fragment_header())?;
            let key = FragmentKey {
                source: ip.source,
                destination: ip.destination,
                id: u32::from(header.id[0]) | u32::from(header.id[1]) << 16,
                protocol: 0,
                family: 6,
                zone: place.zone() as u16,
            };
            let start = u32::from(u16::from_be(header.fragment) & !7);
            let end =
                place.network() + size_of::<Ipv6Header>() + usize::from(u16::from_be(ip.payload_length));
            let length = end.wrapping_sub(place.fragment_header() + size_of::<ExtensionHeader>()) as u32;
            Some(Part { key, start, length })
        }
    }
}

const fn first_four([high, low]: [u16; 2]) -> [u16; 8] {
    [high, low, 0, 0, 0, 0, 0, 0]
}
