//! IPv6 extension headers, and AH for both families.

use std::net::Ipv6Addr;

use super::{Surroundings, protocol};

/// An extension header: next header, length, body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The number that announces this header in the one before.
    pub protocol: u8,
    /// `None`: announces the next layer.
    pub next: Option<u8>,
    /// The length byte; `None`: the right one: in units of 8 bytes after the first 8, for AH in units of 4
    /// bytes minus 2 (RFC 4302), for a fragment header 0 (reserved).
    pub length: Option<u8>,
    /// All that follows the first two bytes.
    pub body: Vec<u8>,
}

impl Extension {
    /// Hop-by-hop options; the options are padded to a whole header.
    pub fn hop_by_hop(options: &[u8]) -> Self {
        Self::with_options(protocol::HOP_BY_HOP, options)
    }

    /// Destination options; the options are padded to a whole header.
    pub fn destination_options(options: &[u8]) -> Self {
        Self::with_options(protocol::DESTINATION_OPTIONS, options)
    }

    /// The hop-by-hop header of MLD messages: a router alert (RFC 2711).
    pub fn router_alert() -> Self {
        Self::hop_by_hop(&[5, 2, 0, 0])
    }

    /// A routing header of the given type. Type 0 is the one that RFC 5095 forbids.
    pub fn routing(kind: u8, segments_left: u8, addresses: &[Ipv6Addr]) -> Self {
        let mut body = vec![kind, segments_left, 0, 0, 0, 0];
        body.extend(addresses.iter().flat_map(Ipv6Addr::octets));
        Self { protocol: protocol::ROUTING, next: None, length: None, body }
    }

    /// A fragment header; `offset` in units of 8 bytes, 13 bits.
    pub fn fragment(offset: u16, more: bool, id: u32) -> Self {
        let place = offset << 3 | u16::from(more);
        let body = [&place.to_be_bytes()[..], &id.to_be_bytes()].concat();
        Self { protocol: protocol::FRAGMENT, next: None, length: None, body }
    }

    /// An authentication header with 12 zero bytes for its check value, which nobody verifies here.
    pub fn authentication(spi: u32, sequence: u32) -> Self {
        let body = [&[0; 2][..], &spi.to_be_bytes(), &sequence.to_be_bytes(), &[0; 12]].concat();
        Self { protocol: protocol::AH, next: None, length: None, body }
    }

    fn with_options(protocol: u8, options: &[u8]) -> Self {
        let mut body = options.to_vec();
        let missing = (body.len() + 2).next_multiple_of(8) - (body.len() + 2);
        match missing {
            0 => {}
            // Pad1 has no length byte; PadN counts what follows its own two bytes (RFC 8200, 4.2).
            1 => body.push(0),
            n => {
                body.extend_from_slice(&[1, (n - 2) as u8]);
                body.resize(body.len() + n - 2, 0);
            }
        }
        Self { protocol, next: None, length: None, body }
    }

    pub(super) fn header(&self, around: &Surroundings<'_>) -> Vec<u8> {
        let whole = self.body.len() + 2;
        let length = self.length.unwrap_or_else(|| {
            let units = match self.protocol {
                protocol::FRAGMENT => 0,
                protocol::AH => (whole / 4).saturating_sub(2),
                _ => (whole / 8).saturating_sub(1),
            };
            u8::try_from(units).expect("an extension header has at most 2,048 bytes")
        });
        let mut header = vec![self.next.unwrap_or_else(|| around.next_protocol()), length];
        header.extend_from_slice(&self.body);
        header
    }
}
