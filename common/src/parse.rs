//! From a frame to the offsets of its headers. Knows no map and no policy.
//!
//! Nothing is read beyond the end that the IP header gives, so Ethernet padding is never taken for a header.

mod ipv4;
mod ipv6;

use network_types::{eth::EtherType, ip::IpProto};

use crate::{
    abi::{NetPort, PortTransport},
    packet::Packet,
    reason::Reason,
    wire::{EthernetHeader, IcmpHeader, Ipv4Header, TcpHeader, UdpHeader, VlanTag},
};
use ipv4::{IPV4_WITHOUT_OPTIONS, ipv4, ipv4_header, is_fragment, is_to_many};
use ipv6::{ipv6, ipv6_header, is_extension};

pub use ipv4::{OPTIONS_MASK, Options, walk_options};

/// Reads all headers of a frame, as far as they are sound, into `headers`.
///
/// # Errors
/// The form that cannot be judged; `headers` then holds what was read before it.
#[inline(always)]
pub fn parse<P: Packet>(packet: P, headers: &mut Headers) -> Result<Kind, ParseError> {
    let Some(family) = link(packet, headers)? else { return Ok(Kind::NonIp) };
    // Three VLAN depths would be three programs to the verifier.
    let [network, _] = packet.forget([headers.network as u64, 0]);
    headers.network = network as usize & NETWORK_MASK;
    match family {
        Family::V4 => ipv4(packet, headers)?,
        Family::V6 => ipv6(packet, headers)?,
    }
    match headers.fragment {
        Fragment::Later => Ok(Kind::LaterFragment),
        Fragment::Whole | Fragment::First => transport(packet, headers),
    }
}

/// Reads the headers of a frame of the usual form: TCP or UDP in a whole unicast packet, sound, without IPv4 options or
/// IPv6 extension headers.
///
/// `None` where it is anything else, and [`parse`] says what; where this says `Some`, [`parse`] says the same.
#[inline(always)]
pub fn parse_plain<P: Packet>(packet: P, headers: &mut Headers) -> Option<PortTransport> {
    // Rules out broadcasts, and few others.
    if packet.header::<EthernetHeader>(0)?.destination[0] == 0xffff {
        return None;
    }
    let family = link(packet, headers).ok()??;
    let kind = match family {
        Family::V4 => {
            let ip = packet.header::<Ipv4Header>(headers.network)?;
            if ip.version_and_length != IPV4_WITHOUT_OPTIONS || is_fragment(&ip) || is_to_many(&ip) {
                return None;
            }
            headers.transport = ipv4_header(packet, &ip, headers).ok()?;
            transport(packet, headers)
        }
        Family::V6 => {
            let (next, offset) = ipv6_header(packet, headers).ok()?;
            if is_extension(next) || headers.group {
                return None;
            }
            headers.transport = offset;
            headers.protocol = next;
            transport(packet, headers)
        }
    };
    match kind {
        Ok(Kind::Ports(transport)) => Some(transport),
        _ => None,
    }
}

/// Reads the Ethernet header and VLAN tags. `None` where there is no IP inside.
#[inline(always)]
fn link<P: Packet>(packet: P, headers: &mut Headers) -> Result<Option<Family>, ParseError> {
    let ethernet = packet.header::<EthernetHeader>(0).ok_or(ParseError::Ethernet)?;
    let [a, b, c] = ethernet.destination;
    headers.broadcast = a & b & c == 0xffff;
    headers.ether_type = ethernet.ether_type;
    headers.network = size_of::<EthernetHeader>();
    for tag in 0..MAX_TAGS {
        if !is_vlan(headers.ether_type) {
            break;
        }
        let vlan = packet.header::<VlanTag>(headers.network).ok_or(ParseError::Ethernet)?;
        headers.vlan[tag] = TAGGED | (u16::from_be(vlan.control) & 0xfff);
        headers.ether_type = vlan.ether_type;
        headers.network += size_of::<VlanTag>();
    }
    let ether_type = headers.ether_type;
    if ether_type == EtherType::Ipv4 as u16 {
        Ok(Some(Family::V4))
    } else if ether_type == EtherType::Ipv6 as u16 {
        Ok(Some(Family::V6))
    } else if is_vlan(ether_type) {
        Err(ParseError::VlanDepth)
    } else if hides_ip(ether_type) {
        Err(ParseError::Encapsulated)
    } else {
        Ok(None)
    }
}

/// VLAN tags that are looked through.
pub const MAX_TAGS: usize = 2;

/// An Ethernet header with two tags, and what lies before its end.
const NETWORK_MASK: usize = 0x1f;

/// IPv6 extension headers that are looked through.
pub const MAX_EXTENSIONS: usize = 6;

/// Set in [`Headers::vlan`] where there is a tag.
pub const TAGGED: u16 = 0x8000;

/// Where the headers of a frame lie, in bytes from its start. Offsets instead of copied fields: copying addresses
/// cost 25 ns a packet, offsets 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// VLAN identifiers, outer first, with [`TAGGED`] set; 0 where there is no tag.
    pub vlan: [u16; MAX_TAGS],
    /// EtherType after the tags, as it lies in the packet.
    pub ether_type: u16,
    /// True where the frame goes to ff:ff:ff:ff:ff:ff, as a broadcast to a subnet does, or the packet to
    /// 255.255.255.255. A multicast frame with a unicast packet is none: load-balanced clusters use such addresses.
    pub broadcast: bool,
    /// Which IP it is, once its header was found whole.
    pub family: Option<Family>,
    /// The IP header.
    pub network: usize,
    /// True where the destination address is a multicast group: 224.0.0.0/4, ff00::/8.
    pub group: bool,
    /// The transport header; 0 where it was not reached.
    pub transport: usize,
    /// The first byte after the IP packet.
    pub end: usize,
    /// IP protocol number, after extension headers.
    pub protocol: u8,
    /// IPv4 time to live or IPv6 hop limit.
    pub hop_limit: u8,
    /// The transport whose ports were read.
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
    /// Whether it is a part of a packet.
    pub fragment: Fragment,
    /// The IPv6 fragment header; 0 where there is none.
    pub fragment_header: usize,
}

impl Headers {
    /// Nothing read.
    pub const UNREAD: Self = Self {
        vlan: [0; MAX_TAGS],
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

#[inline(always)]
pub(crate) const fn is_vlan(ether_type: u16) -> bool {
    ether_type == EtherType::Ieee8021q as u16 || ether_type == EtherType::Ieee8021ad as u16
}

/// EtherTypes (IEEE registry) that carry, or may carry, an IP packet or a whole frame that this program cannot judge.
#[inline(always)]
const fn hides_ip(ether_type: u16) -> bool {
    matches!(
        u16::from_be(ether_type),
        0x8847 | 0x8848          // MPLS, unicast and multicast
            | 0x8864             // PPPoE session
            | 0x88e5             // MACsec (802.1AE)
            | 0x88e7             // provider backbone bridges (802.1ah)
            | 0x9100 | 0x9200 | 0x9300 // stacked tags from before 802.1ad
            | 0x893f             // E-TAG (802.1BR)
            | 0xf1c1             // R-TAG (802.1CB)
            | 0x892f             // HSR
            | 0x880b             // PPP
            | 0x22f3 | 0x893b    // TRILL
            | 0x894f             // NSH
            | 0x6558             // transparent Ethernet bridging
            | 0x4305             // B.A.T.M.A.N. advanced
            | 0x88be | 0x22eb // ERSPAN
    )
}

/// A fragment of `length` bytes that belongs at `start`; `None` where that cannot be.
#[inline(always)]
const fn fragment_of(start: u32, more: bool, length: usize) -> Option<Fragment> {
    // All but the last carry a multiple of eight bytes (RFC 791, 3.2; RFC 8200, 4.5), none is empty, and a packet
    // ends at 65,535.
    if length == 0 || (more && length & 7 != 0) || start as usize + length > 65_535 {
        return None;
    }
    Some(if start == 0 { Fragment::First } else { Fragment::Later })
}

/// Reads the header behind the IP header.
#[inline(always)]
fn transport<P: Packet>(packet: P, headers: &mut Headers) -> Result<Kind, ParseError> {
    const TCP: u8 = IpProto::Tcp as u8;
    const UDP: u8 = IpProto::Udp as u8;
    let icmp = match headers.family {
        Some(Family::V6) => IpProto::Ipv6Icmp as u8,
        Some(Family::V4) | None => IpProto::Icmp as u8,
    };
    let whole = matches!(headers.fragment, Fragment::Whole);
    let at = headers.transport;
    let room = headers.end - at;
    match headers.protocol {
        TCP => {
            let truncated = if whole { ParseError::Tcp } else { ParseError::Tiny };
            if room < size_of::<TcpHeader>() {
                return Err(truncated);
            }
            let tcp = packet.header::<TcpHeader>(at).ok_or(truncated)?;
            headers.ports = Some(PortTransport::Tcp);
            headers.source_port = NetPort(tcp.source);
            headers.destination_port = NetPort(tcp.destination);
            headers.flags = tcp.flags;
            let length = usize::from(tcp.offset >> 4) * 4;
            if length < size_of::<TcpHeader>() {
                return Err(ParseError::Tcp);
            }
            if length > room {
                return Err(truncated);
            }
            Ok(Kind::Ports(PortTransport::Tcp))
        }
        UDP => {
            let truncated = if whole { ParseError::Udp } else { ParseError::Tiny };
            if room < size_of::<UdpHeader>() {
                return Err(truncated);
            }
            let udp = packet.header::<UdpHeader>(at).ok_or(truncated)?;
            headers.ports = Some(PortTransport::Udp);
            headers.source_port = NetPort(udp.source);
            headers.destination_port = NetPort(udp.destination);
            let length = usize::from(u16::from_be(udp.length));
            // A first fragment gives the length of the whole datagram.
            if length < size_of::<UdpHeader>() || (whole && length > room) {
                return Err(ParseError::Udp);
            }
            Ok(Kind::Ports(PortTransport::Udp))
        }
        protocol if protocol == icmp => {
            let truncated = if whole { ParseError::Icmp } else { ParseError::Tiny };
            if room < size_of::<IcmpHeader>() {
                return Err(truncated);
            }
            let message = packet.header::<IcmpHeader>(at).ok_or(truncated)?;
            headers.flags = message.kind;
            headers.code = message.code;
            headers.identifier = NetPort(message.identifier);
            Ok(Kind::Icmp)
        }
        _ => Ok(Kind::Other),
    }
}
