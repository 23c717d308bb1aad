//! Fragments: each list is one story, in order.

use lyncwall_common::reason::Reason;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{
    Extension, Icmp4, Icmp6, Ipv4, Ipv6, Layer, Packet, Payload, Tcp, Udp, ip, protocol,
};

use crate::verdicts::fixture::{Expected, Fixture, List, allowed, at_tcp, at_udp, both, by_rule};
use crate::verdicts::policy::{CLIENT, HOST, VIP, between};
use crate::verdicts::world::World;

pub(crate) fn fixtures() -> Vec<Fixture> {
    [
        whole_stories(),
        denied(),
        overlaps(),
        tiny(),
        malformed(),
        keys(),
        icmp(),
        other_rows(),
        ipv6_chains(),
        atomic(),
        early(),
    ]
    .concat()
}

/// What a later fragment meets when its first one was or was not let in.
const AFTER_PASS: Reason = Reason::Fragment;
const AFTER_DROP: Reason = Reason::FragmentOrphan;

/// Later fragments before their first one, where the configuration lets them come.
fn early() -> Vec<Fixture> {
    let mut list = List::untagged(World::Early);
    for side in 0..2 {
        let to = |address: &str, port: u16| {
            between(CLIENT[side], address).with(Udp::new(40_000, port)).with(&[1; 1500])
        };
        let family = ["IPv4", "IPv6"][side];
        // The sender's last fragment comes first.
        let parts = to(HOST[side], 3478).fragments(600, 70);
        list.add(format!("the last of an open port, early, {family}"), &parts[2], Reason::FragmentEarly);
        list.add(format!("the middle of it, {family}"), &parts[1], Reason::FragmentEarly);
        list.add(format!("the first of it, {family}"), &parts[0], allowed("stun"));
        list.add(format!("the middle of it once more, {family}"), &parts[1], Reason::Fragment);
        let parts = to(HOST[side], 3479).fragments(600, 71);
        list.add(format!("the last of a closed port, early, {family}"), &parts[2], Reason::FragmentEarly);
        list.add(format!("the first of it, {family}"), &parts[0], at_udp(Reason::Closed, 3479));
        // It may overwrite a header.
        let parts = to(HOST[side], 3478).fragments(504, 72);
        list.add(format!("one that begins too early, {family}"), &parts[1], Reason::FragmentOrphan);
        list.add(format!("the next one of it, {family}"), &parts[2], Reason::FragmentEarly);
        // Another host's stack would keep it.
        let parts = to(VIP[side], 3478).fragments(600, 73);
        list.add(format!("one for a target elsewhere, {family}"), &parts[1], Reason::FragmentOrphan);
    }
    list.fixtures
}

/// A part of a datagram of `protocol` between client and host; `place` in units of 8 bytes.
fn part(family: &str, protocol: u8, id: u32, place: u16, more: bool, bytes: &[u8]) -> Packet {
    match family {
        "IPv4" => Pair::frame()
            .with(Ipv4 {
                id: id as u16,
                offset: place,
                more_fragments: more,
                protocol: Some(protocol),
                ..Ipv4::new(Pair::CLIENT_V4, Pair::HOST_V4)
            })
            .with(bytes),
        _ => Pair::frame_v6()
            .with(Extension { next: Some(protocol), ..Extension::fragment(place, more, id) })
            .with(bytes),
    }
}

/// The bytes of a TCP header of 20 bytes, and 4 of data.
fn tcp(flags: u16, port: u16) -> Vec<u8> {
    let frame = Pair::frame_v4().with(Tcp { flags, ..Tcp::new(40_000, port) }).with(&[0; 4]).build();
    frame[34..].to_vec()
}

/// A first fragment of `first`, then one in the middle and one at the end.
fn story(list: &mut List, what: &str, packet: &Packet, id: u32, first: impl Into<Expected>, later: Reason) {
    let parts = packet.fragments(32, id);
    assert!(parts.len() > 2, "{what} has a middle");
    let first = first.into();
    for (number, part) in parts.iter().enumerate() {
        let expected = if number == 0 { first } else { later.into() };
        list.add(format!("part {number} of {what}"), part, expected);
    }
    list.add(format!("the last part of {what} once more"), &parts[parts.len() - 1], later);
}

fn whole_stories() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, ip) in both() {
        let udp = ip.clone().with(Udp::new(40_000, 3478)).with(&[1; 100]);
        story(&mut list, &format!("open UDP over {family}"), &udp, 100, allowed("stun"), AFTER_PASS);
        let udp = ip.clone().with(Udp::new(40_000, 3479)).with(&[1; 100]);
        let closed = at_udp(Reason::Closed, 3479);
        story(&mut list, &format!("closed UDP over {family}"), &udp, 101, closed, AFTER_DROP);
        let tcp = ip.clone().with(Tcp::syn(40_000, 443)).with(&[1; 100]);
        story(&mut list, &format!("open TCP over {family}"), &tcp, 102, allowed("https"), AFTER_PASS);
        let tcp = ip.clone().with(Tcp::syn(40_000, 444)).with(&[1; 100]);
        let closed = at_tcp(Reason::Closed, 444);
        story(&mut list, &format!("closed TCP over {family}"), &tcp, 103, closed, AFTER_DROP);
        let reply = ip.clone().with(Udp::new(53, 999)).with(&[1; 100]);
        let closed = at_udp(Reason::Closed, 999);
        story(
            &mut list,
            &format!("a DNS answer that nobody asked for over {family}"),
            &reply,
            104,
            closed,
            AFTER_DROP,
        );
        let rule = ip.clone().with(Udp::new(1, 514)).with(&[1; 100]);
        let allow = by_rule("allow/syslog");
        story(&mut list, &format!("syslog over {family}"), &rule, 105, allow, AFTER_PASS);
        let esp = ip.clone().with(Payload::of_protocol(protocol::ESP, [1; 100]));
        story(&mut list, &format!("ESP over {family}"), &esp, 106, by_rule("allow/esp"), AFTER_PASS);
        let other = ip.clone().with(Payload::of_protocol(103, [1; 100]));
        story(&mut list, &format!("PIM over {family}"), &other, 107, Reason::Protocol, AFTER_DROP);
        // Ports stand in the first fragment only: this one merely looks like a SYN to an open port.
        let stray = part(family, protocol::TCP, 108, 3, false, &tcp_to_open_port());
        list.add(format!("a fragment over {family} that nobody announced"), &stray, AFTER_DROP);
    }
    list.fixtures
}

fn tcp_to_open_port() -> Vec<u8> {
    tcp(Tcp::SYN, 443)
}

fn denied() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, _) in both() {
        let send = |id, port| part(family, protocol::TCP, id, 0, true, &tcp(Tcp::SYN, port));
        let later = |id| part(family, protocol::TCP, id, 3, false, &[0; 8]);
        let at = |port| at_tcp(Reason::Closed, port);
        list.add(format!("later before first over {family}"), &later(1), AFTER_DROP);
        list.add(format!("then the first over {family}"), &send(1, 443), allowed("https"));
        list.add(format!("then the later over {family}"), &later(1), AFTER_PASS);
        list.add(format!("a denied first of the same id over {family}"), &send(1, 445), at(445));
        list.add(format!("denied again over {family}"), &send(1, 445), at(445));
        list.add(format!("later after a denial over {family}"), &later(1), AFTER_DROP);
        list.add(format!("allowed after a denial over {family}"), &send(1, 5061), allowed("sip"));
        list.add(format!("later after that over {family}"), &later(1), AFTER_PASS);
        list.add(format!("denied without a record over {family}"), &send(2, 445), at(445));
        list.add(format!("later of a denied first over {family}"), &later(2), AFTER_DROP);
        let flags = part(family, protocol::TCP, 1, 0, true, &tcp(Tcp::SYN | Tcp::FIN, 443));
        list.add(format!("bad flags in a first over {family}"), &flags, at_tcp(Reason::TcpFlags, 443));
        list.add(format!("later after bad flags over {family}"), &later(1), AFTER_DROP);
        // A form that cannot be judged is dropped, and changes nothing about the one that went through.
        list.add(format!("allowed before a tiny one over {family}"), &send(3, 443), allowed("https"));
        let tiny = part(family, protocol::TCP, 3, 0, true, &tcp(Tcp::SYN, 445)[..8]);
        list.add(format!("a tiny one of the same id over {family}"), &tiny, Reason::FragmentTiny);
        list.add(format!("later after that over {family}"), &later(3), AFTER_PASS);
    }
    list.fixtures
}

fn overlaps() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, _) in both() {
        let first = |bytes: &[u8]| part(family, protocol::TCP, 1, 0, true, bytes);
        let later = |place, more| part(family, protocol::TCP, 1, place, more, &[0xff; 16]);
        list.add(format!("24 bytes over {family}"), &first(&tcp(Tcp::SYN, 443)), allowed("https"));
        for place in [1, 2] {
            for more in [true, false] {
                let what = format!("a part at {} over the first 24 over {family}", place * 8);
                list.add(what, &later(place, more), Reason::FragmentOverlap);
            }
        }
        for place in [3, 4, 1000, 8189] {
            let what = format!("a part at {} behind the first 24 over {family}", place * 8);
            list.add(what, &later(place, false), AFTER_PASS);
        }
        // A longer first fragment moves the border.
        let longer = [tcp(Tcp::SYN, 443), vec![0; 40]].concat();
        list.add(format!("64 bytes over {family}"), &first(&longer), allowed("https"));
        list.add(format!("a part at 56 over {family}"), &later(7, true), Reason::FragmentOverlap);
        list.add(format!("a part at 64 over {family}"), &later(8, true), AFTER_PASS);
    }
    list.fixtures
}

fn tiny() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, _) in both() {
        let header = tcp(Tcp::SYN, 443);
        for room in [8, 16] {
            let packet = part(family, protocol::TCP, 9, 0, true, &header[..room]);
            list.add(format!("{room} bytes of TCP first over {family}"), &packet, Reason::FragmentTiny);
            let later = part(family, protocol::TCP, 9, room as u16 / 8, false, &[0; 8]);
            list.add(format!("behind {room} bytes of TCP over {family}"), &later, AFTER_DROP);
        }
        let mut optioned = header.clone();
        optioned[12] = 0xf0;
        for room in [24, 56] {
            let bytes = [&optioned[..], &[1; 36]].concat();
            let packet = part(family, protocol::TCP, 10, 0, true, &bytes[..room]);
            let what = format!("{room} of 60 bytes of TCP first over {family}");
            list.add(what, &packet, Reason::FragmentTiny);
        }
        let bytes = [&optioned[..], &[1; 40]].concat();
        let packet = part(family, protocol::TCP, 10, 0, true, &bytes);
        list.add(format!("64 bytes with the whole of TCP first over {family}"), &packet, allowed("https"));
        // A header that contradicts itself is none of a fragment's doing.
        let mut short = header.clone();
        short[12] = 0x40;
        let packet = part(family, protocol::TCP, 11, 0, true, &short);
        list.add(format!("a first fragment with a bad offset over {family}"), &packet, Reason::MalformedTcp);
        // The least that a first fragment carries is a whole UDP or ICMP header.
        let udp = [40_000u16, 3478, 1000, 0].map(u16::to_be_bytes).concat();
        let packet = part(family, protocol::UDP, 12, 0, true, &udp);
        list.add(format!("8 bytes of UDP first over {family}"), &packet, allowed("stun"));
        let udp = [40_000u16, 3478, 7, 0].map(u16::to_be_bytes).concat();
        let packet = part(family, protocol::UDP, 13, 0, true, &udp);
        list.add(format!("UDP of 7 bytes first over {family}"), &packet, Reason::MalformedUdp);
    }
    list.fixtures
}

fn malformed() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, bad) in [("IPv4", Reason::MalformedIpv4), ("IPv6", Reason::MalformedIpv6)] {
        let udp = |id, place, more, bytes: &[u8]| part(family, protocol::UDP, id, place, more, bytes);
        let first = [&[40_000u16, 3478, 1000, 0].map(u16::to_be_bytes).concat()[..], &[0; 16]].concat();
        list.add(format!("a first of 24 bytes over {family}"), &udp(20, 0, true, &first), allowed("stun"));
        for length in [1, 7, 9, 23] {
            let what = format!("{length} bytes of a first fragment over {family}");
            list.add(what, &udp(20, 0, true, &first[..length]), bad);
            let what = format!("{length} bytes in the middle over {family}");
            list.add(what, &udp(20, 3, true, &first[..length]), bad);
        }
        list.add(format!("an empty first over {family}"), &udp(20, 0, true, &[]), bad);
        list.add(format!("an empty middle over {family}"), &udp(20, 3, true, &[]), bad);
        list.add(format!("an empty last over {family}"), &udp(20, 3, false, &[]), bad);
        list.add(format!("a last of one byte over {family}"), &udp(20, 3, false, &[0]), AFTER_PASS);
        // 8,191 * 8 + 7 = 65,535: the last byte that a packet may have.
        list.add(format!("up to 65,535 over {family}"), &udp(20, 8191, false, &[0; 7]), AFTER_PASS);
        list.add(format!("up to 65,536 over {family}"), &udp(20, 8191, false, &[0; 8]), bad);
        list.add(format!("far past 65,535 over {family}"), &udp(20, 8190, false, &[0; 800]), bad);
    }
    list.fixtures
}

fn keys() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let header = |id, place| Ipv4 {
        id,
        offset: place,
        more_fragments: true,
        protocol: Some(protocol::TCP),
        ..Ipv4::new(Pair::CLIENT_V4, Pair::HOST_V4)
    };
    let frame = |ip: Ipv4| Pair::frame().with(ip).with(vec![0; 8]);
    let first = Pair::frame().with(header(30, 0)).with(tcp(Tcp::SYN, 443));
    list.add("the first over IPv4", &first, allowed("https"));
    let other = [
        ("another id", Ipv4 { id: 31, ..header(30, 3) }),
        ("an id with its bytes swapped", Ipv4 { id: 30 << 8, ..header(30, 3) }),
        ("another source", Ipv4 { source: [192, 0, 2, 9].into(), ..header(30, 3) }),
        ("another destination", Ipv4 { destination: [192, 0, 2, 9].into(), ..header(30, 3) }),
        ("another protocol", Ipv4 { protocol: Some(protocol::UDP), ..header(30, 3) }),
    ];
    for (what, ip) in other {
        list.add(format!("a later of {what}"), &frame(ip), AFTER_DROP);
    }
    list.add("a later of the same", &frame(header(30, 3)), AFTER_PASS);

    let source = Ipv6::new(Pair::CLIENT_V6, Pair::HOST_V6);
    let frame = |ip: Ipv6, id, next| {
        let header = Extension { next: Some(next), ..Extension::fragment(3, false, id) };
        Pair::frame().with(ip).with(header).with(vec![0; 8])
    };
    let id = 0x0102_0304;
    let first = part("IPv6", protocol::TCP, id, 0, true, &tcp(Tcp::SYN, 443));
    list.add("the first over IPv6", &first, allowed("https"));
    for other in [0x0102_0305, 0x0102_0404, 0x0103_0304, 0x0202_0304, 0x0304_0102, 0x0304, 0x0102_0000] {
        let packet = frame(source.clone(), other, protocol::TCP);
        list.add(format!("a later of the id {other:#x}"), &packet, AFTER_DROP);
    }
    let near = "2001:db8:0:1::1".parse().expect("an address");
    let packet = frame(Ipv6 { source: near, ..source.clone() }, id, protocol::TCP);
    list.add("a later of another source", &packet, AFTER_DROP);
    let packet = frame(Ipv6 { destination: near, ..source.clone() }, id, protocol::TCP);
    list.add("a later of another destination", &packet, AFTER_DROP);
    // RFC 8200, 4.5: the next header of a later fragment means nothing.
    list.add("a later with another next header", &frame(source.clone(), id, protocol::UDP), AFTER_PASS);
    list.add("a later of the same", &frame(source, id, protocol::TCP), AFTER_PASS);
    list.fixtures
}

fn icmp() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let rows: [(&str, Packet, Reason, Reason); 7] = [
        ("an echo request", Pair::frame_v4().with(Icmp4::echo_request(1, 1)), Reason::IcmpEcho, AFTER_PASS),
        ("an echo reply", Pair::frame_v4().with(Icmp4::echo_reply(1, 1)), Reason::IcmpOther, AFTER_DROP),
        ("an error", Pair::frame_v4().with(Icmp4::new(3, 4)), Reason::IcmpError, AFTER_PASS),
        ("a redirect", Pair::frame_v4().with(Icmp4::new(5, 1)), Reason::IcmpOther, AFTER_DROP),
        (
            "an ICMPv6 echo request",
            Pair::frame_v6().with(Icmp6::echo_request(1, 1)),
            Reason::IcmpEcho,
            AFTER_PASS,
        ),
        ("an ICMPv6 error", Pair::frame_v6().with(Icmp6::new(2, 0)), Reason::IcmpError, AFTER_PASS),
        ("an ICMPv6 redirect", Pair::frame_v6().with(Icmp6::new(137, 0)), Reason::IcmpOther, AFTER_DROP),
    ];
    for (id, (what, packet, first, later)) in (200..).zip(rows) {
        story(&mut list, what, &packet.with(&[7; 100]), id, first, later);
    }
    list.fixtures
}

fn other_rows() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let from = |source: [u8; 4]| Pair::frame().with(Ipv4::new(source, Pair::HOST_V4));
    let tcp = from([192, 0, 2, 77]).with(Tcp::syn(1, 22)).with(&[0; 100]);
    story(&mut list, "management", &tcp, 300, Reason::Management, AFTER_PASS);
    let group = Pair::frame().with(Ipv4::new(Pair::CLIENT_V4, [224, 0, 0, 99]));
    let udp = group.clone().with(Udp::new(1, 3478)).with(&[0; 100]);
    story(&mut list, "multicast", &udp, 301, at_udp(Reason::Multicast, 3478), AFTER_DROP);
    let udp = group.with(Udp::new(1, 5353)).with(&[0; 100]);
    story(&mut list, "allowed multicast", &udp, 302, by_rule("allow/mdns"), AFTER_PASS);
    let mut vips = List::new(World::VipDrop);
    let udp = from([192, 0, 2, 1]).with(Udp::new(1, 2525)).with(&[0; 100]);
    story(&mut vips, "UDP elsewhere", &udp, 303, at_udp(Reason::Unmatched, 2525), AFTER_DROP);
    let mut pass = List::new(World::VipPass);
    let unmatched = Expected { judged: lyncwall_common::reason::Action::Pass, ..Reason::Unmatched.into() };
    story(&mut pass, "UDP elsewhere, which passes", &udp, 304, unmatched, AFTER_PASS);
    [list.fixtures, vips.fixtures, pass.fixtures].concat()
}

fn ipv6_chains() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let first = |inner: Vec<Layer>, id| {
        inner.into_iter().fold(Pair::frame_v6().with(Extension::fragment(0, true, id)), Packet::with)
    };
    let options = || Extension::destination_options(&[]);
    let syn = || Payload::of_protocol(protocol::TCP, tcp(Tcp::SYN, 443));
    let later = |id| part("IPv6", protocol::DESTINATION_OPTIONS, id, 4, false, &[0; 8]);

    list.add("options and TCP first", &first(vec![options().into(), syn().into()], 1), allowed("https"));
    list.add("what follows them", &later(1), AFTER_PASS);
    let alone = first(vec![Extension { next: Some(protocol::TCP), ..options() }.into()], 2);
    list.add("options without TCP first", &alone, Reason::FragmentTiny);
    list.add("what follows them", &later(2), AFTER_DROP);
    let cut = Extension { length: Some(3), next: Some(protocol::TCP), ..options() };
    list.add("a part of the options first", &first(vec![cut.into()], 3), Reason::FragmentTiny);
    // RFC 8200, 4.1: headers for the whole way stand before the fragment header.
    let hop = first(vec![Extension::hop_by_hop(&[]).into(), syn().into()], 4);
    list.add("hop-by-hop options inside", &hop, Reason::MalformedIpv6);
    let rh0 = first(vec![Extension::routing(0, 0, &[]).into(), syn().into()], 5);
    list.add("RH0 inside", &rh0, Reason::Ipv6Rh0);
    let twice = first(vec![Extension::fragment(0, false, 6).into(), syn().into()], 6);
    list.add("a fragment header inside", &twice, Reason::MalformedIpv6);
    let five = vec![options(); 5].into_iter().map(Layer::from).chain([syn().into()]).collect();
    list.add("six headers with the fragment's", &first(five, 7), allowed("https"));
    let six = vec![options(); 6].into_iter().map(Layer::from).chain([syn().into()]).collect();
    list.add("seven headers with the fragment's", &first(six, 8), Reason::Ipv6Chain);

    // Headers in front of it stand in every fragment.
    let front = |place: u16, more: bool, bytes: Vec<u8>| {
        let header = Extension { next: Some(protocol::TCP), ..Extension::fragment(place, more, 9) };
        Pair::frame_v6().with(Extension::router_alert()).with(options()).with(header).with(bytes)
    };
    list.add("a first behind options", &front(0, true, tcp(Tcp::SYN, 443)), allowed("https"));
    list.add("a later behind options", &front(3, false, vec![0; 8]), AFTER_PASS);
    list.add("an overlap behind options", &front(2, false, vec![0; 8]), Reason::FragmentOverlap);
    list.fixtures
}

fn atomic() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let atomic = |id| Pair::frame_v6().with(Extension::fragment(0, false, id));
    list.add("an atomic SYN", &atomic(60).with(Tcp::syn(1, 443)), allowed("https"));
    list.add(
        "an atomic SYN to a closed port",
        &atomic(60).with(Tcp::syn(1, 444)),
        at_tcp(Reason::Closed, 444),
    );
    list.add("an atomic echo request", &atomic(60).with(Icmp6::echo_request(1, 1)), Reason::IcmpEcho);
    let short = atomic(60).with(Payload::of_protocol(protocol::TCP, [0; 16]));
    list.add("an atomic part of TCP", &short, Reason::MalformedTcp);
    // RFC 6946: an atomic fragment has nothing to do with others of its id.
    let later = part("IPv6", protocol::TCP, 60, 3, false, &[0; 8]);
    list.add("a later one of its id", &later, AFTER_DROP);
    let only = Pair::frame().with(ip(Pair::CLIENT_V4.into(), Pair::HOST_V4.into()));
    list.add("IPv4 with nothing set", &only.with(Tcp::syn(1, 443)), allowed("https"));
    list.fixtures
}
