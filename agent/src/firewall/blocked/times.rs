//! Ends of blocks across a boot: the file has them by the clock of the wall, which may be wrong when the agent
//! reads it.
//!
//! A block lasts at most as long as it had left when it was written, so a clock that is behind keeps nobody
//! blocked for longer. A clock that is ahead would end blocks: as long as nobody has set the clock, a block
//! that seems to be over lasts for [`GRACE`]. Once the clock is set or steps, all ends are worked out anew.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lyncwall_datapath::wall_clock_is_synchronized;

/// How long to wait for somebody to set the clock before a block that seems to be over ends.
const GRACE: Duration = Duration::from_secs(600);

/// A difference between two clocks that is no step.
const SLEW: Duration = Duration::from_secs(2);

/// The end of a timed block, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// Since 1970 (UTC).
    pub(super) until: Duration,
    /// How long it had left when it was written.
    pub(super) left: Duration,
    /// False if nobody had set the clock that `until` is by.
    pub(super) trusted: bool,
}

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// The clock of the wall: since 1970 (UTC).
    pub(super) wall: Duration,
    /// True if a time service has set it.
    pub(super) synchronized: bool,
    /// The one that never steps.
    pub(super) steady: Instant,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self {
            // Before 1970 it is 1970.
            wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            synchronized: wall_clock_is_synchronized(),
            steady: Instant::now(),
        }
    }

    /// True if the clock of the wall was set between `before` and this moment.
    pub(super) fn was_set_since(&self, before: &Self) -> bool {
        let expected = before.wall + self.steady.saturating_duration_since(before.steady);
        self.wall.abs_diff(expected) > SLEW || self.synchronized && !before.synchronized
    }

    /// The end of a block that has this time left, to be stored.
    pub(super) fn end_in(&self, left: Duration) -> End {
        End { until: self.wall + left, left, trusted: self.synchronized }
    }
}

impl End {
    /// How long a block lasts that was read at `read`; `None` if it is over.
    pub(super) fn left(&self, now: &Clock, read: Instant) -> Option<Duration> {
        let passed = now.steady.saturating_duration_since(read);
        let most = self.left.saturating_sub(passed);
        let by_wall = self.until.saturating_sub(now.wall);
        let left = if now.synchronized && !self.trusted {
            // The two clocks have nothing to do with one another.
            most
        } else if by_wall.is_zero() && !now.synchronized {
            most.min(GRACE.saturating_sub(passed))
        } else {
            most.min(by_wall)
        };
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Clock, End, GRACE};

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);
    /// Some day of 2027.
    const THEN: Duration = Duration::from_secs(1_800_000_000);

    #[test]
    fn a_wrong_clock_at_boot_neither_ends_a_block_nor_keeps_it_for_ever() {
        let read = Instant::now();
        let at = |wall, synchronized| Clock { wall, synchronized, steady: read };
        let end = at(THEN, true).end_in(HOUR);
        // A clock that is right, after ten minutes and after two hours.
        let ten = Duration::from_secs(600);
        for synchronized in [true, false] {
            assert_eq!(end.left(&at(THEN + ten, synchronized), read), Some(HOUR - ten));
        }
        assert_eq!(end.left(&at(THEN + 2 * HOUR, true), read), None);
        // Behind by 30 days, or never set at all: no longer than it had left.
        for behind in [THEN - 30 * DAY, Duration::ZERO] {
            assert_eq!(end.left(&at(behind, false), read), Some(HOUR));
        }
        // Ahead by 30 days: it waits for somebody to set the clock, and not for ever.
        let ahead = at(THEN + 30 * DAY, false);
        assert_eq!(end.left(&ahead, read), Some(GRACE));
        let later = |time| Clock { steady: read + time, ..ahead };
        assert_eq!(end.left(&later(GRACE), read), None);
        // Then somebody sets it: the rest of the block, or nothing.
        let set = Clock { steady: read + ten, ..at(THEN + ten, true) };
        assert_eq!(end.left(&set, read), Some(HOUR - ten));
        let set = Clock { steady: read + ten, ..at(THEN + 2 * HOUR, true) };
        assert_eq!(end.left(&set, read), None);
    }

    #[test]
    fn an_end_by_a_clock_that_nobody_had_set_counts_from_the_boot() {
        let read = Instant::now();
        let at = |wall, synchronized| Clock { wall, synchronized, steady: read };
        let end = at(Duration::from_secs(60), false).end_in(HOUR);
        assert_eq!(end.left(&at(THEN, true), read), Some(HOUR));
        let later = Clock { steady: read + HOUR, ..at(THEN + HOUR, true) };
        assert_eq!(end.left(&later, read), None);
        // On a box without a time service, its own clock is all that it has.
        let own = at(THEN, false).end_in(HOUR);
        assert_eq!(own.left(&at(THEN + HOUR / 2, false), read), Some(HOUR / 2));
    }

    #[test]
    fn a_clock_that_steps_or_is_set_for_the_first_time_was_set() {
        let before = Clock { wall: THEN, synchronized: false, steady: Instant::now() };
        let after = |wall, synchronized| Clock { wall, synchronized, steady: before.steady + HOUR };
        assert!(!after(THEN + HOUR, false).was_set_since(&before));
        assert!(!after(THEN + HOUR + Duration::from_secs(1), false).was_set_since(&before));
        assert!(after(THEN + HOUR, true).was_set_since(&before));
        for wall in [THEN, THEN + 2 * HOUR, Duration::ZERO] {
            assert!(after(wall, false).was_set_since(&before), "{wall:?}");
        }
    }

    #[test]
    fn an_end_of_an_earlier_version_lasts_as_the_file_says() {
        let read = Instant::now();
        let end = End { until: THEN, left: 365 * DAY, trusted: true };
        let now = Clock { wall: THEN - HOUR, synchronized: true, steady: read };
        assert_eq!(end.left(&now, read), Some(HOUR));
    }
}
