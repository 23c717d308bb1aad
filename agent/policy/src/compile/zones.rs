//! Zones: their outbound calls, interfaces and VLANs.

use std::collections::BTreeMap;

use lyncwall_common::abi::{
    FLAG_DHCP_CLIENT, Generation, INTERFACE_BUCKETS, Interface, MAX_INTERFACES, MAX_NUMBERS, VlanTable, ZONES,
};

use super::input::{Input, InterfaceInput, TargetInput, ZoneInput};
use super::seed;
use crate::config::{Address, Unmatched};
use crate::problem::{Problem, Problems};

/// All owners of a policy, by its number: the targets, then the zones with outbound limits. No target can
/// have the name of a zone's owner.
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

/// The number of the policy for the outbound calls of each zone, as [`owners`] numbers them.
pub(super) fn outbound_policies(input: &Input) -> Vec<Option<u32>> {
    let mut next = 0..;
    let first = u32::try_from(input.targets.len()).unwrap_or(u32::MAX);
    let number = |zone: &ZoneInput| {
        zone.outbound.as_ref().and_then(|_| next.next()).map(|n: u32| first.saturating_add(n))
    };
    input.zones.iter().map(number).collect()
}

/// The zones that pass destinations without a target, as bits.
pub(super) fn unmatched_pass(zones: &[ZoneInput]) -> u32 {
    let passes = |zone: &ZoneInput| zone.unmatched == Unmatched::Pass && zone.outbound.is_none();
    zones.iter().take(ZONES).rev().fold(0, |bits, zone| bits << 1 | u32::from(passes(zone)))
}

/// The table of interfaces, in an otherwise empty generation, and the zones of their VLANs.
pub(super) fn interfaces(input: &Input, problems: &mut Problems) -> (Generation, Vec<Box<VlanTable>>) {
    let mut generation = Generation::EMPTY;
    if input.zones.is_empty() || input.zones.len() > ZONES {
        problems.push(Problem::new(
            format!("{} zones: 1 to {ZONES} fit", input.zones.len()),
            "merge zones with equal policies",
        ));
        return (generation, Vec::new());
    }
    if input.interfaces.len() > MAX_INTERFACES {
        problems.push(Problem::new(
            format!("{} interfaces: at most {MAX_INTERFACES} fit", input.interfaces.len()),
            "attach to fewer interfaces",
        ));
    }
    let mut vlans = Vec::new();
    let mut entries: BTreeMap<u32, Interface> = BTreeMap::new();
    // Members first, so that a member with its own table in the file keeps that.
    let mut described: Vec<(&[u32], Interface)> = Vec::new();
    for interface in input.interfaces.iter().take(MAX_INTERFACES) {
        let entry = entry(interface, &mut vlans);
        described.push((&interface.members, entry));
    }
    for (members, entry) in &described {
        entries.extend(members.iter().map(|&ifindex| (ifindex, Interface { ifindex, ..*entry })));
    }
    // Missing interfaces have no number.
    for (interface, (_, entry)) in
        input.interfaces.iter().zip(&described).filter(|(known, _)| known.ifindex != 0)
    {
        entries.insert(interface.ifindex, *entry);
    }
    let numbers: Vec<u32> = entries.keys().copied().collect();
    if numbers.len() > MAX_NUMBERS {
        problems.push(Problem::new(
            format!("{} interfaces with the members of bonds: at most {MAX_NUMBERS} fit", numbers.len()),
            "attach to fewer interfaces",
        ));
        return (generation, vlans);
    }
    let found =
        seed::find::<_, 1, INTERFACE_BUCKETS>(&numbers, |[seed], number| Generation::bucket(seed, *number));
    let Some(([seed], _)) = found else {
        problems.push(Problem::new(
            "cannot arrange the interfaces' numbers in the table",
            format!(
                "report this with the numbers {numbers:?}, and attach to fewer interfaces until it is fixed"
            ),
        ));
        return (generation, vlans);
    };
    generation.interface_seed = seed;
    for (number, entry) in entries {
        let bucket = Generation::bucket(seed, number);
        generation.interfaces[bucket] = entry;
        generation.ethernet[bucket] = input.answers.ethernet(number);
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
