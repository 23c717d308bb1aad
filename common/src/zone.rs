//! The zone that a packet is judged in: its interface and its outer VLAN tag decide.

use crate::{
    abi::{Features, NO_ZONE},
    judging::Judging,
    packet::Packet,
    parse::is_vlan,
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
    let vlan = packet.tag().or_else(|| outer_tag(packet)).unwrap_or(0);
    tables.zone(slot, vlan).unwrap_or(NO_ZONE)
}

/// The VLAN identifier of the first tag in the frame, of either kind.
#[inline(always)]
fn outer_tag<P: Packet>(packet: P) -> Option<u16> {
    let ethernet = packet.header::<EthernetHeader>(0)?;
    if !is_vlan(ethernet.ether_type) {
        return None;
    }
    let outer = packet.header::<VlanTag>(size_of::<EthernetHeader>())?;
    let id = u16::from_be(outer.control) & 0xfff;
    if id != 0 || !is_vlan(outer.ether_type) {
        return Some(id);
    }
    // A priority tag: the kernel takes it away and looks at the next one (`__netif_receive_skb_core`).
    let inner = packet.header::<VlanTag>(size_of::<EthernetHeader>() + size_of::<VlanTag>())?;
    Some(u16::from_be(inner.control) & 0xfff)
}
