//! Fragments: the record of a first fragment, and the rows of later ones.

use crate::{
    abi::FragmentRecord,
    fields::{IpAt, part},
    packet::Packet,
    reason::{Action, Reason},
    tables::Tables,
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
    /// It passed, from a management source to a management port.
    Management = 2,
}

impl First {
    #[inline(always)]
    pub(crate) const fn of(verdict: Verdict) -> Self {
        match (verdict.judged, verdict.reason) {
            (Action::Drop, _) => Self::Dropped,
            (Action::Pass, Reason::Management) => Self::Management,
            (Action::Pass, _) => Self::Passed,
        }
    }
}

/// The rows of a later fragment. The caller looks up whether the source is `blocked`: a deeper chain of calls would cost
/// stack. Out of line: fragments are rare.
#[inline(never)]
pub(crate) fn later_fragment<P: Packet, T: Tables>(packet: P, tables: &T, at: IpAt, blocked: bool) -> Reason {
    let Some(part) = part(packet, at) else { return Reason::Internal };
    let record = tables.fragment(&part.key).filter(|record| tables.jiffies() < record.expires);
    if blocked && record.is_none_or(|record| record.management == 0) {
        return Reason::Blocked;
    }
    match record {
        Some(record) if part.start < record.end => Reason::FragmentOverlap,
        Some(_) => Reason::Fragment,
        None => Reason::FragmentOrphan,
    }
}

/// Stores the record of a first fragment that passed. One that was dropped removes an earlier record of its key.
#[inline(always)]
pub fn remember<P: Packet, T: Tables>(packet: P, tables: &T, at: IpAt, first: First) {
    let Some(part) = part(packet, at) else { return };
    match first {
        First::Passed | First::Management => {
            let expires = tables.jiffies() + FRAGMENT_SECONDS * tables.hz();
            let management = u32::from(matches!(first, First::Management));
            tables.remember_fragment(&part.key, FragmentRecord { expires, end: part.length, management });
        }
        First::Dropped => tables.forget_fragment(&part.key),
    }
}
