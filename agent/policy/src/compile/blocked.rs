//! Turns the prefixes of a block-list into the content of the kernel's tries.

use std::collections::BTreeMap;

use lyncwall_common::abi::{BlockRecord, Until};

use crate::net::Prefix;

/// The records of a block-list. Every prefix gets the latest end of the prefixes around it: a longest-prefix
/// match finds one entry only, and an expired entry must not hide a longer-lasting one.
#[must_use]
pub fn block_records(list: &BTreeMap<Prefix, Until>) -> BTreeMap<Prefix, BlockRecord> {
    // Sorted, a prefix comes before those inside it: the stack has the prefixes around the next one.
    let mut around: Vec<(Prefix, Until)> = Vec::new();
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
