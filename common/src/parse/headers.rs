//! The result of parsing: where the headers are, and what kind of packet they make.

use crate::{
    abi::{NetPort, PortTransport},
    reason::Reason,
};

/// VLAN tags that the parser reads; a frame with more is dropped. Linux takes any number of priority tags (VLAN 0) away.
pub const MAX_TAGS: usize = 8;

/// VLAN tags of a frame of the usual form, and those that [`Headers`] has room for.
pub const USUAL_TAGS: usize = 2;

/// IPv6 extension headers that the parser reads; a packet with more is dropped.
pub const MAX_EXTENSIONS: usize = 6;

/// Set in [`Headers::vlan`] where there is a tag.
pub const TAGGED: u16 = 0x8000;

/// Where the headers of a frame lie, in bytes from its start. Offsets instead of copied fields: copying addresses
/// cost 25 ns a packet, offsets 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// The first VLAN identifiers, outer first, with [`TAGGED`] set; 0 where there is no tag.
    pub vlan: [u16; USUAL_TAGS],
    /// EtherType after the tags, in network byte order.
    pub ether_type: u16,
    /// True where the frame goes to ff:ff:ff:ff:ff:ff, as a broadcast to a subnet does, or the packet to
    /// 255.255.255.255. False for a multicast frame with a unicast packet: load-balanced clusters use such addresses.
    pub broadcast: bool,
    /// The version of IP, once the whole IP header was read.
    pub family: Option<Family>,
    /// The IP header.
    pub network: usize,
    /// True where the destination address is a multicast group: 224.0.0.0/4, ff00::/8.
    pub group: bool,
    /// The transport header; 0 where the parser did not reach it.
    pub transport: usize,
    /// The first byte after the IP packet.
    pub end: usize,
    /// IP protocol number, after extension headers.
    pub protocol: u8,
    /// IPv4 time to live or IPv6 hop limit.
    pub hop_limit: u8,
    /// The transport, where its ports were read.
    pub ports: Option<PortTransport>,
    /// Source port of TCP or UDP; 0 where it was not read.
    pub source_port: NetPort,
    /// Destination port of TCP or UDP; 0 where it was not read.
    pub destination_port: NetPort,
    /// TCP flags, or the ICMP type.
    pub flags: u8,
    /// The ICMP code.
    pub code: u8,
    /// The identifier of an ICMP echo request or reply.
    pub identifier: NetPort,
    /// Whether the packet is a fragment.
    pub fragment: Fragment,
    /// The IPv6 fragment header; 0 where there is none.
    pub fragment_header: usize,
}

impl Headers {
    /// Nothing read.
    pub const UNREAD: Self = Self {
        vlan: [0; USUAL_TAGS],
        ether_type: 0,
        broadcast: false,
        family: None,
        network: 0,
        group: false,
        transport: 0,
        end: 0,
        protocol: 0,
        hop_limit: 0,
        ports: None,
        source_port: NetPort(0),
        destination_port: NetPort(0),
        flags: 0,
        code: 0,
        identifier: NetPort(0),
        fragment: Fragment::Whole,
        fragment_header: 0,
    };
}

/// The version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// Whether a packet is a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet; an atomic fragment (RFC 6946) counts as one.
    Whole,
    /// The first of several.
    First,
    /// Not the first.
    Later,
}

impl Fragment {
    /// A fragment of `length` bytes at the offset `start`; `None` where no packet has such a fragment.
    #[inline(always)]
    pub(super) const fn at(start: u32, more: bool, length: usize) -> Option<Self> {
        // All but the last carry a multiple of eight bytes (RFC 791, 3.2; RFC 8200, 4.5), none is empty, and a packet
        // ends at 65,535.
        if length == 0 || (more && length & 7 != 0) || start as usize + length > 65_535 {
            return None;
        }
        Some(if start == 0 { Self::First } else { Self::Later })
    }
}

/// What a sound frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No IP inside.
    NonIp,
    /// A fragment without a transport header.
    LaterFragment,
    /// TCP or UDP with its header.
    Ports(PortTransport),
    /// ICMP over IPv4 or ICMPv6 over IPv6, with its header.
    Icmp,
    /// Another IP protocol.
    Other,
}

/// A form that cannot be judged. Each stands for one row of the verdict table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Truncated.
    Ethernet,
    /// Too many tags.
    VlanDepth,
    /// IP under another header.
    Encapsulated,
    /// Truncated or inconsistent.
    Ipv4,
    /// IPv4 loose or strict source route, or an IPv6 routing header with segments left.
    SourceRoute,
    /// Truncated or inconsistent.
    Ipv6,
    /// Too many extension headers.
    Chain,
    /// Routing header type 0.
    Rh0,
    /// A first fragment without its whole transport header.
    Tiny,
    /// Truncated or inconsistent.
    Tcp,
    /// Truncated or inconsistent.
    Udp,
    /// Truncated.
    Icmp,
}

impl ParseError {
    /// Its row of the verdict table.
    #[must_use]
    #[inline(always)]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Ethernet => Reason::MalformedEthernet,
            Self::VlanDepth => Reason::VlanDepth,
            Self::Encapsulated => Reason::Encapsulated,
            Self::Ipv4 => Reason::MalformedIpv4,
            Self::SourceRoute => Reason::IpSourceRoute,
            Self::Ipv6 => Reason::MalformedIpv6,
            Self::Chain => Reason::Ipv6Chain,
            Self::Rh0 => Reason::Ipv6Rh0,
            Self::Tiny => Reason::FragmentTiny,
            Self::Tcp => Reason::MalformedTcp,
            Self::Udp => Reason::MalformedUdp,
            Self::Icmp => Reason::MalformedIcmp,
        }
    }
}
