//! The parser: from a frame to the offsets of its headers. It knows no map and no policy.
//!
//! It reads nothing beyond the end that the IP header gives, so that Ethernet padding is never taken for a header.

mod headers;
mod ipv4;
mod ipv6;
mod link;

use network_types::ip::IpProto;

use crate::{
    abi::{NetPort, PortTransport},
    packet::Packet,
    wire::{EthernetHeader, IcmpHeader, Ipv4Header, TcpHeader, UdpHeader},
};
use ipv4::{IPV4_WITHOUT_OPTIONS, ipv4, ipv4_header, is_fragment, is_to_many};
use ipv6::{ipv6, ipv6_header, is_extension};
use link::{ip_inside, usual_tags};

pub use headers::{
    Family, Fragment, Headers, Kind, MAX_EXTENSIONS, MAX_TAGS, ParseError, TAGGED, USUAL_TAGS,
};
pub use ipv4::{OPTIONS_MASK, walk_options};
pub(crate) use link::{is_vlan, tag_behind};

/// Reads the headers of a frame into `headers`, up to the first one that is not sound.
///
/// # Errors
/// The form that cannot be judged; `headers` then has the headers before it.
#[inline(always)]
pub fn parse<P: Packet>(packet: P, headers: &mut Headers) -> Result<Kind, ParseError> {
    usual_tags(packet, headers)?;
    let Some(family) = ip_inside(packet, headers)? else { return Ok(Kind::NonIp) };
    // Each VLAN depth would be a program to the verifier.
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
    usual_tags(packet, headers).ok()?;
    let kind = match link::family(headers.ether_type)? {
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

/// The end of an Ethernet header with eight tags is below this.
const NETWORK_MASK: usize = 0x3f;

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
