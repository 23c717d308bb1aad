use std::net::{IpAddr, SocketAddr};

use crate::net::Transports;
use lyncwall_common::abi::PortTransport::{self, Tcp, Udp};

use super::{Comparison, Ways};
use crate::compile::tests::{host, input, listed, rule, tcp};
use crate::compile::{CounterBook, Input, InterfaceInput, Rule, TargetInput, ZoneInput};
use crate::config::{Allow, AllowWhat, Management, Mode, Name};
use crate::connection::{Connection, Leg, Listener, Protocol};
use crate::net::PortRange;

/// A box with an address of its own and one that it lends to the target `vip`; it stands in front of `behind`.
fn scene(own: Vec<Rule>, vip: Vec<Rule>, behind: Vec<Rule>) -> Input {
    let mut input = input(vec![
        listed("vip", &["192.0.2.80"], vip),
        listed("behind", &["192.0.2.90"], behind),
        host(own),
    ]);
    input.local =
        ["127.0.0.1", "::1", "192.0.2.2", "2001:db8::2", "192.0.2.80"].map(ip).into_iter().collect();
    input
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn compared(before: Input, after: Input) -> Comparison {
    let ways = Ways { guarded: vec![Leg::default()], open: vec![] };
    Comparison::new(before, after, &CounterBook::default(), ways).expect("policies that fit")
}

fn connection(protocol: Protocol, local: &str, remote: &str) -> Connection {
    let end = |text: &str| -> SocketAddr { text.parse().expect("an end") };
    Connection { protocol, local: end(local), remote: end(remote) }
}

fn listener(transport: PortTransport, address: &str, port: u16) -> Listener {
    Listener { transport, address: ip(address), port, inode: 1, process: None }
}

fn ports(first: u16, last: u16) -> PortRange {
    PortRange::between(first, last)
}

/// Two legs in zones of their own, where the far one is a VLAN.
#[test]
fn a_connection_is_looked_at_by_every_leg() {
    let scene = |near: Vec<Rule>, far: Vec<Rule>| {
        let mut input = input(vec![
            TargetInput { name: "near".to_owned(), ..host(near) },
            TargetInput { name: "far".to_owned(), zone: 1, ..host(far) },
        ]);
        input.zones =
            ["a", "b"].map(|name| ZoneInput { name: name.to_owned(), ..ZoneInput::default() }).into();
        input.interfaces =
            vec![InterfaceInput { ifindex: 3, vlans: vec![(10, 1)], ..InterfaceInput::default() }];
        input.local = [ip("192.0.2.2")].into_iter().collect();
        input
    };
    let legs =
        || Ways { guarded: vec![Leg { ifindex: 3, vlan: 0 }, Leg { ifindex: 3, vlan: 10 }], open: vec![] };
    let compared = |before, after| {
        Comparison::new(before, after, &CounterBook::default(), legs()).expect("policies that fit")
    };
    let connection = [connection(Protocol::Tcp, "192.0.2.2:5061", "198.51.100.1:40000")];
    let cut = |before, after| compared(before, after).shut_out(connection);
    assert_eq!(cut(scene(vec![], vec![tcp(5061)]), scene(vec![], vec![])), connection);
    assert_eq!(cut(scene(vec![tcp(5061)], vec![]), scene(vec![], vec![])), connection);
    assert_eq!(cut(scene(vec![], vec![tcp(5061)]), scene(vec![], vec![tcp(5061)])), []);
    let waits = [listener(Tcp, "0.0.0.0", 5061)];
    let changed = compared(scene(vec![tcp(5061)], vec![tcp(5061)]), scene(vec![tcp(5061)], vec![]));
    assert_eq!(changed.unreached(&waits), [("far", &waits[0])]);
}

#[test]
fn a_connection_is_shut_out_where_its_port_was_open_to_it_and_closes() {
    let before = || scene(vec![tcp(443), tcp(5061), rule(Udp, 3478, 3479)], vec![tcp(5061)], vec![tcp(80)]);
    let after = || scene(vec![tcp(443)], vec![tcp(5061)], vec![]);
    let cut = [
        connection(Protocol::Tcp, "192.0.2.2:5061", "198.51.100.1:40000"),
        connection(Protocol::Tcp, "[2001:db8::2]:5061", "[2001:db8::1]:40000"),
        connection(Protocol::Udp, "192.0.2.2:3479", "198.51.100.1:40000"),
        connection(Protocol::Tcp, "192.0.2.90:80", "198.51.100.1:40000"),
    ];
    let others = [
        connection(Protocol::Tcp, "192.0.2.2:443", "198.51.100.1:40000"),
        connection(Protocol::Tcp, "192.0.2.80:5061", "198.51.100.1:40000"),
        // Closed before, and by another transport.
        connection(Protocol::Tcp, "192.0.2.2:445", "198.51.100.1:40000"),
        connection(Protocol::Udp, "192.0.2.2:5061", "198.51.100.1:40000"),
        connection(Protocol::IcmpEcho, "192.0.2.2:7", "198.51.100.1:7"),
    ];
    let all = || cut.into_iter().chain(others);
    assert_eq!(compared(before(), after()).shut_out(all()), cut);
    assert_eq!(compared(before(), before()).shut_out(all()), []);
    assert_eq!(compared(after(), before()).shut_out(all()), []);
    let audit = |input: Input| Input { mode: Mode::Audit, ..input };
    assert_eq!(compared(before(), audit(after())).shut_out(all()), [], "audit mode drops nothing");
    let enforced = compared(audit(before()), before()).shut_out(all());
    assert_eq!(enforced, [others[2], others[3]], "what was closed all the time");
    let ways = Ways { guarded: vec![], open: vec![Leg::default()] };
    let begun =
        Comparison::new(before(), before(), &CounterBook::default(), ways).expect("policies that fit");
    assert_eq!(begun.shut_out(all()), [others[2], others[3]], "nothing was dropped on that leg");
}

#[test]
fn management_and_allow_rules_keep_connections_and_listeners() {
    let with_more = |own: Vec<Rule>| {
        let mut input = scene(own, vec![], vec![]);
        input.management = Some(Management {
            from: vec!["10.0.0.0/8".parse().expect("a prefix")],
            tcp: vec!["5061".parse().expect("a port")],
            udp: vec![],
        });
        let rule = |name: &str, target: Option<&str>| Allow {
            name: name.to_owned(),
            what: AllowWhat::Ports {
                transport: Transports::Both,
                ports: vec!["5060-5062".parse().expect("ports")],
            },
            from: vec!["203.0.113.0/24".parse().expect("a prefix")],
            groups: Vec::new(),
            target: target.map(|name| Name::new(name).expect("a name")),
        };
        input.allow = vec![rule("peers", Some("host")), rule("others", Some("vip"))];
        input
    };
    let compared = compared(with_more(vec![tcp(5061), rule(Udp, 5061, 5061)]), with_more(vec![]));
    let from = |remote: &str| connection(Protocol::Tcp, "192.0.2.2:5061", remote);
    let all = ["10.1.1.1:4000", "203.0.113.7:4000", "198.51.100.1:4000"].map(from);
    assert_eq!(compared.shut_out(all), [from("198.51.100.1:4000")]);
    let listeners = [listener(Tcp, "0.0.0.0", 5061), listener(Udp, "192.0.2.2", 5061)];
    assert_eq!(compared.unreached(&listeners), [("host", &listeners[0]), ("host", &listeners[1])]);
    assert_eq!(compared.still_reached("host", &listeners[0]), ["management", "allow rule peers"]);
    assert_eq!(compared.still_reached("host", &listeners[1]), ["allow rule peers"]);
}

#[test]
fn a_listener_is_unreached_as_the_targets_of_its_addresses() {
    let compared = compared(
        scene(vec![tcp(443), tcp(80)], vec![tcp(443)], vec![tcp(443)]),
        scene(vec![tcp(80)], vec![], vec![]),
    );
    let reached_as = |listener: Listener| -> Vec<String> {
        let listeners = [listener];
        let mut names: Vec<_> =
            compared.unreached(&listeners).iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(reached_as(listener(Tcp, "0.0.0.0", 443)), ["host", "vip"]);
    assert_eq!(reached_as(listener(Tcp, "::", 443)), ["host", "vip"]);
    assert_eq!(reached_as(listener(Tcp, "192.0.2.80", 443)), ["vip"]);
    assert_eq!(reached_as(listener(Tcp, "2001:db8::2", 443)), ["host"]);
    // Not an address of this box, not closed, not open before.
    assert!(reached_as(listener(Tcp, "192.0.2.90", 443)).is_empty());
    assert!(reached_as(listener(Tcp, "0.0.0.0", 80)).is_empty());
    assert!(reached_as(listener(Udp, "0.0.0.0", 443)).is_empty());
}

#[test]
fn a_port_that_opens_is_unheard_where_nobody_waits_at_it() {
    let compared = compared(
        scene(vec![tcp(443)], vec![], vec![]),
        scene(vec![tcp(443), rule(Tcp, 5061, 5065), rule(Udp, 49_152, 57_500)], vec![tcp(80)], vec![tcp(80)]),
    );
    let unheard = |listeners: &[Listener]| compared.unheard(listeners);
    let host = |first, last| ("host".to_owned(), Tcp, ports(first, last));
    let vip = ("vip".to_owned(), Tcp, ports(80, 80));
    assert_eq!(unheard(&[]), [vip.clone(), host(5061, 5065)], "neither a wide range nor what is elsewhere");
    let some = [listener(Tcp, "192.0.2.2", 5061), listener(Tcp, "::", 5063), listener(Udp, "::", 80)];
    assert_eq!(unheard(&some), [vip, host(5062, 5062), host(5064, 5065)]);
    assert_eq!(unheard(&[listener(Tcp, "0.0.0.0", 80)]), [host(5061, 5065)]);
}
