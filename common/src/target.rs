//! The target of a packet, and the mode of that target.

use crate::{
    abi::{Features, NO_ZONE, Target},
    fields::{Address, IpAt, destination},
    judging::Judging,
    packet::Packet,
    tables::Rules,
};

/// The target of a packet's destination.
#[inline(always)]
pub fn of<P: Packet, T: Rules>(packet: P, tables: &T, at: IpAt, judging: Judging) -> Target {
    if !judging.has(Features::TARGETS) {
        return Target::HOST;
    }
    match destination(packet, at) {
        Some(address) => tables.target(judging.slot, at.zone(), address),
        None => Target::NONE,
    }
}

/// The target of an address in the zone of `at`.
#[inline(always)]
pub(crate) fn of_address<T: Rules>(tables: &T, judging: Judging, at: IpAt, address: Address) -> Target {
    if !judging.has(Features::TARGETS) {
        return Target::HOST;
    }
    tables.target(judging.slot, at.zone(), address.words())
}

/// True where the destination of a packet is neither the box nor a target of the zone, and the box forwards: rules about
/// the box do not hold for it.
#[inline(always)]
pub(crate) fn is_elsewhere<P: Packet, T: Rules>(packet: P, tables: &T, at: IpAt, judging: Judging) -> bool {
    judging.has(Features::TARGETS)
        && destination(packet, at)
            .is_some_and(|address| tables.is_elsewhere(judging.slot, at.zone(), address))
}

/// True where the destination of a packet is, or may be, the box itself.
#[inline(always)]
pub(crate) fn is_box<P: Packet, T: Rules>(packet: P, tables: &T, at: IpAt, judging: Judging) -> bool {
    of(packet, tables, at, judging).host && !is_elsewhere(packet, tables, at, judging)
}

/// True where a packet goes elsewhere, and its zone neither passes what has no target nor says what may be called. Out of
/// line: it is for packets without ports.
#[inline(never)]
pub(crate) fn is_barred<P: Packet, T: Rules>(packet: P, tables: &T, at: IpAt, judging: Judging) -> bool {
    is_elsewhere(packet, tables, at, judging)
        && !tables.unmatched_pass(judging.slot, at.zone())
        && !of(packet, tables, at, judging).outbound
}

/// True where the target of a packet is in audit mode. Packets without a target have a mode of their own. A packet that
/// does not tell its target may be for any target of its zone, so all of these must be in audit mode; one in no zone may
/// be for any target at all. Asked only with [`Features::MODES`].
#[inline(always)]
pub fn in_audit<P: Packet, T: Rules>(packet: P, tables: &T, judging: Judging, at: IpAt) -> bool {
    if !at.has_target() || at.zone() == NO_ZONE {
        return tables.audits_zone(judging.slot, at.zone());
    }
    tables.audits(judging.slot, of(packet, tables, at, judging).policy)
}
