//! Counting and reporting a verdict.

use lyncwall_common::{
    decide::Verdict,
    packet::Packet as _,
    reason::{Action, Reason},
};

use crate::{
    ctx::Frame,
    maps::{self, Kernel},
    raw::now,
};

/// Counts the packet, and reports it where it was dropped or, in audit mode, would have been.
#[inline(always)]
pub(crate) fn account<const FRAGS: bool>(frame: Frame<'_, FRAGS>, kernel: &Kernel<'_>, verdict: Verdict) {
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
    // Multicast and broadcast are noise on most links: counted, never reported.
    if !matches!(verdict.reason, Reason::Multicast) && kernel.may_report() {
        report(frame, verdict.reason, verdict.action, verdict.slot);
    }
}

/// Out of line: this happens some hundred times a second, the verdict millions of times.
#[inline(never)]
fn report<const FRAGS: bool>(frame: Frame<'_, FRAGS>, reason: Reason, action: Action, slot: u32) {
    maps::send(|event| {
        event.jiffies = now();
        event.ifindex = frame.ifindex();
        event.length = frame.length() as u32;
        event.reason = reason as u8;
        event.action = action as u8;
        event.slot = slot as u8;
        event.reserved = 0;
        let mut captured = 0;
        // Pairs of bytes, so that the last of a short frame, which may be of its transport header, come along.
        for unit in event.frame.as_flattened_mut() {
            let Some(bytes) = frame.read(captured) else { break };
            *unit = bytes;
            captured += 2;
        }
        event.captured = captured as u8;
    });
}
