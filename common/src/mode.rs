//! Audit mode: a packet that a row drops passes all the same, unless its source is blocked.

use crate::{
    abi::Features,
    fields::IpAt,
    judging::Judging,
    packet::Packet,
    reason::{Action, Reason},
    subprograms::Subprograms,
    verdict::{Settle, Verdict},
};

impl Judging {
    /// Ends with a verdict over a packet with its IP header at `at`, or without an IP header. Adds what no row depends
    /// on: the slot, and the mode.
    #[inline(always)]
    pub(crate) fn settle<P: Packet, T: Subprograms, S: Settle<P, T>>(
        self,
        packet: P,
        tables: &T,
        at: Option<IpAt>,
        verdict: Verdict,
    ) -> S::Output {
        let drops = matches!(verdict.judged, Action::Drop);
        if drops && !matches!(verdict.reason, Reason::Blocked) && self.spares(packet, tables, at) {
            // Some rows stand above the row of the block-list, and the kernel may accept what passes here.
            let (reason, action) = match at {
                Some(at) if self.blocks(packet, tables, at) => (Reason::Blocked, Action::Drop),
                _ => (verdict.reason, Action::Pass),
            };
            return S::settle(packet, tables, Verdict { reason, action, slot: self.slot, ..verdict });
        }
        S::settle(packet, tables, Verdict { action: verdict.judged, slot: self.slot, ..verdict })
    }

    /// True where audit mode lets a packet pass that a row drops.
    #[inline(always)]
    fn spares<P: Packet, T: Subprograms>(self, packet: P, tables: &T, at: Option<IpAt>) -> bool {
        self.has(Features::AUDIT) || self.has(Features::MODES) && tables.in_audit(packet, self, at)
    }
}
