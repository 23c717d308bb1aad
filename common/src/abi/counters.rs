//! Counters and token buckets: per CPU, added to without locks, summed by the agent.

use super::{NetPort, PortTransport};
use crate::reason::Reason;

/// Room for reasons in [`CpuRecord`]: any `u8`, so that the verifier sees no index out of range.
pub const REASONS: usize = 256;

/// The bucket among [`CpuRecord::events`] for log lines about losses. No reason has this value.
pub const WARNINGS: usize = REASONS - 1;

const _: () = assert!(Reason::ALL.len() < WARNINGS);

/// What the program may lose, by its number in log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Lost {
    /// An event.
    Event = 0,
    /// A packet for a capture.
    Capture = 1,
    /// A flow that the table did not take.
    Flow = 2,
}

impl Lost {
    /// All, by value.
    pub const ALL: [Self; 3] = [Self::Event, Self::Capture, Self::Flow];

    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "an event: nobody reads them fast enough",
            Self::Capture => "a packet that was to be captured: nobody reads them fast enough",
            Self::Flow => {
                "a flow: its table takes no more, and replies to what this side opened may be dropped"
            }
        }
    }
}

/// Cells in [`CpuRecord`] for interfaces: their numbers modulo this.
pub const INTERFACE_CELLS: usize = 256;

/// The cell of [`CpuRecord::interfaces`] where packets of an interface are counted. Interfaces whose numbers are 256 apart
/// share one.
#[must_use]
#[inline(always)]
pub const fn interface_cell(ifindex: u32) -> usize {
    ifindex as usize & (INTERFACE_CELLS - 1)
}

/// Counters in one element of a per-CPU counter map: 32 KiB, the most that a per-CPU value may have.
pub const COUNTER_BLOCK: usize = 4096;

/// Elements of `RULE_HITS`: room for 16,384 rule counters.
pub const RULE_BLOCKS: u32 = 4;

/// Elements of `PORT_DROPS`: 2 × 65,536 counters.
pub const PORT_DROP_BLOCKS: u32 = 32;

/// One element of a per-CPU counter map, in packets.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct CounterBlock(pub [u64; COUNTER_BLOCK]);

/// The element of `PORT_DROPS` and the place in it where drops to a port are counted.
#[must_use]
#[inline(always)]
pub const fn port_drop_cell(transport: PortTransport, port: NetPort) -> (u32, usize) {
    ((transport as u32) << 4 | (port.index() >> 12) as u32, port.index() & (COUNTER_BLOCK - 1))
}

/// Buckets for ICMP errors that quote the answer of an open port, by far side: a power of two. A flood of forged errors
/// about all far sides takes a part of each, and leaves the rest.
pub const ICMP_ERROR_LANES: usize = 32;

/// A token bucket over jiffies. Credit grows by `rate` a jiffy, and an event costs the number of jiffies in a second: so
/// `rate` is in events per second for any length of a jiffy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Bucket {
    /// Jiffies at the last look.
    pub last: u64,
    /// In events times `hz`.
    pub credit: u64,
}

impl Bucket {
    /// Takes the credit of one event; false where the bucket has less. `rate`, which is also the burst, is in events per
    /// second, `hz` in jiffies per second.
    #[inline(always)]
    pub fn take(&mut self, now: u64, hz: u64, rate: u64) -> bool {
        let full = rate * hz;
        let elapsed = now.wrapping_sub(self.last);
        if elapsed != 0 {
            // The bucket is also full at its first use, and where the clock went back.
            self.credit = if elapsed >= hz { full } else { (self.credit + elapsed * rate).min(full) };
            self.last = now;
        }
        if self.credit < hz {
            return false;
        }
        self.credit -= hz;
        true
    }
}

/// The counters and rates of one CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CpuRecord {
    /// Packets by [`Reason`] and [`Action`](crate::reason::Action).
    pub reasons: [[u64; 2]; REASONS],
    /// Packets by [`interface_cell`] and [`Action`](crate::reason::Action).
    pub interfaces: [[u64; 2]; INTERFACE_CELLS],
    /// Drops that got no event because the rate or the ring buffer was exhausted, by [`Reason`].
    pub events_lost: [u64; REASONS],
    /// Drops that a capture wanted and did not get, because the rate or the buffer was exhausted.
    pub captures_lost: u64,
    /// Fragment verdicts that could not be remembered.
    pub fragments_lost: u64,
    /// Flows that were added.
    pub flows_added: u64,
    /// Flows that could not be added.
    pub flows_lost: u64,
    /// Dropped packets that got an answer, by [`PortTransport`].
    pub answered: [u64; PortTransport::ALL.len()],
    /// The [`Explained`](super::Explained) of the last made-up frame on this CPU.
    pub explained: u64,
    /// For events, by [`Reason`]: a flood of one reason leaves the others their events.
    pub events: [Bucket; REASONS],
    /// For captured packets.
    pub captures: Bucket,
    /// For ICMP errors that quote nothing that is known.
    pub icmp_errors: Bucket,
    /// For ICMP errors that quote a live flow, by far side.
    pub icmp_flow_errors: [Bucket; ICMP_ERROR_LANES],
    /// For ICMP errors that quote the answer of an open port, by far side.
    pub icmp_port_errors: [Bucket; ICMP_ERROR_LANES],
    /// For echo requests.
    pub icmp_echo: Bucket,
    /// For later fragments that come before their first one.
    pub early_fragments: Bucket,
    /// For answers to packets at closed ports, by [`PortTransport`].
    pub answers: [Bucket; PortTransport::ALL.len()],
}

const _: () = assert!(
    size_of::<CpuRecord>() == 40 * REASONS + 16 * INTERFACE_CELLS + 7 * 8 + (6 + 2 * ICMP_ERROR_LANES) * 16
);

#[cfg(test)]
mod tests {
    use super::{Bucket, port_drop_cell};
    use crate::abi::{NetPort, PortTransport};

    #[test]
    fn a_bucket_lets_its_rate_through_and_no_more() {
        for hz in [100, 250, 300, 1000] {
            let mut bucket = Bucket::default();
            let mut passed = 0u64;
            // Ten seconds of ten tries a jiffy.
            for now in 1_000_000..1_000_000 + 10 * hz {
                for _ in 0..10 {
                    passed += u64::from(bucket.take(now, hz, 50));
                }
            }
            assert!((10 * 50..=11 * 50).contains(&passed), "{passed} at {hz}");
        }
    }

    #[test]
    fn a_silent_second_fills_the_bucket() {
        let mut bucket = Bucket::default();
        while bucket.take(5_000, 250, 10) {}
        assert!(!bucket.take(5_001, 250, 10));
        assert_eq!((0..20).filter(|_| bucket.take(5_251, 250, 10)).count(), 10);
    }

    #[test]
    fn every_port_has_its_own_drop_counter() {
        let mut seen = std::collections::HashSet::new();
        for transport in PortTransport::ALL {
            for port in 0..=u16::MAX {
                let (block, cell) = port_drop_cell(transport, NetPort::new(port));
                assert!(block < super::PORT_DROP_BLOCKS && cell < super::COUNTER_BLOCK);
                assert!(seen.insert((block, cell)));
            }
        }
    }
}
