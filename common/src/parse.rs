//! From a frame to the offsets of its headers. Knows no map and no policy.
//!
//! Nothing is read beyond the end that the IP header gives, so Ethernet padding is never taken for a header.

use core::hint::black_box;

use network_types::{eth::EtherType, ip::IpProto};

use crate::{
    abi::{NetPort, PortTransport},
    packet::Packet,
    reason::Reason,
    wire::{
        EthernetHeader, ExtensionHeader, IcmpHeader, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader, VlanTag,
    },
};

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

/// Version 4, five words.
const IPV4_WITHOUT_OPTIONS: u8 = 0x45;

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

#[inline(always)]
fn ipv4<P: Packet>(packet: P, headers: &mut Headers) -> Result<(), ParseError> {
    let ip = packet.header::<Ipv4Header>(headers.network).ok_or(ParseError::Ipv4)?;
    let payload = ipv4_header(packet, &ip, headers)?;
    let options = headers.network + size_of::<Ipv4Header>();
    if payload > options {
        match packet.options(options, payload) {
            Options::Sound => {}
            Options::Malformed => return Err(ParseError::Ipv4),
            Options::SourceRoute => return Err(ParseError::SourceRoute),
        }
    }
    headers.transport = payload;
    if is_fragment(&ip) {
        let word = u16::from_be(ip.fragment);
        let start = u32::from(word & OFFSET) * 8;
        let length = headers.end - headers.transport;
        headers.fragment = fragment_of(start, word & MORE != 0, length).ok_or(ParseError::Ipv4)?;
    }
    Ok(())
}

/// "More fragments", in the word that [`Ipv4Header::fragment`] is.
const MORE: u16 = 0x2000;
/// The offset in the same word.
const OFFSET: u16 = 0x1fff;

#[inline(always)]
const fn is_fragment(ip: &Ipv4Header) -> bool {
    ip.fragment & (MORE | OFFSET).to_be() != 0
}

/// 224.0.0.0 and above: one comparison rules out multicast and broadcast for nearly every packet.
#[inline(always)]
const fn is_to_many(ip: &Ipv4Header) -> bool {
    u16::from_be(ip.destination[0]) >= 0xe000
}

/// Takes in the IPv4 header up to its options. Gives where its payload begins.
#[inline(always)]
fn ipv4_header<P: Packet>(packet: P, ip: &Ipv4Header, headers: &mut Headers) -> Result<usize, ParseError> {
    let network = headers.network;
    let header_len = usize::from(ip.version_and_length & 0xf) * 4;
    let total_len = usize::from(u16::from_be(ip.total_length));
    let end = network + total_len;
    if ip.version_and_length >> 4 != 4
        || header_len < size_of::<Ipv4Header>()
        || total_len < header_len
        || !packet.holds(end)
    {
        return Err(ParseError::Ipv4);
    }
    headers.family = Some(Family::V4);
    headers.end = end;
    headers.protocol = ip.protocol;
    headers.hop_limit = ip.ttl;
    if is_to_many(ip) {
        let [high, low] = ip.destination;
        headers.group = u16::from_be(high) < 0xf000;
        headers.broadcast |= high & low == 0xffff;
    }
    Ok(network + header_len)
}

/// What IPv4 options say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Options {
    /// Nothing that matters here.
    Sound = 0,
    /// Lengths that do not fit, or what cannot be read.
    Malformed = 1,
    /// A loose or strict source route (RFC 7126, 4.3 and 4.4).
    SourceRoute = 2,
}

impl Options {
    /// From its number; what is none counts as malformed.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Sound,
            2 => Self::SourceRoute,
            _ => Self::Malformed,
        }
    }
}

/// Two tags, and the longest IPv4 header: options end before this.
pub const OPTIONS_MASK: usize = 0x7f;

/// Looks at the options at `start..end`, at most 40 bytes.
#[inline(always)]
pub fn walk_options<P: Packet>(packet: P, start: usize, end: usize) -> Options {
    const END_OF_OPTIONS: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;

    let (mut at, mut room) = (0, end.saturating_sub(start));
    for _ in 0..40 {
        let known = packet.forget([at as u64, room as u64]);
        (at, room) = (known[0] as usize & 63, known[1] as usize & 63);
        if at >= room {
            return Options::Sound;
        }
        let Some(kind) = option_byte(packet, start, at) else { return Options::Malformed };
        match kind {
            END_OF_OPTIONS => return Options::Sound,
            NO_OPERATION => at += 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Options::SourceRoute,
            _ if at + 1 == room => return Options::Malformed,
            _ => {
                let Some(length) = option_byte(packet, start, at + 1) else { return Options::Malformed };
                let length = usize::from(length);
                if length < 2 || length > room - at {
                    return Options::Malformed;
                }
                at += length;
            }
        }
    }
    Options::Sound
}

/// A byte of the options, read with the word it lies in: options fill whole words, and the verifier learns nothing from
/// the check of a single byte at an offset it does not know.
#[inline(always)]
fn option_byte<P: Packet>(packet: P, start: usize, at: usize) -> Option<u8> {
    // Without this the compiler takes the bounds check apart, and subtracts from the end of the packet, which the
    // verifier refuses.
    let packet = black_box(packet);
    let word: u16 = packet.read(start + (at & !1))?;
    Some((u16::from_le(word) >> ((at & 1) * 8)) as u8)
}

#[inline(always)]
fn ipv6<P: Packet>(packet: P, headers: &mut Headers) -> Result<(), ParseError> {
    let (next, offset) = ipv6_header(packet, headers)?;
    if is_extension(next) {
        let walk = extensions(packet, next, offset, headers.end)?;
        headers.transport = walk.offset & WALK_MASK;
        headers.protocol = walk.next;
        headers.fragment = walk.fragment;
        headers.fragment_header = walk.fragment_header & WALK_MASK;
    } else {
        headers.transport = offset;
        headers.protocol = next;
    }
    Ok(())
}

/// Reads the fixed IPv6 header. Gives the number of what follows, and where that begins.
#[inline(always)]
fn ipv6_header<P: Packet>(packet: P, headers: &mut Headers) -> Result<(u8, usize), ParseError> {
    let network = headers.network;
    let ip = packet.header::<Ipv6Header>(network).ok_or(ParseError::Ipv6)?;
    let offset = network + size_of::<Ipv6Header>();
    let end = offset + usize::from(u16::from_be(ip.payload_length));
    if ip.version >> 4 != 6 || !packet.holds(end) {
        return Err(ParseError::Ipv6);
    }
    headers.family = Some(Family::V6);
    headers.end = end;
    headers.hop_limit = ip.hop_limit;
    headers.group = u16::from_be(ip.destination[0]) >> 8 == 0xff;
    Ok((ip.next_header, offset))
}

/// How far the extension headers of a packet lead.
#[derive(Clone, Copy)]
struct Walk {
    offset: usize,
    next: u8,
    fragment: Fragment,
    fragment_header: usize,
}

/// Six extension headers of 2,048 bytes, and what lies before them.
const WALK_MASK: usize = 0x3fff;

/// Walks the extension headers that begin with a `next` header at `offset`.
///
/// Out of line, as extension headers are rare.
#[inline(never)]
fn extensions<P: Packet>(packet: P, next: u8, offset: usize, end: usize) -> Result<Walk, ParseError> {
    let mut walk = Walk { offset, next, fragment: Fragment::Whole, fragment_header: 0 };
    for position in 0..=MAX_EXTENSIONS {
        let [offset, fragment_header] = packet.forget([walk.offset as u64, walk.fragment_header as u64]);
        walk.offset = offset as usize & WALK_MASK;
        walk.fragment_header = fragment_header as usize & WALK_MASK;
        if !is_extension(walk.next) {
            return Ok(walk);
        }
        if position == MAX_EXTENSIONS {
            break;
        }
        let truncated =
            if matches!(walk.fragment, Fragment::Whole) { ParseError::Ipv6 } else { ParseError::Tiny };
        // The shortest extension header has eight bytes.
        let head = packet.header::<ExtensionHeader>(walk.offset).ok_or(truncated)?;
        let is_fragment = walk.next == IpProto::Ipv6Frag as u8;
        let length = if is_fragment { 8 } else { (usize::from(head.length) + 1) * 8 };
        if walk.offset + length > end {
            return Err(truncated);
        }
        // RFC 8200, 4.1: hop-by-hop options come first or not at all.
        if walk.next == IpProto::HopOpt as u8 && position != 0 {
            return Err(ParseError::Ipv6);
        }
        if walk.next == IpProto::Ipv6Route as u8 && u16::from_be(head.fragment) >> 8 == 0 {
            return Err(ParseError::Rh0);
        }
        // Of any other type, with segments left: the packet is on its way to somewhere else than its destination says.
        if walk.next == IpProto::Ipv6Route as u8 && u16::from_be(head.fragment) & 0xff != 0 {
            return Err(ParseError::SourceRoute);
        }
        if is_fragment {
            // RFC 8200, 4.1: at most once.
            if walk.fragment_header != 0 {
                return Err(ParseError::Ipv6);
            }
            walk.fragment_header = walk.offset;
            let word = u16::from_be(head.fragment);
            let (start, more) = (u32::from(word & !7), word & 1 != 0);
            if start != 0 || more {
                let length = end - walk.offset - 8;
                walk.fragment = fragment_of(start, more, length).ok_or(ParseError::Ipv6)?;
            }
            if start != 0 {
                // What it is part of stands in the first fragment only.
                walk.next = head.next_header;
                walk.offset += 8;
                return Ok(walk);
            }
        }
        walk.next = head.next_header;
        walk.offset += length;
    }
    Err(ParseError::Chain)
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | 44 | 60)
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
