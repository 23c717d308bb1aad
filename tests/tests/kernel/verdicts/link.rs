//! Ethernet: what carries no IP, what hides it, and VLAN tags.

use lyncwall_common::reason::Reason;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ethernet, Llc, Packet, Payload, Tcp, Vlan, arp_request, ether_type};

use crate::verdicts::fixture::{Fixture, List, allowed, at_tcp};
use crate::verdicts::world::World;

/// EtherTypes (IEEE registry) of tunnels and of headers that this program does not look through.
pub(crate) const HIDING: [(u16, &str); 19] = [
    (0x8847, "MPLS"),
    (0x8848, "MPLS multicast"),
    (0x8864, "PPPoE session"),
    (0x88e5, "MACsec"),
    (0x88e7, "provider backbone bridge"),
    (0x9100, "old QinQ"),
    (0x9200, "old QinQ"),
    (0x9300, "old QinQ"),
    (0x893f, "E-TAG"),
    (0xf1c1, "R-TAG"),
    (0x892f, "HSR"),
    (0x880b, "PPP"),
    (0x22f3, "TRILL"),
    (0x893b, "TRILL fine-grained label"),
    (0x894f, "NSH"),
    (0x6558, "transparent Ethernet bridging"),
    (0x4305, "B.A.T.M.A.N."),
    (0x88be, "ERSPAN"),
    (0x22eb, "ERSPAN III"),
];

pub(crate) fn fixtures() -> Vec<Fixture> {
    [without_ip(), llc(), hidden(), tags(), cut_in_a_tag()].concat()
}

fn without_ip() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let arp = arp_request(Pair::CLIENT_MAC, Pair::CLIENT_V4, Pair::HOST_V4);
    list.add("ARP request", &arp, Reason::NonIp);
    list.add("ARP request, padded", &arp.padded(), Reason::NonIp);
    let types = [
        (ether_type::ARP, "ARP"),
        (0x8035, "RARP"),
        (ether_type::LLDP, "LLDP"),
        (ether_type::SLOW_PROTOCOLS, "LACP"),
        (ether_type::EAPOL, "EAPOL"),
        (ether_type::PPPOE_DISCOVERY, "PPPoE discovery"),
        (0x88f7, "PTP"),
        (0x0842, "wake-on-LAN"),
        (0x9000, "loopback"),
        (ether_type::EXPERIMENT, "an experiment"),
        (0x86dc, "the number before IPv6"),
        (0x0801, "the number after IPv4"),
        (0x0008, "IPv4 with its bytes swapped"),
        (0xffff, "reserved"),
    ];
    for (kind, name) in types {
        let layer = |bytes: &[u8]| Payload::of_ether_type(kind, bytes);
        list.add(format!("{name} without a body"), &Pair::frame().with(layer(&[])), Reason::NonIp);
        list.add(name, &Pair::frame().with(layer(&[0x45; 46])), Reason::NonIp);
    }
    let stp = [0x01, 0x80, 0xc2, 0, 0, 0];
    let bpdu = Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, stp));
    list.add("spanning tree", &bpdu.with(Llc::SPANNING_TREE).with(vec![0; 35]).padded(), Reason::NonIp);
    list.fixtures
}

/// IEEE 802.3 with LLC: other systems than Linux read IP there.
fn llc() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let inner = Pair::frame_v4().with(Tcp::syn(40_000, 443)).build()[14..].to_vec();
    let snap = |organization: [u8; 3], kind: u16| {
        let header = [&organization[..], &kind.to_be_bytes(), &inner].concat();
        Pair::frame().with(Llc::SNAP).with(header)
    };
    for (organization, name) in [([0, 0, 0], "RFC 1042"), ([0, 0, 0xf8], "a bridge")] {
        for (kind, inside) in [(0x0800, "IPv4"), (0x86dd, "IPv6"), (0x8100, "a tag"), (0x8847, "MPLS")] {
            let packet = snap(organization, kind);
            list.add(format!("{inside} in SNAP of {name}"), &packet, Reason::Encapsulated);
            list.add(format!("{inside} in SNAP of {name}, padded"), &packet.padded(), Reason::Encapsulated);
        }
        for (kind, inside) in [(0x0806, "ARP"), (0x809b, "AppleTalk"), (0x8137, "IPX")] {
            list.add(format!("{inside} in SNAP of {name}"), &snap(organization, kind), Reason::NonIp);
        }
    }
    list.add("a bridged frame in SNAP", &snap([0, 0x80, 0xc2], 7), Reason::Encapsulated);
    list.add("CDP", &snap([0, 0, 0x0c], 0x2000), Reason::NonIp);
    list.add("a number of Cisco's that is IPv4 elsewhere", &snap([0, 0, 0x0c], 0x0800), Reason::NonIp);
    let bytes = |kind: u16, llc: &[u8]| {
        let body = [llc, &[0, 0, 0, 8, 0][..], &inner].concat();
        Pair::frame().with(Payload::of_ether_type(kind, body))
    };
    list.add("IP without SNAP", &bytes(60, &[0x06, 0x06, 0x03]), Reason::Encapsulated);
    list.add("a response", &bytes(60, &[0xaa, 0xab, 0x03]), Reason::Encapsulated);
    list.add("SNAP with another control field", &bytes(60, &[0xaa, 0xaa, 0x13]), Reason::Encapsulated);
    list.add("the greatest length", &bytes(0x5ff, &[0xaa, 0xaa, 0x03]), Reason::Encapsulated);
    list.add("a length of 0", &bytes(0, &[0xaa, 0xaa, 0x03]), Reason::Encapsulated);
    list.add("a long frame with LLC", &bytes(0x8870, &[0xaa, 0xaa, 0x03]), Reason::Encapsulated);
    list.add("no length, but a type", &bytes(0x600, &[0xaa, 0xaa, 0x03]), Reason::NonIp);
    list.add("IS-IS", &bytes(60, &[0xfe, 0xfe, 0x03]), Reason::NonIp);
    list.add("IPX", &bytes(60, &[0xff, 0xff, 0x00]), Reason::NonIp);
    let whole = snap([0, 0, 0], 0x0800);
    for length in 14..22 {
        list.add(format!("SNAP cut at {length}"), &whole.clone().truncated(length), Reason::NonIp);
    }
    list.add("SNAP cut behind its header", &whole.truncated(22), Reason::Encapsulated);
    list.fixtures
}

fn hidden() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let inner = Pair::frame_v4().with(Tcp::syn(40_000, 443)).build();
    for (kind, name) in HIDING {
        let layer = |bytes: &[u8]| Payload::of_ether_type(kind, bytes);
        list.add(format!("{name} without a body"), &Pair::frame().with(layer(&[])), Reason::Encapsulated);
        list.add(
            format!("{name} with a packet to an open port"),
            &Pair::frame().with(layer(&inner[14..])),
            Reason::Encapsulated,
        );
    }
    list.fixtures
}

fn tags() -> Vec<Fixture> {
    let mut list = List::untagged(World::Host);
    let priority = |count: usize| vec![Vlan::new(0); count];
    let stacks: [(&str, Vec<Vlan>, bool); 14] = [
        ("a priority tag", vec![Vlan { priority: 7, ..Vlan::new(0) }], true),
        ("the last VLAN", vec![Vlan::new(4095)], true),
        ("a service tag alone", vec![Vlan::service(5)], true),
        ("802.1Q twice", vec![Vlan::new(1), Vlan::new(2)], true),
        ("802.1ad twice", vec![Vlan::service(1), Vlan::service(2)], true),
        ("802.1Q around 802.1ad", vec![Vlan::new(1), Vlan::service(2)], true),
        ("802.1Q three times", vec![Vlan::new(1), Vlan::new(2), Vlan::new(3)], true),
        ("802.1ad around two", vec![Vlan::service(1), Vlan::new(2), Vlan::new(3)], true),
        ("four tags", vec![Vlan::service(1), Vlan::service(2), Vlan::new(3), Vlan::new(4)], true),
        ("three priority tags", priority(3), true),
        ("priority tags of both kinds", vec![Vlan::service(0), Vlan::new(0), Vlan::service(0)], true),
        ("eight priority tags", priority(8), true),
        ("nine priority tags", priority(9), false),
        ("nine VLANs", (1..10).map(Vlan::new).collect(), false),
    ];
    for (name, stack, judged) in stacks {
        let link = stack.into_iter().fold(Pair::frame(), Packet::with);
        for (family, untagged) in crate::verdicts::fixture::both() {
            // The IP packet with everything behind it.
            let inner = |port: u16| untagged.clone().with(Tcp::syn(40_000, port)).build()[14..].to_vec();
            let kind = if family == "IPv4" { ether_type::IPV4 } else { ether_type::IPV6 };
            let around = |port| link.clone().with(Payload::of_ether_type(kind, inner(port)));
            if judged {
                list.add(format!("{family} to an open port in {name}"), &around(443), allowed("https"));
                list.add(
                    format!("{family} to a closed port in {name}"),
                    &around(444),
                    at_tcp(Reason::Closed, 444),
                );
            } else {
                list.add(format!("{family} in {name}"), &around(443), Reason::VlanDepth);
            }
        }
        let arp = link.clone().with(Payload::of_ether_type(ether_type::ARP, [0; 28]));
        list.add(format!("ARP in {name}"), &arp, if judged { Reason::NonIp } else { Reason::VlanDepth });
    }
    // The ninth tag need not be there whole: its EtherType says enough.
    let eighth = Vlan { ether_type: Some(0x8100), ..Vlan::new(8) };
    let ninth = priority(7).into_iter().fold(Pair::frame(), Packet::with).with(eighth);
    list.add("nothing but the type of a ninth tag", &ninth, Reason::VlanDepth);
    // Linux takes the priority tags away, and the broadcast stays one.
    let to_all = Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, [0xff; 6]));
    let inner = Pair::frame_v4().with(Tcp::syn(40_000, 443)).build()[14..].to_vec();
    let packet = priority(3).into_iter().fold(to_all, Packet::with);
    let packet = packet.with(Payload::of_ether_type(ether_type::IPV4, inner));
    list.add("a broadcast in three priority tags", &packet, at_tcp(Reason::Multicast, 443));
    list.fixtures
}

fn cut_in_a_tag() -> Vec<Fixture> {
    let mut list = List::untagged(World::Host);
    for outer in [Vlan::new(1), Vlan::service(1)] {
        let kind = outer.tag_protocol;
        let one = Pair::frame().with(outer.clone()).with(Payload::of_ether_type(ether_type::ARP, [0; 28]));
        for length in 14..18 {
            let cut = one.clone().truncated(length);
            list.add(format!("{kind:#06x} cut at {length}"), &cut, Reason::MalformedEthernet);
        }
        list.add(format!("{kind:#06x} cut behind its tag"), &one.truncated(18), Reason::NonIp);
        let two = Pair::frame()
            .with(outer)
            .with(Vlan::new(2))
            .with(Payload::of_ether_type(ether_type::ARP, [0; 28]));
        for length in 18..22 {
            let cut = two.clone().truncated(length);
            list.add(format!("a tag in {kind:#06x} cut at {length}"), &cut, Reason::MalformedEthernet);
        }
        let tags = (0..8).fold(Pair::frame(), |frame, _| frame.with(Vlan::new(0)));
        let eight = tags.with(Payload::of_ether_type(ether_type::ARP, [0; 28]));
        for length in 22..46 {
            // Cut between two tags, a type says that another one follows.
            let cut = eight.clone().truncated(length);
            list.add(format!("eight tags cut at {length}"), &cut, Reason::MalformedEthernet);
        }
    }
    list.fixtures
}
