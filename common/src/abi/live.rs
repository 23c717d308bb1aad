//! The live record and the management ports: the page that the agent has mapped and the program reads first.

use super::{NetPort, PortTransport};
use crate::reason::Reason;

/// The features that a generation uses, so that a packet costs no look-up that nothing needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Features(pub u8);

impl Features {
    /// Audit mode: only packets from blocked sources are dropped.
    pub const AUDIT: Self = Self(1);
    /// The generation has `[[allow]]` rules.
    pub const ALLOW: Self = Self(2);
    /// Targets have addresses of their own. Without this bit, policy 0 holds for every destination.
    pub const TARGETS: Self = Self(4);
    /// Some open ports are for groups of sources only.
    pub const GROUPS: Self = Self(8);
    /// The generation has several zones. Without this bit, every packet is in zone 0.
    pub const ZONES: Self = Self(16);
    /// Some targets are in audit mode and some are not: see [`Generation::audit`](super::Generation::audit).
    pub const MODES: Self = Self(32);
    /// Some targets limit how many connections a source may open.
    pub const LIMIT: Self = Self(64);
    /// The block-list has entries. Only the live record has this bit: the block-list is of no generation.
    pub const BLOCKED: Self = Self(128);

    /// True when all bits of `other` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The live record: one word, read once per packet; storing it is the switch.
///
/// Bits 0-3 the slot that judges, 4-7 the slot to fall back to, 8-15 and 16-23 their [`Features`], 24-63 the deadline
/// in jiffies, 0 for none. Once the deadline has passed, the program itself takes the fallback. 40 bits of jiffies
/// last 34 years at 1,000 a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Live(pub u64);

impl Live {
    const DEADLINE_SHIFT: u32 = 24;

    /// A record without a deadline.
    #[must_use]
    pub const fn new(slot: u32, features: Features) -> Self {
        Self::with_fallback(slot, features, slot, features, 0)
    }

    /// A record that holds until `deadline` (jiffies, below 2^40; 0: for ever), and then is `fallback`.
    #[must_use]
    pub const fn with_fallback(
        slot: u32,
        features: Features,
        fallback: u32,
        fallback_features: Features,
        deadline: u64,
    ) -> Self {
        Self(
            (slot as u64 & 0xf)
                | (fallback as u64 & 0xf) << 4
                | (features.0 as u64) << 8
                | (fallback_features.0 as u64) << 16
                | deadline << Self::DEADLINE_SHIFT,
        )
    }

    /// The slot and the features that judge now. Calls `jiffies` only where the record has a deadline.
    #[must_use]
    #[inline(always)]
    pub fn judging(self, jiffies: impl FnOnce() -> u64) -> (u32, Features) {
        let word = if self.deadline() == 0 { self.0 } else { self.at(jiffies()) };
        ((word & 0xf) as u32, Features((word >> 8) as u8))
    }

    /// The word, after the deadline with the fallback in the places of slot and features. Out of line: deadlines are rare.
    #[inline(never)]
    fn at(self, now: u64) -> u64 {
        if now < self.deadline() {
            return self.0;
        }
        u64::from(self.fallback()) | (self.0 >> 8 & 0xff00)
    }

    /// The slot that judges while no deadline has passed.
    #[must_use]
    pub const fn slot(self) -> u32 {
        (self.0 & 0xf) as u32
    }

    /// The slot that judges after the deadline.
    #[must_use]
    pub const fn fallback(self) -> u32 {
        (self.0 >> 4 & 0xf) as u32
    }

    /// This record with or without [`Features::BLOCKED`], before and after the deadline.
    #[must_use]
    pub const fn blocking(self, blocking: bool) -> Self {
        const BOTH: u64 = (Features::BLOCKED.0 as u64) << 8 | (Features::BLOCKED.0 as u64) << 16;
        Self(if blocking { self.0 | BOTH } else { self.0 & !BOTH })
    }

    /// This record with [`Features::AUDIT`], before and after the deadline.
    #[must_use]
    pub const fn auditing(self) -> Self {
        const BOTH: u64 = (Features::AUDIT.0 as u64) << 8 | (Features::AUDIT.0 as u64) << 16;
        Self(self.0 | BOTH)
    }

    /// True with [`Features::BLOCKED`].
    #[must_use]
    pub const fn is_blocking(self) -> bool {
        Features((self.0 >> 8) as u8).has(Features::BLOCKED)
    }

    /// In jiffies; 0 for none.
    #[must_use]
    #[inline(always)]
    pub const fn deadline(self) -> u64 {
        self.0 >> Self::DEADLINE_SHIFT
    }
}

/// Whether somebody captures dropped packets: one word, read for each drop.
///
/// Bits 0-15 how many bytes of a frame the capture wants, 16-63 its end in jiffies. So the capture of a killed agent ends
/// by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Capture(pub u64);

impl Capture {
    /// Nobody captures.
    pub const NONE: Self = Self(0);

    /// `snap` bytes of each frame, until `until` (jiffies, below 2^48).
    #[must_use]
    pub const fn new(snap: u16, until: u64) -> Self {
        Self(until << 16 | snap as u64)
    }

    /// How many bytes of a frame the capture wants now; 0 where nobody captures. Calls `jiffies` only where somebody does
    /// or did.
    #[must_use]
    #[inline(always)]
    pub fn wanted(self, jiffies: impl FnOnce() -> u64) -> u32 {
        if self.0 == 0 || jiffies() >= self.0 >> 16 { 0 } else { self.0 as u32 & 0xffff }
    }
}

/// A set of reasons: bit `n` stands for the one of value `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct ReasonSet(pub u64);

impl ReasonSet {
    /// All reasons.
    pub const ALL: Self = Self(u64::MAX);

    /// True for one in the set.
    #[must_use]
    #[inline(always)]
    pub const fn contains(self, reason: Reason) -> bool {
        self.0 >> (reason as u32 & 63) & 1 != 0
    }
}

impl FromIterator<Reason> for ReasonSet {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        Self(reasons.into_iter().fold(0, |set, reason| set | 1 << reason as u32))
    }
}

const _: () = assert!(Reason::ALL.len() <= 64);

/// A set of ports: bit `port % 8` of byte `port / 8`, for ports in network byte order.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct PortSet(pub [u8; 8192]);

impl PortSet {
    /// No port.
    pub const EMPTY: Self = Self([0; 8192]);

    /// The byte and the mask that stand for a port.
    #[must_use]
    #[inline(always)]
    pub const fn cell(port: NetPort) -> (usize, u8) {
        (port.index() >> 3, 1 << (port.index() & 7))
    }

    /// Adds a port.
    pub fn insert(&mut self, port: NetPort) {
        let (byte, mask) = Self::cell(port);
        self.0[byte] |= mask;
    }
}

/// The value of the map `CONTROL`.
///
/// The agent maps this page and stores the live word with one atomic 8-byte store. `bpf(2)` does not promise that a copy
/// is one store. The port bytes are stored one at a time.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Control {
    /// The [`Live`] word.
    pub live: u64,
    /// The [`Capture`] word, beside the one that every packet reads.
    pub capture: u64,
    /// The slots whose generation answers packets at closed ports of some target, as bits: read for each of these drops.
    /// The agent stores a bit while its slot judges nothing. A bit too many costs time, and nothing else.
    pub answering: u64,
    /// Management ports by [`PortTransport`].
    pub management: [PortSet; PortTransport::ALL.len()],
    /// Until when TCP connections are picked up in the middle, in jiffies; 0 for never. So this ends without an agent.
    pub learning: u64,
    /// The reasons whose packets are captured: a [`ReasonSet`].
    pub captured: u64,
    /// Flows that the agent freed because they were over. The program does not read it.
    pub flows_freed: u64,
}

const _: () = assert!(core::mem::offset_of!(Control, live) == 0);
const _: () = assert!(core::mem::offset_of!(Control, capture) == 8);
const _: () = assert!(core::mem::offset_of!(Control, answering) == 16);
const _: () = assert!(core::mem::offset_of!(Control, management) == 24);
const _: () = assert!(size_of::<Control>() == 24 + 2 * 8192 + 24);

#[cfg(test)]
mod tests {
    use super::{Capture, Features, Live, ReasonSet};
    use crate::reason::Reason;

    #[test]
    fn a_set_has_the_reasons_that_were_put_in() {
        let set: ReasonSet = [Reason::Source, Reason::NonIp].into_iter().collect();
        for reason in Reason::ALL {
            assert_eq!(set.contains(*reason), matches!(reason, Reason::Source | Reason::NonIp), "{reason}");
            assert!(ReasonSet::ALL.contains(*reason));
        }
    }

    #[test]
    fn a_capture_ends_with_its_time() {
        let capture = Capture::new(262, 5_000_000_000);
        assert_eq!((capture.wanted(|| 4_999_999_999), capture.wanted(|| 5_000_000_000)), (262, 0));
        assert_eq!(Capture::NONE.wanted(|| panic!("the clock was read")), 0);
    }

    #[test]
    fn the_deadline_decides_who_judges() {
        let live = Live::with_fallback(2, Features::AUDIT, 1, Features::TARGETS, 5_000_000_000);
        assert_eq!(live.judging(|| 4_999_999_999), (2, Features::AUDIT));
        assert_eq!(live.judging(|| 5_000_000_000), (1, Features::TARGETS));
        assert_eq!((live.slot(), live.fallback(), live.deadline()), (2, 1, 5_000_000_000));
    }

    #[test]
    fn a_block_list_is_there_before_and_after_a_deadline() {
        let live = Live::with_fallback(2, Features::AUDIT, 1, Features::TARGETS, 5_000_000_000);
        let blocking = live.blocking(true);
        assert_eq!(blocking.judging(|| 0), (2, Features::AUDIT.with(Features::BLOCKED)));
        assert_eq!(blocking.judging(|| u64::MAX), (1, Features::TARGETS.with(Features::BLOCKED)));
        assert!(blocking.is_blocking() && !live.is_blocking());
        assert_eq!(blocking.blocking(false), live);
        let auditing = blocking.auditing();
        let all = Features::AUDIT.with(Features::TARGETS).with(Features::BLOCKED);
        assert_eq!(auditing.judging(|| u64::MAX), (1, all), "and so is audit mode");
        assert_eq!(auditing.deadline(), live.deadline());
    }

    #[test]
    fn without_a_deadline_the_clock_is_not_read() {
        let live = Live::new(1, Features::ALLOW.with(Features::TARGETS));
        let (slot, features) = live.judging(|| panic!("the clock was read"));
        assert_eq!(slot, 1);
        assert!(
            features.has(Features::ALLOW)
                && features.has(Features::TARGETS)
                && !features.has(Features::AUDIT)
        );
    }
}
