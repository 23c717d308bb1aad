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
        UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => {
            limited(tables, Rate::IcmpError, Reason::IcmpError)
        }
        ECHO_V4 => limited(tables, Rate::IcmpEcho, Reason::IcmpEcho),
        ECHO_REPLY_V4 if is_echo_reply(packet, tables, summary, judging) => Reason::Established,
        _ => Reason::IcmpOther,
    }
}

#[inline(always)]
fn v6<P: Packet, T: Subprograms>(packet: P, tables: &T, summary: Summary, judging: Judging) -> Reason {
    match summary.flags() {
        // Unreachable, packet too big, time exceeded, parameter problem.
        1..=4 => limited(tables, Rate::IcmpError, Reason::IcmpError),
        // Router and neighbour solicitation and advertisement (RFC 4861).
        133..=136 if summary.hop_limit() == 255 => Reason::Neighbour,
        133..=136 => Reason::NdHopLimit,
        // MLD queries, reports and done; version 2 reports (RFC 2710, RFC 3810).
        130..=132 | 143 => Reason::MulticastControl,
        ECHO_V6 => limited(tables, Rate::IcmpEcho, Reason::IcmpEcho),
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

#[inline(always)]
fn limited<T: Tables>(tables: &T, rate: Rate, within: Reason) -> Reason {
    if tables.within(rate) { within } else { Reason::IcmpRate }
}
