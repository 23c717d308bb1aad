//! Zones: what may be called out of them, and which interface and VLAN is in which.

use std::collections::BTreeMap;

use lyncwall_common::abi::{
    FLAG_DHCP_CLIENT, Generation, INTERFACE_BUCKETS, Interface, MAX_INTERFACES, MAX_NUMBERS, VlanTable, ZONES,
};

use super::input::{Input, InterfaceInput, TargetInput, ZoneInput};
use super::seed;
use crate::config::{Address, Unmatched};
use crate::problem::{Problem, Problems};

/// Everybody that has a policy, by its number: the targets, and behind them the zones that limit what goes out. Their
/// names are none that a target may have.
pub(crate) fn owners(input: &Input) -> Vec<TargetInput> {
    let limited = input.zones.iter().enumerate().filter_map(|(zone, limits)| {
        Some(TargetInput {
            name: format!("{} (outbound)", limits.name),
            zone,
            address: Address::List(Vec::new()),
            inbound: limits.outbound.clone()?,
        })
    });
    input.targets.iter().cloned().chain(limited).collect()
}

/// The number of the policy that says what may be called out of each zone, as [`owners`] numbers them.
pub(super) fn outbound_policies(input: &Input) -> Vec<Option<u32>> {
    let mut next = 0..;
    let first = u32::try_from(input.targets.len()).unwrap_or(u32::MAX);
    let number = |zone: &ZoneInput| {
        zone.outbound.as_ref().and_then(|_| next.next()).map(|n: u32| first.saturating_add(n))
    };
    input.zones.iter().map(number).collect()
}

/// The zones where destinations in no target pass, as bits.
pub(super) fn unmatched_pass(zones: &[ZoneInput]) -> u32 {
    let passes = |zone: &ZoneInput| zone.unmatched == Unmatched::Pass && zone.outbound.is_none();
    zones.iter().take(ZONES).rev().fold(0, |bits, zone| bits << 1 | u32::from(passes(zone)))
}

/// The table of interfaces, in an otherwise empty generation, and the zones of their VLANs.
pub(super) fn interfaces(input: &Input, problems: &mut Problems) -> (Generation, Vec<Box<VlanTable>>) {
    let mut generation = Generation::EMPTY;
    if input.zones.is_empty() || input.zones.len() > ZONES {
        problems.push(Problem::new(
            format!("there are {} zones, and there is room for 1 to {ZONES}", input.zones.len()),
            "join zones with the same policy",
        ));
        return (generation, Vec::new());
    }
    if input.interfaces.len() > MAX_INTERFACES {
        problems.push(Problem::new(
            format!(
                "there are {} interfaces, and there is room for {MAX_INTERFACES}",
                input.interfaces.len()
            ),
            "attach to fewer interfaces",
        ));
    }
    let mut vlans = Vec::new();
    let mut entries: BTreeMap<u32, Interface> = BTreeMap::new();
    // Members first, so that one with a table of its own in the file keeps what that says.
    let mut described: Vec<(&[u32], Interface)> = Vec::new();
    for interface in input.interfaces.iter().take(MAX_INTERFACES) {
        let entry = entry(interface, &mut vlans);
        described.push((&interface.members, entry));
    }
    for (members, entry) in &described {
        entries.extend(members.iter().map(|&ifindex| (ifindex, Interface { ifindex, ..*entry })));
    }
    // Those that are not there at the moment have no number.
    for (interface, (_, entry)) in
        input.interfaces.iter().zip(&described).filter(|(known, _)| known.ifindex != 0)
    {
        entries.insert(interface.ifindex, *entry);
    }
    let numbers: Vec<u32> = entries.keys().copied().collect();
    if numbers.len() > MAX_NUMBERS {
        problems.push(Problem::new(
            format!(
                "the interfaces and the members of bonds among them are {}, and there is room for {MAX_NUMBERS}",
                numbers.len()
            ),
            "attach to fewer interfaces",
        ));
        return (generation, vlans);
    }
    let found =
        seed::find::<_, 1, INTERFACE_BUCKETS>(&numbers, |[seed], number| Generation::bucket(seed, *number));
    let Some(([seed], _)) = found else {
        problems.push(Problem::new(
            "no arrangement of the interfaces' numbers was found",
            format!("report this with the numbers {numbers:?}, and attach to fewer interfaces until it is repaired"),
        ));
        return (generation, vlans);
    };
    generation.interface_seed = seed;
    for (number, entry) in entries {
        generation.interfaces[Generation::bucket(seed, number)] = entry;
    }
    (generation, vlans)
}

fn entry(interface: &InterfaceInput, vlans: &mut Vec<Box<VlanTable>>) -> Interface {
    // Checked before: there are no more zones.
    let number = |zone: usize| zone as u8;
    let mut entry = Interface {
        ifindex: interface.ifindex,
        flags: if interface.dhcp_client { FLAG_DHCP_CLIENT } else { 0 },
        zone: number(interface.zone),
        vlans: 0,
    };
    if !interface.vlans.is_empty() {
        let mut table = Box::new(VlanTable([entry.zone; 4096]));
        for (vlan, zone) in &interface.vlans {
            table.0[usize::from(vlan & 0xfff)] = number(*zone);
        }
        vlans.push(table);
        // At most one for each interface.
        entry.vlans = vlans.len() as u8;
    }
    entry
}
