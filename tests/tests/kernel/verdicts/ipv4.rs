//! The IPv4 header and its options.

use lyncwall_common::reason::Reason;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Extension, Icmp6, Ipv4, Packet, Payload, Tcp, Udp, protocol};

use crate::verdicts::fixture::{Fixture, List, allowed, at_tcp};
use crate::verdicts::world::World;

pub(crate) fn fixtures() -> Vec<Fixture> {
    [cut(), lengths(), options(), source_routes(), bad_options(), other_protocols()].concat()
}

fn header() -> Ipv4 {
    Ipv4::new(Pair::CLIENT_V4, Pair::HOST_V4)
}

/// A SYN to an open port behind this header.
fn syn(ip: Ipv4) -> Packet {
    Pair::frame().with(ip).with(Tcp::syn(40_000, 443))
}

fn with_options(options: &[u8]) -> Ipv4 {
    Ipv4 { options: options.to_vec(), ..header() }
}

fn cut() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let whole = syn(with_options(&[1; 40]));
    let length = whole.build().len();
    for cut in 14..length {
        list.add(format!("IPv4 cut at {cut}"), &whole.clone().truncated(cut), Reason::MalformedIpv4);
    }
    list.add("IPv4 cut nowhere", &whole.truncated(length), allowed("https"));
    list.add("IPv4, padded", &syn(header()).padded(), allowed("https"));
    list.add("IPv4 with a trailer", &syn(header()).with(vec![0xff; 100]), allowed("https"));
    let claims = Ipv4 { total_length: Some(40), ..header() };
    list.add("IPv4 with padding of 1,000 bytes", &syn(claims).with(vec![0xff; 1000]), allowed("https"));
    list.fixtures
}

fn lengths() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for version in (0..16).filter(|version| *version != 4) {
        let ip = Ipv4 { version, ..header() };
        list.add(format!("IPv4 of version {version}"), &syn(ip), Reason::MalformedIpv4);
    }
    for words in 0..5 {
        let ip = Ipv4 { header_words: Some(words), ..header() };
        list.add(format!("an IPv4 header of {words} words"), &syn(ip), Reason::MalformedIpv4);
    }
    // 40 bytes in all: a header of 44 and more does not fit; one of 40 leaves no room for TCP.
    for words in 11..16 {
        let ip = Ipv4 { header_words: Some(words), ..header() };
        list.add(format!("an IPv4 header of {words} words in 40 bytes"), &syn(ip), Reason::MalformedIpv4);
    }
    for total in [0, 1, 19, 41, 60, 1500, u16::MAX] {
        let ip = Ipv4 { total_length: Some(total), ..header() };
        list.add(format!("IPv4 that claims {total} of 40 bytes"), &syn(ip), Reason::MalformedIpv4);
    }
    for total in [20, 21, 39] {
        // What lies behind the packet's end is no header.
        let ip = Ipv4 { total_length: Some(total), ..header() };
        list.add(format!("TCP behind the {total} bytes of IPv4"), &syn(ip), Reason::MalformedTcp);
    }
    for ttl in [0, 1, 255] {
        list.add(format!("IPv4 with TTL {ttl}"), &syn(Ipv4 { ttl, ..header() }), allowed("https"));
    }
    let odd = Ipv4 { service: 0xff, dont_fragment: true, checksum: Some(0), id: 0xffff, ..header() };
    list.add("IPv4 with DF and a wrong checksum", &syn(odd), allowed("https"));
    list.fixtures
}

fn options() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let route = [&[7, 39, 4][..], &[0; 36]].concat();
    let time = [&[68, 36, 5, 0][..], &[0; 32]].concat();
    let good: [(&str, Vec<u8>); 12] = [
        ("one NOP", vec![1]),
        ("40 NOPs", vec![1; 40]),
        ("39 NOPs and an end", [&[1; 39][..], &[0]].concat()),
        ("nothing but an end", vec![0; 4]),
        ("a record route", route.clone()),
        ("a NOP and a record route", [&[1][..], &route].concat()),
        ("a timestamp", time),
        ("a router alert", vec![148, 4, 0, 0]),
        ("a stream id and a NOP", vec![136, 4, 0, 1, 1]),
        ("the shortest option 20 times", [0x82, 2].repeat(20)),
        ("an unknown option of 40 bytes", [&[0x5e, 40][..], &[131; 38]].concat()),
        ("a source route behind the end", vec![0, 131, 7, 4, 1, 2, 3, 4]),
    ];
    for (name, options) in good {
        let ip = with_options(&options);
        list.add(format!("IPv4 with {name}"), &syn(ip.clone()), allowed("https"));
        let closed = Pair::frame().with(ip.clone()).with(Tcp::syn(443, 444));
        list.add(format!("IPv4 with {name} to a closed port"), &closed, at_tcp(Reason::Closed, 444));
        let short = Pair::frame().with(ip).with(Payload::of_protocol(protocol::UDP, [0; 7]));
        list.add(format!("IPv4 with {name} before half a UDP header"), &short, Reason::MalformedUdp);
    }
    // The options look like a TCP header to an open port; the real one is behind them.
    let decoy = [&[0x5e, 20][..], &443u16.to_be_bytes(), &[0; 16]].concat();
    let ip = with_options(&decoy);
    let frame = Pair::frame().with(ip).with(Tcp::syn(40_000, 8443));
    list.add("an option that looks like an open port", &frame, at_tcp(Reason::Closed, 8443));
    list.fixtures
}

fn source_routes() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (kind, name) in [(131, "loose"), (137, "strict")] {
        let route = [kind, 7, 4, 203, 0, 113, 1];
        for before in 0..=33 {
            let options = [&vec![1; before][..], &route].concat();
            let what = format!("a {name} source route behind {before} NOPs");
            list.add(what, &syn(with_options(&options)), Reason::IpSourceRoute);
        }
        let others: [(&str, &[u8]); 3] = [
            ("a record route", &[7, 7, 4, 0, 0, 0, 0]),
            ("a timestamp", &[68, 8, 5, 0, 0, 0, 0, 0]),
            ("a router alert", &[148, 4, 0, 0]),
        ];
        for (other, bytes) in others {
            let ip = with_options(&[bytes, &route].concat());
            list.add(format!("a {name} source route behind {other}"), &syn(ip), Reason::IpSourceRoute);
        }
        let ip = with_options(&[&[1; 39][..], &[kind]].concat());
        list.add(format!("the first byte of a {name} source route"), &syn(ip), Reason::IpSourceRoute);
        let udp = Pair::frame().with(with_options(&route)).with(Udp::new(1, 3478));
        list.add(format!("a {name} source route before UDP"), &udp, Reason::IpSourceRoute);
        let later = Ipv4 { offset: 10, ..with_options(&route) };
        let later = Pair::frame().with(later).with(Payload::of_protocol(protocol::UDP, [0; 16]));
        list.add(format!("a {name} source route in a later fragment"), &later, Reason::IpSourceRoute);
    }
    list.fixtures
}

fn bad_options() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let bad: [(&str, Vec<u8>); 9] = [
        ("length 0", vec![7, 0, 4, 0]),
        ("length 1", vec![7, 1, 4, 0]),
        ("a length past the end", vec![7, 5, 4, 0]),
        ("the greatest length", vec![7, 255, 4, 0]),
        ("no length byte", vec![1, 1, 1, 7]),
        ("no length byte after 39 NOPs", [&[1; 39][..], &[7]].concat()),
        ("length 0 at an odd place", vec![1, 7, 0, 0]),
        ("a length past the end behind a good one", vec![148, 4, 0, 0, 68, 5, 0, 0]),
        ("length 41", [&[7, 41][..], &[0; 38]].concat()),
    ];
    for (name, options) in bad {
        let ip = with_options(&options);
        list.add(format!("an IPv4 option with {name}"), &syn(ip), Reason::MalformedIpv4);
    }
    let first = with_options(&[7, 0, 0, 0, 131, 4, 0, 0]);
    list.add("a source route behind a bad option", &syn(first), Reason::MalformedIpv4);
    list.fixtures
}

fn other_protocols() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let inner = Ipv4 { ttl: 9, ..header() };
    let tunnel = Pair::frame_v4().with(inner).with(Tcp::syn(40_000, 443));
    list.add("IPv4 in IPv4", &tunnel, Reason::Protocol);
    let ext = Pair::frame_v4().with(Extension::destination_options(&[])).with(Tcp::syn(40_000, 443));
    list.add("IPv6 options over IPv4", &ext, Reason::Protocol);
    list.add("ICMPv6 over IPv4", &Pair::frame_v4().with(Icmp6::echo_request(1, 1)), Reason::Protocol);
    for number in [0, 2, 3, 41, 43, 44, 46, 58, 59, 60, 103, 136, 253, 255] {
        let packet = Pair::frame_v4().with(Payload::of_protocol(number, [0; 20]));
        list.add(format!("IPv4 protocol {number}"), &packet, Reason::Protocol);
        let empty = Pair::frame_v4().with(Payload::of_protocol(number, []));
        list.add(format!("IPv4 protocol {number} and nothing in it"), &empty, Reason::Protocol);
    }
    list.fixtures
}
