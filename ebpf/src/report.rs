//! Counting a verdict, reporting it, and handing its packet to whoever captures.

use lyncwall_common::{
    decide::Verdict,
    packet::Packet as _,
    reason::{Action, Reason},
};

use crate::{ctx::Frame, maps::Kernel, once, raw::Context};

/// Counts the packet; reports it, and hands it to a capture, where it was dropped or, in audit mode, would have been.
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
        // Some hundred times a second, where there are millions of verdicts.
        once::report(frame.context(), what, frame.length() as u32);
    }
    let wanted = kernel.may_capture(verdict.reason);
    if wanted != 0 {
        once::capture(frame.context(), what, frame.length() as u32, wanted);
    }
}
