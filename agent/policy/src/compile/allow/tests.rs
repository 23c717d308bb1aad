use std::net::IpAddr;

use crate::net::Transports;
use lyncwall_common::abi::{AllowKey, NO_POLICY, NetPort, PortTransport};
use lyncwall_common::abi::{SourceV4, SourceV6};
use lyncwall_common::fields::Address as Source;
use lyncwall_common::tables::Rules;
use proptest::prelude::*;
use proptest::sample::{self, select};

use crate::compile::tests::{host, input, listed};
use crate::compile::{CounterBook, GroupInput, compile};
use crate::config::{Allow, AllowWhat, Name, Named};
use crate::judge::HostTables;
use crate::net::{PortRange, Prefix};
use crate::problem::Place;

fn prefix() -> impl Strategy<Value = Prefix> {
    // Nested, side by side, and everything.
    let texts = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.0.0/24",
        "10.1.0.5/32",
        "10.1.1.0/24",
        "192.0.2.0/24",
        "::/0",
        "fd00::/8",
        "fd00:1::/32",
        "fd00:1::5/128",
        "2001:db8::/32",
    ];
    select(texts.to_vec()).prop_map(|text| text.parse().expect("a prefix"))
}

fn address() -> impl Strategy<Value = IpAddr> {
    let texts = [
        "10.1.0.5",
        "10.1.0.6",
        "10.1.1.1",
        "10.2.0.0",
        "192.0.2.255",
        "203.0.113.1",
        "fd00:1::5",
        "fd00:1::6",
        "fd01::",
        "2001:db8::1",
        "::1",
    ];
    select(texts.to_vec()).prop_map(|text| text.parse().expect("an address"))
}

fn rule() -> impl Strategy<Value = Allow> {
    let range =
        (1..=60u16, 0..20u16).prop_map(|(first, more)| PortRange::new(first, first + more).expect("a range"));
    let what = prop_oneof![
        3 => (
            select(vec![Transports::Tcp, Transports::Udp, Transports::Both]),
            prop::collection::vec(range, 1..3)
        )
            .prop_map(|(transport, ports)| AllowWhat::Ports { transport, ports }),
        1 => select(vec![50u8, 89, 112]).prop_map(AllowWhat::Protocol),
    ];
    let target = prop::option::of(select(vec!["host", "a", "b"]));
    let groups = sample::subsequence(vec!["nobody", "one", "nested"], 0..=3);
    (what, prop::collection::btree_set(prefix(), 0..4), groups, target).prop_map(
        |(what, from, groups, target)| Allow {
            name: String::new(),
            what,
            from: from.into_iter().collect(),
            groups: groups.into_iter().map(named).collect(),
            target: target.map(|name| Name::new(name).expect("a name")),
        },
    )
}

pub(crate) fn named(name: &str) -> Named {
    let place = Place { file: "test.toml".into(), line: 1, column: 1, key: String::new() };
    Named { name: name.to_owned(), place }
}

/// Groups of which one is in the other, and one that has no address of those that are looked up.
fn groups() -> Vec<GroupInput> {
    let group = |name: &str, prefixes: &[&str]| GroupInput {
        name: name.to_owned(),
        prefixes: prefixes.iter().map(|text| text.parse().expect("a prefix")).collect(),
        zone: None,
    };
    vec![
        group("one", &["10.1.0.0/16", "203.0.113.1", "2001:db8::1"]),
        group("nobody", &["198.51.100.0/24"]),
        group("nested", &["10.1.0.0/24", "fd00::/8"]),
    ]
}

fn matches(rule: &Allow, key: AllowKey, policy: u32, source: IpAddr) -> bool {
    let what = match (&rule.what, key) {
        (AllowWhat::Protocol(protocol), AllowKey::Protocol(asked)) => *protocol == asked,
        (AllowWhat::Ports { transport, ports }, AllowKey::Port(asked, port)) => {
            let transport = match transport {
                Transports::Tcp => asked == PortTransport::Tcp,
                Transports::Udp => asked == PortTransport::Udp,
                Transports::Both => true,
            };
            transport && ports.iter().any(|range| range.contains(port.number()))
        }
        _ => false,
    };
    let target = match rule.target.as_deref() {
        None => true,
        Some("host") => policy == 0,
        Some("a") => policy == 1,
        Some(_) => policy == 2,
    };
    let groups = groups();
    let named = groups.iter().filter(|group| rule.groups.iter().any(|named| named.name == group.name));
    let mut prefixes = rule.from.iter().chain(named.flat_map(|group| &group.prefixes));
    let anywhere = rule.from.is_empty() && rule.groups.is_empty();
    what && target && (anywhere || prefixes.any(|prefix| prefix.contains(source)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_first_rule_that_matches_counts(
        mut rules in prop::collection::vec(rule(), 1..=64),
        sources in prop::collection::vec(address(), 6),
    ) {
        for (n, rule) in rules.iter_mut().enumerate() {
            rule.name = format!("rule {n}");
        }
        let mut input = input(vec![
            host(vec![]),
            listed("a", &["192.0.2.1"], vec![]),
            listed("b", &["192.0.2.2"], vec![]),
        ]);
        input.allow = rules.clone();
        input.groups = groups();
        let mut counters = CounterBook::default();
        let compiled = compile(&input, &mut counters).expect("up to 80 ports make few classes");
        let tables = HostTables::new(&compiled, 1);
        let ports = (0..=90).flat_map(|port| PortTransport::ALL.map(|t| AllowKey::Port(t, NetPort::new(port))));
        for key in ports.chain([6, 17, 50, 89, 112].map(AllowKey::Protocol)) {
            for policy in [0, 1, 2, NO_POLICY] {
                for source in &sources {
                    let octets = match source {
                        IpAddr::V4(source) => Source::V4(SourceV4::new(0, *source).address),
                        IpAddr::V6(source) => Source::V6(SourceV6::new(0, *source).address),
                    };
                    let found = tables.allow(0, key, policy, 0, octets).map(|counter| counters.label(counter));
                    let first = rules.iter().find(|rule| matches(rule, key, policy, *source));
                    let expected = first.map(super::identity);
                    prop_assert_eq!(found, expected.as_ref().map(Some), "{:?} {} {}", key, policy, source);
                }
            }
        }
    }
}

fn ports(name: &str, ranges: &[&str]) -> Allow {
    Allow {
        name: name.to_owned(),
        what: AllowWhat::Ports {
            transport: Transports::Tcp,
            ports: ranges.iter().map(|text| text.parse().expect("a range")).collect(),
        },
        from: vec![],
        groups: vec![],
        target: None,
    }
}

#[test]
fn more_sets_of_rules_than_classes_are_refused() {
    // Rule n holds the ports with bit n: 2^8 - 1 sets of eight rules fit, one more does not.
    let rule = |bit: u32, ports_upto: u16| {
        let ranges: Vec<String> =
            (1..=ports_upto).filter(|port| port >> bit & 1 == 1).map(|port| port.to_string()).collect();
        ports(&format!("bit {bit}"), &ranges.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut input = input(vec![host(vec![])]);
    input.allow = (0..8).map(|bit| rule(bit, 255)).collect();
    assert!(compile(&input, &mut CounterBook::default()).is_ok());
    input.allow = (0..9).map(|bit| rule(bit, 256)).collect();
    let error = compile(&input, &mut CounterBook::default()).err().expect("256 sets");
    assert!(error.to_string().contains("more than 255 different sets"), "{error}");
}

#[test]
fn too_many_rules_and_unknown_targets_are_refused() {
    let mut input = input(vec![host(vec![])]);
    input.allow = (0..65).map(|n| ports(&n.to_string(), &["80"])).collect();
    let error = compile(&input, &mut CounterBook::default()).err().expect("65 rules");
    assert!(error.to_string().contains("65 [[allow]] rules"), "{error}");
    input.allow = vec![Allow { target: Some(Name::new("nobody").expect("a name")), ..ports("x", &["80"]) }];
    let error = compile(&input, &mut CounterBook::default()).err().expect("no such target");
    assert!(error.to_string().contains("target `nobody`"), "{error}");
}

#[test]
fn a_rule_that_says_something_else_is_another_rule() {
    let rule = ports("x", &["80", "90-91"]);
    let others = [
        ports("y", &["80", "90-91"]),
        ports("x", &["80", "90-92"]),
        Allow { from: vec!["10.0.0.0/8".parse().expect("a prefix")], ..rule.clone() },
        Allow { groups: vec![named("one")], ..rule.clone() },
        Allow { target: Some(Name::new("host").expect("a name")), ..rule.clone() },
        Allow { what: AllowWhat::Protocol(80), ..rule.clone() },
    ];
    assert_eq!(super::identity(&rule), super::identity(&rule.clone()));
    for other in others {
        assert_ne!(super::identity(&rule), super::identity(&other));
    }
}
