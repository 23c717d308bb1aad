//! The parts of a frame's headers that the verdict needs, in two words.
//!
//! Two words stay in registers; a dozen fields do not. And two words can pass through
//! [`Packet::forget`](crate::packet::Packet::forget): the verifier then follows the verdict once, and not once for each
//! way through the parser.

use crate::{
    abi::{NetPort, PortTransport},
    fields::IpAt,
    parse::{Fragment, Headers, Kind, ParseError},
    reason::Reason,
    wire::IcmpHeader,
};

/// The headers of a frame, packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bits 0-7 [`Form`], 8-15 a reason or the IP protocol, 16-23 TCP flags or ICMP type, 24-31 time to live or hop limit,
    /// 32 multicast group, 33 broadcast, 34 fragmented, 35 an IP header was read.
    pub first: u64,
    /// Bits 0-15 destination port, or the identifier of an ICMP echo; 16-31 source port, or the offset of the ICMP header
    /// in host byte order; ports and identifier in the byte order of the packet. 32-63 the [`IpAt`].
    pub second: u64,
}

/// What is judged. No form has the value 0, so that a summary of zeros lets nothing in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// Nothing: the parser settled it.
    Settled = 1,
    /// A fragment without a transport header.
    LaterFragment = 2,
    /// TCP.
    Tcp = 3,
    /// UDP.
    Udp = 4,
    /// ICMP or ICMPv6.
    Icmp = 5,
    /// Another IP protocol.
    Other = 6,
}

const GROUP: u64 = 1 << 32;
const BROADCAST: u64 = 1 << 33;
const FRAGMENTED: u64 = 1 << 34;
const HAS_IP: u64 = 1 << 35;

impl Summary {
    /// Packs what the parser found.
    #[inline(always)]
    #[must_use]
    pub fn new(parsed: Result<Kind, ParseError>, headers: &Headers) -> Self {
        let (form, code) = match parsed {
            Err(error) => return Self::settled(error.reason(), headers),
            Ok(Kind::NonIp) => return Self::settled(Reason::NonIp, headers),
            Ok(Kind::LaterFragment) => (Form::LaterFragment, headers.protocol),
            Ok(Kind::Ports(PortTransport::Tcp)) => (Form::Tcp, headers.protocol),
            Ok(Kind::Ports(PortTransport::Udp)) => (Form::Udp, headers.protocol),
            Ok(Kind::Icmp) => (Form::Icmp, headers.protocol),
            Ok(Kind::Other) => (Form::Other, headers.protocol),
        };
        let mut first = HAS_IP
            | form as u64
            | u64::from(code) << 8
            | u64::from(headers.flags) << 16
            | u64::from(headers.hop_limit) << 24;
        if headers.group {
            first |= GROUP;
        }
        if headers.broadcast {
            first |= BROADCAST;
        }
        if !matches!(headers.fragment, Fragment::Whole) {
            first |= FRAGMENTED;
        }
        let (to, from) = if form as u8 == Form::Icmp as u8 {
            (headers.identifier.0, headers.transport as u16)
        } else {
            (headers.destination_port.0, headers.source_port.0)
        };
        let second = u64::from(to) | u64::from(from) << 16 | u64::from(IpAt::of(headers).to_bits()) << 32;
        Self { first, second }
    }

    #[inline(always)]
    fn settled(reason: Reason, headers: &Headers) -> Self {
        let first = Form::Settled as u64 | (reason as u64) << 8;
        // The family is known once the addresses can be read.
        if headers.family.is_some() {
            Self { first: first | HAS_IP, second: u64::from(IpAt::of(headers).to_bits()) << 32 }
        } else {
            Self { first, second: 0 }
        }
    }

    /// The value of the [`Form`].
    #[inline(always)]
    #[must_use]
    pub const fn form(self) -> u8 {
        self.first as u8
    }

    /// The value of the reason, where the form is [`Form::Settled`]; else the IP protocol, after extension headers.
    #[inline(always)]
    #[must_use]
    pub const fn code(self) -> u8 {
        (self.first >> 8) as u8
    }

    /// TCP flags, or the ICMP type.
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.first >> 16) as u8
    }

    /// Time to live or hop limit.
    #[inline(always)]
    #[must_use]
    pub const fn hop_limit(self) -> u8 {
        (self.first >> 24) as u8
    }

    /// The IP header, of a packet that has one.
    #[inline(always)]
    #[must_use]
    pub const fn ip(self) -> IpAt {
        IpAt::from_bits((self.second >> 32) as u32)
    }

    /// True where the parser read an IP header.
    #[inline(always)]
    #[must_use]
    pub const fn has_ip(self) -> bool {
        self.first & HAS_IP != 0
    }

    /// This summary, judged in a zone: a number below 16.
    #[inline(always)]
    #[must_use]
    pub const fn in_zone(self, zone: u32) -> Self {
        let ip = self.ip().in_zone(zone).to_bits();
        Self { second: self.second & 0xffff_ffff | (ip as u64) << 32, ..self }
    }

    /// True where the destination address is a multicast group.
    #[inline(always)]
    #[must_use]
    pub const fn group(self) -> bool {
        self.first & GROUP != 0
    }

    /// True where the frame or the packet is a broadcast.
    #[inline(always)]
    #[must_use]
    pub const fn broadcast(self) -> bool {
        self.first & BROADCAST != 0
    }

    /// True for a part of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn fragmented(self) -> bool {
        self.first & FRAGMENTED != 0
    }

    /// The destination port.
    #[inline(always)]
    #[must_use]
    pub const fn destination_port(self) -> NetPort {
        NetPort(self.second as u16)
    }

    /// The identifier of an ICMP echo request or reply.
    #[inline(always)]
    #[must_use]
    pub const fn identifier(self) -> NetPort {
        self.destination_port()
    }

    /// Where the packet begins that an ICMP error quotes; `None` where that is too far from the beginning of the frame.
    #[inline(always)]
    #[must_use]
    pub const fn quote(self) -> Option<usize> {
        let offset = (self.second >> 16) as u16 as usize + size_of::<IcmpHeader>();
        if offset > IpAt::FARTHEST { None } else { Some(offset) }
    }

    /// The source port.
    #[inline(always)]
    #[must_use]
    pub const fn source_port(self) -> NetPort {
        NetPort((self.second >> 16) as u16)
    }
}
