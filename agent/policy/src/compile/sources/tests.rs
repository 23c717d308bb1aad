use std::net::{IpAddr, Ipv4Addr};

use lyncwall_common::abi::{Features, NetPort, PortTransport, SourceRecord, SourceV4, SourceV6};
use lyncwall_common::fields::Address;
use lyncwall_common::tables::Rules;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::of_zones;
use crate::compile::allow::tests::named;
use crate::compile::tests::{host, input, tcp};
use crate::compile::{CounterBook, GroupInput, Input, Rule, compile};
use crate::config::{Allow, AllowWhat};
use crate::judge::HostTables;
use crate::net::Prefix;

const PREFIXES: [&str; 9] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.0.5/32",
    "192.0.2.0/24",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::5/128",
];

const ADDRESSES: [&str; 8] = [
    "10.1.0.5",
    "10.1.0.6",
    "10.2.0.1",
    "192.0.2.1",
    "203.0.113.1",
    "2001:db8:1::5",
    "2001:db8:2::",
    "fd00::1",
];

fn group(name: &str, prefixes: Vec<Prefix>) -> GroupInput {
    GroupInput { name: name.to_owned(), prefixes, zone: None }
}

fn source(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::V4(SourceV4::new(0, address).address),
        IpAddr::V6(address) => Address::V6(SourceV6::new(0, address).address),
    }
}

fn only_for(groups: &[&str], rule: Rule) -> Rule {
    Rule { groups: groups.iter().map(ToString::to_string).collect(), ..rule }
}

#[test]
fn everybody_behind_a_zone_is_in_its_groups_and_under_their_rules() {
    let rule = |groups: &[&str]| Allow {
        name: "r".to_owned(),
        what: AllowWhat::Protocol(112),
        from: Vec::new(),
        groups: groups.iter().map(|name| named(name)).collect(),
        target: None,
    };
    let groups = [group("a", vec![]), GroupInput { zone: Some(3), ..group("b", vec![]) }];
    let records = of_zones(&groups, &[rule(&["a"]), rule(&["a", "b"])]);
    let found: Vec<_> = (0..).zip(records).filter(|(_, record)| *record != SourceRecord::default()).collect();
    assert_eq!(found, [(3, SourceRecord { rules: 2, groups: 2, reserved: 0 })]);
}

proptest! {
    #[test]
    fn a_source_is_in_the_groups_that_have_a_prefix_around_it(
        lists in prop::collection::vec(subsequence(PREFIXES.to_vec(), 0..=9), 1..=32),
    ) {
        let parse = |text: &&str| text.parse::<Prefix>().expect("a prefix");
        let groups: Vec<GroupInput> = (0..)
            .zip(&lists)
            .map(|(n, list)| group(&format!("g{n}"), list.iter().map(parse).collect()))
            .collect();
        let mut input = input(vec![host(vec![])]);
        input.groups = groups.clone();
        let compiled = compile(&input, &mut CounterBook::default()).expect("it fits");
        let tables = HostTables::new(&compiled, 1);
        for address in ADDRESSES {
            let address: IpAddr = address.parse().expect("an address");
            let found = tables.groups(0, 0, source(address));
            for (n, group) in groups.iter().enumerate() {
                let inside = group.prefixes.iter().any(|prefix| prefix.contains(address));
                prop_assert_eq!(found >> n & 1 == 1, inside, "{} in {:?}", address, group);
            }
            prop_assert_eq!(u64::from(found) >> groups.len(), 0);
        }
    }
}

#[test]
fn an_open_port_has_the_bits_of_its_groups() {
    let prefix = || vec!["192.0.2.0/24".parse().expect("a prefix")];
    let mut input =
        input(vec![host(vec![tcp(80), only_for(&["c", "a"], tcp(443)), only_for(&["b"], tcp(444))])]);
    input.groups = vec![group("a", prefix()), group("b", prefix()), group("c", prefix())];
    let compiled = compile(&input, &mut CounterBook::default()).expect("it fits");
    assert_eq!(compiled.features, Features::GROUPS);
    let groups = |port| {
        let table = &compiled.policies[0][PortTransport::Tcp as usize];
        table.open(NetPort::new(port)).expect("an open port").groups
    };
    assert_eq!([80, 443, 444].map(groups), [0, 0b101, 0b010]);
    input.targets[0].inbound.truncate(1);
    let compiled = compile(&input, &mut CounterBook::default()).expect("it fits");
    assert_eq!(compiled.features, Features::default(), "no port is for a group");
}

fn refused(input: &Input) -> String {
    compile(input, &mut CounterBook::default()).err().expect("a problem").to_string()
}

#[test]
fn what_has_no_prefixes_or_no_room_is_refused() {
    let mut input = input(vec![host(vec![only_for(&["a", "b"], tcp(443))])]);
    input.groups = vec![group("a", vec!["192.0.2.0/24".parse().expect("a prefix")])];
    assert!(
        refused(&input).contains("the groups a, b, not all of which have prefixes"),
        "{}",
        refused(&input)
    );
    input.targets[0].inbound.clear();
    input.groups = (0..33).map(|n| group(&format!("g{n}"), vec![])).collect();
    assert!(refused(&input).contains("33 groups"), "{}", refused(&input));
    let many = |count| {
        vec![group("many", (0..count).map(|n| Prefix::host(Ipv4Addr::from_bits(n).into())).collect())]
    };
    input.groups = many(131_073);
    assert!(refused(&input).contains("131073 IPv4 prefixes: at most 131072 fit"), "{}", refused(&input));
    input.groups = many(131_072);
    compile(&input, &mut CounterBook::default()).expect("it fits");
}
