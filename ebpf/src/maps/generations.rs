//! What a generation says of interfaces, targets and ports.

use lyncwall_common::abi::{
    Class, Generation, Limit, MAX_POLICIES, NetPort, PolicyTable, PortTransport, Target, TargetTable,
    VlanTable, policy_index, vlans_index,
};

use super::map;

map!(GENERATIONS: Array<Generation>);
map!(TARGETS: Array<TargetTable>);
map!(VLANS: Array<VlanTable>);
map!(POLICIES: Array<PolicyTable>);

#[inline(always)]
pub(super) fn get(slot: u32) -> Option<&'static Generation> {
    GENERATIONS.get(slot)
}

#[inline(always)]
pub(super) fn zone(slot: u32, ifindex: u32, vlan: u16) -> Option<u32> {
    let interface = get(slot)?.interface(ifindex)?;
    if vlan == 0 || interface.vlans == 0 {
        return Some(interface.zone.into());
    }
    let table = VLANS.get(vlans_index(slot, u32::from(interface.vlans) - 1))?;
    Some(table.zone(vlan))
}

#[inline(always)]
pub(super) fn listed(slot: u32, zone: u32, address: [u64; 2]) -> Option<Target> {
    TARGETS.get(slot)?.listed(zone, address)
}

#[inline(always)]
pub(super) fn target(slot: u32, zone: u32, address: [u64; 2]) -> Target {
    TARGETS.get(slot).map_or(Target::NONE, |table| table.find(zone, address))
}

#[inline(always)]
pub(super) fn is_elsewhere(slot: u32, zone: u32, address: [u64; 2]) -> bool {
    TARGETS.get(slot).is_some_and(|table| table.code(zone, address).is_elsewhere())
}

#[inline(always)]
pub(super) fn port(slot: u32, policy: u32, transport: PortTransport, port: NetPort) -> Option<Option<Class>> {
    Some(POLICIES.get(policy_index(slot, policy, transport))?.open(port))
}

#[inline(always)]
pub(super) fn limit(slot: u32, policy: u32) -> Option<Limit> {
    // The mask keeps the index in range for the verifier.
    Some(get(slot)?.limits[(policy % MAX_POLICIES) as usize])
}
