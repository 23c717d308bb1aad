use std::net::IpAddr;

use lyncwall_common::abi::{
    Features, FlowTimes, NO_COUNTER, NO_POLICY, NO_ZONE, NetPort, PortTransport, ZONES,
};
use proptest::prelude::*;

use super::compile;
use crate::compile::{Answers, Input, InterfaceInput, Rule, TargetInput, ZoneInput};
use crate::compile::{Compiled, CounterBook, Identity};
use crate::config::{Address, Management, Mode, OnClosed, Unmatched};
use crate::judge::HostTables;
use crate::net::OwnAddresses;

pub(crate) fn input(targets: Vec<TargetInput>) -> Input {
    Input {
        zones: vec![ZoneInput::default()],
        targets,
        allow: Vec::new(),
        groups: Vec::new(),
        management: None,
        mode: Mode::Enforce,
        modes: vec![],
        interfaces: Vec::new(),
        local: OwnAddresses::default(),
        forwards: false,
        flow_times: FlowTimes { tcp_established: 3600, udp: 60 },
        early_fragments: 7,
        limits: Vec::new(),
        answers: Answers::default(),
    }
}

pub(crate) fn host(inbound: Vec<Rule>) -> TargetInput {
    TargetInput { name: "host".to_owned(), zone: 0, address: Address::Host, inbound }
}

pub(crate) fn listed(name: &str, addresses: &[&str], inbound: Vec<Rule>) -> TargetInput {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
    TargetInput { name: name.to_owned(), zone: 0, address: Address::List(addresses), inbound }
}

pub(crate) fn rule(transport: PortTransport, first: u16, last: u16) -> Rule {
    Rule { transport, first, last, groups: Vec::new(), rows: vec![format!("row-{first}")] }
}

pub(crate) fn tcp(port: u16) -> Rule {
    rule(PortTransport::Tcp, port, port)
}

fn problems(input: &Input) -> String {
    let mut counters = CounterBook::default();
    let text = compile(input, &mut counters).err().expect("a problem").to_string();
    assert_eq!(counters, CounterBook::default(), "a failed compile leaves the counters alone");
    text
}

/// Disjoint rules: the space between sorted cuts, some of it left out.
pub(crate) fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let one = |transport| {
        prop::collection::btree_map(1..=u16::MAX, any::<(bool, bool)>(), 0..40).prop_map(move |cuts| {
            let starts: Vec<(u16, (bool, bool))> = cuts.into_iter().collect();
            let ends = starts.iter().skip(1).map(|(next, _)| next - 1).chain([u16::MAX]);
            starts
                .iter()
                .zip(ends)
                .filter(|((_, (kept, _)), _)| *kept)
                .map(|((first, (_, wide)), last)| rule(transport, *first, if *wide { last } else { *first }))
                .collect::<Vec<_>>()
        })
    };
    (one(PortTransport::Tcp), one(PortTransport::Udp))
        .prop_map(|(tcp, udp)| [tcp, udp].concat())
        .prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_port_belongs_to_the_rule_that_holds_it(first in rules(), second in rules()) {
        let input = input(vec![host(first), listed("vip", &["192.0.2.1"], second)]);
        let mut counters = CounterBook::default();
        let compiled = compile(&input, &mut counters).expect("rules that fit");
        for (target, tables) in input.targets.iter().zip(&compiled.policies) {
            for transport in PortTransport::ALL {
                for port in 0..=u16::MAX {
                    let class = tables[transport as usize].open(NetPort::new(port));
                    let found = class.map(|class| counters.label(class.counter).expect("a known counter"));
                    let holds = |rule: &&Rule| {
                        rule.transport == transport && rule.first <= port && port <= rule.last
                    };
                    let expected = target.inbound.iter().find(holds).map(|rule| rule.identity(&target.name));
                    prop_assert_eq!(found, expected.as_ref(), "{} {:?} {}", &target.name, transport, port);
                }
            }
        }
    }

    #[test]
    fn compiling_again_gives_the_same(rules in rules()) {
        let mut reversed = rules.clone();
        reversed.reverse();
        let mut counters = CounterBook::default();
        let one = compile(&input(vec![host(rules.clone())]), &mut counters).expect("rules that fit");
        let two = compile(&input(vec![host(reversed)]), &mut counters).expect("rules that fit");
        let other = compile(&input(vec![host(rules)]), &mut CounterBook::default()).expect("rules that fit");
        for transport in 0..2 {
            for port in 0..=u16::MAX {
                let at = NetPort::new(port);
                let class = one.policies[0][transport].open(at);
                prop_assert_eq!(class, two.policies[0][transport].open(at));
                prop_assert_eq!(class, other.policies[0][transport].open(at));
            }
        }
    }

    #[test]
    fn a_rule_keeps_its_counter_whatever_comes_and_goes(first in rules(), second in rules()) {
        let mut counters = CounterBook::default();
        let mut compiled = |rules: &[Rule]| {
            let compiled = compile(&input(vec![host(rules.to_vec())]), &mut counters).expect("rules that fit");
            counters.installed();
            compiled
        };
        let before = compiled(&first);
        compiled(&first);
        compiled(&second);
        let after = compiled(&first);
        for rule in &first {
            let at = |compiled: &Compiled| {
                compiled.policies[0][rule.transport as usize].open(NetPort::new(rule.first))
            };
            prop_assert_eq!(at(&before), at(&after));
        }
    }
}

#[test]
fn host_alone_needs_no_target_table() {
    let compiled = compile(&input(vec![host(vec![tcp(443)])]), &mut CounterBook::default()).expect("fits");
    assert!(compiled.targets.is_none() && compiled.allow.is_none());
    assert_eq!(compiled.features, Features::default());
    assert_eq!(compiled.generation.number, 0);
}

#[test]
fn beside_addresses_host_is_the_rest() {
    let targets = vec![listed("vip", &["192.0.2.1"], vec![]), host(vec![])];
    let compiled = compile(&input(targets), &mut CounterBook::default()).expect("fits");
    assert_eq!(compiled.features, Features::TARGETS);
    let elsewhere = |compiled: Compiled| compiled.targets.expect("a table").zones[0].others.target().policy;
    assert_eq!(elsewhere(compiled), 1);
    let compiled = compile(&input(vec![listed("vip", &["192.0.2.1"], vec![])]), &mut CounterBook::default())
        .expect("fits");
    assert_eq!(elsewhere(compiled), NO_POLICY);
}

#[test]
fn modes_are_bits_of_policies_and_of_what_has_no_target() {
    let mode = |rest, targets: &[Mode]| {
        let mut input = three_zones();
        (input.mode, input.modes) = (rest, targets.to_vec());
        let compiled = compile(&input, &mut CounterBook::default()).expect("fits");
        (compiled.features, compiled.generation.audit)
    };
    let (others, _) = mode(Mode::Enforce, &[]);
    let three = three_zones().targets.len();
    assert_eq!(mode(Mode::Audit, &vec![Mode::Audit; three]), (others.with(Features::AUDIT), 0));
    assert_eq!(mode(Mode::Enforce, &[Mode::Enforce, Mode::Audit]), (others.with(Features::MODES), 2));
    // What a zone may call has no target, whatever the number of its policy.
    let outbound = 1 << three | 1 << 31;
    assert_eq!(mode(Mode::Audit, &vec![Mode::Enforce; three]), (others.with(Features::MODES), outbound));
}

#[test]
fn the_policies_that_reject_and_the_interfaces_that_answer_are_in_the_generation() {
    let mut input = input(vec![host(vec![]), listed("vip", &["192.0.2.10"], vec![])]);
    input.interfaces = vec![InterfaceInput { ifindex: 7, members: vec![8, 9], ..InterfaceInput::default() }];
    let compiled = |input: &Input| compile(input, &mut CounterBook::default()).expect("a generation");
    let before = compiled(&input).generation;
    assert_eq!((before.answers, before.ethernet(7)), (0, [0; 3]));
    input.answers = Answers {
        targets: vec![OnClosed::Drop, OnClosed::Reject],
        interfaces: vec![(7, [2, 0, 0, 0, 0, 7]), (8, [2, 0, 0, 0, 0, 8]), (10, [2, 0, 0, 0, 0, 10])],
    };
    let generation = compiled(&input).generation;
    let answers = [0, 1, 2, NO_POLICY].map(|policy| generation.answers(policy));
    assert_eq!(answers, [false, true, false, false]);
    let units = |last| [0x0200u16.to_be(), 0, u16::from_be_bytes([0, last]).to_be()];
    // A member without a known address answers nothing, nor does an interface that is not guarded.
    let found = [7, 8, 9, 10].map(|number| generation.ethernet(number));
    assert_eq!(found, [units(7), units(8), [0; 3], [0; 3]]);
}

#[test]
fn mode_unmatched_interfaces_and_ports_are_carried_over() {
    let mut input = input(vec![host(vec![])]);
    input.mode = Mode::Audit;
    input.zones[0].unmatched = Unmatched::Pass;
    input.interfaces = vec![
        InterfaceInput { ifindex: 3, dhcp_client: true, ..InterfaceInput::default() },
        InterfaceInput { ifindex: 4, dhcp_client: false, ..InterfaceInput::default() },
    ];
    let compiled = compile(&input, &mut CounterBook::default()).expect("fits");
    assert_eq!(compiled.features, Features::AUDIT);
    let generation = compiled.generation;
    assert_eq!(generation.flow_times, FlowTimes { tcp_established: 3600, udp: 60 });
    assert_eq!(generation.early_fragments, 7);
    assert!(generation.passes_unmatched(0));
    assert_eq!([3, 4, 5].map(|ifindex| generation.is_dhcp_client(ifindex)), [true, false, false]);
}

#[test]
fn management_ports_hold_the_last_port_of_a_range() {
    let mut input = input(vec![host(vec![])]);
    input.management = Some(Management {
        from: vec!["10.0.0.0/8".parse().expect("a prefix")],
        tcp: vec!["22".parse().expect("a port"), "65000-65535".parse().expect("a range")],
        udp: vec!["161-162".parse().expect("a range")],
    });
    let compiled = compile(&input, &mut CounterBook::default()).expect("fits");
    let open = |transport: PortTransport| -> Vec<u16> {
        (0..=u16::MAX)
            .filter(|port| {
                let (byte, mask) = lyncwall_common::abi::PortSet::cell(NetPort::new(*port));
                compiled.management.ports[transport as usize].0[byte] & mask != 0
            })
            .collect()
    };
    assert_eq!(open(PortTransport::Tcp), std::iter::once(22).chain(65_000..=65_535).collect::<Vec<_>>());
    assert_eq!(open(PortTransport::Udp), [161, 162]);
    assert_eq!(compiled.management.sources.len(), 1);
}

#[test]
fn as_many_rules_as_there_are_classes_fit() {
    let rules = |count: u16| (1..=count).map(|n| tcp(n * 2)).collect::<Vec<_>>();
    let compiled = compile(&input(vec![host(rules(255))]), &mut CounterBook::default()).expect("255 rules");
    let counters: std::collections::BTreeSet<u32> =
        compiled.policies[0][0].classes.iter().map(|class| class.counter).collect();
    assert_eq!(counters.len(), 256, "255 counters and none");
    assert!(counters.contains(&NO_COUNTER));
    let text = problems(&input(vec![host(rules(256))]));
    assert!(text.contains("target `host` has 256 tcp rules: at most 255 fit"), "{text}");
}

#[test]
fn all_that_does_not_fit_is_said_at_once() {
    let mut input = input(vec![
        host(vec![rule(PortTransport::Udp, 10, 20), rule(PortTransport::Udp, 20, 30)]),
        listed("vip", &["192.0.2.1", "2001:db8::1"], vec![rule(PortTransport::Tcp, 9, 8)]),
        listed("vip", &["192.0.2.1"], vec![]),
        TargetInput { address: Address::Host, ..listed("second", &[], vec![]) },
    ]);
    input.interfaces =
        vec![InterfaceInput { ifindex: 1, dhcp_client: false, ..InterfaceInput::default() }; 33];
    let text = problems(&input);
    for part in [
        "two targets are named `vip`",
        "target `host` has two rules for udp port 20",
        "target `vip` has a tcp rule from port 9 to 8 (row-9)",
        "address 192.0.2.1 of target `vip`",
        "target `second` is a second target with address = \"host\"",
        "33 interfaces: at most 32 fit",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(problems(&Input { targets: vec![], ..input.clone() }).contains("no target"));
    let many = (0..17).map(|n| TargetInput { name: format!("t{n}"), ..listed("", &[], vec![]) }).collect();
    assert!(
        problems(&Input { targets: many, ..input }).contains("17 targets, including zones with outbound")
    );
}

#[test]
fn a_full_book_of_counters_refuses_no_policy() {
    let names = |n: u32| Identity::Allow { name: format!("used {n}"), definition: 0 };
    let mut counters = CounterBook::default();
    for half in 0..2 {
        let used: Vec<Identity> = (half * 8192..(half + 1) * 8192).map(names).collect();
        counters.allocate(&used).expect("room");
        counters.installed();
    }
    let compiled = compile(&input(vec![host(vec![tcp(443)])]), &mut counters).expect("a policy");
    let counter = compiled.policies[0][PortTransport::Tcp as usize].classes[1].counter;
    assert_eq!((counter, counters.must_zero()), (0, vec![0]), "that of a rule which no longer judges");
}

proptest! {
    #[test]
    fn every_interface_has_a_bucket_of_its_own(numbers in prop::collection::hash_set(1..=u32::MAX, 1..=32)) {
        let mut input = input(vec![host(vec![])]);
        input.interfaces =
            numbers.iter().map(|&ifindex| InterfaceInput { ifindex, dhcp_client: ifindex % 2 == 0, ..InterfaceInput::default() }).collect();
        let compiled = compile(&input, &mut CounterBook::default());
        let generation = compiled.map(|compiled| compiled.generation).expect("fits");
        for &ifindex in &numbers {
            prop_assert_eq!(generation.is_dhcp_client(ifindex), ifindex % 2 == 0);
        }
    }
}

/// Three zones: the first with `host` and a target, the second with the same address in another role, the third limited
/// to what may be called.
fn three_zones() -> Input {
    let zone = |name: &str| ZoneInput { name: name.to_owned(), ..ZoneInput::default() };
    let mut input = input(vec![
        host(vec![tcp(443)]),
        listed("vip", &["192.0.2.10"], vec![tcp(5061)]),
        TargetInput { zone: 1, ..listed("same", &["192.0.2.10"], vec![tcp(25)]) },
    ]);
    input.zones = vec![
        zone("outside"),
        ZoneInput { unmatched: Unmatched::Pass, ..zone("middle") },
        ZoneInput { outbound: Some(vec![tcp(5081)]), ..zone("inside") },
    ];
    input.interfaces = vec![
        InterfaceInput { ifindex: 7, members: vec![8, 9], ..InterfaceInput::default() },
        InterfaceInput { ifindex: 10, zone: 1, vlans: vec![(20, 2), (4094, 0)], ..InterfaceInput::default() },
        // A member with a table of its own.
        InterfaceInput { ifindex: 9, zone: 2, ..InterfaceInput::default() },
    ];
    input
}

#[test]
fn each_interface_and_vlan_has_its_zone_and_members_that_of_their_bond() {
    let compiled = compile(&three_zones(), &mut CounterBook::default()).expect("fits");
    assert!(compiled.features.has(Features::ZONES));
    let zone = |ifindex, vlan| HostTables::new(&compiled, ifindex).zone_of(vlan).unwrap_or(NO_ZONE);
    assert_eq!([zone(7, 0), zone(7, 20), zone(8, 0), zone(9, 0)], [0, 0, 0, 2]);
    assert_eq!([zone(10, 0), zone(10, 20), zone(10, 21), zone(10, 4094)], [1, 2, 1, 0]);
    assert_eq!([zone(11, 0), zone(1, 20)], [NO_ZONE; 2]);
    let passes: Vec<u32> = (0..16).filter(|zone| compiled.generation.passes_unmatched(*zone)).collect();
    assert_eq!(passes, [1]);
    assert_eq!(compiled.policies.len(), 4, "three targets, and what may be called");
}

/// A machine may have any number of them, and the user did not ask for one.
#[test]
fn members_of_bonds_beyond_the_table_are_left_out() {
    let mut input = three_zones();
    input.interfaces[0].members = (100..300).collect();
    let compiled = compile(&input, &mut CounterBook::default()).expect("fits");
    let left: Vec<u32> = (225..300).collect();
    assert_eq!(compiled.left_out.members, left, "128 less the three interfaces");
    let zone = |ifindex| HostTables::new(&compiled, ifindex).zone_of(0).unwrap_or(NO_ZONE);
    assert_eq!([zone(7), zone(10), zone(9)], [0, 1, 2]);
    assert_eq!([zone(100), zone(224), zone(225)], [0, 0, NO_ZONE]);
}

#[test]
fn one_zone_is_no_feature() {
    let compiled = compile(&input(vec![host(vec![])]), &mut CounterBook::default()).expect("fits");
    assert_eq!(compiled.features, Features::default());
    assert!(compiled.vlans.is_empty());
}

#[test]
fn more_zones_than_there_is_room_for_are_refused() {
    let mut input = input(vec![host(vec![])]);
    input.zones = vec![ZoneInput::default(); ZONES + 1];
    assert!(problems(&input).contains("9 zones: 1 to 8 fit"));
    input.zones.truncate(1);
    input.targets[0].zone = 3;
    assert!(problems(&input).contains("is in the unknown zone 3"));
}
