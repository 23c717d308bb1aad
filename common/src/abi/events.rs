//! Events, captured packets, explained verdicts, and the records of first fragments.

use super::{COUNTER_BLOCK, NO_COUNTER, RULE_BLOCKS};
use crate::reason::{Action, Reason};

/// Bytes of a frame that come with its event: enough for any headers but the longest IPv6 chains.
pub const SNAP_LENGTH: usize = 128;

/// A sampled drop: the beginning of the frame, for the agent to parse with the program's own parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Jiffies when it happened.
    pub jiffies: u64,
    /// The interface it came in by.
    pub ifindex: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// [`Reason`].
    pub reason: u8,
    /// [`Action`]: audit mode reports what it would have dropped.
    pub action: u8,
    /// The slot that judged.
    pub slot: u8,
    /// How many bytes of `frame` are used, a multiple of two.
    pub captured: u8,
    /// 0.
    pub reserved: u32,
    /// The beginning of the frame: 16-bit units in groups of four, in network byte order. The bytes behind `captured` are
    /// those of earlier events.
    pub frame: [[u16; 4]; SNAP_LENGTH / 8],
}

impl Event {
    /// The bytes of the frame that came with the event.
    #[must_use]
    pub fn bytes(&self) -> [u8; SNAP_LENGTH] {
        let mut bytes = [0; SNAP_LENGTH];
        for (pair, unit) in bytes.chunks_exact_mut(2).zip(self.frame.as_flattened()) {
            pair.copy_from_slice(&unit.to_ne_bytes());
        }
        bytes
    }
}

/// The most bytes of a packet that are captured: the size of a record in a perf buffer has 16 bits, and a longer record
/// overwrites records that nobody has read yet.
pub const LONGEST_CAPTURE: u32 = 65_000;

const _: () = assert!(LONGEST_CAPTURE as usize + size_of::<Captured>() + 64 < u16::MAX as usize);

/// The header of a captured packet. The bytes of the packet follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Captured {
    /// Nanoseconds since boot, without time asleep (`CLOCK_MONOTONIC`).
    pub time: u64,
    /// The interface it came in by.
    pub ifindex: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// [`Reason`].
    pub reason: u8,
    /// [`Action`]: audit mode captures what it would have dropped.
    pub action: u8,
    /// The slot that judged.
    pub slot: u8,
    /// 0.
    pub reserved: u8,
    /// Bytes of the frame that follow.
    pub captured: u32,
}

const _: () = assert!(size_of::<Captured>() == 24);

/// The program's answer to a made-up frame: a verdict in one word, which is no XDP action.
///
/// Bits 0-7 the reason, 8 the action, 9 the action without audit mode, 10-29 the rule's counter, 31 set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Explained(pub u32);

impl Explained {
    const COUNTER: u32 = 0xf_ffff;
    const SOME: u32 = 1 << 31;

    /// Packs a verdict. `counter` is [`NO_COUNTER`] where no rule let the packet in.
    #[must_use]
    #[inline(always)]
    pub const fn new(reason: Reason, action: Action, judged: Action, counter: u32) -> Self {
        let actions = (action as u32) << 8 | (judged as u32) << 9;
        Self(Self::SOME | reason as u32 | actions | (counter & Self::COUNTER) << 10)
    }

    /// The reason; `None` where the word is no verdict.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        if self.0 & Self::SOME == 0 { None } else { Reason::from_value(self.0 as u8) }
    }

    /// What is done with the packet.
    #[must_use]
    pub const fn action(self) -> Action {
        if self.0 >> 8 & 1 == Action::Pass as u32 { Action::Pass } else { Action::Drop }
    }

    /// What is done with the packet without audit mode.
    #[must_use]
    pub const fn judged(self) -> Action {
        if self.0 >> 9 & 1 == Action::Pass as u32 { Action::Pass } else { Action::Drop }
    }

    /// The counter of the rule that let the packet in.
    #[must_use]
    pub const fn counter(self) -> Option<u32> {
        match self.0 >> 10 & Self::COUNTER {
            Self::COUNTER => None,
            counter => Some(counter),
        }
    }
}

const _: () = assert!(NO_COUNTER & Explained::COUNTER == Explained::COUNTER);
const _: () = assert!(RULE_BLOCKS as usize * COUNTER_BLOCK < Explained::COUNTER as usize);

const _: () = assert!(SNAP_LENGTH <= u8::MAX as usize);
const _: () = assert!(core::mem::offset_of!(Event, frame) == 24);
const _: () = assert!(size_of::<Event>() == 24 + SNAP_LENGTH);

/// What the fragments of a packet share (RFC 791, RFC 8200).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address in network byte order; behind an IPv4 address the rest is 0.
    pub source: [u16; 8],
    /// Destination address, in the form of `source`.
    pub destination: [u16; 8],
    /// Identification in network byte order: the first 16 bits in the low half.
    pub id: u32,
    /// IP protocol for IPv4; 0 for IPv6, where only the first fragment has it (RFC 8200, 4.5).
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// The zone of the packet, so that no fragment from outside passes by a verdict inside; 0 with only one zone.
    pub zone: u16,
}

const _: () = assert!(size_of::<FragmentKey>() == 40);

/// The record of a first fragment that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FragmentRecord {
    /// Jiffies after which the record holds no more.
    pub expires: u64,
    /// The end of its payload, in bytes from the start of the fragmented part.
    pub end: u32,
    /// What let it in: the value of a [`First`](crate::fragment::First).
    pub by: u32,
}

const _: () = assert!(size_of::<FragmentRecord>() == 16);

#[cfg(test)]
mod tests {
    use super::Explained;
    use crate::abi::NO_COUNTER;
    use crate::reason::{Action, Reason};

    #[test]
    fn a_verdict_in_a_word_reads_back() {
        for reason in Reason::ALL {
            for action in Action::ALL {
                for counter in [0, 16_383, NO_COUNTER] {
                    let judged = reason.action();
                    let explained = Explained::new(*reason, action, judged, counter);
                    assert_eq!(explained.reason(), Some(*reason));
                    assert_eq!((explained.action(), explained.judged()), (action, judged));
                    assert_eq!(explained.counter(), (counter != NO_COUNTER).then_some(counter));
                    assert!(explained.0 > 4, "an XDP action");
                }
            }
        }
        assert_eq!(Explained(2).reason(), None);
    }
}
