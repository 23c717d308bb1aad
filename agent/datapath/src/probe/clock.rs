//! The clock of deadlines.

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_getres};

/// The kernel's ticks per second.
///
/// A coarse clock moves once a tick, so its resolution is the length of one. `sysconf(_SC_CLK_TCK)` does not
/// help: it is 100 for every program, whatever the kernel's own tick is.
///
/// # Errors
/// If the kernel has no such clock.
pub(in super::super) fn ticks_per_second() -> Result<u64> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context("asking for the length of a tick")?;
    let nanoseconds = u64::try_from(tick.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(tick.tv_nsec()).unwrap_or(0);
    // 300 ticks a second are 3,333,333 ns each: rounds instead of truncating.
    (1_000_000_000 + nanoseconds / 2)
        .checked_div(nanoseconds)
        .context("the kernel says that a tick takes no time")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_tick_has_a_usual_length() {
        let hz = super::ticks_per_second().expect("the kernel tells");
        assert!([100, 250, 300, 1000].contains(&hz), "{hz}");
    }
}
