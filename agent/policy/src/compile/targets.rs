//! The table of destination addresses.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use lyncwall_common::abi::{
    MAX_TARGET_ADDRESSES, NO_POLICY, TARGET_BUCKETS, Target, TargetCode, TargetEntry, TargetTable,
    ZONE_NUMBERS, ZoneTargets, mapped,
};

use super::input::Input;
use super::seed;
use super::zones::outbound_policies;
use crate::config::Address;
use crate::net::Prefix;
use crate::problem::{Problem, Problems};

/// The destination addresses of a generation.
pub(super) struct Targets {
    /// `None` if `host` is every destination, so that no look-up is needed, and after a mistake.
    pub(super) table: Option<Box<TargetTable>>,
    /// The box's own addresses that did not fit.
    pub(super) left_out: Vec<Prefix>,
}

/// The table for these targets. Mistakes are those of the configuration only: the box's own addresses are no
/// choice of the user, so those that do not fit are left out.
pub(super) fn table(input: &Input, problems: &mut Problems) -> Targets {
    let none = Targets { table: None, left_out: Vec::new() };
    let outbound = outbound_policies(input);
    let found = problems.iter().count();
    let (hosts, listed) = said_of(input, problems);
    if let ([_], [only], false) = (&*input.zones, &*input.targets, input.forwards)
        && is_host(&only.address)
        && outbound == [None]
    {
        return none;
    }
    if listed.len() > MAX_TARGET_ADDRESSES {
        problems.push(Problem::new(
            format!("the targets have {} addresses: at most {MAX_TARGET_ADDRESSES} fit", listed.len()),
            "use address = \"host\" for the target with the most addresses, on a box that does not forward",
        ));
    }
    if problems.iter().count() > found {
        return none;
    }
    let own = if input.forwards { own(input) } else { Vec::new() };
    let codes = codes_of_own(&hosts);
    let mut room = MAX_TARGET_ADDRESSES;
    let (said, left_out, seed) = loop {
        let mut said = listed.clone();
        let left_out = add_own(&own, codes, room, &mut said);
        let keys: Vec<[u64; 2]> = said.keys().copied().collect();
        match find_seed(&keys) {
            Some((seed, _)) => break (said, left_out, seed),
            None if said.len() > listed.len() => room = listed.len().midpoint(said.len() - 1),
            None => {
                problems.push(Problem::new(
                    "cannot arrange the targets' addresses in the table",
                    "report this with the list of addresses, and use fewer of them until it is fixed",
                ));
                return none;
            }
        }
    };
    // What did not fit would count as elsewhere, and lose its pings and errors.
    let knows_own = input.forwards && left_out.is_empty();
    let zones = std::array::from_fn(|zone| {
        let [host, outbound] = [&hosts, &outbound].map(|of| of.get(zone).copied().flatten());
        let rest = rest_of_zone(host, outbound, input.forwards);
        if knows_own { ZoneTargets { others: rest.others.elsewhere(), ..rest } } else { rest }
    });
    let mut table = Box::new(TargetTable { seed, entries: [TargetEntry::UNUSED; TARGET_BUCKETS], zones });
    for (address, zones) in said {
        table.entries[TargetTable::bucket(seed, address)] = TargetEntry { address, zones };
    }
    Targets { table: Some(table), left_out }
}

/// The policies of addresses, in each zone.
type Said = BTreeMap<[u64; 2], [TargetCode; ZONE_NUMBERS]>;

const fn is_host(address: &Address) -> bool {
    matches!(address, Address::Host | Address::HostAnd(_))
}

/// The policy of `host` by zone, and the policies of listed addresses.
fn said_of(input: &Input, problems: &mut Problems) -> (Vec<Option<u32>>, Said) {
    let mut hosts = vec![None; input.zones.len()];
    let mut owners: HashMap<(usize, [u64; 2]), &str> = HashMap::new();
    let mut said = Said::new();
    for (policy, target) in (0u32..).zip(&input.targets) {
        let Some(host) = hosts.get_mut(target.zone) else {
            problems.push(Problem::new(
                format!("target `{}` is in the unknown zone {}", target.name, target.zone),
                "name an existing zone",
            ));
            continue;
        };
        if is_host(&target.address) {
            if host.is_some() {
                problems.push(Problem::new(
                    format!("target `{}` is a second target with address = \"host\"", target.name),
                    "list its addresses, or move its roles to the other target",
                ));
                continue;
            }
            *host = Some(policy);
        }
        let (addresses, own) = match &target.address {
            Address::Host => continue,
            Address::HostAnd(addresses) => (addresses, true),
            Address::List(addresses) => (addresses, false),
        };
        for &address in addresses {
            let key = words(address);
            if let Some(owner) = owners.insert((target.zone, key), &target.name) {
                problems.push(Problem::new(
                    format!("target `{}` has the address {address} of target `{owner}`", target.name),
                    "give an address to one target",
                ));
            }
            let host = own || input.local.contains(address);
            let code = TargetCode::of(Target { policy, host, outbound: false });
            if let Some(zone) =
                said.entry(key).or_insert([TargetCode::UNSAID; ZONE_NUMBERS]).get_mut(target.zone)
            {
                *zone = code;
            }
        }
    }
    (hosts, said)
}

/// The box's own destinations, the most important first.
fn own(input: &Input) -> Vec<Prefix> {
    let of_interfaces = input.local.addresses().iter();
    let of_interfaces = of_interfaces.filter(|address| !address.is_loopback() && !address.is_unspecified());
    // Linux takes a packet from 0.0.0.0 to 0.0.0.0 as a broadcast (`ip_route_input_slow`).
    let unspecified = Prefix::host(Ipv4Addr::UNSPECIFIED.into());
    let further = input.local.further().iter().copied();
    of_interfaces.map(|address| Prefix::host(*address)).chain([unspecified]).chain(further).collect()
}

/// The targets of the box's own addresses: `host` in zones with a `host`, and in no zone the destination of an
/// outbound call or elsewhere.
fn codes_of_own(hosts: &[Option<u32>]) -> [TargetCode; ZONE_NUMBERS] {
    std::array::from_fn(|zone| {
        let policy = hosts.get(zone).copied().flatten().unwrap_or(NO_POLICY);
        TargetCode::of(Target { policy, host: true, outbound: false })
    })
}

/// Adds the box's own addresses until there are `room`, and returns those that do not fit: of a prefix all or none.
fn add_own(own: &[Prefix], codes: [TargetCode; ZONE_NUMBERS], room: usize, said: &mut Said) -> Vec<Prefix> {
    let mut left_out = Vec::new();
    for prefix in own {
        let longer_than_the_table = usize::from(prefix.host_bits()) > MAX_TARGET_ADDRESSES.ilog2() as usize;
        let keys = || prefix.addresses().map(words);
        if longer_than_the_table || said.len() + keys().filter(|key| !said.contains_key(key)).count() > room {
            left_out.push(*prefix);
            continue;
        }
        for key in keys() {
            let listed = said.entry(key).or_insert([TargetCode::UNSAID; ZONE_NUMBERS]);
            for (code, own) in listed.iter_mut().zip(codes) {
                if *code == TargetCode::UNSAID {
                    *code = own;
                }
            }
        }
    }
    left_out
}

/// The policy of unlisted addresses, in a zone with these policies.
fn rest_of_zone(host: Option<u32>, outbound: Option<u32>, forwards: bool) -> ZoneTargets {
    let to_host = Target { policy: host.unwrap_or(NO_POLICY), host: true, outbound: false };
    let others = match (host, outbound) {
        (Some(_), _) if !forwards => to_host,
        (_, Some(policy)) => Target { policy, host: true, outbound: true },
        (_, None) => Target { policy: NO_POLICY, ..to_host },
    };
    ZoneTargets { others: TargetCode::of(others), groups: TargetCode::of(to_host) }
}

/// An address in the form of [`TargetEntry::address`].
pub(super) fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            mapped([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])])
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
            [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
        }
    }
}

/// A seed that keeps the addresses apart, and the number of tries.
fn find_seed(addresses: &[[u64; 2]]) -> Option<([u64; 2], u32)> {
    seed::find::<_, 2, TARGET_BUCKETS>(addresses, |seed, address| TargetTable::bucket(seed, *address))
}

#[cfg(test)]
mod tests;
