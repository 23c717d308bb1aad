//! Management, allow rules, multicast, targets, and DHCP.

use std::net::IpAddr;

use lyncwall_common::reason::{Action, Reason};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ethernet, Packet, Payload, Tcp, Udp, ip, protocol};

use crate::verdicts::fixture::{Expected, Fixture, List, allowed, at_tcp, at_udp, both, by_rule};
use crate::verdicts::world::World;

pub(crate) fn fixtures() -> Vec<Fixture> {
    [
        management(),
        management_of_targets(),
        allow_ports(),
        allow_protocols(),
        multicast(),
        broadcast(),
        targets(),
        unmatched(World::VipDrop),
        unmatched(World::VipPass),
        dhcp(),
        groups(),
    ]
    .concat()
}

pub(crate) fn between(source: &str, destination: &str) -> Packet {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    Pair::frame().with(ip(address(source), address(destination)))
}

pub(crate) const HOST: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
pub(crate) const VIP: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];
pub(crate) const ADMIN: [&str; 2] = ["192.0.2.77", "2001:db8::77"];
pub(crate) const CLIENT: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

fn management() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let admins = [
        ("192.0.2.77", HOST[0]),
        ("10.20.0.0", HOST[0]),
        ("10.20.255.255", HOST[0]),
        ("2001:db8::77", HOST[1]),
        ("2001:db8:20::", HOST[1]),
        ("2001:db8:20:ffff:ffff:ffff:ffff:ffff", HOST[1]),
        // To any destination: with `host` alone, all of them are the box.
        ("192.0.2.77", "203.0.113.200"),
        ("192.0.2.77", "224.0.0.1"),
        ("2001:db8::77", "ff02::1"),
    ];
    for (source, destination) in admins {
        let frame = || between(source, destination);
        for port in [22, 2200, 2201] {
            let packet = frame().with(Tcp::syn(1, port));
            list.add(format!("{source} manages {destination} by {port}"), &packet, Reason::Management);
            let packet = frame().with(Tcp::ack(1, port));
            list.add(format!("{source} goes on managing by {port}"), &packet, Reason::Management);
        }
        let packet = frame().with(Udp::new(1, 161));
        list.add(format!("{source} manages by UDP"), &packet, Reason::Management);
        // The row for flags comes first.
        let packet = frame().with(Tcp { flags: Tcp::SYN | Tcp::RST, ..Tcp::new(1, 22) });
        list.add(format!("{source} with bad flags"), &packet, at_tcp(Reason::TcpFlags, 22));
    }
    for (family, _) in both() {
        let side = usize::from(family == "IPv6");
        let frame = || between(ADMIN[side], HOST[side]);
        for port in [21, 23, 161, 2199, 2202, 5632] {
            let packet = frame().with(Tcp::syn(1, port));
            list.add(format!("an admin to {port} over {family}"), &packet, at_tcp(Reason::Closed, port));
        }
        for port in [22, 160, 162, 2200] {
            let packet = frame().with(Udp::new(1, port));
            list.add(format!("an admin to UDP {port} over {family}"), &packet, at_udp(Reason::Closed, port));
        }
        // Other ports are open to an admin as to all.
        list.add(format!("an admin to 443 over {family}"), &frame().with(Tcp::syn(1, 443)), allowed("https"));
    }
    for (source, destination) in [
        ("192.0.2.76", HOST[0]),
        ("192.0.2.78", HOST[0]),
        ("10.19.255.255", HOST[0]),
        ("10.21.0.0", HOST[0]),
        ("2.0.192.77", HOST[0]),
        ("2001:db8::76", HOST[1]),
        ("2001:db8:1f:ffff::", HOST[1]),
        ("2001:db8:21::", HOST[1]),
        ("::ffff:192.0.2.77", HOST[1]),
        ("::", HOST[1]),
    ] {
        let packet = between(source, destination).with(Tcp::syn(1, 22));
        list.add(format!("{source} is no admin"), &packet, at_tcp(Reason::Closed, 22));
        let packet = between(source, destination).with(Udp::new(1, 161));
        list.add(format!("{source} is no admin by UDP"), &packet, at_udp(Reason::Closed, 161));
    }
    list.fixtures
}

fn management_of_targets() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for world in [World::Targets, World::VipDrop, World::VipPass] {
        let mut list = List::new(world);
        for side in 0..2 {
            let host = between(ADMIN[side], HOST[side]).with(Tcp::syn(1, 22));
            list.add("an admin of the box", &host, Reason::Management);
            let udp = between(ADMIN[side], HOST[side]).with(Udp::new(1, 161));
            list.add("an admin of the box by UDP", &udp, Reason::Management);
            let vip = between(ADMIN[side], VIP[side]).with(Tcp::syn(1, 22));
            list.add("an admin of a virtual address", &vip, at_tcp(Reason::Closed, 22));
            let udp = between(ADMIN[side], VIP[side]).with(Udp::new(1, 161));
            list.add("an admin of a virtual address by UDP", &udp, at_udp(Reason::Closed, 161));
        }
        fixtures.extend(list.fixtures);
    }
    fixtures
}

fn allow_ports() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for side in 0..2 {
        let client = || between(CLIENT[side], HOST[side]);
        let admin = || between(ADMIN[side], HOST[side]);
        let stranger = || between(["203.0.113.9", "2001:db8:9::9"][side], HOST[side]);
        for port in [9100, 9101, 9103] {
            let what = |who| format!("{who} to the exporter at {port}");
            list.add(what("the client"), &client().with(Tcp::syn(1, port)), by_rule("allow/exporter"));
            let closed = at_tcp(Reason::Closed, port);
            list.add(what("another"), &admin().with(Tcp::syn(1, port)), closed);
            list.add(what("another's reply"), &admin().with(Tcp::ack(1, port)), at_tcp(Reason::NoFlow, port));
            let closed = at_udp(Reason::Closed, port);
            list.add(what("the client by UDP"), &client().with(Udp::new(1, port)), closed);
        }
        for port in [9099, 9104] {
            let closed = at_tcp(Reason::Closed, port);
            list.add(format!("the client beside it at {port}"), &client().with(Tcp::syn(1, port)), closed);
        }
        for (who, frame) in [("the client", client()), ("an admin", admin()), ("a stranger", stranger())] {
            let packet = frame.with(Udp::new(1, 514));
            list.add(format!("{who} to syslog"), &packet, by_rule("allow/syslog"));
        }
        // The client is in both rules: the first counts. 2001:db8:5:: and 198.51.100.9 are in the second alone.
        for (who, frame, rule) in [
            ("the client", client(), "allow/both"),
            ("a neighbour", admin(), "allow/both"),
            (
                "one of the second rule",
                between(["198.51.100.9", "2001:db8:5::9"][side], HOST[side]),
                "allow/both-for-one",
            ),
        ] {
            let packet = frame.clone().with(Tcp::syn(1, 7000));
            list.add(format!("{who} to both by TCP"), &packet, by_rule(rule));
            list.add(format!("{who} to both by UDP"), &frame.with(Udp::new(1, 7000)), by_rule(rule));
        }
        let closed = at_tcp(Reason::Closed, 7000);
        list.add("a stranger to both", &stranger().with(Tcp::syn(1, 7000)), closed);
        // A rule comes before the role's port, whatever the flags but for bad ones.
        let packet = stranger().with(Tcp::syn(1, 443));
        list.add("a rule over an open port", &packet, by_rule("allow/over-open"));
        let packet = stranger().with(Tcp::ack(1, 443));
        list.add("a rule over an open port, ACK", &packet, by_rule("allow/over-open"));
        let packet = stranger().with(Tcp::new(1, 443));
        list.add("a rule and no flags", &packet, at_tcp(Reason::TcpFlags, 443));
        list.add("others at that port", &client().with(Tcp::syn(1, 443)), allowed("https"));
    }
    list.fixtures
}

fn allow_protocols() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for side in 0..2 {
        let groups = ["224.0.0.18", "ff02::12"];
        let from = |source: &str, to: &str, number| {
            between(source, to).with(Payload::of_protocol(number, vec![0x21; 20]))
        };
        for (to, name) in [(HOST[side], "the host"), (groups[side], "a group")] {
            let client = |number| from(CLIENT[side], to, number);
            let admin = |number| from(ADMIN[side], to, number);
            let stranger = |number| from(["203.0.113.9", "2001:db8:9::9"][side], to, number);
            list.add(
                format!("VRRP from the client to {name}"),
                &client(protocol::VRRP),
                by_rule("allow/vrrp"),
            );
            list.add(format!("VRRP from another to {name}"), &admin(protocol::VRRP), Reason::Protocol);
            for (number, rule) in [
                (protocol::ESP, "allow/esp"),
                (protocol::AH, "allow/ah"),
                (protocol::OSPF, "allow/ospf"),
                (protocol::SCTP, "allow/sctp"),
                (88, "allow/eigrp"),
            ] {
                for packet in [client(number), admin(number), stranger(number)] {
                    list.add(format!("protocol {number} to {name}"), &packet, by_rule(rule));
                }
            }
            list.add(
                format!("GRE from its source to {name}"),
                &stranger(protocol::GRE),
                by_rule("allow/gre"),
            );
            list.add(format!("GRE from another to {name}"), &client(protocol::GRE), Reason::Protocol);
        }
        let empty = between(CLIENT[side], HOST[side]).with(Payload::of_protocol(protocol::ESP, []));
        list.add("ESP with nothing in it", &empty, by_rule("allow/esp"));
    }
    let mut vips = Vec::new();
    for world in [World::Targets, World::VipDrop, World::VipPass] {
        let mut list = List::new(world);
        for side in 0..2 {
            let to = |to: &str, number| between(CLIENT[side], to).with(Payload::of_protocol(number, [0; 20]));
            let sctp = protocol::SCTP;
            list.add("SCTP to its target", &to(VIP[side], sctp), by_rule("allow/vip-sctp"));
            list.add("SCTP elsewhere", &to(HOST[side], sctp), Reason::Protocol);
            list.add("VRRP to a target", &to(VIP[side], protocol::VRRP), by_rule("allow/any-vrrp"));
            list.add("VRRP elsewhere", &to(HOST[side], protocol::VRRP), by_rule("allow/any-vrrp"));
            // `unmatched` is about ports: other protocols have a row of their own before it.
            list.add("GRE elsewhere", &to(HOST[side], protocol::GRE), Reason::Protocol);
        }
        vips.extend(list.fixtures);
    }
    [list.fixtures, vips].concat()
}

fn multicast() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for world in [World::Host, World::Targets, World::VipDrop, World::VipPass] {
        let mut list = List::new(world);
        let groups = [
            ("192.0.2.1", "224.0.0.0"),
            ("192.0.2.1", "224.0.0.251"),
            ("192.0.2.1", "239.255.255.255"),
            ("2001:db8::1", "ff00::"),
            ("2001:db8::1", "ff02::1"),
            ("2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ];
        for (source, group) in groups {
            let frame = || between(source, group);
            for port in [443, 444, 65_535] {
                // Open ports are for unicast.
                let packet = frame().with(Tcp::syn(1, port));
                list.add(format!("TCP {port} to {group}"), &packet, at_tcp(Reason::Multicast, port));
                let packet = frame().with(Tcp::ack(1, port));
                list.add(format!("ACK {port} to {group}"), &packet, at_tcp(Reason::Multicast, port));
            }
            for (from, port) in [(1, 3478), (53, 1000), (123, 123), (1, 60_001), (1, 1900)] {
                let packet = frame().with(Udp::new(from, port));
                list.add(
                    format!("UDP {from} to {port} of {group}"),
                    &packet,
                    at_udp(Reason::Multicast, port),
                );
            }
        }
        for (source, near) in [("192.0.2.1", "223.255.255.255"), ("192.0.2.1", "240.0.0.0")] {
            let expected = match world {
                World::Host
                | World::Targets
                | World::Dhcp
                | World::Groups
                | World::Blocked
                | World::Limited => at_tcp(Reason::Closed, 444),
                World::VipDrop => at_tcp(Reason::Unmatched, 444),
                World::VipPass => Expected { judged: Action::Pass, ..Reason::Unmatched.into() },
            };
            list.add(format!("{near} is no group"), &between(source, near).with(Tcp::syn(1, 444)), expected);
        }
        fixtures.extend(list.fixtures);
    }
    let mut list = List::new(World::Host);
    for (source, group) in [("192.0.2.1", "224.0.0.251"), ("2001:db8::1", "ff02::fb")] {
        let packet = between(source, group).with(Udp::new(5353, 5353));
        list.add(format!("mDNS to {group}"), &packet, by_rule("allow/mdns"));
        // A frame to a group's MAC with a packet to the box: clusters use such addresses.
        let destination = if source.contains(':') { HOST[1] } else { HOST[0] };
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let frame = Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, [0x03, 0xbf, 192, 0, 2, 2]))
            .with(ip(address(source), address(destination)));
        list.add("a group's MAC, a host's address", &frame.with(Tcp::syn(1, 443)), allowed("https"));
    }
    [fixtures, list.fixtures].concat()
}

fn broadcast() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for world in [World::Host, World::Targets, World::VipDrop, World::VipPass] {
        let mut list = List::new(world);
        let everybody = |source: &str, destination: &str| {
            let address = |text: &str| text.parse::<IpAddr>().expect("an address");
            Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, Ethernet::BROADCAST))
                .with(ip(address(source), address(destination)))
        };
        let frames = [
            ("255.255.255.255", between("0.0.0.0", "255.255.255.255")),
            ("255.255.255.255 in a broadcast", everybody("0.0.0.0", "255.255.255.255")),
            ("a subnet in a broadcast", everybody("192.0.2.1", "192.0.2.255")),
            ("the host in a broadcast", everybody("192.0.2.1", HOST[0])),
            ("a target in a broadcast", everybody("192.0.2.1", VIP[0])),
            ("the host over IPv6 in a broadcast", everybody("2001:db8::1", HOST[1])),
        ];
        for (name, frame) in frames {
            for port in [443, 444] {
                let packet = frame.clone().with(Tcp::syn(1, port));
                list.add(format!("TCP {port} to {name}"), &packet, at_tcp(Reason::Multicast, port));
            }
            // 68: without the mark on the interface, an offer is a broadcast as any other.
            for (source, port) in [(1, 3478), (53, 60_001), (67, 68)] {
                let packet = frame.clone().with(Udp::new(source, port));
                list.add(
                    format!("UDP {source} to {port} of {name}"),
                    &packet,
                    at_udp(Reason::Multicast, port),
                );
            }
            if world == World::Host {
                let packet = frame.with(Udp::new(1, 514));
                list.add(format!("syslog to {name}"), &packet, by_rule("allow/syslog"));
            }
        }
        let nearly = Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, [0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]));
        let frame = nearly.with(ip("192.0.2.1".parse().expect("an address"), Pair::HOST_V4.into()));
        if world == World::Host {
            list.add("nearly a broadcast", &frame.with(Tcp::syn(1, 443)), allowed("https"));
        }
        fixtures.extend(list.fixtures);
    }
    fixtures
}

fn targets() -> Vec<Fixture> {
    let mut list = List::new(World::Targets);
    for side in 0..2 {
        let to = |to: &str| between(CLIENT[side], to);
        let (box_, vip) = (HOST[side], VIP[side]);
        list.add("25 of the target", &to(vip).with(Tcp::syn(1, 25)), allowed("smtp"));
        list.add("2525 of the target", &to(vip).with(Udp::new(1, 2525)), allowed("mail-udp"));
        list.add("443 of the target", &to(vip).with(Tcp::syn(1, 443)), at_tcp(Reason::Closed, 443));
        list.add("3478 of the target", &to(vip).with(Udp::new(1, 3478)), at_udp(Reason::Closed, 3478));
        list.add("443 of the box", &to(box_).with(Tcp::syn(1, 443)), allowed("https"));
        list.add("3478 of the box", &to(box_).with(Udp::new(1, 3478)), allowed("stun"));
        list.add("25 of the box", &to(box_).with(Tcp::syn(1, 25)), at_tcp(Reason::Closed, 25));
        // `host` stands for every other address.
        let other = ["203.0.113.80", "2001:db8:80::80"][side];
        list.add("443 of any other", &to(other).with(Tcp::syn(1, 443)), allowed("https"));
        list.add("25 of any other", &to(other).with(Tcp::syn(1, 25)), at_tcp(Reason::Closed, 25));
        let next = ["198.51.100.11", "2001:db8:100::11"][side];
        list.add("25 of the next address", &to(next).with(Tcp::syn(1, 25)), at_tcp(Reason::Closed, 25));
        list.add("no reply to the target", &to(vip).with(Tcp::ack(443, 9999)), at_tcp(Reason::NoFlow, 9999));
        list.add("9200 of the target", &to(vip).with(Tcp::syn(1, 9200)), by_rule("allow/vip-only"));
        list.add("9200 of the box", &to(box_).with(Tcp::syn(1, 9200)), at_tcp(Reason::Closed, 9200));
        list.add("9100 of the box", &to(box_).with(Tcp::syn(1, 9100)), by_rule("allow/box-only"));
        list.add("9100 of the target", &to(vip).with(Tcp::syn(1, 9100)), at_tcp(Reason::Closed, 9100));
        for to in [to(vip), to(box_), to(other)] {
            list.add("9300 of anybody", &to.with(Tcp::syn(1, 9300)), by_rule("allow/anywhere"));
        }
    }
    // The mapped form of an IPv4 target is that target.
    let mapped = between("2001:db8::1", "::ffff:198.51.100.10");
    list.add("the mapped address of the target", &mapped.with(Tcp::syn(1, 25)), allowed("smtp"));
    list.fixtures
}

/// A virtual address alone: everything else is in no target.
fn unmatched(world: World) -> Vec<Fixture> {
    let unmatched = |expected: Expected| match world {
        World::VipPass => Expected { judged: Action::Pass, port: None, ..expected },
        _ => expected,
    };
    let mut list = List::new(world);
    for side in 0..2 {
        for other in [HOST[side], ["203.0.113.80", "2001:db8:80::80"][side]] {
            let to = || between(CLIENT[side], other);
            for port in [0, 25, 443, 9100, 9200, u16::MAX] {
                let expected = unmatched(at_tcp(Reason::Unmatched, port));
                list.add(format!("TCP {port} of {other}"), &to().with(Tcp::syn(1, port)), expected);
            }
            for port in [0, 2525, 3478, 59_999, 60_101] {
                let expected = unmatched(at_udp(Reason::Unmatched, port));
                list.add(format!("UDP {port} of {other}"), &to().with(Udp::new(1, port)), expected);
            }
            // Bad flags come before the row for destinations, and what belongs to no flow behind it.
            let packet = to().with(Tcp::new(1, 25));
            list.add(format!("no flags to {other}"), &packet, at_tcp(Reason::TcpFlags, 25));
            let expected = unmatched(at_tcp(Reason::Unmatched, 25));
            list.add(format!("an ACK to {other}"), &to().with(Tcp::ack(1, 25)), expected);
            let packet = to().with(Tcp::syn(1, 9300));
            list.add(format!("9300 of {other}"), &packet, by_rule("allow/anywhere"));
        }
        let vip = || between(CLIENT[side], VIP[side]);
        list.add("25 of the target", &vip().with(Tcp::syn(1, 25)), allowed("smtp"));
        list.add("443 of the target", &vip().with(Tcp::syn(1, 443)), at_tcp(Reason::Closed, 443));
        list.add("9200 of the target", &vip().with(Tcp::syn(1, 9200)), by_rule("allow/vip-only"));
        list.add("9300 of the target", &vip().with(Tcp::syn(1, 9300)), by_rule("allow/anywhere"));
    }
    list.fixtures
}

/// Who is in which groups of the world: an address of each family, and the rules of its ports that let it in.
const MEMBERS: [(&str, [&str; 2], &[&str]); 6] = [
    ("of one, in proxies, in servers", ["192.0.2.1", "2001:db8::1"], &["one", "proxies", "servers"]),
    ("of proxies, in servers", ["192.0.2.15", "2001:db8::f"], &["proxies", "servers"]),
    ("of proxies alone", ["198.51.100.7", "2001:db8:7::7"], &["proxies"]),
    ("of servers, beside proxies", ["192.0.2.16", "2001:db8::10"], &["servers"]),
    ("of last", ["203.0.113.9", "2001:db8:9::9"], &["last"]),
    ("of everybody", ["203.0.113.8", "2001:db8:9::8"], &[]),
];

fn groups() -> Vec<Fixture> {
    let mut list = List::new(World::Groups);
    for (who, addresses, groups) in MEMBERS {
        for (source, (host, vip)) in addresses.into_iter().zip(HOST.into_iter().zip(VIP)) {
            let is = |group: &str| groups.contains(&group);
            let to = |port| between(source, host).with(Tcp::syn(1, port));
            let tcp = |is_in: bool, rule: &'static str, port| match is_in {
                true => allowed(rule),
                false => at_tcp(Reason::Source, port),
            };
            list.add(format!("443 from {source}, {who}"), &to(443), allowed("https"));
            // An allow rule comes first, for those whom it names.
            let published = match is("one") {
                true => by_rule("allow/for-one"),
                false => tcp(is("proxies"), "published", 4443),
            };
            list.add(format!("4443 from {source}, {who}"), &to(4443), published);
            let expected = tcp(is("servers"), "between-servers", 444);
            list.add(format!("444 from {source}, {who}"), &to(444), expected);
            for port in [5061, 5062] {
                let expected = tcp(is("proxies") || is("servers"), "both-groups", port);
                list.add(format!("{port} from {source}, {who}"), &to(port), expected);
            }
            list.add(format!("5063 from {source}, {who}"), &to(5063), at_tcp(Reason::Closed, 5063));
            let packet = between(source, host).with(Tcp::ack(1, 444));
            let expected = tcp(is("servers"), "between-servers", 444);
            list.add(format!("an ACK to 444 from {source}, {who}"), &packet, expected);
            let packet = between(source, host).with(Tcp { flags: 0, ..Tcp::new(1, 444) });
            list.add(format!("no flags from {source}, {who}"), &packet, at_tcp(Reason::TcpFlags, 444));

            let packet = between(source, host).with(Udp::new(1, 1434));
            let expected = if is("servers") { allowed("browser") } else { at_udp(Reason::Source, 1434) };
            list.add(format!("UDP 1434 from {source}, {who}"), &packet, expected);
            let packet = between(source, host).with(Udp::new(1, 60_050));
            let expected =
                if is("last") { allowed("grouped-ephemeral") } else { at_udp(Reason::Source, 60_050) };
            list.add(format!("UDP 60050 from {source}, {who}"), &packet, expected);

            let rule = |is_in: bool, rule| if is_in { by_rule(rule) } else { at_tcp(Reason::Closed, 9100) };
            list.add(format!("9100 from {source}, {who}"), &to(9100), rule(is("one"), "allow/for-one"));
            let packet = between(source, host).with(Udp::new(1, 9200));
            let expected =
                if is("last") { by_rule("allow/for-last-and-more") } else { at_udp(Reason::Closed, 9200) };
            list.add(format!("UDP 9200 from {source}, {who}"), &packet, expected);
            let packet = between(source, host).with(Payload::of_protocol(protocol::GRE, [0; 20]));
            let expected =
                if is("servers") { by_rule("allow/gre-of-servers") } else { Reason::Protocol.into() };
            list.add(format!("GRE from {source}, {who}"), &packet, expected);

            // The ports of another target are for anybody.
            let packet = between(source, vip).with(Tcp::syn(1, 25));
            list.add(format!("25 of the target from {source}, {who}"), &packet, allowed("smtp"));
            let packet = between(source, vip).with(Tcp::syn(1, 444));
            list.add(format!("444 of the target from {source}, {who}"), &packet, at_tcp(Reason::Closed, 444));
        }
    }
    for source in ["203.0.113.10", "2001:db8:9::a"] {
        let host = HOST[usize::from(source.contains(':'))];
        let packet = between(source, host).with(Tcp::syn(1, 9200));
        list.add(format!("9200 from {source} itself"), &packet, by_rule("allow/for-last-and-more"));
    }
    list.fixtures
}

fn dhcp() -> Vec<Fixture> {
    let mut marked = List::new(World::Dhcp);
    let mut plain = List::new(World::Host);
    let replies = [
        ("an offer to everybody", between("192.0.2.3", "255.255.255.255"), 67, 68),
        ("an acknowledgement to the host", between("192.0.2.3", HOST[0]), 67, 68),
        ("a DHCPv6 reply", between("fe80::3", "fe80::2"), 547, 546),
    ];
    for (name, frame, source, port) in replies {
        let packet = frame.clone().with(Udp::new(source, port)).with(&[2; 240]);
        marked.add(name, &packet, Reason::Dhcp);
        let reason = if name.ends_with("everybody") { Reason::Multicast } else { Reason::Closed };
        plain.add(format!("{name} without the mark"), &packet, at_udp(reason, port));
        // No document says by which port a server sends (RFC 2131, RFC 8415).
        for from in [source + 1, 1, 40_000] {
            let packet = frame.clone().with(Udp::new(from, port));
            marked.add(format!("{name} from {from}"), &packet, Reason::Dhcp);
        }
        for to in [port + 1, source] {
            let packet = frame.clone().with(Udp::new(source, to));
            marked.add(format!("{name} to {to}"), &packet, at_udp(reason, to));
        }
        let tcp = frame.with(Tcp::syn(source, port));
        marked.add(format!("{name} by TCP"), &tcp, at_tcp(reason, port));
    }
    // Each version of IP has its own ports.
    let six = between("fe80::3", "fe80::2").with(Udp::new(67, 68));
    marked.add("67 to 68 over IPv6", &six, at_udp(Reason::Closed, 68));
    let four = between("192.0.2.3", HOST[0]).with(Udp::new(547, 546));
    marked.add("547 to 546 over IPv4", &four, at_udp(Reason::Closed, 546));
    // A client asks by its link-local address. What it asks of a server's own address has a flow.
    let global = |from: &str| between(from, HOST[1]).with(Udp::new(547, 546));
    marked.add("DHCPv6 to a global address", &global("2001:db8::3"), at_udp(Reason::Closed, 546));
    marked.add("DHCPv6 from the link to it", &global("fe80::3"), at_udp(Reason::Closed, 546));
    marked.send(&between(HOST[1], "2001:db8:5::3").with(Udp::new(546, 547)));
    marked.add("the answer to a question to one server", &global("2001:db8:5::3"), Reason::Established);
    [marked.fixtures, plain.fixtures].concat()
}
