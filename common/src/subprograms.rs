//! Parts of a verdict that the kernel program has as subprograms.

use crate::{
    dhcp,
    ends::Ends,
    fields::IpAt,
    flow,
    fragment::{self, First},
    judging::Judging,
    packet::Packet,
    quoted,
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

    /// True where a datagram at the port of a DHCP client may be for a client on this box; see [`dhcp::is_for_client`].
    #[inline(always)]
    fn is_for_dhcp_client<P: Packet>(&self, packet: P, judging: Judging, at: IpAt, to_many: bool) -> bool {
        dhcp::is_for_client(packet, self, judging, at, to_many)
    }

    /// The number of the rate for an ICMP error that quotes a packet of a live flow; see [`quoted::quotes_flow`].
    #[inline(always)]
    fn quotes_flow<P: Packet>(&self, packet: P, judging: Judging, at: IpAt, offset: usize) -> Option<u8> {
        quoted::quotes_flow(packet, self, judging, at, offset)
    }

    /// The number of the rate for an ICMP error that quotes the answer of an open port; see [`quoted::quotes_open`].
    #[inline(always)]
    fn quotes_open<P: Packet>(&self, packet: P, judging: Judging, at: IpAt, offset: usize) -> Option<u8> {
        quoted::quotes_open(packet, self, judging, at, offset)
    }

    /// Remembers a first fragment that passed, and forgets one that was dropped; see [`fragment::remember`].
    #[inline(always)]
    fn first_fragment<P: Packet>(&self, packet: P, at: IpAt, first: First) {
        fragment::remember(packet, self, at, first);
    }
}
