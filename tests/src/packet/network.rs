//! IPv4 and IPv6 headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Layer, Surroundings, internet_checksum, length16, put16};

/// IP protocol numbers (IANA).
#[expect(missing_docs, reason = "the names are those of the registry")]
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const IPIP: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT_HEADER: u8 = 59;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const OSPF: u8 = 89;
    pub const VRRP: u8 = 112;
    pub const SCTP: u8 = 132;
    pub const EXPERIMENT: u8 = 253;
}

/// The IP header of the addresses' family.
///
/// # Panics
/// Where the families differ.
pub fn ip(source: IpAddr, destination: IpAddr) -> Layer {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ipv4::new(source, destination).into(),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6::new(source, destination).into(),
        _ => panic!("{source} and {destination} are of different families"),
    }
}

/// An IPv4 header (RFC 791).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4 {
    /// 4 in well-formed packets; 4 bits.
    pub version: u8,
    /// In 4-byte words, 4 bits; `None`: what the header with its options has.
    pub header_words: Option<u8>,
    /// Type of service.
    pub service: u8,
    /// In bytes; `None`: header and all that follows.
    pub total_length: Option<u16>,
    /// Identification.
    pub id: u16,
    /// The DF bit.
    pub dont_fragment: bool,
    /// The MF bit.
    pub more_fragments: bool,
    /// In units of 8 bytes, 13 bits.
    pub offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// `None`: announces the next layer.
    pub protocol: Option<u8>,
    /// `None`: the right one.
    pub checksum: Option<u16>,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// The options as they go on the wire; filled up with zeros (end of list) to whole words. At most 40 bytes
    /// fit the length field; with `header_words` given, more are written all the same.
    pub options: Vec<u8>,
}

impl Ipv4 {
    /// A header without options or fragmentation, TTL 64.
    pub fn new(source: impl Into<Ipv4Addr>, destination: impl Into<Ipv4Addr>) -> Self {
        Self {
            version: 4,
            header_words: None,
            service: 0,
            total_length: None,
            id: 0,
            dont_fragment: false,
            more_fragments: false,
            offset: 0,
            ttl: 64,
            protocol: None,
            checksum: None,
            source: source.into(),
            destination: destination.into(),
            options: Vec::new(),
        }
    }

    pub(super) fn header(&self, inner: &[u8], around: &Surroundings<'_>) -> Vec<u8> {
        let length = 20 + self.options.len().next_multiple_of(4);
        let words = self.header_words.unwrap_or_else(|| {
            assert!(length <= 60, "IPv4 options of {} bytes do not fit the header", self.options.len());
            (length / 4) as u8
        });
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        let mut header = vec![0; length];
        header[0] = self.version << 4 | words & 0x0f;
        header[1] = self.service;
        put16(&mut header, 2, self.total_length.unwrap_or_else(|| length16(length + inner.len())));
        put16(&mut header, 4, self.id);
        put16(&mut header, 6, flags | self.offset & 0x1fff);
        header[8] = self.ttl;
        header[9] = self.protocol.unwrap_or_else(|| around.next_protocol());
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..20].copy_from_slice(&self.destination.octets());
        header[20..20 + self.options.len()].copy_from_slice(&self.options);
        let checksum = self.checksum.unwrap_or_else(|| internet_checksum(&[&header]));
        put16(&mut header, 10, checksum);
        header
    }
}

/// An IPv6 header (RFC 8200).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6 {
    /// 6 in well-formed packets; 4 bits.
    pub version: u8,
    /// Traffic class.
    pub class: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// In bytes; `None`: all that follows.
    pub payload_length: Option<u16>,
    /// `None`: announces the next layer.
    pub next: Option<u8>,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6 {
    /// A header with hop limit 64.
    pub fn new(source: impl Into<Ipv6Addr>, destination: impl Into<Ipv6Addr>) -> Self {
        Self {
            version: 6,
            class: 0,
            flow_label: 0,
            payload_length: None,
            next: None,
            hop_limit: 64,
            source: source.into(),
            destination: destination.into(),
        }
    }

    pub(super) fn header(&self, inner: &[u8], around: &Surroundings<'_>) -> Vec<u8> {
        let first =
            u32::from(self.version) << 28 | u32::from(self.class) << 20 | self.flow_label & 0x000f_ffff;
        let length = self.payload_length.unwrap_or_else(|| length16(inner.len()));
        let next = self.next.unwrap_or_else(|| around.next_protocol());
        [
            &first.to_be_bytes()[..],
            &length.to_be_bytes(),
            &[next, self.hop_limit],
            &self.source.octets(),
            &self.destination.octets(),
        ]
        .concat()
    }
}
