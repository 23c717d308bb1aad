//! Fragments: the record of a first fragment, and the rows of later ones.

use crate::{
    abi::FragmentRecord,
    fields::{IpAt, part},
    packet::Packet,
    reason::{Action, Reason},
    tables::{Rate, Tables},
    verdict::Verdict,
};

/// How long the record of a first fragment holds, in seconds: as long as Linux waits for the rest
/// (`net.ipv4.ipfrag_time`).
pub const FRAGMENT_SECONDS: u64 = 30;

/// What happened to a first fragment: the later ones follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum First {
    /// It was dropped.
    Dropped = 0,
    /// It passed.
    Passed = 1,
    /// It passed, from a management source to a management port: later fragments pass from a blocked source as well.
    Management = 2,
    /// It passed, an echo request within the rate: later fragments take from that rate.
    Echo = 3,
    /// It passed, an ICMP error within a rate: later fragments take from a rate.
    Error = 4,
}

impl First {
    #[inline(always)]
    pub(crate) const fn of(verdict: Verdict) -> Self {
        match (verdict.judged, verdict.reason) {
            (Action::Drop, _) => Self::Dropped,
            (Action::Pass, Reason::Management) => Self::Management,
            (Action::Pass, Reason::IcmpEcho) => Self::Echo,
            (Action::Pass, Reason::IcmpError) => Self::Error,
            (Action::Pass, _) => Self::Passed,
        }
    }

    /// The one with this value; an unknown value is that of one that was dropped.
    #[must_use]
    #[inline(always)]
    pub const fn from_value(value: u32) -> Self {
        match value {
            1 => Self::Passed,
            2 => Self::Management,
            3 => Self::Echo,
            4 => Self::Error,
            _ => Self::Dropped,
        }
    }
}

/// The rows of a later fragment. The caller looks up whether the source is `blocked`: a deeper chain of calls would cost
/// stack. Out of line: fragments are rare.
#[inline(never)]
pub(crate) fn later_fragment<P: Packet, T: Tables>(packet: P, tables: &T, at: IpAt, blocked: bool) -> Reason {
    let Some(part) = part(packet, at) else { return Reason::Internal };
    let record = tables.fragment(&part.key).filter(|record| tables.jiffies() < record.expires);
    if blocked && record.is_none_or(|record| record.by != First::Management as u32) {
        return Reason::Blocked;
    }
    let Some(record) = record else { return Reason::FragmentOrphan };
    if part.start < record.end {
        return Reason::FragmentOverlap;
    }
    let within = match First::from_value(record.by) {
        First::Echo => tables.within(Rate::IcmpEcho),
        First::Error => tables.within(Rate::IcmpError),
        _ => true,
    };
    if within { Reason::Fragment } else { Reason::IcmpRate }
}

/// Stores the record of a first fragment that passed. One that was dropped removes an earlier record of its key.
#[inline(always)]
pub fn remember<P: Packet, T: Tables>(packet: P, tables: &T, at: IpAt, first: First) {
    let Some(part) = part(packet, at) else { return };
    match first {
        First::Dropped => tables.forget_fragment(&part.key),
        passed => {
            let expires = tables.jiffies() + FRAGMENT_SECONDS * tables.hz();
            let record = FragmentRecord { expires, end: part.length, by: passed as u32 };
            tables.remember_fragment(&part.key, record);
        }
    }
}
