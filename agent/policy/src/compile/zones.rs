//! Zones: their outbound calls, interfaces and VLANs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lyncwall_common::abi::{
    FLAG_DHCP_CLIENT, Generation, INTERFACE_BUCKETS, Interface, MAX_INTERFACES, MAX_NUMBERS, VlanTable, ZONES,
};

use super::input::{Input, InterfaceInput, TargetInput, ZoneInput};
use super::seed;
use crate::config::{Address, Mode, Unmatched};
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

/// The zones where every target, and every packet without a target, is in audit mode, as bits.
pub(super) fn audited(input: &Input) -> u32 {
    let enforces = |zone: usize| {
        let here = |(_, target): &(usize, &TargetInput)| target.zone == zone;
        input
            .targets
            .iter()
            .enumerate()
            .filter(here)
            .any(|(policy, _)| input.mode_of(policy) == Mode::Enforce)
    };
    let zones = (0..input.zones.len().min(ZONES)).filter(|zone| !enforces(*zone));
    if input.mode == Mode::Audit { zones.fold(0, |bits, zone| bits | 1 << zone) } else { 0 }
}

/// The interfaces of a generation.
pub(super) struct Interfaces {
    /// The table of interfaces, in an otherwise empty generation.
    pub(super) generation: Generation,
    /// The zones of their VLANs.
    pub(super) vlans: Vec<Box<VlanTable>>,
    /// The members of bonds that did not fit.
    pub(super) members_left_out: Vec<u32>,
}

/// The interfaces with their zones. The members of bonds are no choice of the user, so those that do not fit are
/// left out.
pub(super) fn interfaces(input: &Input, problems: &mut Problems) -> Interfaces {
    let none = |vlans| Interfaces { generation: Generation::EMPTY, vlans, members_left_out: Vec::new() };
    let mut generation = Generation::EMPTY;
    if input.zones.is_empty() || input.zones.len() > ZONES {
        problems.push(Problem::new(
            format!("{} zones: 1 to {ZONES} fit", input.zones.len()),
            "merge zones with equal policies",
        ));
        return none(Vec::new());
    }
    if input.interfaces.len() > MAX_INTERFACES {
        problems.push(Problem::new(
            format!("{} interfaces: at most {MAX_INTERFACES} fit", input.interfaces.len()),
            "attach to fewer interfaces",
        ));
    }
    let mut vlans = Vec::new();
    let mut described: Vec<(&[u32], Interface)> = Vec::new();
    for interface in input.interfaces.iter().take(MAX_INTERFACES) {
        let entry = entry(interface, &mut vlans);
        described.push((&interface.members, entry));
    }
    // Missing interfaces have no number.
    let mut entries: BTreeMap<u32, Interface> = described
        .iter()
        .filter(|(_, entry)| entry.ifindex != 0)
        .map(|(_, entry)| (entry.ifindex, *entry))
        .collect();
    let mut members_left_out = Vec::new();
    for (ifindex, entry) in
        described.iter().flat_map(|(members, entry)| members.iter().map(move |member| (*member, entry)))
    {
        let full = entries.len() == MAX_NUMBERS;
        match entries.entry(ifindex) {
            // A member with its own table in the file keeps that.
            Entry::Occupied(_) => {}
            Entry::Vacant(_) if full => members_left_out.push(ifindex),
            Entry::Vacant(place) => {
                place.insert(Interface { ifindex, ..*entry });
            }
        }
    }
    let numbers: Vec<u32> = entries.keys().copied().collect();
    let found =
        seed::find::<_, 1, INTERFACE_BUCKETS>(&numbers, |[seed], number| Generation::bucket(seed, *number));
    let Some(([seed], _)) = found else {
        problems.push(Problem::new(
            "cannot arrange the interfaces' numbers in the table",
            format!(
                "report this with the numbers {numbers:?}, and attach to fewer interfaces until it is fixed"
            ),
        ));
        return none(vlans);
    };
    generation.interface_seed = seed;
    for (number, entry) in entries {
        let bucket = Generation::bucket(seed, number);
        generation.interfaces[bucket] = entry;
        generation.ethernet[bucket] = input.answers.ethernet(number);
    }
    Interfaces { generation, vlans, members_left_out }
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
