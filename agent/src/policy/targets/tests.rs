use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lyncwall_common::abi::{NO_POLICY, Target};
use proptest::prelude::*;

use super::{find_seed, table, words};
use crate::config::Address;
use crate::policy::TargetInput;
use crate::policy::seed::{TRIES, split_mix};
use crate::problem::Problems;

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

fn v6(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).into()
}

fn listed(name: String, addresses: Vec<IpAddr>) -> TargetInput {
    TargetInput { name, address: Address::List(addresses), inbound: vec![] }
}

/// Sets that hash functions trip over: runs, strides at every bit, sparse sets, and noise.
fn hard_sets() -> Vec<(String, Vec<IpAddr>)> {
    let mut sets = Vec::new();
    let base = 0x2001_0db8_u128 << 96;
    for shift in 0..=24 {
        sets.push((format!("v4, stride 2^{shift}"), (0..256u32).map(|n| v4(n << shift)).collect()));
    }
    for shift in 0..=88 {
        let set = (0..256u128).map(|n| v6(base | n << shift)).collect();
        sets.push((format!("v6, stride 2^{shift}"), set));
    }
    sets.push(("a whole /24".into(), (0..256).map(|n| v4(0xc633_6400 + n)).collect()));
    sets.push((
        "a /25 and the same in v6".into(),
        (0..128).map(|n| v4(0xc000_0200 + n)).chain((0..128).map(|n| v6(base + n))).collect(),
    ));
    sets.push(("a grid".into(), (0..256u128).map(|n| v6(base | (n >> 4) << 64 | (n & 15))).collect()));
    sets.push((
        "a grid over both words".into(),
        (0..256u128).map(|n| v6(base | (n >> 4) << 70 | (n & 15) << 6)).collect(),
    ));
    let mut state = 42;
    for round in 0..40 {
        let random = (0..256u32).map(|n| match n % 2 {
            0 => v4(split_mix(&mut state) as u32),
            _ => v6(u128::from(split_mix(&mut state)) << 64 | u128::from(split_mix(&mut state))),
        });
        sets.push((format!("noise {round}"), random.collect()));
    }
    sets
}

#[test]
fn a_seed_is_found_for_256_addresses_of_any_kind() {
    for (what, addresses) in hard_sets() {
        let keys: Vec<[u64; 2]> = addresses.into_iter().map(words).collect();
        assert_eq!(keys.len(), 256, "{what}");
        let found = find_seed(&keys);
        let Some((seed, tries)) = found else { panic!("no seed: {what}") };
        assert!(seed.iter().all(|word| word % 2 == 1), "{what}");
        // A hundred times fewer than are allowed.
        assert!(tries < TRIES / 100, "{what}: {tries}");
    }
}

/// Two words that are multiplied by odd numbers and added: the highest bit of either adds the same 2^63, whatever the
/// seed, so a sum alone cannot tell these apart.
#[test]
fn addresses_that_differ_in_the_highest_bit_of_each_word_are_kept_apart() {
    let pair = ["2001:db8:0:80::1", "2001:db8::81"].map(|text| words(text.parse().expect("an address")));
    assert!(find_seed(&pair).is_some(), "no seed for two neighbours");
}

#[test]
fn addresses_of_single_bits_are_kept_apart() {
    let bits = (0..128).flat_map(|n| [words(v6(1 << n)), words(v6(!(1 << n)))]);
    assert!(find_seed(&bits.collect::<Vec<_>>()).is_some());
}

#[test]
fn too_many_addresses_are_refused() {
    let mut problems = Problems::default();
    let set = |count| vec![listed("many".into(), (0..count).map(v4).collect())];
    assert!(table(&set(256), &[], &mut problems).is_some() && problems.is_empty());
    assert!(table(&set(257), &[], &mut problems).is_none());
    assert!(problems.to_string().contains("257 addresses"), "{problems}");
}

#[test]
fn an_address_and_its_mapped_form_are_one() {
    let mut problems = Problems::default();
    let addresses = |text: &str| vec![text.parse().expect("an address")];
    let targets =
        [listed("a".into(), addresses("192.0.2.1")), listed("b".into(), addresses("::ffff:192.0.2.1"))];
    assert!(table(&targets, &[], &mut problems).is_none());
    assert!(problems.to_string().contains("which target `a` has"), "{problems}");
}

fn address() -> impl Strategy<Value = IpAddr> {
    // Few bits differ, so that a look-up meets neighbours of what is in the table.
    prop_oneof![(0..2000u32).prop_map(|n| v4(0xc000_0000 + n * 37)), any::<u128>().prop_map(v6)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_look_up_finds_what_a_map_finds(
        owners in prop::collection::hash_map(address(), 0..15u32, 1..200),
        others in prop::collection::vec(address(), 200),
        host in any::<bool>(),
    ) {
        let mut targets: Vec<TargetInput> = (0..15).map(|n| listed(n.to_string(), vec![])).collect();
        for (address, policy) in &owners {
            let Address::List(list) = &mut targets[*policy as usize].address else { unreachable!("a list") };
            list.push(*address);
        }
        if host {
            targets.push(TargetInput { name: "host".into(), address: Address::Host, inbound: vec![] });
        }
        let mut problems = Problems::default();
        let table = table(&targets, &[], &mut problems).expect("up to 200 addresses fit");
        let owners: HashMap<IpAddr, u32> = owners;
        for address in owners.keys().chain(&others) {
            let expected = match owners.get(address) {
                Some(policy) => Target { policy: *policy, host: false },
                None => Target { policy: if host { 15 } else { NO_POLICY }, host: true },
            };
            prop_assert_eq!(table.find(words(*address)), expected);
        }
    }
}

#[test]
fn an_address_of_the_box_itself_is_within_reach_of_management() {
    let own: IpAddr = "192.0.2.10".parse().expect("an address");
    let other: IpAddr = "192.0.2.11".parse().expect("an address");
    let target =
        TargetInput { name: "t".to_owned(), address: Address::List(vec![own, other]), inbound: Vec::new() };
    let mut problems = Problems::default();
    let table = table(&[target], &[own], &mut problems).expect("two addresses fit");
    let found = |address| table.find(words(address));
    assert_eq!((found(own).policy, found(own).host), (0, true));
    assert_eq!((found(other).policy, found(other).host), (0, false));
}
