//! Test runs: the kernel hands a frame to a loaded XDP program without any wire (`BPF_PROG_TEST_RUN`).

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use nix::time::{ClockId, clock_gettime};

/// What an XDP program may answer (`enum xdp_action` of linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The program failed.
    Aborted,
    /// Dropped.
    Drop,
    /// Goes on into the network stack.
    Pass,
    /// Goes back out.
    Tx,
    /// Goes elsewhere.
    Redirect,
}

impl Action {
    fn from_return_value(value: u32) -> Result<Self> {
        Ok(match value {
            0 => Self::Aborted,
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Tx,
            4 => Self::Redirect,
            other => bail!("the program returned {other}, which is no XDP action"),
        })
    }
}

/// What the program answers to a frame, as if it came in on the loopback interface of the caller's network
/// namespace.
///
/// # Errors
/// Where the kernel refuses the run: it wants at least 14 bytes, and at most what fits a page beside the headroom.
pub fn judge(program: &Xdp, frame: &[u8]) -> Result<Action> {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
    let result = program.test_run(options).with_context(|| refused(frame))?;
    Action::from_return_value(result.return_value)
}

/// What the program makes of a frame: its answer, and the frame afterwards. The frame comes in as for [`judge`].
///
/// # Errors
/// As [`judge`].
pub fn changed(program: &Xdp, frame: &[u8]) -> Result<(Action, Vec<u8>)> {
    let mut after = vec![0; frame.len() + 256];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut after);
    let result = program.test_run(options).with_context(|| refused(frame))?;
    after.truncate(result.data_size_out as usize);
    Ok((Action::from_return_value(result.return_value)?, after))
}

/// What the program answers to a frame that came in on the interface with this index, which is looked up in the
/// **caller's** network namespace: call it within `Netns::run`.
///
/// Needs Linux 5.14 (ec94670fcb3b), which added the context of XDP test runs.
///
/// # Errors
/// As [`judge`], and where there is no such interface.
pub fn judge_on(program: &Xdp, frame: &[u8], interface: u32) -> Result<Action> {
    let length = u32::try_from(frame.len()).context("a frame fits a page")?;
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex. Offsets count
    // from the start of the frame here.
    let context = [0, length, 0, interface, 0, 0].map(u32::to_ne_bytes).concat();
    let options = TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), ..TestRunOptions::new() };
    let result = program
        .test_run(options)
        .with_context(|| format!("on the interface {interface} (needs Linux 5.14): {}", refused(frame)))?;
    Action::from_return_value(result.return_value)
}

/// Shows a frame to a program on what is sent; returns its answer, one of linux/pkt_cls.h.
///
/// # Errors
/// As [`judge`].
pub fn send(program: &SchedClassifier, frame: &[u8]) -> Result<i32> {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
    let result = program.test_run(options).with_context(|| refused(frame))?;
    Ok(result.return_value.cast_signed())
}

/// The program's answers to many frames, in their order. 65,536 frames take about 0.1 s.
///
/// # Errors
/// As [`judge`].
pub fn judge_all<'a>(program: &Xdp, frames: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Action>> {
    frames.into_iter().map(|frame| judge(program, frame)).collect()
}

/// What repeated runs over one frame cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// How often the program ran.
    pub runs: u32,
    /// CPU time of this thread for all runs together.
    ///
    /// The clock is the thread's, not the wall's: a repeated test run waits 12 to 28 ms for the kernel to patch
    /// its dispatcher, and neighbours on a shared machine take the CPU away.
    pub cpu: Duration,
    /// The kernel's own wall-clock figure for one run, in whole nanoseconds.
    pub kernel: Duration,
    /// The answer to the last run.
    pub action: Action,
}

impl Cost {
    /// CPU nanoseconds per packet, the test run's own loop included: subtract an empty program's figure.
    pub fn nanoseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / f64::from(self.runs)
    }
}

/// Runs the program `repeat` times over one frame, in one call. From 2,000,000 on, ratios of medians hold within
/// 5 %. Maps see each run.
///
/// # Errors
/// As [`judge`].
pub fn measure(program: &Xdp, frame: &[u8], repeat: u32) -> Result<Cost> {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
    let start = thread_cpu_time()?;
    let result = program.test_run(options).with_context(|| refused(frame))?;
    let cpu = thread_cpu_time()?.saturating_sub(start);
    let action = Action::from_return_value(result.return_value)?;
    Ok(Cost { runs: repeat, cpu, kernel: result.duration, action })
}

/// CPU time that the calling thread has used so far.
///
/// # Errors
/// Where the kernel has no such clock.
pub fn thread_cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("the clock of this thread's CPU time")?.into())
}

fn refused(frame: &[u8]) -> String {
    format!("a test run over a frame of {} bytes (14 at least)", frame.len())
}
