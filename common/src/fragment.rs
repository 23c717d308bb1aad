//! Fragments: what is remembered of a first one, and what becomes of the later ones.

use crate::{
    abi::FragmentRecord,
    decide::{FRAGMENT_SECONDS, Tables, Verdict},
    fields::{Place, part},
    packet::Packet,
    reason::{Action, Reason},
};

/// What became of a first fragment, and becomes of the later ones by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum First {
    /// It was dropped.
    Dropped = 0,
    /// It passed.
    Passed = 1,
    /// Management let it in.
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

/// `blocked` says that the source is: whoever calls this finds it out, as chains of calls cost stack. Out of line:
/// fragments are rare.
#[inline(never)]
pub(crate) fn later_fragment<P: Packet, T: Tables>(
    packet: P,
    tables: &T,
    place: Place,
    blocked: bool,
) -> Reason {
    let Some(part) = part(packet, place) else { return Reason::Internal };
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

/// An allowed first fragment is remembered; a denied one makes an earlier one of the same key forgotten.
#[inline(always)]
pub fn remember<P: Packet, T: Tables>(packet: P, tables: &T, place: Place, first: First) {
    let Some(part) = part(packet, place) else { return };
    match first {
        First::Passed | First::Management => {
            let expires = tables.jiffies() + FRAGMENT_SECONDS * tables.hz();
            let management = u32::from(matches!(first, First::Management));
            tables.remember_fragment(&part.key, FragmentRecord { expires, end: part.length, management });
        }
        First::Dropped => tables.forget_fragment(&part.key),
    }
}
