//! Turns the prefixes of a block-list into the content of the kernel's tries.

use std::collections::BTreeMap;

use lyncwall_common::abi::{BlockRecord, Until};

use crate::net::Prefix;

/// The changes of a block-list: the record that a prefix gets, or `None` if it leaves.
pub type BlockChanges = BTreeMap<Prefix, Option<BlockRecord>>;

/// The records that differ from those of `held` once the prefixes of `edits` have these ends of their own, or
/// have left (`None`): theirs, and those of the prefixes inside them. Costs what the edited prefixes hold, not
/// what the list holds.
#[must_use]
pub fn block_changes(
    held: &BTreeMap<Prefix, BlockRecord>,
    edits: &BTreeMap<Prefix, Option<Until>>,
) -> BlockChanges {
    let mut changes = BlockChanges::new();
    let mut edited = edits.iter().peekable();
    while let Some((outer, _)) = edited.peek().copied() {
        // The outermost edit: nothing around it changes.
        let shorter = Prefix::around(outer.addr()).filter(|around| around.length() < outer.length());
        let around = shorter.into_iter().find_map(|around| Some((around, held.get(&around)?.until)));
        // Sorted, the prefixes inside a prefix come right after it.
        let inside = held.range(outer..).take_while(|(prefix, _)| outer.contains(prefix.addr()));
        let mut list: BTreeMap<Prefix, Until> =
            inside.map(|(prefix, record)| (*prefix, record.own)).collect();
        while let Some((prefix, own)) = edited.next_if(|(prefix, _)| outer.contains(prefix.addr())) {
            match own {
                Some(own) => drop(list.insert(*prefix, *own)),
                None => {
                    if list.remove(prefix).is_some() {
                        changes.insert(*prefix, None);
                    }
                }
            }
        }
        let records = records(&list, around).into_iter();
        changes.extend(
            records
                .filter(|(prefix, record)| held.get(prefix) != Some(record))
                .map(|(prefix, record)| (prefix, Some(record))),
        );
    }
    changes
}

/// The records of a block-list. Every prefix gets the latest end of the prefixes around it: a longest-prefix
/// match finds one entry only, and an expired entry must not hide a longer-lasting one.
#[must_use]
pub fn block_records(list: &BTreeMap<Prefix, Until>) -> BTreeMap<Prefix, BlockRecord> {
    records(list, None)
}

/// The records of a part of a list, inside this prefix with its latest end.
fn records(list: &BTreeMap<Prefix, Until>, outer: Option<(Prefix, Until)>) -> BTreeMap<Prefix, BlockRecord> {
    // Sorted, a prefix comes before those inside it: the stack has the prefixes around the next one.
    let mut around: Vec<(Prefix, Until)> = outer.into_iter().collect();
    let record = |(&prefix, &own): (&Prefix, &Until)| {
        while around.last().is_some_and(|(outer, _)| !outer.contains(prefix.addr())) {
            around.pop();
        }
        let until = around.last().map_or(own, |(_, until)| until.or_later(own));
        around.push((prefix, until));
        (prefix, BlockRecord { until, own })
    };
    list.iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use lyncwall_common::abi::Until;
    use proptest::prelude::*;

    use super::block_records;
    use crate::judge::longest_match;
    use crate::net::Prefix;

    /// Few addresses, so that prefixes lie in one another; in both families.
    fn prefix() -> impl Strategy<Value = Prefix> {
        let v4 = (any::<u8>(), 24u8..=32).prop_map(|(low, length)| {
            let mask = u32::MAX << (32 - length);
            (IpAddr::from(Ipv4Addr::from_bits(u32::from_be_bytes([192, 0, 2, low]) & mask)), length)
        });
        let v6 = (any::<u8>(), 120u8..=128).prop_map(|(low, length)| {
            let mask = u128::MAX << (128 - length);
            (IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96 | u128::from(low)) & mask)), length)
        });
        prop_oneof![v4, v6].prop_map(|(addr, length)| Prefix::new(addr, length).expect("masked"))
    }

    fn until() -> impl Strategy<Value = Until> {
        prop_oneof![1 => Just(Until::FOR_GOOD), 3 => (1..100u64).prop_map(Until)]
    }

    /// True where a prefix of the list holds the address and lasts.
    fn is_blocked(list: &BTreeMap<Prefix, Until>, address: IpAddr, now: u64) -> bool {
        list.iter().any(|(prefix, until)| prefix.contains(address) && (until.0 == 0 || now < until.0))
    }

    proptest! {
        #[test]
        fn the_longest_match_says_what_all_prefixes_together_say(
            added in prop::collection::vec((prefix(), until()), 0..24),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            now in 0..110u64,
        ) {
            let mut list: BTreeMap<Prefix, Until> = added.iter().copied().collect();
            for index in removed {
                if !list.is_empty() {
                    let prefix = *list.keys().nth(index.index(list.len())).expect("it is there");
                    list.remove(&prefix);
                }
            }
            let records = block_records(&list);
            prop_assert!(records.iter().map(|(prefix, record)| (*prefix, record.own)).eq(list.clone()));

            // Step by step, by what changes, it comes to these records.
            let mut held = BTreeMap::new();
            let steps = added.chunks(5).map(|step| step.iter().map(|(prefix, until)| (*prefix, Some(*until))));
            let gone = added.iter().filter(|(prefix, _)| !list.contains_key(prefix)).map(|(prefix, _)| (*prefix, None));
            let kept = list.iter().map(|(prefix, until)| (*prefix, Some(*until)));
            let steps = steps.map(Iterator::collect).chain([gone.chain(kept).collect::<BTreeMap<_, _>>()]);
            for edits in steps {
                for (prefix, record) in super::block_changes(&held, &edits) {
                    prop_assert_ne!(held.get(&prefix).copied(), record, "{} does not change", prefix);
                    match record {
                        Some(record) => held.insert(prefix, record),
                        None => held.remove(&prefix),
                    };
                }
            }
            prop_assert_eq!(&held, &records);

            let records: Vec<_> = records.into_iter().collect();
            for low in 0..=u8::MAX {
                let v6 = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(low));
                for address in [IpAddr::from([192, 0, 2, low]), v6.into()] {
                    let found = longest_match(&records, address).is_some_and(|found| found.until.lasts(now));
                    prop_assert_eq!(found, is_blocked(&list, address, now), "{} at {}", address, now);
                }
            }
        }
    }
}
