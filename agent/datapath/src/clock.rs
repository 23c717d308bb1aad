//! The kernel's clock, the unit of deadlines.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::{Program, TestRun as _, TestRunOptions};
use lyncwall_common::abi::program;

use super::sys;

/// `XDP_PASS` of `enum xdp_action` (linux/bpf.h).
const XDP_PASS: u32 = 2;

/// The shortest frame of a test run: an Ethernet header.
const FRAME: usize = 14;

/// The current jiffies, as the program reads them.
pub(super) fn jiffies(ebpf: &Ebpf) -> Result<u64> {
    let Some(Program::Xdp(clock)) = ebpf.program(program::CLOCK) else {
        bail!("the BPF object has no XDP program {}", program::CLOCK);
    };
    let mut out = [0; FRAME];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&[0; FRAME]);
    options.data_out = Some(&mut out);
    let run = clock.test_run(options).context("reading the kernel's clock")?;
    ensure!(run.return_value == XDP_PASS, "the kernel's clock answered {}", run.return_value);
    Ok(u64::from_ne_bytes(std::array::from_fn(|n| out[n])))
}

/// True if the kernel takes the clock of the wall for synchronised: a time service has set it since the boot.
/// Before that, and on a box without such a service, nobody knows how far off it is.
#[must_use]
pub fn wall_clock_is_synchronized() -> bool {
    sys::wall_clock_is_synchronized()
}

/// The first jiffy at which at least `time` has passed since `now`; `hz` in jiffies a second.
pub(super) fn deadline(now: u64, time: Duration, hz: u64) -> u64 {
    let ticks = (time.as_millis() * u128::from(hz)).div_ceil(1000);
    // One more, because the current jiffy is already part over.
    now + u64::try_from(ticks).unwrap_or(u64::MAX >> 1) + 1
}

/// The time from `now` to `deadline`; zero after the deadline.
pub(super) fn left(now: u64, deadline: u64, hz: u64) -> Duration {
    let ticks = deadline.saturating_sub(now);
    Duration::from_millis((ticks * 1000).div_ceil(hz.max(1)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{deadline, left};

    #[test]
    fn a_deadline_is_never_early_and_at_most_two_jiffies_late() {
        for hz in [100, 250, 300, 1000] {
            for time in [Duration::from_secs(1), Duration::from_secs(86_400), Duration::from_millis(1500)] {
                let ticks = deadline(5_000_000_000, time, hz) - 5_000_000_000;
                // The jiffy that runs now may be all but over.
                let least = Duration::from_micros((ticks - 1) * 1_000_000 / hz + 1);
                assert!(least >= time, "{time:?} at {hz}: {ticks}");
                assert!(ticks * 1000 <= time.as_millis() as u64 * hz + 2000, "{time:?} at {hz}: {ticks}");
            }
        }
    }

    #[test]
    fn what_is_left_ends_with_the_deadline() {
        assert_eq!(left(1000, 1250, 250), Duration::from_secs(1));
        assert_eq!(left(1250, 1250, 250), Duration::ZERO);
        assert_eq!(left(2000, 1250, 250), Duration::ZERO);
    }
}
