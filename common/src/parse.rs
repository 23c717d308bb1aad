//! From a frame to the offsets of its headers. Knows no map and no policy.
//!
//! Nothing is read beyond the end that the IP header gives, so Ethernet padding is never taken for a header.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
    vlan::VlanHdr,
};

use crate::{
    abi::{NetPort, PortTransport},
    packet::Packet,
    reason::Reason,
};

/// Reads the headers of a frame, as far as they are sound, into `headers`.
///
/// # Errors
/// The form that cannot be judged; `headers` then holds what was read before it.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P, headers: &mut Headers) -> Result<Kind, ParseError> {
    let ethernet: EthHdr = packet.read(0).ok_or(ParseError::Ethernet)?;
    headers.link_broadcast = ethernet.dst_addr == [0xff; 6];
    let mut ether_type = ethernet.ether_type;
    let mut offset = EthHdr::LEN;
    for tag in 0..MAX_TAGS {
        if !is_vlan(ether_type) {
            break;
        }
        let vlan: VlanHdr = packet.read(offset).ok_or(ParseError::Ethernet)?;
        headers.vlan[tag] = TAGGED | (u16::from_be_bytes(vlan.tci) & 0xfff);
        ether_type = vlan.ether_type;
        offset += VlanHdr::LEN;
    }
    headers.ether_type = ether_type;
    headers.network = offset;
    if ether_type == EtherType::Ipv4 as u16 {
        ipv4(packet, headers)?;
    } else if ether_type == EtherType::Ipv6 as u16 {
        ipv6(packet, headers)?;
    } else if is_vlan(ether_type) {
        return Err(ParseError::VlanDepth);
    } else if hides_ip(ether_type) {
        return Err(ParseError::Encapsulated);
    } else {
        return Ok(Kind::NonIp);
    }
    match headers.fragment {
        Fragment::Later { .. } => Ok(Kind::LaterFragment),
        Fragment::Whole | Fragment::First { .. } => transport(packet, headers),
    }
}

/// VLAN tags that are looked through.
pub const MAX_TAGS: usize = 2;

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
    /// True where the destination of the frame is ff:ff:ff:ff:ff:ff.
    pub link_broadcast: bool,
    /// Which IP it is, once its header was found whole.
    pub family: Option<Family>,
    /// The IP header.
    pub network: usize,
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
    /// Whether it is a part of a packet.
    pub fragment: Fragment,
}

impl Headers {
    /// Nothing read.
    pub const UNREAD: Self = Self {
        vlan: [0; MAX_TAGS],
        ether_type: 0,
        link_broadcast: false,
        family: None,
        network: 0,
        transport: 0,
        end: 0,
        protocol: 0,
        hop_limit: 0,
        ports: None,
        source_port: NetPort(0),
        destination_port: NetPort(0),
        flags: 0,
        code: 0,
        fragment: Fragment::Whole,
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
    First {
        /// As it lies in the packet.
        id: u32,
        /// Where the payload of this fragment starts, in bytes from the start of the frame.
        payload: usize,
    },
    /// Not the first.
    Later {
        /// As it lies in the packet.
        id: u32,
        /// Where its payload belongs, in bytes.
        start: u32,
    },
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
    /// ICMP over IPv4, with its header.
    IcmpV4,
    /// ICMPv6 over IPv6, with its header.
    IcmpV6,
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
    /// Loose or strict source route.
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
const fn is_vlan(ether_type: u16) -> bool {
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
            | 0x22f3             // TRILL
            | 0x894f             // NSH
            | 0x6558             // transparent Ethernet bridging
            | 0x4305             // B.A.T.M.A.N. advanced
            | 0x88be | 0x22eb // ERSPAN
    )
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized>(packet: &P, headers: &mut Headers) -> Result<(), ParseError> {
    const MORE_AND_OFFSET: u16 = 0x3fff;
    const MORE: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;

    let network = headers.network;
    let ip: Ipv4Hdr = packet.read(network).ok_or(ParseError::Ipv4)?;
    let header_len = usize::from(ip.vihl & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes(ip.tot_len));
    let end = network + total_len;
    if ip.vihl >> 4 != 4 || header_len < Ipv4Hdr::LEN || total_len < header_len || !packet.holds(end) {
        return Err(ParseError::Ipv4);
    }
    headers.family = Some(Family::V4);
    headers.end = end;
    headers.protocol = ip.proto;
    headers.hop_limit = ip.ttl;
    let payload = network + header_len;
    if header_len > Ipv4Hdr::LEN {
        ipv4_options(packet, network + Ipv4Hdr::LEN, payload)?;
    }
    headers.transport = payload;

    let fragment = u16::from_be_bytes(ip.frags);
    if fragment & MORE_AND_OFFSET != 0 {
        let id = u32::from(u16::from_ne_bytes(ip.id));
        let start = u32::from(fragment & OFFSET) * 8;
        headers.fragment =
            fragmented(id, start, fragment & MORE != 0, payload, end).ok_or(ParseError::Ipv4)?;
    }
    Ok(())
}

/// Looks for source routes (RFC 7126, 4.3 and 4.4), and for lengths that do not fit.
#[inline(always)]
fn ipv4_options<P: Packet + ?Sized>(packet: &P, start: usize, end: usize) -> Result<(), ParseError> {
    const END_OF_OPTIONS: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;

    let mut offset = start;
    for _ in 0..40 {
        if offset >= end {
            return Ok(());
        }
        match packet.read::<u8>(offset).ok_or(ParseError::Ipv4)? {
            END_OF_OPTIONS => return Ok(()),
            NO_OPERATION => offset += 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(ParseError::SourceRoute),
            _ => {
                let length = usize::from(packet.read::<u8>(offset + 1).ok_or(ParseError::Ipv4)?);
                if length < 2 || length > end - offset {
                    return Err(ParseError::Ipv4);
                }
                offset += length;
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn ipv6<P: Packet + ?Sized>(packet: &P, headers: &mut Headers) -> Result<(), ParseError> {
    let network = headers.network;
    let ip: Ipv6Hdr = packet.read(network).ok_or(ParseError::Ipv6)?;
    let mut offset = network + Ipv6Hdr::LEN;
    let end = offset + usize::from(u16::from_be_bytes(ip.payload_len));
    if ip.vcf[0] >> 4 != 6 || !packet.holds(end) {
        return Err(ParseError::Ipv6);
    }
    headers.family = Some(Family::V6);
    headers.end = end;
    headers.hop_limit = ip.hop_limit;

    let mut next = ip.next_hdr;
    let mut seen_fragment = false;
    for position in 0..=MAX_EXTENSIONS {
        headers.protocol = next;
        if !is_extension(next) {
            headers.transport = offset;
            return Ok(());
        }
        if position == MAX_EXTENSIONS {
            break;
        }
        let truncated =
            if matches!(headers.fragment, Fragment::Whole) { ParseError::Ipv6 } else { ParseError::Tiny };
        // The shortest extension header has eight bytes.
        if end - offset < 8 {
            return Err(truncated);
        }
        let head: [u8; 4] = packet.read(offset).ok_or(truncated)?;
        if next == IpProto::Ipv6Frag as u8 {
            // RFC 8200, 4.1: at most once.
            if seen_fragment {
                return Err(ParseError::Ipv6);
            }
            seen_fragment = true;
            let id: u32 = packet.read(offset + 4).ok_or(truncated)?;
            let word = u16::from_be_bytes([head[2], head[3]]);
            offset += 8;
            if word & !6 != 0 {
                let start = u32::from(word & !7);
                headers.fragment =
                    fragmented(id, start, word & 1 != 0, offset, end).ok_or(ParseError::Ipv6)?;
            }
            if let Fragment::Later { .. } = headers.fragment {
                // What it is part of stands in the first fragment only.
                headers.protocol = head[0];
                headers.transport = offset;
                return Ok(());
            }
        } else {
            // RFC 8200, 4.1: hop-by-hop options come first or not at all.
            if next == IpProto::HopOpt as u8 && position != 0 {
                return Err(ParseError::Ipv6);
            }
            if next == IpProto::Ipv6Route as u8 && head[2] == 0 {
                return Err(ParseError::Rh0);
            }
            let length = (usize::from(head[1]) + 1) * 8;
            if end - offset < length {
                return Err(truncated);
            }
            offset += length;
        }
        next = head[0];
    }
    Err(ParseError::Chain)
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | 44 | 60)
}

/// A fragment whose payload lies at `payload..end` of the frame and belongs at `start`; `None` where that cannot be.
#[inline(always)]
fn fragmented(id: u32, start: u32, more: bool, payload: usize, end: usize) -> Option<Fragment> {
    let length = (end - payload) as u32;
    // All but the last carry a multiple of eight bytes (RFC 791, 3.2; RFC 8200, 4.5), none is empty, and a packet
    // ends at 65,535.
    if length == 0 || (more && length & 7 != 0) || start + length > 65_535 {
        return None;
    }
    Some(if start == 0 { Fragment::First { id, payload } } else { Fragment::Later { id, start } })
}

#[inline(always)]
fn transport<P: Packet + ?Sized>(packet: &P, headers: &mut Headers) -> Result<Kind, ParseError> {
    const TCP: u8 = IpProto::Tcp as u8;
    const UDP: u8 = IpProto::Udp as u8;
    const ICMP_V4: u8 = IpProto::Icmp as u8;
    const ICMP_V6: u8 = IpProto::Ipv6Icmp as u8;

    let whole = matches!(headers.fragment, Fragment::Whole);
    let at = headers.transport;
    let room = headers.end - at;
    match headers.protocol {
        TCP => {
            let truncated = if whole { ParseError::Tcp } else { ParseError::Tiny };
            if room < TcpHdr::LEN {
                return Err(truncated);
            }
            let tcp: [u8; TcpHdr::LEN] = packet.read(at).ok_or(truncated)?;
            headers.ports = Some(PortTransport::Tcp);
            headers.source_port = NetPort(u16::from_ne_bytes([tcp[0], tcp[1]]));
            headers.destination_port = NetPort(u16::from_ne_bytes([tcp[2], tcp[3]]));
            headers.flags = tcp[13];
            let length = usize::from(tcp[12] >> 4) * 4;
            if length < TcpHdr::LEN {
                return Err(ParseError::Tcp);
            }
            if length > room {
                return Err(truncated);
            }
            Ok(Kind::Ports(PortTransport::Tcp))
        }
        UDP => {
            let truncated = if whole { ParseError::Udp } else { ParseError::Tiny };
            if room < UdpHdr::LEN {
                return Err(truncated);
            }
            let udp: UdpHdr = packet.read(at).ok_or(truncated)?;
            headers.ports = Some(PortTransport::Udp);
            headers.source_port = NetPort(u16::from_ne_bytes(udp.src));
            headers.destination_port = NetPort(u16::from_ne_bytes(udp.dst));
            let length = usize::from(u16::from_be_bytes(udp.len));
            // A first fragment gives the length of the whole datagram.
            if length < UdpHdr::LEN || (whole && length > room) {
                return Err(ParseError::Udp);
            }
            Ok(Kind::Ports(PortTransport::Udp))
        }
        ICMP_V4 | ICMP_V6 if (headers.protocol == ICMP_V4) == matches!(headers.family, Some(Family::V4)) => {
            let truncated = if whole { ParseError::Icmp } else { ParseError::Tiny };
            if room < 8 {
                return Err(truncated);
            }
            let [kind, code]: [u8; 2] = packet.read(at).ok_or(truncated)?;
            headers.flags = kind;
            headers.code = code;
            Ok(if headers.protocol == ICMP_V4 { Kind::IcmpV4 } else { Kind::IcmpV6 })
        }
        _ => Ok(Kind::Other),
    }
}
