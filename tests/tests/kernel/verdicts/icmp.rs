//! ICMP and ICMPv6, neighbour discovery, group membership.

use lyncwall_common::reason::Reason;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Extension, Icmp4, Icmp6, Igmp, Ipv4, Ipv6, Packet, Payload, protocol};

use crate::verdicts::fixture::{Fixture, List, both};
use crate::verdicts::world::World;

pub(crate) fn fixtures() -> Vec<Fixture> {
    [every_type(), codes(), cut(), neighbours(), membership(), destinations()].concat()
}

fn every_type() -> Vec<Fixture> {
    let mut list = List::untagged(World::Host);
    for kind in 0..=255 {
        let expected = match kind {
            3 | 11 | 12 => Reason::IcmpError,
            8 => Reason::IcmpEcho,
            _ => Reason::IcmpOther,
        };
        let packet = Pair::frame_v4().with(Icmp4::new(kind, 0)).with(&[0; 20]);
        list.add(format!("ICMP type {kind}"), &packet, expected);
        for hop_limit in [255, 254] {
            let expected = match kind {
                1..=4 => Reason::IcmpError,
                128 => Reason::IcmpEcho,
                130..=132 | 143 => Reason::MulticastControl,
                133..=136 if hop_limit == 255 => Reason::Neighbour,
                133..=136 => Reason::NdHopLimit,
                _ => Reason::IcmpOther,
            };
            let ip = Ipv6 { hop_limit, ..Ipv6::new(Pair::CLIENT_V6, Pair::HOST_V6) };
            let packet = Pair::frame().with(ip).with(Icmp6::new(kind, 0)).with(&[0; 20]);
            list.add(format!("ICMPv6 type {kind} at hop limit {hop_limit}"), &packet, expected);
        }
    }
    list.fixtures
}

fn codes() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for code in [0, 1, 4, 15, 255] {
        let packet = Pair::frame_v4().with(Icmp4::new(3, code));
        list.add(format!("ICMP unreachable, code {code}"), &packet, Reason::IcmpError);
        let packet = Pair::frame_v6().with(Icmp6::new(1, code));
        list.add(format!("ICMPv6 unreachable, code {code}"), &packet, Reason::IcmpError);
        let packet = Pair::frame_v4().with(Icmp4::new(5, code));
        list.add(format!("ICMP redirect, code {code}"), &packet, Reason::IcmpOther);
    }
    list.fixtures
}

fn cut() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, ip) in both() {
        let (number, kind) = if family == "IPv4" { (protocol::ICMP, 8) } else { (protocol::ICMPV6, 128) };
        for room in 0..8 {
            let bytes = [&[kind][..], &[0; 7]].concat();
            let packet = ip.clone().with(Payload::of_protocol(number, &bytes[..room]));
            list.add(format!("{room} bytes of ICMP over {family}"), &packet, Reason::MalformedIcmp);
            list.add(
                format!("{room} bytes of ICMP over {family}, padded"),
                &packet.padded(),
                Reason::MalformedIcmp,
            );
        }
        let packet = ip.with(Payload::of_protocol(number, [kind, 0, 0, 0, 0, 0, 0, 0]));
        list.add(format!("8 bytes of ICMP over {family}"), &packet, Reason::IcmpEcho);
    }
    list.fixtures
}

fn neighbours() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let groups: [(&str, &str); 3] =
        [("ff02::1", "all nodes"), ("ff02::1:ff00:2", "a solicited node"), ("2001:db8::2", "the host")];
    for (destination, name) in groups {
        for kind in 133..=136 {
            for hop_limit in [0, 1, 64, 128, 254, 255] {
                let destination: std::net::Ipv6Addr = destination.parse().expect("an address");
                let ip = Ipv6 { hop_limit, ..Ipv6::new(Pair::CLIENT_V6, destination) };
                let packet = Pair::frame().with(ip).with(Icmp6::new(kind, 0)).with(&[0; 20]);
                let expected = if hop_limit == 255 { Reason::Neighbour } else { Reason::NdHopLimit };
                list.add(format!("ND {kind} to {name} at hop limit {hop_limit}"), &packet, expected);
            }
        }
    }
    // RFC 6980 forbids extension headers here; the hop limit still says that it came from the link.
    let ip = Ipv6 { hop_limit: 255, ..Ipv6::new(Pair::CLIENT_V6, Pair::HOST_V6) };
    let packet = Pair::frame().with(ip).with(Extension::destination_options(&[])).with(Icmp6::new(135, 0));
    list.add("ND behind options", &packet.with(&[0; 16]), Reason::Neighbour);
    list.fixtures
}

fn membership() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for kind in [130, 131, 132, 143] {
        let all_nodes: std::net::Ipv6Addr = "ff02::1".parse().expect("an address");
        let ip = Ipv6 { hop_limit: 1, ..Ipv6::new(Pair::CLIENT_V6, all_nodes) };
        let packet = Pair::frame().with(ip).with(Extension::router_alert()).with(Icmp6::new(kind, 0));
        list.add(format!("MLD {kind}"), &packet.with(&[0; 16]), Reason::MulticastControl);
    }
    for kind in [0x11, 0x12, 0x16, 0x17, 0x22] {
        for group in [[224, 0, 0, 1], [224, 0, 0, 22], [239, 255, 255, 255]] {
            let alert = Ipv4 { ttl: 1, options: vec![148, 4, 0, 0], ..Ipv4::new(Pair::CLIENT_V4, group) };
            let packet = Pair::frame().with(alert).with(Igmp::new(kind, group));
            list.add(format!("IGMP {kind:#x} to {group:?}"), &packet, Reason::MulticastControl);
        }
        for address in [Pair::HOST_V4.octets(), [223, 255, 255, 255], [240, 0, 0, 0], [255; 4]] {
            let ip = Ipv4::new(Pair::CLIENT_V4, address);
            let packet = Pair::frame().with(ip).with(Igmp::new(kind, [224, 0, 0, 9]));
            list.add(format!("IGMP {kind:#x} to {address:?}"), &packet, Reason::Protocol);
        }
    }
    let empty = Pair::frame().with(Ipv4::new(Pair::CLIENT_V4, [224, 0, 0, 1]));
    list.add("empty IGMP", &empty.with(Payload::of_protocol(protocol::IGMP, [])), Reason::MulticastControl);
    list.fixtures
}

/// The rows for ICMP stand before those for destinations.
fn destinations() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for world in [World::Targets, World::VipDrop, World::VipPass] {
        let mut list = List::new(world);
        let frame = |address: [u8; 4]| Pair::frame().with(Ipv4::new(Pair::CLIENT_V4, address));
        for address in [[198, 51, 100, 10], [192, 0, 2, 2], [224, 0, 0, 1]] {
            let add = |list: &mut List, what: &str, icmp: Icmp4, expected: Reason| {
                let packet: Packet = frame(address).with(icmp);
                list.add(format!("{what} to {address:?}"), &packet, expected);
            };
            add(&mut list, "echo", Icmp4::echo_request(1, 1), Reason::IcmpEcho);
            add(&mut list, "an error", Icmp4::new(11, 0), Reason::IcmpError);
            add(&mut list, "an echo reply", Icmp4::echo_reply(1, 1), Reason::IcmpOther);
            add(&mut list, "a timestamp", Icmp4::new(13, 0), Reason::IcmpOther);
        }
        fixtures.extend(list.fixtures);
    }
    fixtures
}
