//! The zone that a packet is judged in: its interface and its outer VLAN tag decide.

use crate::{
    abi::{Features, NO_ZONE},
    judging::Judging,
    packet::Packet,
    parse::{USUAL_TAGS, is_vlan, tag_behind},
    tables::Rules,
    wire::{EthernetHeader, VlanTag},
};

/// The zone of a packet. With only one zone it is 0, without a look-up.
#[inline(always)]
pub fn of<P: Packet, T: Rules>(packet: P, tables: &T, judging: Judging) -> u32 {
    if judging.has(Features::ZONES) { look_up(packet, tables, judging.slot) } else { 0 }
}

/// Looks the zone up. Out of line: boxes with one zone do not pay for it.
#[inline(never)]
fn look_up<P: Packet, T: Rules>(packet: P, tables: &T, slot: u32) -> u32 {
    // A priority tag names no VLAN: the kernel takes it away and looks at the next tag (`__netif_receive_skb_core`).
    let beside = packet.tag().filter(|id| *id != 0);
    let vlan = beside.or_else(|| first_vlan(packet)).unwrap_or(0);
    if vlan == TOO_DEEP { NO_ZONE } else { tables.zone(slot, vlan).unwrap_or(NO_ZONE) }
}

/// Stands for the identifier of a frame whose tags name no VLAN as far as they are read. No tag has this number.
const TOO_DEEP: u16 = u16::MAX;

/// The first VLAN identifier that a tag of either kind in the frame names; 0 where none does.
#[inline(always)]
fn first_vlan<P: Packet>(packet: P) -> Option<u16> {
    let ethernet = packet.header::<EthernetHeader>(0)?;
    if !is_vlan(ethernet.ether_type) {
        return None;
    }
    let outer = packet.header::<VlanTag>(size_of::<EthernetHeader>())?;
    let id = u16::from_be(outer.control) & 0xfff;
    if id != 0 || !is_vlan(outer.ether_type) {
        return Some(id);
    }
    let inner = packet.header::<VlanTag>(size_of::<EthernetHeader>() + size_of::<VlanTag>())?;
    let id = u16::from_be(inner.control) & 0xfff;
    if id != 0 || !is_vlan(inner.ether_type) {
        return Some(id);
    }
    let deeper = tag_behind(packet, USUAL_TAGS, true)?;
    Some(if deeper.id() == 0 && is_vlan(deeper.ether_type()) { TOO_DEEP } else { deeper.id() })
}
