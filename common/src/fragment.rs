//! Fragments: the record of a first fragment, and the rows of later ones.

use crate::{
    abi::{Features, FragmentRecord, NO_POLICY},
    fields::{IpAt, part},
    judging::Judging,
    packet::Packet,
    reason::{Action, Reason},
    tables::{Rate, Rules, Tables},
    target,
    verdict::Verdict,
};

/// How long the record of a first fragment holds, in seconds: as long as Linux waits for the rest
/// (`net.ipv4.ipfrag_time`).
pub const FRAGMENT_SECONDS: u64 = 30;

/// Where a later fragment may begin that comes before its first one, in bytes: behind every transport header, so that it
/// overwrites none. No network that is in use makes smaller fragments (RFC 791: 576 bytes with the header).
pub const EARLIEST_EARLY: u32 = 512;

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

/// What the caller of [`later_fragment`] knows, in one word: a function of the program has five arguments at most.
#[derive(Clone, Copy)]
pub(crate) struct Known(u32);

impl Known {
    /// What judges, and whether it blocks the source. The caller looks that up: a deeper chain of calls would cost stack.
    #[inline(always)]
    pub(crate) const fn new(judging: Judging, blocked: bool) -> Self {
        Self(judging.slot << 9 | (judging.features.0 as u32) << 1 | blocked as u32)
    }

    #[inline(always)]
    const fn judging(self) -> Judging {
        Judging { slot: self.0 >> 9, features: Features((self.0 >> 1) as u8) }
    }

    #[inline(always)]
    const fn blocked(self) -> bool {
        self.0 & 1 != 0
    }
}

/// The rows of a later fragment. Out of line: fragments are rare.
#[inline(never)]
pub(crate) fn later_fragment<P: Packet, T: Tables>(packet: P, tables: &T, at: IpAt, known: Known) -> Reason {
    let Some(part) = part(packet, at) else { return Reason::Internal };
    let record = tables.fragment(&part.key).filter(|record| tables.jiffies() < record.expires);
    if known.blocked() && record.is_none_or(|record| record.by != First::Management as u32) {
        return Reason::Blocked;
    }
    let Some(record) = record else {
        let early = part.start >= EARLIEST_EARLY
            && is_for_the_box(packet, tables, at, known.judging())
            && tables.may_come_early(known.judging().slot);
        return if early { Reason::FragmentEarly } else { Reason::FragmentOrphan };
    };
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

/// True where the destination is this box, and a target. The stack of the box keeps a fragment until its first one comes,
/// which is judged. Another host's stack is not to keep what nobody judged.
#[inline(always)]
fn is_for_the_box<P: Packet, T: Rules>(packet: P, tables: &T, at: IpAt, judging: Judging) -> bool {
    let target = target::of(packet, tables, at, judging);
    target.host && target.policy != NO_POLICY && !target.outbound
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
