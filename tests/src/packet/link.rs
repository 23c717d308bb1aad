//! Ethernet, VLAN tags, LLC, and bare payloads.

use std::net::Ipv4Addr;

use super::{Layer, Surroundings, length16};

/// A MAC address in the order of the wire.
pub type Mac = [u8; 6];

/// EtherTypes (IEEE registration authority).
#[expect(missing_docs, reason = "the names are those of the registry")]
pub mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const VLAN: u16 = 0x8100;
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// The tag that came before 802.1ad; some switches still send it.
    pub const OLD_QINQ: u16 = 0x9100;
    pub const IPV6: u16 = 0x86dd;
    pub const SLOW_PROTOCOLS: u16 = 0x8809;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MULTICAST: u16 = 0x8848;
    pub const PPPOE_DISCOVERY: u16 = 0x8863;
    pub const PPPOE_SESSION: u16 = 0x8864;
    pub const EAPOL: u16 = 0x888e;
    pub const EXPERIMENT: u16 = 0x88b5;
    pub const LLDP: u16 = 0x88cc;
    pub const MACSEC: u16 = 0x88e5;
}

/// An Ethernet header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ethernet {
    /// Who it is for.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    /// `None`: announces the next layer; before [`Llc`] the length of what follows (802.3).
    pub ether_type: Option<u16>,
}

impl Ethernet {
    /// All ones.
    pub const BROADCAST: Mac = [0xff; 6];

    /// A header from `source` to `destination`.
    pub fn new(source: Mac, destination: Mac) -> Self {
        Self { destination, source, ether_type: None }
    }

    pub(super) fn header(&self, inner: &[u8], around: &Surroundings<'_>) -> Vec<u8> {
        let kind = self.ether_type.unwrap_or_else(|| match around.next {
            Some(Layer::Llc(_)) => length16(inner.len()),
            _ => around.next_ether_type(),
        });
        [&self.destination[..], &self.source, &kind.to_be_bytes()].concat()
    }
}

impl Default for Ethernet {
    /// Two locally administered unicast addresses: from 02:…:01 to 02:…:02.
    fn default() -> Self {
        Self::new([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
    }
}

/// A VLAN tag; two in a row make QinQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// The EtherType in front of the tag: [`ether_type::VLAN`] or [`ether_type::SERVICE_VLAN`].
    pub tag_protocol: u16,
    /// 0 to 4095; only the lower 12 bits are written.
    pub id: u16,
    /// Priority code point, 0 to 7.
    pub priority: u8,
    /// `None`: announces the next layer.
    pub ether_type: Option<u16>,
}

impl Vlan {
    /// An 802.1Q tag with priority 0.
    pub fn new(id: u16) -> Self {
        Self { tag_protocol: ether_type::VLAN, id, priority: 0, ether_type: None }
    }

    /// An 802.1ad service tag with priority 0.
    pub fn service(id: u16) -> Self {
        Self { tag_protocol: ether_type::SERVICE_VLAN, ..Self::new(id) }
    }

    pub(super) fn header(&self, around: &Surroundings<'_>) -> Vec<u8> {
        let control = u16::from(self.priority & 7) << 13 | self.id & 0x0fff;
        let kind = self.ether_type.unwrap_or_else(|| around.next_ether_type());
        [control.to_be_bytes(), kind.to_be_bytes()].concat()
    }
}

/// An 802.2 LLC header, which makes the frame an 802.3 one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Llc {
    /// Destination service access point.
    pub destination: u8,
    /// Source service access point.
    pub source: u8,
    /// Control; 3 is an unnumbered information frame.
    pub control: u8,
}

impl Llc {
    /// What spanning tree frames carry.
    pub const SPANNING_TREE: Self = Self { destination: 0x42, source: 0x42, control: 3 };
    /// Announces a SNAP header: 3 bytes of organisation and an EtherType, to be given as the payload.
    pub const SNAP: Self = Self { destination: 0xaa, source: 0xaa, control: 3 };

    pub(super) fn header(&self) -> Vec<u8> {
        vec![self.destination, self.source, self.control]
    }
}

/// Bytes as they are, and what the layer in front calls them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// What Ethernet or a VLAN tag in front writes as its EtherType.
    pub ether_type: Option<u16>,
    /// What an IP header in front writes as its protocol.
    pub protocol: Option<u8>,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// Content that names no protocol.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { ether_type: None, protocol: None, bytes: bytes.into() }
    }

    /// Content of an Ethernet frame.
    pub fn of_ether_type(ether_type: u16, bytes: impl Into<Vec<u8>>) -> Self {
        Self { ether_type: Some(ether_type), ..Self::bytes(bytes) }
    }

    /// Content of an IP packet.
    pub fn of_protocol(protocol: u8, bytes: impl Into<Vec<u8>>) -> Self {
        Self { protocol: Some(protocol), ..Self::bytes(bytes) }
    }
}

/// The frame that asks for the MAC of `target` (RFC 826), as a broadcast.
pub fn arp_request(source: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> super::Packet {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    let bytes = [&fixed[..], &source, &sender.octets(), &[0; 6], &target.octets()].concat();
    super::Packet::ethernet(Ethernet::new(source, Ethernet::BROADCAST))
        .with(Payload::of_ether_type(ether_type::ARP, bytes))
}
