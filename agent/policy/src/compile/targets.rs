//! The table of destination addresses.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use lyncwall_common::abi::{
    MAX_TARGET_ADDRESSES, NO_POLICY, TARGET_BUCKETS, Target, TargetCode, TargetEntry, TargetTable,
    ZONE_NUMBERS, ZoneTargets, mapped,
};

use super::input::Input;
use super::seed;
use super::zones::outbound_policies;
use crate::config::Address;
use crate::problem::{Problem, Problems};

/// The table for these targets; `None` if `host` is every destination, so that no look-up is needed.
pub(super) fn table(input: &Input, problems: &mut Problems) -> Option<Box<TargetTable>> {
    let outbound = outbound_policies(input);
    let found = problems.iter().count();
    let (hosts, mut said) = said_of(input, problems);
    if let ([_], [only], false) = (&*input.zones, &*input.targets, input.forwards)
        && is_host(&only.address)
        && outbound == [None]
    {
        return None;
    }
    let own = input.local.iter().filter(|address| !address.is_loopback() && !address.is_unspecified());
    // A zone with neither a `host` nor permitted calls needs the box's addresses only to tell them from those elsewhere.
    let needs_own = hosts.iter().chain(&outbound).any(Option::is_some);
    let knows_own = input.forwards && (needs_own || said.len() + own.clone().count() <= MAX_TARGET_ADDRESSES);
    if knows_own {
        add_own(own, &hosts, &mut said);
    }
    if said.len() > MAX_TARGET_ADDRESSES {
        let with_own = if input.forwards { ", including those of this box" } else { "" };
        problems.push(Problem::new(
            format!(
                "the targets have {} addresses{with_own}: at most {MAX_TARGET_ADDRESSES} fit",
                said.len()
            ),
            "use address = \"host\" for the target with the most addresses, on a box that does not forward",
        ));
    }
    if problems.iter().count() > found {
        return None;
    }
    let keys: Vec<[u64; 2]> = said.keys().copied().collect();
    let Some((seed, _)) = find_seed(&keys) else {
        problems.push(Problem::new(
            "cannot arrange the targets' addresses in the table",
            "report this with the list of addresses, and use fewer of them until it is fixed",
        ));
        return None;
    };
    let zones = std::array::from_fn(|zone| {
        let [host, outbound] = [&hosts, &outbound].map(|of| of.get(zone).copied().flatten());
        let rest = rest_of_zone(host, outbound, input.forwards);
        if knows_own { ZoneTargets { others: rest.others.elsewhere(), ..rest } } else { rest }
    });
    let mut table = Box::new(TargetTable { seed, entries: [TargetEntry::UNUSED; TARGET_BUCKETS], zones });
    for (address, zones) in said {
        table.entries[TargetTable::bucket(seed, address)] = TargetEntry { address, zones };
    }
    Some(table)
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
            let host = own || input.local.contains(&address);
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

/// The box's own addresses: `host` in zones with a `host`, and in no zone the destination of an outbound call or
/// elsewhere.
fn add_own<'a>(own: impl Iterator<Item = &'a IpAddr>, hosts: &[Option<u32>], said: &mut Said) {
    let said_of_own: [TargetCode; ZONE_NUMBERS] = std::array::from_fn(|zone| {
        let policy = hosts.get(zone).copied().flatten().unwrap_or(NO_POLICY);
        TargetCode::of(Target { policy, host: true, outbound: false })
    });
    for address in own {
        let codes = said.entry(words(*address)).or_insert([TargetCode::UNSAID; ZONE_NUMBERS]);
        for (code, own) in codes.iter_mut().zip(said_of_own) {
            if *code == TargetCode::UNSAID {
                *code = own;
            }
        }
    }
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
