//! Header layouts in 16-bit units, fields in network byte order.
//!
//! The crate network-types has these headers as arrays of bytes, which the BPF compiler loads one byte at a time and shifts
//! together, as it knows nothing of their alignment. Frames begin at an even address, and every header at an even offset.

use network_types::{eth, icmp, ip, tcp, udp, vlan};

/// An Ethernet header (IEEE 802.3).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EthernetHeader {
    /// Destination address.
    pub destination: [u16; 3],
    /// Source address.
    pub source: [u16; 3],
    /// EtherType, or a length below 0x600.
    pub ether_type: u16,
}

/// A VLAN tag (IEEE 802.1Q), without the EtherType before it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct VlanTag {
    /// Priority, drop eligibility, and the identifier in the low 12 bits.
    pub control: u16,
    /// EtherType of what follows.
    pub ether_type: u16,
}

/// An LLC header (IEEE 802.2) with the SNAP header behind it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LlcHeader {
    /// Service access points: of the destination in the first byte in memory, of the source in the second.
    pub points: u16,
    /// Control in the first byte in memory, the first byte of the organization in the second.
    pub control: u16,
    /// The rest of the organization.
    pub organization: u16,
    /// Type, as the organization numbers it.
    pub ether_type: u16,
}

/// An IPv4 header without options (RFC 791).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version in the high four bits, header length in words in the low four.
    pub version_and_length: u8,
    /// Type of service.
    pub service: u8,
    /// Length of the packet in bytes, header included.
    pub total_length: u16,
    /// Identification.
    pub id: u16,
    /// Flags in the high three bits, offset in units of eight bytes in the low 13.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// IP protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source address.
    pub source: [u16; 2],
    /// Destination address.
    pub destination: [u16; 2],
}

/// An IPv6 header (RFC 8200).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version in the high four bits.
    pub version: u8,
    /// Rest of the traffic class, flow label.
    pub class_and_label: [u8; 3],
    /// Length of what follows the header, in bytes.
    pub payload_length: u16,
    /// IP protocol, or an extension header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u16; 8],
    /// Destination address.
    pub destination: [u16; 8],
}

/// The first eight bytes of an IPv6 extension header (RFC 8200, 4).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExtensionHeader {
    /// What follows it.
    pub next_header: u8,
    /// Its length in units of eight bytes, without the first; in a fragment header reserved.
    pub length: u8,
    /// In a fragment header: offset in bytes in the high 13 bits, "more fragments" in the lowest. In a routing header:
    /// type in the first byte in memory.
    pub fragment: u16,
    /// In a fragment header: identification.
    pub id: [u16; 2],
}

/// A TCP header without options (RFC 9293).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TcpHeader {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence and acknowledgment number.
    pub sequence: [u16; 4],
    /// Header length in words in the high four bits.
    pub offset: u8,
    /// CWR, ECE, URG, ACK, PSH, RST, SYN, FIN.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Checksum.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Length of header and data in bytes.
    pub length: u16,
    /// Checksum.
    pub checksum: u16,
}

/// The first eight bytes of an ICMP or ICMPv6 message (RFC 792, RFC 4443).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct IcmpHeader {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// Of an echo request or reply.
    pub identifier: u16,
    /// Of an echo request or reply.
    pub sequence: u16,
}

/// The bytes of an IPv4 packet that an ICMP error quotes: its header, and eight more (RFC 792).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct QuotedV4 {
    /// The IP header.
    pub ip: Ipv4Header,
    /// The first bytes of what it carries.
    pub transport: [u16; 4],
}

/// The bytes of an IPv6 packet that an ICMPv6 error quotes here: its header, and eight more. RFC 4443 asks for as many as
/// fit; more would make forged packets worth more to an attacker.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct QuotedV6 {
    /// The IP header.
    pub ip: Ipv6Header,
    /// The first bytes of what it carries.
    pub transport: [u16; 4],
}

/// A TCP segment over IPv4 that becomes its own answer.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SegmentV4 {
    /// The IP header.
    pub ip: Ipv4Header,
    /// The TCP header.
    pub tcp: TcpHeader,
}

/// A TCP segment over IPv6 that becomes its own answer.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SegmentV6 {
    /// The IP header.
    pub ip: Ipv6Header,
    /// The TCP header.
    pub tcp: TcpHeader,
}

/// An ICMP error, behind which the packet that it is about lies already.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ErrorV4 {
    /// The IP header.
    pub ip: Ipv4Header,
    /// The ICMP header.
    pub icmp: IcmpHeader,
    /// What is quoted.
    pub quoted: QuotedV4,
}

/// An ICMPv6 error, behind which the packet that it is about lies already.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ErrorV6 {
    /// The IP header.
    pub ip: Ipv6Header,
    /// The ICMP header.
    pub icmp: IcmpHeader,
    /// What is quoted.
    pub quoted: QuotedV6,
}

const _: () = assert!(size_of::<SegmentV4>() == 40 && size_of::<SegmentV6>() == 60);
const _: () = assert!(size_of::<ErrorV4>() == 56 && size_of::<ErrorV6>() == 96);
const _: () = assert!(size_of::<EthernetHeader>() == eth::EthHdr::LEN);
const _: () = assert!(size_of::<VlanTag>() == vlan::VlanHdr::LEN);
const _: () = assert!(size_of::<Ipv4Header>() == ip::Ipv4Hdr::LEN);
const _: () = assert!(size_of::<Ipv6Header>() == ip::Ipv6Hdr::LEN);
const _: () = assert!(size_of::<TcpHeader>() == tcp::TcpHdr::LEN);
const _: () = assert!(size_of::<UdpHeader>() == udp::UdpHdr::LEN);
const _: () = assert!(size_of::<IcmpHeader>() == icmp::Icmpv4Hdr::LEN);
const _: () = assert!(size_of::<ExtensionHeader>() == 8);
const _: () = assert!(size_of::<LlcHeader>() == 8);
const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Ipv4Header, source) == offset_of!(ip::Ipv4Hdr, src_addr));
    assert!(offset_of!(Ipv4Header, destination) == offset_of!(ip::Ipv4Hdr, dst_addr));
    assert!(offset_of!(Ipv6Header, source) == offset_of!(ip::Ipv6Hdr, src_addr));
    assert!(offset_of!(Ipv6Header, destination) == offset_of!(ip::Ipv6Hdr, dst_addr));
    assert!(offset_of!(TcpHeader, checksum) == offset_of!(tcp::TcpHdr, check));
};
