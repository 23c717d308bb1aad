//! The block-list: sources whose packets are dropped, but for management.

/// Prefixes on the block-list, for each address family.
pub const MAX_BLOCKED: u32 = 65_536;

/// Until when a source is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Until(pub u64);

impl Until {
    /// No end.
    pub const FOR_GOOD: Self = Self(0);

    /// True while it lasts; `now` in jiffies.
    #[must_use]
    #[inline(always)]
    pub const fn lasts(self, now: u64) -> bool {
        self.0 == Self::FOR_GOOD.0 || now < self.0
    }

    /// The one that ends later.
    #[must_use]
    pub const fn or_later(self, other: Self) -> Self {
        // The subtraction makes "no end" the greatest.
        if other.0.wrapping_sub(1) > self.0.wrapping_sub(1) { other } else { self }
    }
}

/// The value of `BLOCKED_V4` and `BLOCKED_V6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct BlockRecord {
    /// The end that the program reads: the latest end of this prefix and of all blocked prefixes around it, as a
    /// longest-prefix match finds only one entry.
    pub until: Until,
    /// The end of this prefix itself, for the next agent.
    pub own: Until,
}

const _: () = assert!(size_of::<BlockRecord>() == 16);

#[cfg(test)]
mod tests {
    use super::Until;

    #[test]
    fn what_has_no_end_ends_last() {
        let ends = [Until(1), Until(2), Until(u64::MAX), Until::FOR_GOOD];
        for (n, early) in ends.iter().enumerate() {
            for late in &ends[n..] {
                assert_eq!((early.or_later(*late), late.or_later(*early)), (*late, *late));
            }
        }
        assert!(Until(5).lasts(4) && !Until(5).lasts(5) && Until::FOR_GOOD.lasts(u64::MAX));
    }
}
