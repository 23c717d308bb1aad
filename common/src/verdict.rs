//! A verdict, and what is done about it.

use crate::{
    abi::{NO_COUNTER, NetPort, PortTransport},
    reason::{Action, Reason},
};

/// What happens to a packet, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The row of the verdict table.
    pub reason: Reason,
    /// What the verdict table says.
    pub judged: Action,
    /// What is done. In audit mode every packet passes, whatever was judged, but for [`Reason::Blocked`].
    pub action: Action,
    /// The counter of the rule that let the packet in, or [`NO_COUNTER`].
    pub counter: u32,
    /// The port that a drop is counted at; `None` where no port was judged.
    pub port: Option<(PortTransport, NetPort)>,
    /// The slot that judged.
    pub slot: u32,
}

impl Verdict {
    /// The verdict of a row without a rule.
    #[inline(always)]
    pub(crate) const fn of(reason: Reason) -> Self {
        Self::by_rule(reason, NO_COUNTER)
    }

    /// The verdict of a rule with this counter.
    #[inline(always)]
    pub(crate) const fn by_rule(reason: Reason, counter: u32) -> Self {
        let action = reason.action();
        Self { reason, judged: action, action, counter, port: None, slot: 0 }
    }
}

/// What is done about a verdict.
pub trait Settle<P, T> {
    /// The result.
    type Output;

    /// Does it.
    fn settle(packet: P, tables: &T, verdict: Verdict) -> Self::Output;
}

/// Returns the verdict, and does nothing else.
pub(crate) struct VerdictOnly;

impl<P, T> Settle<P, T> for VerdictOnly {
    type Output = Verdict;

    #[inline(always)]
    fn settle(_: P, _: &T, verdict: Verdict) -> Verdict {
        verdict
    }
}
