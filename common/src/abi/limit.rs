//! Limits on the connections that a source may open.

use super::{Bucket, NO_POLICY};
use crate::address::Address;

/// Sources that are counted at one time.
pub const OPENING_SOURCES: u32 = 65_536;

/// How many connections a source may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// In connections per second, up to [`Limit::MOST`]; 0 for any number.
    pub rate: u32,
    /// How many at once after a silence, from 1 to [`Limit::MOST`].
    pub burst: u32,
    /// Whose buckets count: those of a policy, by its number, or those of the whole box ([`NO_POLICY`]).
    pub scope: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Limit>() == 16);

impl Limit {
    /// No limit.
    pub const NONE: Self = Self { rate: 0, burst: 0, scope: NO_POLICY, reserved: 0 };

    /// The greatest rate and burst.
    pub const MOST: u32 = 100_000;

    /// A limit on openings to the whole box.
    #[must_use]
    pub const fn of_box(rate: u32, burst: u32) -> Self {
        Self { rate, burst, ..Self::NONE }
    }
}

/// The key of `OPENINGS`: a source, and the policy that it opens connections to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct OpeningKey {
    /// An IPv4 address, or the first 64 bits of an IPv6 address: a host has its whole network. In network byte order.
    pub source: [u16; 4],
    /// [`Limit::scope`].
    pub scope: u32,
    /// 4 or 6.
    pub family: u32,
}

const _: () = assert!(size_of::<OpeningKey>() == 16);

impl OpeningKey {
    /// The bucket of a source.
    #[must_use]
    #[inline(always)]
    pub const fn of(source: Address, scope: u32) -> Self {
        match source {
            Address::V4([a, b]) => Self { source: [a, b, 0, 0], scope, family: 4 },
            Address::V6([a, b, c, d, ..]) => Self { source: [a, b, c, d], scope, family: 6 },
        }
    }
}

impl Bucket {
    /// A full bucket. `now` in jiffies, `hz` in jiffies per second.
    #[must_use]
    #[inline(always)]
    pub const fn full(now: u64, hz: u64, limit: Limit) -> Self {
        Self { last: now, credit: limit.burst as u64 * hz }
    }

    /// Takes the credit of one opening; false where the bucket has less. Two CPUs that do so at one time may take only one
    /// credit for both.
    #[inline(always)]
    pub fn spend(&mut self, now: u64, hz: u64, limit: Limit) -> bool {
        // Another CPU may have done so with a later clock.
        let elapsed = now.saturating_sub(self.last);
        self.last += elapsed;
        let grown = self.credit + elapsed * u64::from(limit.rate);
        self.credit = grown.min(u64::from(limit.burst) * hz);
        if self.credit < hz {
            return false;
        }
        self.credit -= hz;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Limit, OpeningKey};
    use crate::address::Address;

    #[test]
    fn a_burst_and_then_the_rate() {
        for hz in [100, 250, 300, 1000] {
            let limit = Limit::of_box(7, 20);
            let start = 1_000_000;
            let mut bucket = Bucket::full(start, hz, limit);
            let mut tries = |now| (0..50).filter(|_| bucket.spend(now, hz, limit)).count();
            assert_eq!(tries(start), 20, "at {hz}");
            let passed: usize = (start + 1..=start + 10 * hz).map(&mut tries).sum();
            assert_eq!(passed, 70, "at {hz}");
            // A long silence gives the burst, and no more.
            assert_eq!(tries(start + 1_000_000_000), 20);
        }
    }

    #[test]
    fn a_clock_that_is_behind_fills_nothing() {
        let limit = Limit::of_box(1, 1);
        let mut bucket = Bucket::full(5_000, 250, limit);
        assert!(bucket.spend(5_000, 250, limit));
        assert!(!bucket.spend(4_999, 250, limit) && !bucket.spend(0, 250, limit));
        assert_eq!(bucket.last, 5_000);
    }

    #[test]
    fn a_smaller_limit_holds_for_a_fuller_bucket() {
        let mut bucket = Bucket::full(5_000, 250, Limit::of_box(100, 100));
        let less = Limit::of_box(2, 2);
        assert_eq!((0..10).filter(|_| bucket.spend(5_000, 250, less)).count(), 2);
    }

    #[test]
    fn a_network_of_ipv6_has_one_bucket() {
        let v6 = |fourth, last| Address::V6([1, 2, 3, fourth, 5, 6, 7, last]);
        assert_eq!(OpeningKey::of(v6(4, 8), 0), OpeningKey::of(v6(4, 9), 0));
        assert_ne!(OpeningKey::of(v6(4, 8), 0), OpeningKey::of(v6(5, 8), 0));
        assert_ne!(OpeningKey::of(Address::V4([1, 2]), 0), OpeningKey::of(Address::V4([1, 3]), 0));
        assert_ne!(OpeningKey::of(Address::V4([1, 2]), 0), OpeningKey::of(Address::V4([1, 2]), 1));
        assert_ne!(
            OpeningKey::of(Address::V4([1, 2]), 0),
            OpeningKey::of(Address::V6([1, 2, 0, 0, 0, 0, 0, 0]), 0)
        );
    }
}
