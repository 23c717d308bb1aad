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
    [without_ip(), hidden(), tags(), cut_in_a_tag()].concat()
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
    let snap = Pair::frame().with(Llc::SNAP).with(&[0, 0, 0, 0x08, 0x00, 0x45, 0, 0, 20]);
    list.add("802.3 with a SNAP header", &snap, Reason::NonIp);
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
    let stacks: [(&str, Vec<Vlan>, bool); 9] = [
        ("a priority tag", vec![Vlan { priority: 7, ..Vlan::new(0) }], true),
        ("the last VLAN", vec![Vlan::new(4095)], true),
        ("a service tag alone", vec![Vlan::service(5)], true),
        ("802.1Q twice", vec![Vlan::new(1), Vlan::new(2)], true),
        ("802.1ad twice", vec![Vlan::service(1), Vlan::service(2)], true),
        ("802.1Q around 802.1ad", vec![Vlan::new(1), Vlan::service(2)], true),
        ("802.1Q three times", vec![Vlan::new(1), Vlan::new(2), Vlan::new(3)], false),
        ("802.1ad around two", vec![Vlan::service(1), Vlan::new(2), Vlan::new(3)], false),
        ("four tags", vec![Vlan::service(1), Vlan::service(2), Vlan::new(3), Vlan::new(4)], false),
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
    // The third tag need not be there whole: its EtherType says enough.
    let third = Pair::frame().with(Vlan::new(1)).with(Vlan { ether_type: Some(0x8100), ..Vlan::new(2) });
    list.add("nothing but the type of a third tag", &third, Reason::VlanDepth);
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
    }
    list.fixtures
}
