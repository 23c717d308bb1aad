//! TCP, UDP, ICMP, ICMPv6 and IGMP.

use std::net::Ipv4Addr;

use super::{Surroundings, internet_checksum, length16, protocol, put16};

/// A TCP header (RFC 9293).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; written whether ACK is set or not.
    pub acknowledgement: u32,
    /// In 4-byte words, 4 bits; `None`: what the header with its options has.
    pub data_offset: Option<u8>,
    /// The flags and the reserved bits above them, 12 bits: an "or" of this type's constants.
    pub flags: u16,
    /// Receive window.
    pub window: u16,
    /// `None`: the right one.
    pub checksum: Option<u16>,
    /// Urgent pointer.
    pub urgent: u16,
    /// The options as they go on the wire; filled up with zeros to whole words.
    pub options: Vec<u8>,
}

#[expect(missing_docs, reason = "the names are those of the RFC")]
impl Tcp {
    pub const FIN: u16 = 0x01;
    pub const SYN: u16 = 0x02;
    pub const RST: u16 = 0x04;
    pub const PSH: u16 = 0x08;
    pub const ACK: u16 = 0x10;
    pub const URG: u16 = 0x20;
    pub const ECE: u16 = 0x40;
    pub const CWR: u16 = 0x80;
}

impl Tcp {
    /// A segment without flags.
    pub fn new(source: u16, destination: u16) -> Self {
        Self {
            source,
            destination,
            sequence: 1,
            acknowledgement: 0,
            data_offset: None,
            flags: 0,
            window: 64_000,
            checksum: None,
            urgent: 0,
            options: Vec::new(),
        }
    }

    /// The segment that opens a connection.
    pub fn syn(source: u16, destination: u16) -> Self {
        Self { flags: Self::SYN, ..Self::new(source, destination) }
    }

    /// A segment of a standing connection.
    pub fn ack(source: u16, destination: u16) -> Self {
        Self { flags: Self::ACK, acknowledgement: 1, ..Self::new(source, destination) }
    }

    pub(super) fn header(&self, inner: &[u8], around: &Surroundings<'_>) -> Vec<u8> {
        let length = 20 + self.options.len().next_multiple_of(4);
        let words = self.data_offset.unwrap_or_else(|| {
            assert!(length <= 60, "TCP options of {} bytes do not fit the header", self.options.len());
            (length / 4) as u8
        });
        let mut header = vec![0; length];
        put16(&mut header, 0, self.source);
        put16(&mut header, 2, self.destination);
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..12].copy_from_slice(&self.acknowledgement.to_be_bytes());
        put16(&mut header, 12, u16::from(words) << 12 | self.flags & 0x0fff);
        put16(&mut header, 14, self.window);
        put16(&mut header, 18, self.urgent);
        header[20..20 + self.options.len()].copy_from_slice(&self.options);
        finish(header, 16, self.checksum, inner, |segment| around.transport_checksum(protocol::TCP, segment))
    }
}

/// A UDP header (RFC 768).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// In bytes; `None`: header and all that follows.
    pub length: Option<u16>,
    /// `None`: the right one; `Some(0)` over IPv4 means "not computed".
    pub checksum: Option<u16>,
}

impl Udp {
    /// A datagram between two ports.
    pub fn new(source: u16, destination: u16) -> Self {
        Self { source, destination, length: None, checksum: None }
    }

    pub(super) fn header(&self, inner: &[u8], around: &Surroundings<'_>) -> Vec<u8> {
        let length = self.length.unwrap_or_else(|| length16(8 + inner.len()));
        let header = [self.source, self.destination, length, 0].map(u16::to_be_bytes).concat();
        finish(header, 6, self.checksum, inner, |datagram| {
            match around.transport_checksum(protocol::UDP, datagram) {
                // Zero on the wire would mean that there is none.
                0 => 0xffff,
                checksum => checksum,
            }
        })
    }
}

/// An ICMP message (RFC 792): type, code, checksum and the body's first bytes; what follows is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmp4 {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// `None`: the right one.
    pub checksum: Option<u16>,
    /// All after the checksum; well-formed messages have at least 4 bytes.
    pub body: Vec<u8>,
}

impl Icmp4 {
    /// A message with a body of 4 zero bytes.
    pub fn new(kind: u8, code: u8) -> Self {
        Self { kind, code, checksum: None, body: vec![0; 4] }
    }

    /// An echo request (8).
    pub fn echo_request(id: u16, sequence: u16) -> Self {
        Self { body: echo_body(id, sequence), ..Self::new(8, 0) }
    }

    /// An echo reply (0).
    pub fn echo_reply(id: u16, sequence: u16) -> Self {
        Self { body: echo_body(id, sequence), ..Self::new(0, 0) }
    }

    pub(super) fn header(&self, inner: &[u8]) -> Vec<u8> {
        let header = [&[self.kind, self.code, 0, 0], &self.body[..]].concat();
        finish(header, 2, self.checksum, inner, |message| internet_checksum(&[message]))
    }
}

/// An ICMPv6 message (RFC 4443): type, code, checksum and the body's first bytes; what follows is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmp6 {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// `None`: the right one.
    pub checksum: Option<u16>,
    /// All after the checksum; well-formed messages have at least 4 bytes.
    pub body: Vec<u8>,
}

impl Icmp6 {
    /// A message with a body of 4 zero bytes.
    pub fn new(kind: u8, code: u8) -> Self {
        Self { kind, code, checksum: None, body: vec![0; 4] }
    }

    /// An echo request (128).
    pub fn echo_request(id: u16, sequence: u16) -> Self {
        Self { body: echo_body(id, sequence), ..Self::new(128, 0) }
    }

    /// An echo reply (129).
    pub fn echo_reply(id: u16, sequence: u16) -> Self {
        Self { body: echo_body(id, sequence), ..Self::new(129, 0) }
    }

    pub(super) fn header(&self, inner: &[u8], around: &Surroundings<'_>) -> Vec<u8> {
        let header = [&[self.kind, self.code, 0, 0], &self.body[..]].concat();
        finish(header, 2, self.checksum, inner, |message| {
            around.transport_checksum(protocol::ICMPV6, message)
        })
    }
}

/// An IGMP message of 8 bytes (RFC 2236); what follows is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Igmp {
    /// Type; 0x11 is a query, 0x16 a version 2 report.
    pub kind: u8,
    /// Maximum response time in tenths of a second.
    pub response_time: u8,
    /// `None`: the right one.
    pub checksum: Option<u16>,
    /// The group.
    pub group: Ipv4Addr,
}

impl Igmp {
    /// A message about a group.
    pub fn new(kind: u8, group: impl Into<Ipv4Addr>) -> Self {
        Self { kind, response_time: 0, checksum: None, group: group.into() }
    }

    pub(super) fn header(&self, inner: &[u8]) -> Vec<u8> {
        let header = [[self.kind, self.response_time, 0, 0], self.group.octets()].concat();
        finish(header, 2, self.checksum, inner, |message| internet_checksum(&[message]))
    }
}

fn echo_body(id: u16, sequence: u16) -> Vec<u8> {
    [id, sequence].map(u16::to_be_bytes).concat()
}

/// Writes the checksum at `place` of `header`: `wanted`, else what `sum` finds over header and payload.
fn finish(
    mut header: Vec<u8>,
    place: usize,
    wanted: Option<u16>,
    inner: &[u8],
    sum: impl FnOnce(&[u8]) -> u16,
) -> Vec<u8> {
    let checksum = wanted.unwrap_or_else(|| sum(&[&header, inner].concat()));
    put16(&mut header, place, checksum);
    header
}
