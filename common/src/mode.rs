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
    /// Ends with a verdict over a packet with its IP header at `at`. Adds what no row depends on: the slot, and the
    /// mode.
    #[inline(always)]
    pub(crate) fn settle<P: Packet, T: Subprograms, S: Settle<P, T>>(
        self,
        packet: P,
        tables: &T,
        at: IpAt,
        verdict: Verdict,
    ) -> S::Output {
        let drops = matches!(verdict.judged, Action::Drop);
        if drops
            && !matches!(verdict.reason, Reason::Blocked)
            && self.spares(packet, tables, at, verdict.reason)
        {
            // Some rows stand above the row of the block-list, and the kernel may accept what passes here.
            let (reason, action) = if at.is_read() && self.blocks(packet, tables, at) {
                (Reason::Blocked, Action::Drop)
            } else if matches!(verdict.reason, Reason::VlanDepth) && self.has(Features::BLOCKED) {
                // Linux takes any number of priority tags away: the source may be a blocked one.
                (Reason::VlanDepth, Action::Drop)
            } else {
                (verdict.reason, Action::Pass)
            };
            return S::settle(packet, tables, Verdict { reason, action, slot: self.slot, ..verdict });
        }
        S::settle(packet, tables, Verdict { action: verdict.judged, slot: self.slot, ..verdict })
    }

    /// True where audit mode lets a packet pass that a row drops.
    #[inline(always)]
    fn spares<P: Packet, T: Subprograms>(self, packet: P, tables: &T, at: IpAt, reason: Reason) -> bool {
        if self.has(Features::AUDIT) {
            return true;
        }
        if !self.has(Features::MODES) {
            return false;
        }
        let at = if names_next_hop(reason) { at.without_target() } else { at };
        tables.in_audit(packet, self, at)
    }
}

/// True where the destination of a packet may be a stop on its way to another target: the packet has a source route, or
/// more extension headers than the parser reads.
#[inline(always)]
const fn names_next_hop(reason: Reason) -> bool {
    matches!(reason, Reason::IpSourceRoute | Reason::Ipv6Rh0 | Reason::Ipv6Chain)
}
