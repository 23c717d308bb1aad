//! Log lines, in the map of the crate `aya-log-ebpf`. The loader says which levels the programs write; the verifier
//! knows it, and removes the calls to the others.

use aya_log_ebpf::{
    debug,
    macro_support::{Level, level_enabled},
    warn,
};
use lyncwall_common::abi::{LOG_TARGET, Lost};

use crate::maps::counters::may_warn;

/// The subprogram of [`log_verdict`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_log_verdict(what: u32, ifindex: u32, length: u32) -> u32 {
    let [reason, action, ..] = what.to_le_bytes().map(u32::from);
    debug!(
        (),
        target: LOG_TARGET,
        "packet reason={} action={} ifindex={} length={}",
        reason,
        action,
        ifindex,
        length
    );
    0
}

/// Writes a line about a packet that is reported.
#[inline(always)]
pub(crate) fn log_verdict(what: u32, ifindex: u32, length: u32) {
    if level_enabled(Level::Debug) {
        subprogram_log_verdict(what, ifindex, length);
    }
}

/// The subprogram of [`log_lost`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_log_lost(what: u32) -> u32 {
    if may_warn() {
        warn!((), target: LOG_TARGET, "lost what={}", what);
    }
    0
}

/// Writes a line about a loss: one a second on each CPU, as the counters have every loss.
#[inline(always)]
pub(crate) fn log_lost(what: Lost) {
    if level_enabled(Level::Warn) {
        subprogram_log_lost(what as u32);
    }
}
