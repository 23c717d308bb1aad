//! The target of a packet, and the mode of that target.

use crate::{
    abi::{Features, Target},
    fields::{IpAt, destination},
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

/// True where the target of a packet is in audit mode. Packets without a target have a mode of their own. A packet that
/// does not tell its target may be for any target of its zone, so all of these must be in audit mode. Asked only with
/// [`Features::MODES`].
#[inline(always)]
pub fn in_audit<P: Packet, T: Rules>(packet: P, tables: &T, judging: Judging, at: IpAt) -> bool {
    if !at.has_target() {
        return tables.audits_zone(judging.slot, at.zone());
    }
    tables.audits(judging.slot, of(packet, tables, at, judging).policy)
}
