//! Parts of a verdict that the kernel program has as subprograms.

use crate::{
    ends::Ends,
    fields::IpAt,
    flow,
    fragment::{self, First},
    judging::Judging,
    packet::Packet,
    tables::{Tables, Tracking},
    target,
};

/// Parts of a verdict that the kernel program has as subprograms: the verifier checks each once, for any arguments, and
/// not once for each way to it. Elsewhere the default bodies do.
pub trait Subprograms: Tables + Tracking + Sized {
    /// True where an incoming packet is the reply of a flow; see [`flow::is_reply`].
    #[inline(always)]
    fn is_reply<P: Packet>(&self, packet: P, slot: u32, ends: Ends) -> bool {
        flow::is_reply(packet, self, slot, ends)
    }

    /// True where the target of a packet is in audit mode; see [`target::in_audit`].
    #[inline(always)]
    fn in_audit<P: Packet>(&self, packet: P, judging: Judging, at: IpAt) -> bool {
        target::in_audit(packet, self, judging, at)
    }

    /// Remembers a first fragment that passed, and forgets one that was dropped; see [`fragment::remember`].
    #[inline(always)]
    fn first_fragment<P: Packet>(&self, packet: P, at: IpAt, first: First) {
        fragment::remember(packet, self, at, first);
    }
}
