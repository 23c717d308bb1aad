//! What a verdict reads of an IP header when a row asks for it: addresses, and the position of a fragment.

use core::mem::offset_of;

pub use crate::address::Address;
use crate::{
    abi::FragmentKey,
    address::mapped,
    packet::Packet,
    parse::{Family, Headers},
    wire::{ExtensionHeader, Ipv4Header, Ipv6Header},
};

/// Where the IP header of a packet is, its version, and the zone that the packet is judged in.
///
/// One word, which stays in a register. Each part is masked when it is read, so that the verifier knows its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpAt(u32);

impl IpAt {
    /// Bits 0-6 offset of the IP header, 7-20 offset of the IPv6 fragment header, 21 IPv6, 22-25 the zone, 26 the
    /// destination does not tell the target.
    const NETWORK: u32 = 0x7f;
    const FRAGMENT_SHIFT: u32 = 7;
    const IPV6: u32 = 1 << 21;
    const ZONE_SHIFT: u32 = 22;
    const WITHOUT_TARGET: u32 = 1 << 26;

    /// The greatest offset of an IP header, in bytes.
    pub const FARTHEST: usize = Self::NETWORK as usize;

    /// The header of a packet that this one quotes at an offset of at most [`IpAt::FARTHEST`], in the zone of this one.
    #[must_use]
    #[inline(always)]
    pub const fn quoting(self, offset: usize) -> Self {
        Self(self.0 & (Self::IPV6 | 0xf << Self::ZONE_SHIFT) | offset as u32 & Self::NETWORK)
    }

    /// This header, of a packet whose destination does not tell for which target it is.
    #[must_use]
    #[inline(always)]
    pub const fn without_target(self) -> Self {
        Self(self.0 | Self::WITHOUT_TARGET)
    }

    /// True where the destination tells the target.
    #[must_use]
    #[inline(always)]
    pub const fn has_target(self) -> bool {
        self.0 & Self::WITHOUT_TARGET == 0
    }

    /// This header, judged in a zone: a number below 16.
    #[must_use]
    #[inline(always)]
    pub const fn in_zone(self, zone: u32) -> Self {
        Self(self.0 & !(0xf << Self::ZONE_SHIFT) | (zone & 0xf) << Self::ZONE_SHIFT)
    }

    /// The zone; 0 where there is only one.
    #[must_use]
    #[inline(always)]
    pub const fn zone(self) -> u32 {
        self.0 >> Self::ZONE_SHIFT & 0xf
    }

    /// The IP header that the parser read.
    #[must_use]
    #[inline(always)]
    pub const fn of(headers: &Headers) -> Self {
        let version = match headers.family {
            Some(Family::V6) => Self::IPV6,
            Some(Family::V4) | None => 0,
        };
        Self(version | (headers.fragment_header as u32) << Self::FRAGMENT_SHIFT | headers.network as u32)
    }

    /// The word, for [`IpAt::from_bits`].
    #[must_use]
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Made again from [`IpAt::to_bits`].
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
    pub(crate) const fn network(self) -> usize {
        (self.0 & Self::NETWORK) as usize
    }

    #[inline(always)]
    const fn fragment_header(self) -> usize {
        (self.0 >> Self::FRAGMENT_SHIFT) as usize & 0x3fff
    }
}

/// The source of a packet.
#[inline(always)]
pub fn source<P: Packet>(packet: P, at: IpAt) -> Option<Address> {
    match at.family() {
        Family::V4 => packet.read(at.network() + offset_of!(Ipv4Header, source)).map(Address::V4),
        Family::V6 => packet.read(at.network() + offset_of!(Ipv6Header, source)).map(Address::V6),
    }
}

/// The destination address of a packet.
#[inline(always)]
pub fn destination_address<P: Packet>(packet: P, at: IpAt) -> Option<Address> {
    match at.family() {
        Family::V4 => packet.read(at.network() + offset_of!(Ipv4Header, destination)).map(Address::V4),
        Family::V6 => packet.read(at.network() + offset_of!(Ipv6Header, destination)).map(Address::V6),
    }
}

/// Source and destination of a packet, by one read of its header.
#[inline(always)]
pub fn addresses<P: Packet>(packet: P, at: IpAt) -> Option<(Address, Address)> {
    match at.family() {
        Family::V4 => {
            let ip = packet.header::<Ipv4Header>(at.network())?;
            Some((Address::V4(ip.source), Address::V4(ip.destination)))
        }
        Family::V6 => {
            let ip = packet.header::<Ipv6Header>(at.network())?;
            Some((Address::V6(ip.source), Address::V6(ip.destination)))
        }
    }
}

/// The destination of a packet as two words: the key of a [`TargetTable`](crate::abi::TargetTable).
#[inline(always)]
pub fn destination<P: Packet>(packet: P, at: IpAt) -> Option<[u64; 2]> {
    match at.family() {
        Family::V4 => packet.read(at.network() + offset_of!(Ipv4Header, destination)).map(mapped),
        Family::V6 => {
            let address = packet.read(at.network() + offset_of!(Ipv6Header, destination))?;
            Some(Address::V6(address).words())
        }
    }
}

/// The first byte after a packet, in bytes from the beginning of the frame.
#[inline(always)]
pub(crate) fn end<P: Packet>(packet: P, at: IpAt) -> Option<usize> {
    let length = match at.family() {
        Family::V4 => usize::from(u16::from_be(packet.header::<Ipv4Header>(at.network())?.total_length)),
        Family::V6 => {
            let ip = packet.header::<Ipv6Header>(at.network())?;
            size_of::<Ipv6Header>() + usize::from(u16::from_be(ip.payload_length))
        }
    };
    Some(at.network() + length)
}

/// The packet that a fragment belongs to, and its position there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What all fragments of the packet share.
    pub key: FragmentKey,
    /// The offset of this fragment in the packet, in bytes.
    pub start: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// The packet that a fragment belongs to, and its position there.
#[inline(always)]
pub fn part<P: Packet>(packet: P, at: IpAt) -> Option<Part> {
    match at.family() {
        Family::V4 => {
            let ip = packet.header::<Ipv4Header>(at.network())?;
            let key = FragmentKey {
                source: first_four(ip.source),
                destination: first_four(ip.destination),
                id: u32::from(ip.id),
                protocol: ip.protocol,
                family: 4,
                zone: at.zone() as u16,
            };
            let start = u32::from(u16::from_be(ip.fragment) & 0x1fff) * 8;
            let header = u16::from(ip.version_and_length & 0xf) * 4;
            let length = u32::from(u16::from_be(ip.total_length).wrapping_sub(header));
            Some(Part { key, start, length })
        }
        Family::V6 => {
            let ip = packet.header::<Ipv6Header>(at.network())?;
            let header = packet.header::<ExtensionHeader>(at.fragment_header())?;
            let key = FragmentKey {
                source: ip.source,
                destination: ip.destination,
                id: u32::from(header.id[0]) | u32::from(header.id[1]) << 16,
                protocol: 0,
                family: 6,
                zone: at.zone() as u16,
            };
            let start = u32::from(u16::from_be(header.fragment) & !7);
            let end = at.network() + size_of::<Ipv6Header>() + usize::from(u16::from_be(ip.payload_length));
            let length = end.wrapping_sub(at.fragment_header() + size_of::<ExtensionHeader>()) as u32;
            Some(Part { key, start, length })
        }
    }
}

const fn first_four([high, low]: [u16; 2]) -> [u16; 8] {
    [high, low, 0, 0, 0, 0, 0, 0]
}
