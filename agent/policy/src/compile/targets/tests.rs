use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lyncwall_common::abi::{NO_POLICY, Target, TargetTable};
use proptest::prelude::*;

use super::{find_seed, words};
use crate::compile::seed::{TRIES, split_mix};
use crate::compile::tests::input;
use crate::compile::{Input, TargetInput, ZoneInput};
use crate::config::Address;
use crate::net::{OwnAddresses, Prefix};
use crate::problem::Problems;

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

fn v6(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).into()
}

fn listed(name: String, addresses: Vec<IpAddr>) -> TargetInput {
    TargetInput { name, zone: 0, address: Address::List(addresses), inbound: vec![] }
}

/// What the targets come to on a box that has these addresses and does not forward, in one zone.
fn table(targets: &[TargetInput], local: &[IpAddr], problems: &mut Problems) -> Option<Box<TargetTable>> {
    super::table(&Input { local: local.iter().copied().collect(), ..input(targets.to_vec()) }, problems).table
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
    assert!(problems.to_string().contains("of target `a`"), "{problems}");
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
            targets.push(TargetInput { name: "host".into(), zone: 0, address: Address::Host, inbound: vec![] });
        }
        let mut problems = Problems::default();
        let table = table(&targets, &[], &mut problems).expect("up to 200 addresses fit");
        let owners: HashMap<IpAddr, u32> = owners;
        for address in owners.keys().chain(&others) {
            let expected = match owners.get(address) {
                Some(policy) => Target { policy: *policy, host: false, outbound: false },
                None => Target { policy: if host { 15 } else { NO_POLICY }, host: true, outbound: false },
            };
            prop_assert_eq!(table.find(0, words(*address)), expected);
        }
    }
}

#[test]
fn an_address_of_the_box_itself_is_within_reach_of_management() {
    let own: IpAddr = "192.0.2.10".parse().expect("an address");
    let other: IpAddr = "192.0.2.11".parse().expect("an address");
    let target = TargetInput {
        name: "t".to_owned(),
        zone: 0,
        address: Address::List(vec![own, other]),
        inbound: Vec::new(),
    };
    let mut problems = Problems::default();
    let table = table(&[target], &[own], &mut problems).expect("two addresses fit");
    let found = |address| table.find(0, words(address));
    assert_eq!((found(own).policy, found(own).host), (0, true));
    assert_eq!((found(other).policy, found(other).host), (0, false));
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().expect("a prefix")).collect()
}

/// Zone 0 has `host` with a virtual address and a target; zone 1 the target's address in another role; zone 2 limits what
/// goes out.
fn zones(forwards: bool) -> Box<TargetTable> {
    let in_zone =
        |zone, name: &str, address| TargetInput { name: name.into(), zone, address, inbound: vec![] };
    let targets = vec![
        in_zone(0, "box", Address::HostAnd(addresses(&["192.0.2.100"]))),
        in_zone(0, "server", Address::List(addresses(&["10.0.0.5"]))),
        in_zone(1, "again", Address::List(addresses(&["10.0.0.5", "192.0.2.2"]))),
    ];
    let limited = ZoneInput { outbound: Some(vec![]), ..ZoneInput::default() };
    let input = Input {
        zones: vec![ZoneInput::default(), ZoneInput::default(), limited],
        local: OwnAddresses::new(
            addresses(&["127.0.0.1", "::1", "192.0.2.1", "192.0.2.2", "2001:db8::1"]),
            prefixes(&["192.0.2.255/32", "2001:db8::/128", "198.51.100.0/30"]),
        ),
        forwards,
        ..input(targets)
    };
    let mut problems = Problems::default();
    let table = super::table(&input, &mut problems).table;
    assert!(problems.is_empty(), "{problems}");
    table.expect("several zones need a table")
}

fn target(policy: Option<u32>, host: bool) -> Target {
    Target { policy: policy.unwrap_or(NO_POLICY), host, outbound: false }
}

#[test]
fn a_box_that_forwards_is_its_addresses_and_the_virtual_ones() {
    let table = zones(true);
    let find = |zone, text: &str| table.find(zone, words(text.parse().expect("an address")));
    for own in ["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.100"] {
        assert_eq!(find(0, own), target(Some(0), true), "{own}");
    }
    // Broadcasts to its networks, anycast addresses, and whole networks that the kernel delivers to it.
    for own in ["192.0.2.255", "0.0.0.0", "2001:db8::", "198.51.100.0", "198.51.100.3"] {
        assert_eq!(find(0, own), target(Some(0), true), "{own}");
        assert_eq!(find(2, own), target(None, true), "{own} is called by nobody");
    }
    assert_eq!(find(0, "198.51.100.4"), target(None, true));
    assert_eq!(find(0, "10.0.0.5"), target(Some(1), false));
    for other in ["10.0.0.6", "127.0.0.1", "2001:db8::2"] {
        assert_eq!(find(0, other), target(None, true), "{other} may be the box: management reaches it");
    }
    // The box takes what goes to groups and to everybody.
    for many in ["224.0.0.18", "255.255.255.255", "ff02::12"] {
        assert_eq!(find(0, many), target(Some(0), true), "{many}");
    }
    assert_eq!(find(1, "10.0.0.5"), target(Some(2), false));
    assert_eq!(find(1, "192.0.2.2"), target(Some(2), true), "an own address");
    assert_eq!(find(1, "192.0.2.1"), target(None, true));
    assert_eq!(find(1, "224.0.0.18"), target(None, true));
    // What is called behind the box is never the box itself.
    assert_eq!(find(2, "10.0.0.6"), Target { policy: 3, host: true, outbound: true });
    assert_eq!(find(2, "192.0.2.1"), target(None, true));
    assert_eq!(find(15, "10.0.0.5"), target(None, true));
}

#[test]
fn a_box_that_does_not_forward_is_every_other_address() {
    let table = zones(false);
    let find = |zone, text: &str| table.find(zone, words(text.parse().expect("an address")));
    for other in ["192.0.2.1", "10.0.0.6", "2001:db8::2", "224.0.0.18", "192.0.2.100"] {
        assert_eq!(find(0, other), target(Some(0), true), "{other}");
    }
    assert_eq!(find(0, "10.0.0.5"), target(Some(1), false));
    assert_eq!(find(1, "10.0.0.6"), target(None, true));
}

#[test]
fn an_address_is_in_one_target_of_a_zone_and_may_be_in_one_of_each() {
    let mut problems = Problems::default();
    let twice = |zone| {
        let other = TargetInput { zone, ..listed("b".into(), addresses(&["10.0.0.5"])) };
        let targets = vec![listed("a".into(), addresses(&["10.0.0.5"])), other];
        Input { zones: vec![ZoneInput::default(); 2], ..input(targets) }
    };
    assert!(super::table(&twice(1), &mut problems).table.is_some() && problems.is_empty());
    assert!(super::table(&twice(0), &mut problems).table.is_none());
    assert!(problems.to_string().contains("of target `a`"), "{problems}");
}

/// A box with this many addresses of its own, beside the target with `listed` ones. It forwards.
fn crowded(listed: u32, own: OwnAddresses) -> super::Targets {
    let list = TargetInput {
        address: Address::HostAnd((0..listed).map(|n| v4(0x0a00_0000 + n)).collect()),
        ..self::listed("box".into(), vec![])
    };
    let mut problems = Problems::default();
    let targets = super::table(&Input { local: own, forwards: true, ..input(vec![list]) }, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    targets
}

#[test]
fn own_addresses_beyond_the_table_are_left_out_and_the_rest_is_enforced() {
    let own = OwnAddresses::new(
        (0..300).map(|n| v4(0xc000_0200 + n)).collect(),
        prefixes(&["192.0.3.255/32", "2001:db8::/64"]),
    );
    let full = crowded(0, own.clone());
    let table = full.table.expect("a table");
    let is_host = |address| table.find(0, words(address)).policy == 0;
    let (fit, left) = own.addresses().split_at(256);
    assert!(fit.iter().all(|address| is_host(*address)) && !left.iter().any(|address| is_host(*address)));
    let left: Vec<Prefix> = left.iter().map(|address| Prefix::host(*address)).collect();
    let unspecified = prefixes(&["0.0.0.0/32"]);
    assert_eq!(full.left_out, [left, unspecified, own.further().to_vec()].concat());
    // The targets of the file come first, whatever the machine has.
    let full = crowded(256, own);
    assert_eq!(full.left_out.len(), 303);
    let table = full.table.expect("a table");
    assert_eq!(table.find(0, words(v4(0x0a00_00ff))).policy, 0);
}

#[test]
fn a_short_list_fits_beside_one_that_does_not() {
    let own = OwnAddresses::new(
        addresses(&["192.0.2.1"]),
        prefixes(&["192.0.2.255/32", "198.51.100.0/25", "10.0.0.0/8", "2001:db8::/64"]),
    );
    let targets = crowded(1, own);
    assert_eq!(targets.left_out, prefixes(&["10.0.0.0/8", "2001:db8::/64"]));
    let table = targets.table.expect("a table");
    assert_eq!(table.find(0, words(v4(0xc633_647f))).policy, 0, "the last of 198.51.100.0/25");
}

/// A box with listed targets only needs its own addresses to tell them from other hosts.
#[test]
fn hosts_elsewhere_are_known_only_where_all_own_addresses_fit_and_it_is_said() {
    for (count, fit) in [(2, true), (300, false)] {
        let local = OwnAddresses::new((0..count).map(|n| v4(0xc000_0200 + n)).collect(), Vec::new());
        let list = listed("list".into(), addresses(&["203.0.113.1"]));
        let mut problems = Problems::default();
        let targets = super::table(&Input { local, forwards: true, ..input(vec![list]) }, &mut problems);
        assert!(problems.is_empty(), "{problems}");
        assert_eq!(targets.left_out.is_empty(), fit, "{count}");
        let table = targets.table.expect("a table");
        assert_eq!(table.code(0, words(v4(0x0a00_0001))).is_elsewhere(), fit, "{count}");
        assert!(!table.code(0, words(v4(0xc000_0200))).is_elsewhere(), "an own address");
    }
}
