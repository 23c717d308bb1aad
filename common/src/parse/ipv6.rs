//! The IPv6 header and the extension headers behind it.

use network_types::ip::IpProto;

use super::headers::{Family, Fragment, Headers, MAX_EXTENSIONS, ParseError};
use crate::{
    packet::Packet,
    wire::{ExtensionHeader, Ipv6Header},
};

#[inline(always)]
pub(super) fn ipv6<P: Packet>(packet: P, headers: &mut Headers) -> Result<(), ParseError> {
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

/// Reads the fixed IPv6 header. Returns the number of the next header, and its offset.
#[inline(always)]
pub(super) fn ipv6_header<P: Packet>(packet: P, headers: &mut Headers) -> Result<(u8, usize), ParseError> {
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

/// The position of a walk through extension headers.
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
        // Any other type with segments left: the packet goes on to another host than its destination.
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
                walk.fragment = Fragment::at(start, more, length).ok_or(ParseError::Ipv6)?;
            }
            if start != 0 {
                // Only the first fragment has the headers behind this one.
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
pub(super) const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | 44 | 60)
}
