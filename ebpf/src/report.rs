//! Counts a verdict, reports it, and hands its packet to a capture.

use lyncwall_common::{
    packet::Packet as _,
    reason::{Action, Reason},
    verdict::Verdict,
};

use crate::{ctx::Frame, maps::Kernel, raw::Context, subprograms};

/// Counts a packet. Reports it and hands it to a capture, where it was dropped, or would have been without audit mode.
#[inline(always)]
pub(crate) fn account<const FRAGS: bool>(
    frame: Frame<'_, FRAGS>,
    kernel: &Kernel<Context<'_>>,
    verdict: Verdict,
) {
    kernel.count(verdict.reason, verdict.action);
    if matches!(verdict.reason, Reason::Allowed | Reason::Allow) {
        kernel.count_rule(verdict.counter);
        return;
    }
    if matches!(verdict.judged, Action::Pass) {
        return;
    }
    if matches!(verdict.action, Action::Drop)
        && let Some((transport, port)) = verdict.port
    {
        kernel.count_port(transport, port);
    }
    let what = [verdict.reason as u8, verdict.action as u8, verdict.slot as u8];
    // Multicast and broadcast are noise on most links: counted, never reported.
    if !matches!(verdict.reason, Reason::Multicast) && kernel.may_report(verdict.reason) {
        // Some hundred times a second, beside millions of verdicts.
        subprograms::report(frame.context(), what, frame.length() as u32);
    }
    let wanted = kernel.may_capture(verdict.reason);
    if wanted != 0 {
        subprograms::capture(frame.context(), what, frame.length() as u32, wanted);
    }
}
