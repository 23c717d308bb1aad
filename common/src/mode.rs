//! Audit mode: a packet that a row drops passes all the same, unless its source is blocked.

use crate::{
    abi::Features,
    fields::IpAt,
    judging::Judging,
    packet::Packet,
    reason::{Action, Reason},
    subprograms::Subprograms,
    summary::Summary,
    verdict::{Settle, Verdict},
};

/// What is known of a packet that has its verdict, with its IP header and its zone.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Source and destination.
    Known(IpAt),
    /// The source. The destination may be a stop on the way to another target: the packet has a source route, or more
    /// extension headers than the parser reads.
    OnItsWay(IpAt),
    /// Nothing but the zone: the parser read no IP header.
    Unread(IpAt),
    /// Nothing: the frame has more tags than the parser reads. Linux takes any number of priority tags away.
    Hidden(IpAt),
}

impl Place {
    /// Nothing at all.
    pub(crate) const NOWHERE: Self = Self::Unread(IpAt::from_bits(0));

    /// What is known of a packet of any form, with the reason of its verdict.
    #[inline(always)]
    pub(crate) const fn of(summary: Summary, reason: Reason) -> Self {
        match reason {
            Reason::VlanDepth => Self::Hidden(summary.ip()),
            _ if !summary.has_ip() => Self::Unread(summary.ip()),
            Reason::IpSourceRoute | Reason::Ipv6Rh0 | Reason::Ipv6Chain => Self::OnItsWay(summary.ip()),
            _ => Self::Known(summary.ip()),
        }
    }
}

impl Judging {
    /// Ends with a verdict over a packet. Adds what no row depends on: the slot, and the mode.
    #[inline(always)]
    pub(crate) fn settle<P: Packet, T: Subprograms, S: Settle<P, T>>(
        self,
        packet: P,
        tables: &T,
        place: Place,
        verdict: Verdict,
    ) -> S::Output {
        let drops = matches!(verdict.judged, Action::Drop);
        if drops && !matches!(verdict.reason, Reason::Blocked) && self.spares(packet, tables, place) {
            // Some rows stand above the row of the block-list, and the kernel may accept what passes here.
            let (reason, action) = match place {
                Place::Known(at) | Place::OnItsWay(at) if self.blocks(packet, tables, at) => {
                    (Reason::Blocked, Action::Drop)
                }
                // The source may be a blocked one.
                Place::Hidden(_) if self.has(Features::BLOCKED) => (verdict.reason, Action::Drop),
                _ => (verdict.reason, Action::Pass),
            };
            return S::settle(packet, tables, Verdict { reason, action, slot: self.slot, ..verdict });
        }
        S::settle(packet, tables, Verdict { action: verdict.judged, slot: self.slot, ..verdict })
    }

    /// True where audit mode lets a packet pass that a row drops.
    #[inline(always)]
    fn spares<P: Packet, T: Subprograms>(self, packet: P, tables: &T, place: Place) -> bool {
        let at = match place {
            Place::Known(at) => at,
            Place::OnItsWay(at) | Place::Unread(at) | Place::Hidden(at) => at.without_target(),
        };
        self.has(Features::AUDIT) || self.has(Features::MODES) && tables.in_audit(packet, self, at)
    }
}
