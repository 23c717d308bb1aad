//! The block-list: what is dropped for it, and what is not.

use std::thread;
use std::time::{Duration, Instant};

use lyncwall_common::reason::{Action, Reason};
use lyncwall_policy::config::Mode;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Extension, Icmp4, Icmp6, Igmp, Ipv6, Packet, Payload, Tcp, Udp, protocol};
use lyncwall_tests::prerequisites::require_root;

use crate::verdicts::firewall::{Entry, Firewall};
use crate::verdicts::fixture::{Fixture, List, allowed, at_tcp, at_udp, by_rule};
use crate::verdicts::kernel::directory;
use crate::verdicts::policy::{ADMIN, CLIENT, HOST, between};
use crate::verdicts::world::{Policy, World};

/// In prefixes of [`World::blocked`], and beside them.
const BAD: [&str; 2] = ["203.0.113.9", "2001:db8:b::9"];
const GOOD: [&str; 2] = ["203.0.114.9", "2001:db8:c::9"];

pub(crate) fn fixtures() -> Vec<Fixture> {
    [ports(), replies(), icmp(), other_protocols(), fragments(), edges()].concat()
}

fn ports() -> Vec<Fixture> {
    let mut list = List::new(World::Blocked);
    for side in 0..2 {
        let bad = || between(BAD[side], HOST[side]);
        let what = |text: &str| format!("{text}: {}", BAD[side]);
        for port in [443, 5061, 444, 22, 9100, 7000] {
            list.add(what("TCP"), &bad().with(Tcp::syn(1, port)), at_tcp(Reason::Blocked, port));
            list.add(what("goes on"), &bad().with(Tcp::ack(1, port)), at_tcp(Reason::Blocked, port));
        }
        for port in [3478, 514, 53, 161] {
            list.add(what("UDP"), &bad().with(Udp::new(1, port)), at_udp(Reason::Blocked, port));
        }
        let flags = Tcp { flags: Tcp::SYN | Tcp::FIN, ..Tcp::new(1, 443) };
        list.add(what("bad flags come first"), &bad().with(flags), at_tcp(Reason::TcpFlags, 443));
        let many = between(BAD[side], ["224.0.0.251", "ff02::fb"][side]).with(Udp::new(5353, 5353));
        list.add(what("to many"), &many, at_udp(Reason::Blocked, 5353));

        let good = || between(GOOD[side], HOST[side]);
        list.add("a neighbour of the prefix", &good().with(Tcp::syn(1, 443)), allowed("https"));
        list.add("a neighbour of the prefix", &good().with(Udp::new(1, 514)), by_rule("allow/syslog"));

        // Management is on the list as well, and wins.
        let admin = || between(ADMIN[side], HOST[side]);
        list.add("a blocked admin", &admin().with(Tcp::syn(1, 22)), Reason::Management);
        list.add("a blocked admin goes on", &admin().with(Tcp::ack(1, 2201)), Reason::Management);
        list.add("a blocked admin by UDP", &admin().with(Udp::new(1, 161)), Reason::Management);
        list.add("a blocked admin to a role", &admin().with(Tcp::syn(1, 443)), at_tcp(Reason::Blocked, 443));
        list.add("a blocked admin to a rule", &admin().with(Udp::new(1, 514)), at_udp(Reason::Blocked, 514));
    }
    list.fixtures
}

fn replies() -> Vec<Fixture> {
    let mut list = List::new(World::Blocked);
    for side in 0..2 {
        for (remote, blocked) in [(BAD[side], true), (GOOD[side], false)] {
            let out = between(HOST[side], remote);
            let back = || between(remote, HOST[side]);
            list.send(&out.clone().with(Tcp::syn(40_000, 443)));
            let reply = back().with(Tcp { flags: Tcp::SYN | Tcp::ACK, ..Tcp::new(443, 40_000) });
            let dropped = at_tcp(Reason::Blocked, 40_000);
            let expected = if blocked { dropped } else { Reason::Established.into() };
            list.add(format!("a reply of {remote}"), &reply, expected);
            list.send(&out.with(Udp::new(40_000, 53)));
            let expected = if blocked { at_udp(Reason::Blocked, 40_000) } else { Reason::Established.into() };
            list.add(format!("an answer of {remote}"), &back().with(Udp::new(53, 40_000)), expected);
        }
    }
    list.fixtures
}

fn icmp() -> Vec<Fixture> {
    let mut list = List::new(World::Blocked);
    let v4 = || between(BAD[0], HOST[0]);
    for kind in [0, 3, 5, 8, 11, 12, 13] {
        list.add(format!("ICMP {kind}"), &v4().with(Icmp4::new(kind, 0)).with(&[0; 20]), Reason::Blocked);
    }
    list.send(&between(HOST[0], BAD[0]).with(Icmp4::echo_request(77, 1)));
    list.add("an echo reply", &v4().with(Icmp4::echo_reply(77, 1)), Reason::Blocked);
    list.add("a good echo", &between(GOOD[0], HOST[0]).with(Icmp4::echo_request(1, 1)), Reason::IcmpEcho);
    let admin = between(ADMIN[0], HOST[0]).with(Icmp4::echo_request(1, 1));
    list.add("the echo of a blocked admin", &admin, Reason::Blocked);

    let [host, bad] = [HOST[1], BAD[1]].map(|text| text.parse::<std::net::Ipv6Addr>().expect("an address"));
    let v6 = |hop_limit| Pair::frame().with(Ipv6 { hop_limit, ..Ipv6::new(bad, host) });
    for kind in [1, 2, 3, 4, 128, 129, 130, 143, 200] {
        let packet = v6(255).with(Icmp6::new(kind, 0)).with(&[0; 20]);
        list.add(format!("ICMPv6 {kind}"), &packet, Reason::Blocked);
    }
    for kind in 133..=136 {
        let from_the_link = v6(255).with(Icmp6::new(kind, 0)).with(&[0; 20]);
        list.add(format!("ND {kind}"), &from_the_link, Reason::Neighbour);
        let from_afar = v6(254).with(Icmp6::new(kind, 0)).with(&[0; 20]);
        list.add(format!("ND {kind} from afar"), &from_afar, Reason::Blocked);
    }
    list.fixtures
}

fn other_protocols() -> Vec<Fixture> {
    let mut list = List::new(World::Blocked);
    for side in 0..2 {
        for number in [protocol::ESP, protocol::SCTP, 99] {
            let packet = between(BAD[side], HOST[side]).with(Payload::of_protocol(number, [0; 20]));
            list.add(format!("protocol {number} from {}", BAD[side]), &packet, Reason::Blocked);
        }
        let packet = between(GOOD[side], HOST[side]).with(Payload::of_protocol(protocol::ESP, [0; 20]));
        list.add("ESP of a neighbour", &packet, by_rule("allow/esp"));
    }
    let igmp = between(BAD[0], "224.0.0.22").with(Igmp::new(0x22, [224, 0, 0, 22]));
    list.add("IGMP", &igmp, Reason::Blocked);
    list.fixtures
}

fn fragments() -> Vec<Fixture> {
    let mut list = List::untagged(World::Blocked);
    for side in 0..2 {
        let parts = |source: &str, port, id| {
            let parts = between(source, HOST[side]).with(Udp::new(1, port)).with(&[0; 100]).fragments(48, id);
            [parts[0].clone(), parts[1].clone()]
        };
        let [first, later] = parts(BAD[side], 3478, 1);
        list.add("a first fragment", &first, at_udp(Reason::Blocked, 3478));
        list.add("a later one", &later, Reason::Blocked);
        let [_, later] = parts(BAD[side], 3478, 2);
        list.add("a later one without a first", &later, Reason::Blocked);
        let [first, later] = parts(ADMIN[side], 161, 3);
        list.add("a first fragment of management", &first, Reason::Management);
        list.add("the rest of it", &later, Reason::Fragment);
        let [_, later] = parts(ADMIN[side], 161, 4);
        list.add("the rest without the first", &later, Reason::Blocked);
        let [first, later] = parts(GOOD[side], 3478, 5);
        list.add("a first fragment of a neighbour", &first, allowed("stun"));
        list.add("the rest of it", &later, Reason::Fragment);
    }
    list.fixtures
}

/// The first and the last address of a prefix; and headers between IP and transport.
fn edges() -> Vec<Fixture> {
    let mut list = List::new(World::Blocked);
    let inside = ["203.0.113.0", "203.0.113.255", "2001:db8:b::", "2001:db8:b:ffff:ffff:ffff:ffff:ffff"];
    let outside = ["203.0.112.255", "203.0.114.0", "2001:db8:a:ffff:ffff:ffff:ffff:ffff", "2001:db8:c::"];
    let host = |source: &str| HOST[usize::from(source.contains(':'))];
    for source in inside {
        let packet = between(source, host(source)).with(Tcp::syn(1, 443));
        list.add(source, &packet, at_tcp(Reason::Blocked, 443));
    }
    for source in outside {
        list.add(source, &between(source, host(source)).with(Tcp::syn(1, 443)), allowed("https"));
    }
    let options = between(BAD[1], HOST[1]).with(Extension::destination_options(&[])).with(Tcp::syn(1, 443));
    list.add("behind options", &options, at_tcp(Reason::Blocked, 443));
    list.fixtures
}

#[test]
fn what_is_blocked_gets_nothing_in_but_management() {
    crate::verdicts::check::check(&fixtures());
}

#[test]
fn the_program_keeps_to_the_ends_and_the_longest_prefix_hides_none() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    for entry in Entry::judging() {
        let policy = Policy::of(World::Host, Mode::Enforce);
        let mut firewall = Firewall::new(directory(&bpffs, entry), entry, &policy.compiled);
        for side in 0..2 {
            let frame = between(CLIENT[side], HOST[side]).with(Tcp::syn(1, 443)).build();
            let [wide, narrow] = [["192.0.2.0/24", "192.0.2.1"], ["2001:db8::/64", "2001:db8::1"]][side]
                .map(|text| text.parse().expect("a prefix"));
            let brief = Duration::from_millis(300);
            let end_of = |firewall: &Firewall| {
                let start = Instant::now();
                while firewall.judge(&frame) == Action::Drop {
                    assert!(start.elapsed() < PATIENT, "it does not end");
                    thread::sleep(Duration::from_millis(2));
                }
            };
            assert_eq!(firewall.judge(&frame), Action::Pass);
            // Nobody does anything, and the time comes.
            let start = Instant::now();
            firewall.datapath.block(&[(narrow, Some(brief))]).expect("a list");
            end_of(&firewall);
            let after = start.elapsed();
            assert!(after >= brief - Duration::from_millis(20), "after {after:?}");
            assert_eq!(firewall.datapath.blocked().expect("a list"), []);

            // An inner prefix ends first.
            firewall.datapath.block(&[(wide, None), (narrow, Some(brief))]).expect("a list");
            thread::sleep(brief * 2);
            assert_eq!(firewall.judge(&frame), Action::Drop);
            assert_eq!(firewall.datapath.blocked().expect("a list"), [(wide, None)]);
            // An outer one goes, and then the inner one.
            firewall.datapath.block(&[(narrow, None)]).expect("a list");
            firewall.datapath.unblock(&[wide]).expect("a list");
            assert_eq!(firewall.judge(&frame), Action::Drop);
            firewall.datapath.unblock(&[narrow]).expect("a list");
            assert_eq!(firewall.judge(&frame), Action::Pass);
            // Outside in: the outer one comes later, and ends first.
            firewall.datapath.block(&[(narrow, None)]).expect("a list");
            firewall.datapath.block(&[(wide, Some(brief))]).expect("a list");
            thread::sleep(brief * 2);
            assert_eq!(firewall.judge(&frame), Action::Drop);
            // The longer of the two counts, until it is taken off.
            firewall.datapath.block(&[(wide, None), (narrow, Some(brief))]).expect("a list");
            firewall.datapath.unblock(&[wide]).expect("a list");
            end_of(&firewall);
            // A switch leaves the list as it is.
            firewall.datapath.block(&[(narrow, None)]).expect("a list");
            firewall.install(&Policy::of(World::Host, Mode::Audit).compiled);
            assert_eq!(firewall.judge(&frame), Action::Drop, "in audit mode as well");
            // Rows that stand above the block-list's let nobody on it pass either.
            let source = || between(CLIENT[side], HOST[side]);
            let null = source().with(Tcp { flags: 0, ..Tcp::new(40_000, 443) });
            let empty = source().with(Udp { length: Some(0), ..Udp::new(4000, 161) });
            let tagged = |count| in_priority_tags(count, &source().with(Tcp::syn(1, 444)));
            let dropped = [
                (null.build(), Reason::Blocked),
                (empty.build(), Reason::Blocked),
                // Linux takes all of these tags away.
                (tagged(3), Reason::Blocked),
                (tagged(8), Reason::Blocked),
                // So many hide the source, which may be any.
                (tagged(9), Reason::VlanDepth),
            ];
            for (frame, reason) in dropped {
                let before = firewall.counts();
                assert_eq!(firewall.judge(&frame), Action::Drop, "in audit mode as well: {reason}");
                let counted = firewall.counts().since(&before);
                assert_eq!(counted, [(Some(reason), Action::Drop, 1)]);
            }
            firewall.datapath.unblock(&[narrow]).expect("a list");
            assert_eq!(firewall.judge(&tagged(9)), Action::Pass, "nobody is blocked");
            firewall.datapath.block(&[(narrow, None)]).expect("a list");
            firewall.install(&policy.compiled);
            assert_eq!(firewall.judge(&frame), Action::Drop);
            firewall.datapath.unblock(&[narrow]).expect("a list");
            assert_eq!(firewall.judge(&frame), Action::Pass);
        }
    }
}

/// The frame with so many priority tags.
fn in_priority_tags(count: usize, packet: &Packet) -> Vec<u8> {
    let frame = packet.build();
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0, 0xe0, 0].repeat(count), rest].concat()
}

#[test]
fn sixty_five_thousand_prefixes_of_each_family_fit_and_no_more() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let policy = Policy::of(World::Host, Mode::Enforce);
    let entry = Entry::best();
    let mut firewall = Firewall::new(directory(&bpffs, entry), entry, &policy.compiled);
    let v4 = |n: u32| {
        lyncwall_policy::net::Prefix::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n * 3).into())
    };
    let v6 = |n: u32| {
        let address = std::net::Ipv6Addr::from_bits(0xfd00_u128 << 112 | u128::from(n) << 40);
        lyncwall_policy::net::Prefix::host(address.into())
    };
    let all: Vec<_> = (0..65_536).flat_map(|n| [(v4(n), None), (v6(n), None)]).collect();
    let start = Instant::now();
    firewall.datapath.block(&all).expect("they fit");
    println!("{} prefixes in {:?}", all.len(), start.elapsed());
    let start = Instant::now();
    // The map refuses, and the list is as before.
    assert!(firewall.datapath.block(&[(v4(65_536), None)]).is_err());
    println!("one more, refused, in {:?}", start.elapsed());
    assert_eq!(firewall.datapath.blocked().expect("a list").len(), all.len());
    let from = |source: &str, side: usize| {
        firewall.judge(&between(source, HOST[side]).with(Tcp::syn(1, 443)).build())
    };
    assert_eq!([from("10.0.0.0", 0), from("10.2.255.253", 0)], [Action::Drop; 2]);
    assert_eq!([from("10.0.0.1", 0), from("10.3.0.0", 0)], [Action::Pass; 2]);
    assert_eq!(from("fd00::100:0:0", 1), Action::Drop);
    assert_eq!(from("fd00::1", 1), Action::Pass);
}
