//! The rows of ICMP and ICMPv6.

use crate::{
    abi::NetPort,
    ends::{Carried, Ends},
    judging::Judging,
    packet::Packet,
    parse::Family,
    reason::Reason,
    subprograms::Subprograms,
    summary::Summary,
    tables::{Rate, Tables},
    target,
};

/// The row of an ICMP message whose source is not blocked.
#[inline(always)]
pub(crate) fn row<P: Packet, T: Subprograms>(
    packet: P,
    tables: &T,
    summary: Summary,
    judging: Judging,
) -> Reason {
    match summary.ip().family() {
        Family::V4 => v4(packet, tables, summary, judging),
        Family::V6 => v6(packet, tables, summary, judging),
    }
}

/// IPv6 neighbour discovery that comes from the link (RFC 4861). It passes also from a blocked source, as ARP does:
/// otherwise nobody could answer a management source on the block-list.
#[inline(always)]
pub(crate) const fn is_neighbour_discovery(summary: Summary) -> bool {
    matches!(summary.ip().family(), Family::V6)
        && matches!(summary.flags(), 133..=136)
        && summary.hop_limit() == 255
}

#[inline(always)]
fn v4<P: Packet, T: Subprograms>(packet: P, tables: &T, summary: Summary, judging: Judging) -> Reason {
    const UNREACHABLE: u8 = 3;
    const TIME_EXCEEDED: u8 = 11;
    const PARAMETER_PROBLEM: u8 = 12;

    match summary.flags() {
        UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => error(packet, tables, summary, judging),
        ECHO_V4 => echo(packet, tables, summary, judging),
        ECHO_REPLY_V4 if is_echo_reply(packet, tables, summary, judging) => Reason::Established,
        _ => Reason::IcmpOther,
    }
}

#[inline(always)]
fn v6<P: Packet, T: Subprograms>(packet: P, tables: &T, summary: Summary, judging: Judging) -> Reason {
    match summary.flags() {
        // Unreachable, packet too big, time exceeded, parameter problem.
        1..=4 => error(packet, tables, summary, judging),
        // Router and neighbour solicitation and advertisement (RFC 4861).
        133..=136 if summary.hop_limit() == 255 => Reason::Neighbour,
        133..=136 => Reason::NdHopLimit,
        // MLD queries, reports and done; version 2 reports (RFC 2710, RFC 3810).
        130..=132 | 143 => membership(packet, tables, summary, judging),
        ECHO_V6 => echo(packet, tables, summary, judging),
        ECHO_REPLY_V6 if is_echo_reply(packet, tables, summary, judging) => Reason::Established,
        _ => Reason::IcmpOther,
    }
}

// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443).
const ECHO_REPLY_V4: u8 = 0;
const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// True for an echo request.
#[inline(always)]
pub(crate) const fn is_echo_request(summary: Summary) -> bool {
    let wanted = match summary.ip().family() {
        Family::V4 => ECHO_V4,
        Family::V6 => ECHO_V6,
    };
    summary.flags() == wanted
}

#[inline(always)]
fn is_echo_reply<P: Packet, T: Subprograms>(
    packet: P,
    tables: &T,
    summary: Summary,
    judging: Judging,
) -> bool {
    let ends = Ends {
        at: summary.ip(),
        carried: Carried::Echo,
        local: summary.identifier(),
        remote: NetPort(0),
        flags: 0,
    };
    tables.is_reply(packet, judging.slot, ends)
}

/// An ICMP error. Those about what this side sends have rates of their own, so that forged ones leave them room.
#[inline(always)]
fn error<P: Packet, T: Subprograms>(packet: P, tables: &T, summary: Summary, judging: Judging) -> Reason {
    let (at, quote) = (summary.ip(), summary.quote());
    let rate = if let Some(lane) = quote.and_then(|offset| tables.quotes_flow(packet, judging, at, offset)) {
        Rate::IcmpErrorOfFlow(lane)
    } else if let Some(lane) = quote.and_then(|offset| tables.quotes_open(packet, judging, at, offset)) {
        Rate::IcmpErrorOfPort(lane)
    } else if target::is_barred(packet, tables, at, judging) {
        return Reason::Unmatched;
    } else {
        Rate::IcmpError
    };
    limited(tables, rate, Reason::IcmpError)
}

/// An echo request: to the box, to a target, or to where its zone lets packets without a target go.
#[inline(always)]
fn echo<P: Packet, T: Subprograms>(packet: P, tables: &T, summary: Summary, judging: Judging) -> Reason {
    if target::is_barred(packet, tables, summary.ip(), judging) {
        return Reason::Unmatched;
    }
    limited(tables, Rate::IcmpEcho, Reason::IcmpEcho)
}

/// MLD is of the link: it goes to a group, and a router may ask a host (RFC 3810, 5.1.15).
#[inline(always)]
fn membership<P: Packet, T: Subprograms>(
    packet: P,
    tables: &T,
    summary: Summary,
    judging: Judging,
) -> Reason {
    if summary.group() {
        return Reason::MulticastControl;
    }
    if target::is_barred(packet, tables, summary.ip(), judging) {
        return Reason::Unmatched;
    }
    if target::of(packet, tables, summary.ip(), judging).host {
        Reason::MulticastControl
    } else {
        Reason::IcmpOther
    }
}

#[inline(always)]
fn limited<T: Tables>(tables: &T, rate: Rate, within: Reason) -> Reason {
    if tables.within(rate) { within } else { Reason::IcmpRate }
}
