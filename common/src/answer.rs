//! The answer to a packet at a closed port, where the target says so: a TCP reset, or an ICMP error "port unreachable".
//!
//! Only frames of the usual form get one (see [`parse_plain`](crate::parse::parse_plain)): no fragments, no options, no
//! multicast, no broadcast. An answer is never an answer to an ICMP error or to a reset, as neither is at a closed port.
//! A reset is no longer than its question; an ICMP error quotes as little as RFC 792 and RFC 4443 need.

use crate::{
    abi::PortTransport,
    packet::Packet,
    parse::{Family, Headers},
    tcp,
    wire::{
        ErrorV4, ErrorV6, EthernetHeader, IcmpHeader, Ipv4Header, Ipv6Header, QuotedV4, QuotedV6, SegmentV4,
        SegmentV6, TcpHeader,
    },
};

use network_types::ip::IpProto;

/// True for a packet that may get an answer: it came to `own`, the interface's address, from one host to one other, and
/// its source is an address that one host may have.
#[inline(always)]
pub fn may_have<P: Packet>(packet: P, headers: &Headers, own: [u16; 3]) -> bool {
    let Some(ethernet) = packet.header::<EthernetHeader>(0) else { return false };
    let to = ethernet.destination;
    // A frame to another machine comes by in promiscuous mode; no interface has the address 0.
    let here = to[0] == own[0] && to[1] == own[1] && to[2] == own[2] && own[0] | own[1] | own[2] != 0;
    if !here || is_group(ethernet.source) || headers.source_port.0 == 0 {
        return false;
    }
    match headers.family {
        Some(Family::V4) => packet.header::<Ipv4Header>(headers.network).is_some_and(|ip| {
            let [first, _] = ip.source[0].to_ne_bytes();
            let same = ip.source[0] == ip.destination[0] && ip.source[1] == ip.destination[1];
            // "This network", loopback, multicast, reserved and broadcast (RFC 6890).
            first != 0 && first != 127 && first < 224 && !same
        }),
        Some(Family::V6) => packet.header::<Ipv6Header>(headers.network).is_some_and(|ip| {
            let [first, _] = ip.source[0].to_ne_bytes();
            // The unspecified and the loopback address, mapped and compatible ones, and multicast (RFC 4291).
            ip.source[0] != 0 && first != 0xff && !is_same(ip.source, ip.destination)
        }),
        None => false,
    }
}

#[inline(always)]
fn is_group(address: [u16; 3]) -> bool {
    address[0].to_ne_bytes()[0] & 1 != 0
}

#[inline(always)]
fn is_same(one: [u16; 8], other: [u16; 8]) -> bool {
    let mut different = 0;
    for n in 0..8 {
        different |= one[n] ^ other[n];
    }
    different == 0
}

/// The time to live of an answer, and its hop limit.
const HOPS: u8 = 64;

/// Turns an Ethernet header round.
#[inline(always)]
pub fn turn(ethernet: &mut EthernetHeader) {
    (ethernet.destination, ethernet.source) = (ethernet.source, ethernet.destination);
}

impl SegmentV4 {
    /// Makes an opening that carries so many bytes its reset.
    #[inline(always)]
    pub fn reset(&mut self, data: u32) {
        const PROTOCOL: u8 = IpProto::Tcp as u8;
        self.ip.answer(self.ip.destination, self.ip.source, size_of::<Self>() as u16, 0, PROTOCOL);
        let sum = Sum::NONE.add(&self.ip.source).add(&self.ip.destination);
        self.tcp.reset(data, sum.add(&[RESET.to_be(), u16::from(PROTOCOL).to_be()]));
    }
}

impl SegmentV6 {
    /// Makes an opening that carries so many bytes its reset, with the traffic class and the flow label of the opening.
    #[inline(always)]
    pub fn reset(&mut self, data: u32) {
        const PROTOCOL: u8 = IpProto::Tcp as u8;
        // One unit at a time: a copy of all would be a call, for which the stack has no room.
        for n in 0..8 {
            (self.ip.source[n], self.ip.destination[n]) = (self.ip.destination[n], self.ip.source[n]);
        }
        self.ip.answer(RESET, PROTOCOL);
        let sum = Sum::NONE.add(&self.ip.source).add(&self.ip.destination);
        self.tcp.reset(data, sum.add(&[RESET.to_be(), u16::from(PROTOCOL).to_be()]));
    }
}

/// The length of a reset.
const RESET: u16 = size_of::<TcpHeader>() as u16;

impl TcpHeader {
    /// The reset of an opening (RFC 9293, 3.10.7.1): sequence number 0, and the acknowledgment of all that came, the SYN
    /// included. `pseudo` is the sum of the pseudo-header.
    #[inline(always)]
    fn reset(&mut self, data: u32, pseudo: Sum) {
        let [high, low, ..] = self.sequence;
        let came = u32::from(u16::from_be(high)) << 16 | u32::from(u16::from_be(low));
        let next = came.wrapping_add(data).wrapping_add(1);
        let acknowledgment = [((next >> 16) as u16).to_be(), (next as u16).to_be()];
        (self.source, self.destination) = (self.destination, self.source);
        self.sequence = [0, 0, acknowledgment[0], acknowledgment[1]];
        (self.offset, self.flags) = ((RESET as u8 / 4) << 4, tcp::RST | tcp::ACK);
        (self.window, self.urgent) = (0, 0);
        let sum = pseudo.add(&[self.source, self.destination]).add(&acknowledgment);
        self.checksum = sum.add(&[u16::from_ne_bytes([self.offset, self.flags])]).checksum();
    }
}

impl ErrorV4 {
    /// Writes the headers of "port unreachable" (RFC 792) before what is quoted.
    #[inline(always)]
    pub fn port_unreachable(&mut self) {
        /// Internetwork control (RFC 1812, 4.3.2.5).
        const PRECEDENCE: u8 = 0xc0;
        let QuotedV4 { ip, transport } = &self.quoted;
        let (source, destination) = (ip.destination, ip.source);
        let sum = Sum::NONE.ipv4(ip).add(transport);
        self.ip.answer(source, destination, size_of::<Self>() as u16, PRECEDENCE, IpProto::Icmp as u8);
        self.icmp.error(3, 3, sum);
    }
}

impl ErrorV6 {
    /// Writes the headers of "port unreachable" (RFC 4443, 3.1) before what is quoted.
    #[inline(always)]
    pub fn port_unreachable(&mut self) {
        const LENGTH: u16 = (size_of::<IcmpHeader>() + size_of::<QuotedV6>()) as u16;
        const PROTOCOL: u8 = IpProto::Ipv6Icmp as u8;
        let QuotedV6 { ip, transport } = &self.quoted;
        // The addresses of the answer are those of the question: twice the same sum.
        let addresses = Sum::NONE.add(&ip.source).add(&ip.destination);
        let [a, b, c] = ip.class_and_label;
        let quoted = Sum(addresses.0 * 2)
            .add(&[u16::from_ne_bytes([ip.version, a]), u16::from_ne_bytes([b, c]), ip.payload_length])
            .add(&[u16::from_ne_bytes([ip.next_header, ip.hop_limit])])
            .add(transport);
        (self.ip.version, self.ip.class_and_label) = (ip.version, [a, b, c]);
        for n in 0..8 {
            (self.ip.source[n], self.ip.destination[n]) = (ip.destination[n], ip.source[n]);
        }
        self.ip.answer(LENGTH, PROTOCOL);
        self.icmp.error(1, 4, quoted.add(&[LENGTH.to_be(), u16::from(PROTOCOL).to_be()]));
    }
}

impl IcmpHeader {
    /// `sum` is that of what follows, and of the pseudo-header.
    #[inline(always)]
    fn error(&mut self, kind: u8, code: u8, sum: Sum) {
        let checksum = sum.add(&[u16::from_ne_bytes([kind, code])]).checksum();
        *self = Self { kind, code, checksum, identifier: 0, sequence: 0 };
    }
}

impl Ipv4Header {
    /// Writes the header of a packet of `length` bytes that nobody may fragment.
    #[inline(always)]
    fn answer(&mut self, source: [u16; 2], destination: [u16; 2], length: u16, service: u8, protocol: u8) {
        *self = Self {
            version_and_length: 0x45,
            service,
            total_length: length.to_be(),
            id: 0,
            fragment: 0x4000u16.to_be(),
            ttl: HOPS,
            protocol,
            checksum: 0,
            source,
            destination,
        };
        self.checksum = Sum::NONE.ipv4(self).checksum();
    }
}

impl Ipv6Header {
    /// Makes a header with its addresses that of a packet with `length` bytes behind it.
    #[inline(always)]
    fn answer(&mut self, length: u16, next_header: u8) {
        (self.payload_length, self.next_header, self.hop_limit) = (length.to_be(), next_header, HOPS);
    }
}

/// A sum of 16-bit units in network byte order, whatever the byte order of the host (RFC 1071). Fewer than 65,536 units.
#[derive(Clone, Copy)]
struct Sum(u32);

impl Sum {
    const NONE: Self = Self(0);

    #[inline(always)]
    fn add<const N: usize>(mut self, units: &[u16; N]) -> Self {
        for unit in units {
            self.0 += u32::from(*unit);
        }
        self
    }

    /// Adds a header without options.
    #[inline(always)]
    fn ipv4(self, ip: &Ipv4Header) -> Self {
        self.add(&[u16::from_ne_bytes([ip.version_and_length, ip.service]), ip.total_length, ip.id])
            .add(&[ip.fragment, u16::from_ne_bytes([ip.ttl, ip.protocol]), ip.checksum])
            .add(&ip.source)
            .add(&ip.destination)
    }

    #[inline(always)]
    fn checksum(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        !((once & 0xffff) + (once >> 16)) as u16
    }
}

/// The bytes of a frame that an answer keeps, from the beginning of the frame, and those that it gets in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes from the beginning of the frame that stay.
    pub keep: usize,
    /// Bytes that come before them.
    pub front: usize,
}

impl Shape {
    /// The shape of the answer to a packet of this family and transport, whose IP header is at `network`.
    #[must_use]
    #[inline(always)]
    pub const fn of(family: Family, transport: PortTransport, network: usize) -> Self {
        let ip = match family {
            Family::V4 => size_of::<Ipv4Header>(),
            Family::V6 => size_of::<Ipv6Header>(),
        };
        match transport {
            PortTransport::Tcp => Self { keep: network + ip + size_of::<TcpHeader>(), front: 0 },
            // What a quotation has: the IP header and eight bytes.
            PortTransport::Udp => Self { keep: network + ip + 8, front: ip + size_of::<IcmpHeader>() },
        }
    }
}
