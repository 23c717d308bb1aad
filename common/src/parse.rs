//! The parser: from a frame to the offsets of its headers. It knows no map and no policy.
//!
//! It reads nothing beyond the end that the IP header gives, so that Ethernet padding is never taken for a header.

mod headers;
mod ipv4;
mod ipv6;

use network_types::{eth::EtherType, ip::IpProto};

use crate::{
    abi::{NetPort, PortTransport},
    packet::Packet,
    wire::{EthernetHeader, IcmpHeader, Ipv4Header, TcpHeader, UdpHeader, VlanTag},
};
use ipv4::{IPV4_WITHOUT_OPTIONS, ipv4, ipv4_header, is_fragment, is_to_many};
use ipv6::{ipv6, ipv6_header, is_extension};

pub use headers::{Family, Fragment, Headers, Kind, MAX_EXTENSIONS, MAX_TAGS, ParseError, TAGGED};
pub use ipv4::{OPTIONS_MASK, walk_options};

/// Reads the headers of a frame into `headers`, up to the first one that is not sound.
///
/// # Errors
/// The form that cannot be judged; `headers` then has the headers before it.
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
/// `None` for any other frame: then [`parse`] reads it. Where this function returns `Some`, [`parse`] agrees.
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

/// The end of an Ethernet header with two tags is below this.
const NETWORK_MASK: usize = 0x1f;

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
