//! The IPv6 header and its extension headers.

use lyncwall_common::reason::Reason;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{
    Extension, Icmp4, Igmp, Ipv4, Ipv6, Layer, Packet, Payload, Tcp, Udp, protocol,
};

use crate::verdicts::fixture::{Fixture, List, allowed, at_tcp, by_rule};
use crate::verdicts::world::World;

pub(crate) fn fixtures() -> Vec<Fixture> {
    [cut(), lengths(), single_extensions(), chains(), bad_extensions(), other_protocols()].concat()
}

fn header() -> Ipv6 {
    Ipv6::new(Pair::CLIENT_V6, Pair::HOST_V6)
}

fn syn(ip: Ipv6) -> Packet {
    Pair::frame().with(ip).with(Tcp::syn(40_000, 443))
}

fn options() -> Extension {
    Extension::destination_options(&[])
}

/// A SYN to `port` behind these extension headers.
fn behind<E: Into<Layer>>(extensions: impl IntoIterator<Item = E>, port: u16) -> Packet {
    extensions.into_iter().fold(Pair::frame_v6(), Packet::with).with(Tcp::syn(40_000, port))
}

fn cut() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let whole = behind([Extension::router_alert(), options()], 443);
    let length = whole.build().len();
    for cut in 14..length {
        list.add(format!("IPv6 cut at {cut}"), &whole.clone().truncated(cut), Reason::MalformedIpv6);
    }
    list.add("IPv6 cut nowhere", &whole.truncated(length), allowed("https"));
    // The length of the packet is right, and it ends inside a header.
    for (room, reason) in (0..16).map(|room| (room, Reason::MalformedIpv6)).chain(
        // Behind the extension headers, it is TCP that is cut.
        (16..36).map(|room| (room, Reason::MalformedTcp)),
    ) {
        let ip = Ipv6 { payload_length: Some(room), ..header() };
        let packet = Pair::frame().with(ip).with(Extension::router_alert()).with(options());
        let packet = packet.with(Tcp::syn(40_000, 443));
        list.add(format!("IPv6 that ends after {room} bytes"), &packet, reason);
        let exact = packet.truncated(54 + usize::from(room));
        list.add(format!("IPv6 that ends after {room} bytes, as the frame does"), &exact, reason);
    }
    list.fixtures
}

fn lengths() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for version in (0..16).filter(|version| *version != 6) {
        let ip = Ipv6 { version, ..header() };
        list.add(format!("IPv6 of version {version}"), &syn(ip), Reason::MalformedIpv6);
    }
    for length in [21, 40, 1460, u16::MAX] {
        let ip = Ipv6 { payload_length: Some(length), ..header() };
        list.add(format!("IPv6 that claims {length} of 20 bytes"), &syn(ip), Reason::MalformedIpv6);
    }
    for length in [0, 1, 19] {
        let ip = Ipv6 { payload_length: Some(length), ..header() };
        list.add(format!("TCP behind the {length} bytes of IPv6"), &syn(ip), Reason::MalformedTcp);
    }
    for hop_limit in [0, 1, 255] {
        let ip = Ipv6 { hop_limit, class: 0xff, flow_label: 0xf_ffff, ..header() };
        list.add(format!("IPv6 with hop limit {hop_limit}"), &syn(ip), allowed("https"));
    }
    let claims = Ipv6 { payload_length: Some(20), ..header() };
    list.add("IPv6 with a trailer", &syn(claims).with(&[0xff; 64]), allowed("https"));
    list.fixtures
}

fn single_extensions() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let address = [Pair::HOST_V6];
    let judged = [
        ("hop-by-hop options", Extension::router_alert()),
        ("empty hop-by-hop options", Extension::hop_by_hop(&[])),
        ("destination options", options()),
        ("destination options of 256 bytes", Extension::destination_options(&[0; 254])),
        ("destination options of 2,048 bytes", Extension::destination_options(&[0; 2046])),
        ("a routing header of type 1", Extension::routing(1, 0, &[])),
        ("a routing header of type 2", Extension::routing(2, 0, &address)),
        ("a routing header of type 3", Extension::routing(3, 0, &address)),
        ("a routing header of type 4", Extension::routing(4, 0, &[Pair::HOST_V6, Pair::CLIENT_V6])),
        ("an atomic fragment", Extension::fragment(0, false, 7)),
    ];
    for (name, extension) in judged {
        let with = |port| behind([extension.clone()], port);
        list.add(format!("an open port behind {name}"), &with(443), allowed("https"));
        list.add(format!("a closed port behind {name}"), &with(444), at_tcp(Reason::Closed, 444));
        let udp = Pair::frame_v6().with(extension.clone()).with(Udp::new(1, 3478));
        list.add(format!("an open UDP port behind {name}"), &udp, allowed("stun"));
        let short =
            Pair::frame_v6().with(extension.clone()).with(Payload::of_protocol(protocol::TCP, [0; 19]));
        list.add(format!("half a TCP header behind {name}"), &short, Reason::MalformedTcp);
        let nothing = Pair::frame_v6().with(extension);
        list.add(format!("nothing behind {name}"), &nothing, Reason::Protocol);
    }
    for segments in [0, 1, 255] {
        let rh0 = Extension::routing(0, segments, &address);
        list.add(format!("RH0 with {segments} segments left"), &behind([rh0], 443), Reason::Ipv6Rh0);
    }
    for kind in [1, 2, 3, 4, 253] {
        let left = Extension::routing(kind, 1, &address);
        list.add(
            format!("a routing header of type {kind} with a segment left"),
            &behind([left], 443),
            Reason::IpSourceRoute,
        );
    }
    list.add("RH0 without addresses", &behind([Extension::routing(0, 0, &[])], 443), Reason::Ipv6Rh0);
    list.fixtures
}

fn chains() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for count in 1..=6 {
        let open = behind(vec![options(); count], 443);
        list.add(format!("{count} extension headers"), &open, allowed("https"));
    }
    for count in [7, 8, 20] {
        let packet = behind(vec![options(); count], 443);
        list.add(format!("{count} extension headers"), &packet, Reason::Ipv6Chain);
    }
    let every = [
        Extension::router_alert(),
        options(),
        Extension::routing(2, 0, &[Pair::HOST_V6]),
        Extension::fragment(0, false, 9),
        options(),
        Extension::routing(4, 0, &[]),
    ];
    list.add("every kind in six headers", &behind(every.clone(), 443), allowed("https"));
    list.add("every kind before a closed port", &behind(every.clone(), 5062), at_tcp(Reason::Closed, 5062));
    let mut seven = every.to_vec();
    seven.push(Extension::routing(0, 0, &[]));
    list.add("RH0 as the seventh", &behind(seven, 443), Reason::Ipv6Chain);
    let mut six = every.to_vec();
    six[5] = Extension::routing(0, 0, &[]);
    list.add("RH0 as the sixth", &behind(six, 443), Reason::Ipv6Rh0);
    list.add("RH0 behind options", &behind([options(), Extension::routing(0, 1, &[])], 443), Reason::Ipv6Rh0);
    let cut = vec![options(); 6].into_iter().fold(Pair::frame_v6(), Packet::with);
    let cut = cut.with(Payload::of_protocol(protocol::DESTINATION_OPTIONS, []));
    list.add("the announcement of a seventh", &cut, Reason::Ipv6Chain);
    list.fixtures
}

fn bad_extensions() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let hop = Extension::router_alert;
    list.add("hop-by-hop options twice", &behind([hop(), hop()], 443), Reason::MalformedIpv6);
    list.add("hop-by-hop options second", &behind([options(), hop()], 443), Reason::MalformedIpv6);
    let atomic = Extension::fragment(0, false, 5);
    list.add("two atomic fragments", &behind([atomic.clone(), atomic.clone()], 443), Reason::MalformedIpv6);
    let apart = [atomic, options(), Extension::fragment(0, true, 6)];
    list.add("two fragment headers, apart", &behind(apart, 443), Reason::MalformedIpv6);
    for kind in [protocol::HOP_BY_HOP, protocol::DESTINATION_OPTIONS, protocol::ROUTING] {
        for length in [4, 200, 255] {
            let long = Extension { protocol: kind, length: Some(length), ..Extension::routing(2, 0, &[]) };
            let packet = behind([long], 443);
            list.add(format!("header {kind} of length {length}"), &packet, Reason::MalformedIpv6);
        }
        for room in 0..8 {
            let bytes = vec![0; room];
            let packet = Pair::frame_v6().with(Payload::of_protocol(kind, bytes));
            list.add(format!("{room} bytes of header {kind}"), &packet, Reason::MalformedIpv6);
        }
    }
    for room in 0..8 {
        let packet = Pair::frame_v6().with(Payload::of_protocol(protocol::FRAGMENT, vec![0; room]));
        list.add(format!("{room} bytes of a fragment header"), &packet, Reason::MalformedIpv6);
    }
    // A header that covers the TCP header leaves no TCP.
    let covering = Extension { length: Some(3), ..options() };
    let packet = behind([covering], 443).with(vec![0; 8]);
    list.add("options that cover the TCP header", &packet, Reason::MalformedTcp);
    list.fixtures
}

fn other_protocols() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let inner = Ipv4::new(Pair::CLIENT_V4, Pair::HOST_V4);
    list.add("IPv4 in IPv6", &Pair::frame_v6().with(inner).with(Tcp::syn(1, 443)), Reason::Protocol);
    list.add("IPv6 in IPv6", &Pair::frame_v6().with(header()).with(Tcp::syn(1, 443)), Reason::Protocol);
    list.add("ICMP over IPv6", &Pair::frame_v6().with(Icmp4::echo_request(1, 1)), Reason::Protocol);
    list.add("IGMP over IPv6", &Pair::frame_v6().with(Igmp::new(0x16, [224, 0, 0, 9])), Reason::Protocol);
    // AH is no header that is looked behind: the rule for it decides, and not the port inside.
    let ah = behind([Extension::authentication(1, 1)], 444);
    list.add("AH around a closed port", &ah, by_rule("allow/ah"));
    for number in [1, 2, 3, 4, 41, 46, 59, 103, 135, 136, 139, 140, 253, 255] {
        let packet = Pair::frame_v6().with(Payload::of_protocol(number, [0; 24]));
        list.add(format!("IPv6 protocol {number}"), &packet, Reason::Protocol);
        let packet = Pair::frame_v6().with(options()).with(Payload::of_protocol(number, [0; 24]));
        list.add(format!("IPv6 protocol {number} behind options"), &packet, Reason::Protocol);
    }
    list.fixtures
}
