//! Raw Ethernet frames for tests, layer by layer.
//!
//! ```
//! use lyncwall_tests::packet::{Ipv4, Packet, Tcp, Vlan};
//!
//! let frame = Packet::new()
//!     .with(Vlan::new(7))
//!     .with(Ipv4 { ttl: 3, ..Ipv4::new([192, 0, 2, 1], [192, 0, 2, 2]) })
//!     .with(Tcp::syn(40_000, 443))
//!     .build();
//! assert_eq!(frame.len(), 14 + 4 + 20 + 20);
//! ```
//!
//! Lengths, checksums and "next protocol" fields are computed from the layers that follow. Each of them is an
//! `Option` in its layer: `Some` writes that value instead, right or wrong, which is how malformed frames are
//! made. Numbers are in host byte order here and in network byte order on the wire.

mod checksum;
mod extension;
mod link;
mod network;
#[cfg(test)]
mod tests;
mod transport;

use std::net::IpAddr;

pub use checksum::internet_checksum;
pub use extension::Extension;
pub use link::{Ethernet, Llc, Mac, Payload, Vlan, arp_request, ether_type};
pub use network::{Ipv4, Ipv6, ip, protocol};
pub use transport::{Icmp4, Icmp6, Igmp, Tcp, Udp};

/// The shortest Ethernet frame without its check sequence (IEEE 802.3, 64 bytes with it).
pub const ETHERNET_MINIMUM: usize = 60;

/// A frame as a list of layers, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    layers: Vec<Layer>,
    padded: bool,
    truncated: Option<usize>,
}

impl Default for Packet {
    fn default() -> Self {
        Self::new()
    }
}

impl Packet {
    /// An Ethernet header with [`Ethernet::default`]'s addresses, and nothing behind it yet.
    pub fn new() -> Self {
        Self::ethernet(Ethernet::default())
    }

    /// The given Ethernet header, and nothing behind it yet.
    pub fn ethernet(ethernet: Ethernet) -> Self {
        Self { layers: vec![Layer::Ethernet(ethernet)], padded: false, truncated: None }
    }

    /// Adds a layer behind the last one. A byte string or a `Vec<u8>` is a [`Payload`] that names no protocol.
    #[must_use]
    pub fn with(mut self, layer: impl Into<Layer>) -> Self {
        self.layers.push(layer.into());
        self
    }

    /// Fills the frame up with zeros to [`ETHERNET_MINIMUM`], as a network card does. No header counts the filling.
    #[must_use]
    pub fn padded(mut self) -> Self {
        self.padded = true;
        self
    }

    /// Cuts the finished frame after `length` bytes; the headers still claim the whole. The kernel's test run
    /// refuses frames of less than 14 bytes.
    #[must_use]
    pub fn truncated(mut self, length: usize) -> Self {
        self.truncated = Some(length);
        self
    }

    /// The bytes of the frame, without the Ethernet check sequence.
    ///
    /// # Panics
    /// Where a length that is to be computed does not fit its field.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = self.encode_from(0);
        if self.padded && frame.len() < ETHERNET_MINIMUM {
            frame.resize(ETHERNET_MINIMUM, 0);
        }
        if let Some(length) = self.truncated {
            frame.truncate(length);
        }
        frame
    }

    /// The same datagram as IP fragments of at most `size` bytes of IP payload each, first one first, with the
    /// transport checksum over the whole.
    ///
    /// `id` is the datagram's identification (IPv4 keeps its lower 16 bits).
    ///
    /// # Panics
    /// Where there is no IP layer, or `size` is no multiple of 8.
    pub fn fragments(&self, size: usize, id: u32) -> Vec<Self> {
        assert!(size > 0 && size.is_multiple_of(8), "fragment offsets count 8 bytes, {size} is no multiple");
        let ip = self
            .layers
            .iter()
            .position(|layer| matches!(layer, Layer::Ipv4(_) | Layer::Ipv6(_)))
            .expect("only a packet with an IP layer has fragments");
        let body = self.encode_from(ip + 1);
        let next = self.layers.get(ip + 1).and_then(Layer::ip_protocol).unwrap_or(protocol::EXPERIMENT);
        let last = body.len().div_ceil(size).max(1) - 1;
        let piece = |n: usize| {
            let offset = u16::try_from(n * size / 8).expect("an IP payload has at most 65,535 bytes");
            let mut layers = self.layers[..ip].to_vec();
            match &self.layers[ip] {
                Layer::Ipv4(whole) => layers.push(Layer::Ipv4(Ipv4 {
                    id: (id & 0xffff) as u16,
                    more_fragments: n < last,
                    offset,
                    protocol: Some(whole.protocol.unwrap_or(next)),
                    ..whole.clone()
                })),
                whole => {
                    let fragment = Extension::fragment(offset, n < last, id);
                    layers.push(whole.clone());
                    layers.push(Layer::Extension(Extension { next: Some(next), ..fragment }));
                }
            }
            layers.push(body[n * size..body.len().min((n + 1) * size)].to_vec().into());
            Self { layers, padded: self.padded, truncated: self.truncated }
        };
        (0..=last).map(piece).collect()
    }

    /// The bytes of the layers from `start` on.
    fn encode_from(&self, start: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (n, layer) in self.layers.iter().enumerate().skip(start).rev() {
            let surroundings = Surroundings {
                next: self.layers.get(n + 1),
                network: self.layers[..n].iter().rev().find_map(Layer::addresses),
            };
            bytes = layer.encode(&bytes, &surroundings);
        }
        bytes
    }
}

/// One layer of a [`Packet`]; made from the layer's own type by `into()`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant holds the type of the same name, which is documented")]
pub enum Layer {
    Ethernet(Ethernet),
    Vlan(Vlan),
    Llc(Llc),
    Ipv4(Ipv4),
    Ipv6(Ipv6),
    Extension(Extension),
    Tcp(Tcp),
    Udp(Udp),
    Icmp4(Icmp4),
    Icmp6(Icmp6),
    Igmp(Igmp),
    Payload(Payload),
}

impl Layer {
    /// The layer's bytes followed by `inner`.
    fn encode(&self, inner: &[u8], around: &Surroundings<'_>) -> Vec<u8> {
        let mut bytes = match self {
            Self::Ethernet(layer) => layer.header(inner, around),
            Self::Vlan(layer) => layer.header(around),
            Self::Llc(layer) => layer.header(),
            Self::Ipv4(layer) => layer.header(inner, around),
            Self::Ipv6(layer) => layer.header(inner, around),
            Self::Extension(layer) => layer.header(around),
            Self::Tcp(layer) => layer.header(inner, around),
            Self::Udp(layer) => layer.header(inner, around),
            Self::Icmp4(layer) => layer.header(inner),
            Self::Icmp6(layer) => layer.header(inner, around),
            Self::Igmp(layer) => layer.header(inner),
            Self::Payload(layer) => layer.bytes.clone(),
        };
        bytes.extend_from_slice(inner);
        bytes
    }

    /// The EtherType that announces this layer, where it has one.
    fn ether_type(&self) -> Option<u16> {
        match self {
            Self::Vlan(layer) => Some(layer.tag_protocol),
            Self::Ipv4(_) => Some(ether_type::IPV4),
            Self::Ipv6(_) => Some(ether_type::IPV6),
            Self::Payload(layer) => layer.ether_type,
            _ => None,
        }
    }

    /// The IP protocol number that announces this layer, where it has one.
    fn ip_protocol(&self) -> Option<u8> {
        match self {
            Self::Ipv4(_) => Some(protocol::IPIP),
            Self::Ipv6(_) => Some(protocol::IPV6),
            Self::Extension(layer) => Some(layer.protocol),
            Self::Tcp(_) => Some(protocol::TCP),
            Self::Udp(_) => Some(protocol::UDP),
            Self::Icmp4(_) => Some(protocol::ICMP),
            Self::Icmp6(_) => Some(protocol::ICMPV6),
            Self::Igmp(_) => Some(protocol::IGMP),
            Self::Payload(layer) => layer.protocol,
            Self::Ethernet(_) | Self::Vlan(_) | Self::Llc(_) => None,
        }
    }

    /// Source and destination, where this is an IP layer.
    fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match self {
            Self::Ipv4(layer) => Some((layer.source.into(), layer.destination.into())),
            Self::Ipv6(layer) => Some((layer.source.into(), layer.destination.into())),
            _ => None,
        }
    }
}

/// What a layer needs to know of the others.
struct Surroundings<'a> {
    /// The layer right behind it.
    next: Option<&'a Layer>,
    /// Addresses of the nearest IP layer in front of it, for the pseudo-header.
    network: Option<(IpAddr, IpAddr)>,
}

impl Surroundings<'_> {
    /// The next layer's EtherType; one for local experiments (IEEE 802, 88-B5) where it has none.
    fn next_ether_type(&self) -> u16 {
        self.next.and_then(Layer::ether_type).unwrap_or(ether_type::EXPERIMENT)
    }

    /// The next layer's protocol number; one for experiments (RFC 3692) where it has none, "no next header"
    /// (RFC 8200) where nothing follows.
    fn next_protocol(&self) -> u8 {
        self.next
            .map_or(protocol::NO_NEXT_HEADER, |layer| layer.ip_protocol().unwrap_or(protocol::EXPERIMENT))
    }

    /// The transport checksum (RFC 9293, 768, 4443) of `segment` under the pseudo-header of the IP layer
    /// around it. Without one, the plain sum.
    ///
    /// The pseudo-header takes the IP header's destination: right for every form but a routing header that
    /// still has segments left.
    fn transport_checksum(&self, protocol: u8, segment: &[u8]) -> u16 {
        let length = u32::try_from(segment.len()).expect("a segment fits an IP packet").to_be_bytes();
        let mut pseudo = match self.network {
            Some((IpAddr::V4(source), IpAddr::V4(destination))) => {
                [source.octets(), destination.octets()].concat()
            }
            Some((IpAddr::V6(source), IpAddr::V6(destination))) => {
                [source.octets(), destination.octets()].concat()
            }
            _ => return internet_checksum(&[segment]),
        };
        pseudo.extend_from_slice(&length);
        pseudo.extend_from_slice(&[0, 0, 0, protocol]);
        internet_checksum(&[&pseudo, segment])
    }
}

macro_rules! layers {
    ($($name:ident),+) => {
        $(impl From<$name> for Layer {
            fn from(layer: $name) -> Self {
                Self::$name(layer)
            }
        })+
    };
}
layers!(Ethernet, Vlan, Llc, Ipv4, Ipv6, Extension, Tcp, Udp, Icmp4, Icmp6, Igmp, Payload);

impl From<Vec<u8>> for Layer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Payload(Payload::bytes(bytes))
    }
}

impl From<&[u8]> for Layer {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl<const N: usize> From<&[u8; N]> for Layer {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.to_vec().into()
    }
}

/// A computed length as the 16 bits that it gets on the wire.
fn length16(length: usize) -> u16 {
    u16::try_from(length).expect("a computed length field holds at most 65,535")
}

/// Writes `value` in network byte order.
fn put16(header: &mut [u8], at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
