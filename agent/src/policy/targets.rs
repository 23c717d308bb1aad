//! The table of destination addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use lyncwall_common::abi::{
    MAX_TARGET_ADDRESSES, NO_POLICY, TARGET_BUCKETS, TargetEntry, TargetTable, mapped,
};

use super::input::TargetInput;
use super::seed;
use crate::config::Address;
use crate::problem::{Problem, Problems};

/// The table for these targets; `None` where `host` is the only one, so that nothing needs to be looked up.
pub(super) fn table(
    targets: &[TargetInput],
    local: &[IpAddr],
    problems: &mut Problems,
) -> Option<Box<TargetTable>> {
    let mut host = NO_POLICY;
    let mut owners: HashMap<[u64; 2], &str> = HashMap::new();
    let mut entries = Vec::new();
    for (policy, target) in (0u32..).zip(targets) {
        let addresses = match &target.address {
            Address::Host if host == NO_POLICY => {
                host = policy;
                continue;
            }
            Address::Host => {
                problems.push(Problem::new(
                    format!("target `{}` is a second one with address = \"host\"", target.name),
                    "name its addresses, or give its roles to the other",
                ));
                continue;
            }
            Address::List(addresses) => addresses,
        };
        for &address in addresses {
            let key = words(address);
            if let Some(owner) = owners.insert(key, &target.name) {
                problems.push(Problem::new(
                    format!("target `{}` has the address {address}, which target `{owner}` has", target.name),
                    "give an address to one target",
                ));
            }
            let local = if local.contains(&address) { TargetEntry::LOCAL } else { 0 };
            entries.push(TargetEntry { address: key, policy, used: TargetEntry::USED | local });
        }
    }
    if targets.len() == 1 && host != NO_POLICY {
        return None;
    }
    if entries.len() > MAX_TARGET_ADDRESSES {
        problems.push(Problem::new(
            format!(
                "the targets have {} addresses, and there is room for {MAX_TARGET_ADDRESSES}",
                entries.len()
            ),
            "use address = \"host\" for the target with the most addresses",
        ));
    }
    if !problems.is_empty() {
        return None;
    }
    let keys: Vec<[u64; 2]> = entries.iter().map(|entry| entry.address).collect();
    let Some((seed, _)) = find_seed(&keys) else {
        problems.push(Problem::new(
            "no arrangement of the targets' addresses was found",
            "report this with the list of addresses, and use fewer of them until it is repaired",
        ));
        return None;
    };
    let unused = TargetEntry { address: [0; 2], policy: NO_POLICY, used: 0 };
    let mut table = Box::new(TargetTable { seed, entries: [unused; TARGET_BUCKETS], host, reserved: 0 });
    for entry in entries {
        table.entries[TargetTable::bucket(seed, entry.address)] = entry;
    }
    Some(table)
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

/// A seed that keeps the addresses apart, and how many were tried.
fn find_seed(addresses: &[[u64; 2]]) -> Option<([u64; 2], u32)> {
    seed::find::<_, 2, TARGET_BUCKETS>(addresses, |seed, address| TargetTable::bucket(seed, *address))
}

#[cfg(test)]
mod tests;
