//! What a rule lets in, though nobody asked for it.

use crate::{
    abi::{AllowKey, Features, NO_POLICY, NO_ZONE, PortTransport},
    ends::Ends,
    fields::{Address, IpAt, addresses, destination_address, source},
    judging::Judging,
    packet::Packet,
    tables::Rules,
    target,
};

/// True where the answer to an outgoing packet passes without a flow: the rows that let in by a rule, for an answer whose destination is the source of this packet.
#[inline(always)]
pub(crate) fn passes_without_flow<P: Packet, T: Rules>(
    packet: P,
    tables: &T,
    judging: Judging,
    ends: Ends,
    transport: PortTransport,
) -> bool {
    let Judging { slot, features } = judging;
    let Some((local, remote)) = addresses(packet, ends.at) else { return false };
    let zone = ends.at.zone();
    let target = target::of_address(tables, judging, ends.at, local);
    if target.host && tables.management_port(transport, ends.local) && tables.management_source(remote) {
        return true;
    }
    if features.has(Features::ALLOW) {
        let key = AllowKey::Port(transport, ends.local);
        if tables.allow(slot, key, target.policy, zone, remote).is_some() {
            return true;
        }
    }
    if target.policy == NO_POLICY {
        return tables.unmatched_pass(slot, zone);
    }
    let Some(Some(class)) = tables.port(slot, target.policy, transport, ends.local) else { return false };
    let for_all = !features.has(Features::GROUPS) || class.groups == 0;
    let groups = Groups { slot, groups: class.groups };
    for_all || in_groups::<P, T, true>(packet, tables, ends.at, groups, target.outbound)
}

/// Groups as bits, in the sources of a slot.
#[derive(Clone, Copy)]
pub(crate) struct Groups {
    pub(crate) slot: u32,
    pub(crate) groups: u32,
}

/// True where the far side is in one of these groups. The far side is the source of a packet, and the destination of an
/// `outbound` one; where `ANSWERED`, the packet at hand is the one that the judged packet answers, so the two change
/// places. Out of line: boxes without groups do not pay for it. Each address is read on its own: verifiers up to 6.1
/// refuse to copy an [`Address`] of IPv4, most of whose bytes were never written.
#[inline(never)]
pub(crate) fn in_groups<P: Packet, T: Rules, const ANSWERED: bool>(
    packet: P,
    tables: &T,
    at: IpAt,
    Groups { slot, groups }: Groups,
    outbound: bool,
) -> bool {
    // Nobody knows in which zone a called destination is.
    let zone = if outbound { NO_ZONE } else { at.zone() };
    let contain = |address: Option<Address>| {
        address.is_some_and(|address| tables.groups(slot, zone, address) & groups != 0)
    };
    if outbound == ANSWERED { contain(source(packet, at)) } else { contain(destination_address(packet, at)) }
}
