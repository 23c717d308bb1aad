//! The IPv4 header and its options.

use core::hint::black_box;

use super::headers::{Family, Fragment, Headers, ParseError};
use crate::{
    packet::{Ipv4Options, Packet},
    wire::Ipv4Header,
};

#[inline(always)]
pub(super) fn ipv4<P: Packet>(packet: P, headers: &mut Headers) -> Result<(), ParseError> {
    let ip = packet.header::<Ipv4Header>(headers.network).ok_or(ParseError::Ipv4)?;
    let payload = ipv4_header(packet, &ip, headers)?;
    let options = headers.network + size_of::<Ipv4Header>();
    if payload > options {
        match packet.ipv4_options(options, payload) {
            Ipv4Options::Sound => {}
            Ipv4Options::Malformed => return Err(ParseError::Ipv4),
            Ipv4Options::SourceRoute => return Err(ParseError::SourceRoute),
        }
    }
    headers.transport = payload;
    if is_fragment(&ip) {
        let word = u16::from_be(ip.fragment);
        let start = u32::from(word & OFFSET) * 8;
        let length = headers.end - headers.transport;
        headers.fragment = Fragment::at(start, word & MORE != 0, length).ok_or(ParseError::Ipv4)?;
    }
    Ok(())
}

/// Version 4, five words.
pub(super) const IPV4_WITHOUT_OPTIONS: u8 = 0x45;

/// "More fragments", in the word that [`Ipv4Header::fragment`] is.
const MORE: u16 = 0x2000;
/// The offset, in the word that [`Ipv4Header::fragment`] is.
const OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) const fn is_fragment(ip: &Ipv4Header) -> bool {
    ip.fragment & (MORE | OFFSET).to_be() != 0
}

/// 224.0.0.0 and above: one comparison rules out multicast and broadcast for nearly every packet.
#[inline(always)]
pub(super) const fn is_to_many(ip: &Ipv4Header) -> bool {
    u16::from_be(ip.destination[0]) >= 0xe000
}

/// Reads the IPv4 header up to its options. Returns the offset of its payload.
#[inline(always)]
pub(super) fn ipv4_header<P: Packet>(
    packet: P,
    ip: &Ipv4Header,
    headers: &mut Headers,
) -> Result<usize, ParseError> {
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

/// Two tags, and the longest IPv4 header: options end before this.
pub const OPTIONS_MASK: usize = 0x7f;

/// Walks the options at `start..end`, at most 40 bytes.
#[inline(always)]
pub fn walk_options<P: Packet>(packet: P, start: usize, end: usize) -> Ipv4Options {
    const END_OF_OPTIONS: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;

    let (mut at, mut room) = (0, end.saturating_sub(start));
    for _ in 0..40 {
        let known = packet.forget([at as u64, room as u64]);
        (at, room) = (known[0] as usize & 63, known[1] as usize & 63);
        if at >= room {
            return Ipv4Options::Sound;
        }
        let Some(kind) = option_byte(packet, start, at) else { return Ipv4Options::Malformed };
        match kind {
            END_OF_OPTIONS => return Ipv4Options::Sound,
            NO_OPERATION => at += 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Ipv4Options::SourceRoute,
            _ if at + 1 == room => return Ipv4Options::Malformed,
            _ => {
                let Some(length) = option_byte(packet, start, at + 1) else { return Ipv4Options::Malformed };
                let length = usize::from(length);
                if length < 2 || length > room - at {
                    return Ipv4Options::Malformed;
                }
                at += length;
            }
        }
    }
    Ipv4Options::Sound
}

/// A byte of the options, read with the word around it: options fill whole words, and the verifier learns nothing from
/// the check of a single byte at an offset it does not know.
#[inline(always)]
fn option_byte<P: Packet>(packet: P, start: usize, at: usize) -> Option<u8> {
    // Without this the compiler takes the bounds check apart, and subtracts from the end of the packet, which the
    // verifier refuses.
    let packet = black_box(packet);
    let word: u16 = packet.read(start + (at & !1))?;
    Some((u16::from_le(word) >> ((at & 1) * 8)) as u8)
}
