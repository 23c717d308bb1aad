//! Counts a verdict, reports it, and hands its packet to a capture.

use lyncwall_common::{
    packet::Packet as _,
    reason::{Action, Reason},
    verdict::Verdict,
};

use crate::{ctx::Frame, maps::Kernel, raw::Context, subprograms};

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Fate {
    /// It goes on.
    Passes = 0,
    /// It is dropped.
    Dropped = 1,
    /// It is dropped, and its sender may get an answer.
    Answered = 2,
}

impl Fate {
    #[inline(always)]
    const fn of(action: Action) -> Self {
        match action {
            Action::Pass => Self::Passes,
            Action::Drop => Self::Dropped,
        }
    }

    /// Made again from its number.
    #[inline(always)]
    pub(crate) const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Passes,
            2 => Self::Answered,
            _ => Self::Dropped,
        }
    }
}

/// Counts a packet. Reports it and hands it to a capture, where it was dropped, or would have been without audit mode.
#[inline(always)]
pub(crate) fn account<const FRAGS: bool>(
    frame: Frame<'_, FRAGS>,
    kernel: &Kernel<Context<'_>>,
    verdict: Verdict,
) -> Fate {
    kernel.count(verdict.reason, verdict.action);
    if matches!(verdict.reason, Reason::Allowed | Reason::Allow) {
        kernel.count_rule(verdict.counter);
        return Fate::Passes;
    }
    if matches!(verdict.judged, Action::Pass) {
        return Fate::Passes;
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
    // Boxes where no target answers read this word, and do nothing else.
    let answer = matches!(verdict.reason, Reason::Closed) & kernel.answers();
    if wanted != 0 || answer {
        // The fate goes through this call: what lives across it would not fit the stack of the longest chain of calls.
        return subprograms::capture(frame.context(), what, frame.length() as u32, (wanted, answer));
    }
    Fate::of(verdict.action)
}
