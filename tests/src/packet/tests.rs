//! Well-formed frames must mean to an independent parser what was asked for; overrides must reach the wire.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpNumber, Ipv6Extensions, LinkExtHeader, LinkHeader, NetHeaders, PacketHeaders, TransportHeader, VlanId,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
const V6: (Ipv6Addr, Ipv6Addr) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

fn parsed(frame: &[u8]) -> PacketHeaders<'_> {
    PacketHeaders::from_ethernet_slice(frame).expect("a well-formed frame")
}

fn v6_extensions(headers: &PacketHeaders<'_>) -> Ipv6Extensions {
    match &headers.net {
        Some(NetHeaders::Ipv6(_, extensions)) => extensions.clone(),
        other => panic!("IPv6 was built, {other:?} was read"),
    }
}

proptest! {
    #[test]
    fn tcp_over_ipv4_reads_back(
        source: [u8; 4], destination: [u8; 4], ports: (u16, u16), flags in 0_u16..0x100,
        numbers: (u32, u32), window: u16, urgent: u16, ttl: u8, id: u16, service: u8, dont_fragment: bool,
        option_words in 0_usize..11, tcp_words in 0_usize..11, payload in vec(any::<u8>(), 0..200),
    ) {
        let frame = Packet::new()
            .with(Ipv4 {
                ttl, id, service, dont_fragment, options: vec![1; option_words * 4], ..Ipv4::new(source, destination)
            })
            .with(Tcp {
                flags, sequence: numbers.0, acknowledgement: numbers.1, window, urgent,
                options: vec![1; tcp_words * 4], ..Tcp::new(ports.0, ports.1)
            })
            .with(payload.clone())
            .build();
        let headers = parsed(&frame);
        let Some(NetHeaders::Ipv4(ip, _)) = &headers.net else { panic!("no IPv4 in {headers:?}") };
        prop_assert_eq!((ip.source, ip.destination), (source, destination));
        prop_assert_eq!((ip.time_to_live, ip.identification), (ttl, id));
        prop_assert_eq!((ip.dscp.value(), ip.ecn.value()), (service >> 2, service & 3));
        prop_assert_eq!((ip.dont_fragment, ip.more_fragments), (dont_fragment, false));
        prop_assert_eq!(ip.fragment_offset.value(), 0);
        prop_assert_eq!(ip.protocol, IpNumber::TCP);
        prop_assert_eq!(usize::from(ip.total_len), frame.len() - 14);
        prop_assert_eq!(ip.options.len(), option_words * 4);
        prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let Some(TransportHeader::Tcp(tcp)) = &headers.transport else { panic!("no TCP in {headers:?}") };
        prop_assert_eq!((tcp.source_port, tcp.destination_port), ports);
        prop_assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), numbers);
        prop_assert_eq!((tcp.window_size, tcp.urgent_pointer), (window, urgent));
        let bits = [tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg, tcp.ece, tcp.cwr];
        let read = bits.iter().enumerate().map(|(n, bit)| u16::from(*bit) << n).sum::<u16>();
        prop_assert_eq!(read, flags);
        prop_assert_eq!(tcp.options.len(), tcp_words * 4);
        prop_assert_eq!(headers.payload.slice(), &payload);
        let checksum = tcp.calc_checksum_ipv4(ip, &payload).expect("a short payload");
        prop_assert_eq!(tcp.checksum, checksum);
    }

    #[test]
    fn udp_over_ipv6_reads_back(
        source: [u8; 16], destination: [u8; 16], ports: (u16, u16), hop_limit: u8, class: u8,
        flow_label in 0_u32..0x10_0000, payload in vec(any::<u8>(), 0..200),
    ) {
        let frame = Packet::new()
            .with(Ipv6 { hop_limit, class, flow_label, ..Ipv6::new(source, destination) })
            .with(Udp::new(ports.0, ports.1))
            .with(payload.clone())
            .build();
        let headers = parsed(&frame);
        let Some(NetHeaders::Ipv6(ip, _)) = &headers.net else { panic!("no IPv6 in {headers:?}") };
        prop_assert_eq!((ip.source, ip.destination), (source, destination));
        prop_assert_eq!((ip.hop_limit, ip.traffic_class, ip.flow_label.value()), (hop_limit, class, flow_label));
        prop_assert_eq!(usize::from(ip.payload_length), 8 + payload.len());
        let Some(TransportHeader::Udp(udp)) = &headers.transport else { panic!("no UDP in {headers:?}") };
        prop_assert_eq!((udp.source_port, udp.destination_port), ports);
        prop_assert_eq!(usize::from(udp.length), 8 + payload.len());
        prop_assert_eq!(udp.checksum, udp.calc_checksum_ipv6(ip, &payload).expect("a short payload"));
    }

    #[test]
    fn fragments_put_together_are_the_datagram(
        v6: bool, id: u32, words in 1_usize..40, payload in vec(any::<u8>(), 0..600),
    ) {
        let whole = Packet::new()
            .with(if v6 { ip(V6.0.into(), V6.1.into()) } else { ip(V4.0.into(), V4.1.into()) })
            .with(Udp::new(5, 6))
            .with(payload);
        let header = if v6 { 14 + 40 } else { 14 + 20 };
        let pieces = whole.fragments(words * 8, id);
        let mut together = Vec::new();
        for (n, piece) in pieces.iter().enumerate() {
            let frame = piece.build();
            let headers = PacketHeaders::from_ethernet_slice(&frame).expect("a well-formed fragment");
            let (offset, more, read_id, next, skip) = match &headers.net {
                Some(NetHeaders::Ipv4(ip, _)) => {
                    prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    (ip.fragment_offset, ip.more_fragments, u32::from(ip.identification), ip.protocol, header)
                }
                Some(NetHeaders::Ipv6(_, extensions)) => {
                    let part = extensions.fragment.as_ref().expect("a fragment header");
                    let place = (part.fragment_offset, part.more_fragments, part.identification);
                    (place.0, place.1, place.2, part.next_header, header + 8)
                }
                other => panic!("no IP layer in {other:?}"),
            };
            prop_assert_eq!(usize::from(offset.byte_offset()), together.len());
            prop_assert_eq!(more, n + 1 < pieces.len());
            prop_assert_eq!(read_id, if v6 { id } else { id & 0xffff });
            prop_assert_eq!(next, IpNumber::UDP);
            together.extend_from_slice(&frame[skip..]);
        }
        prop_assert_eq!(&together, &whole.build()[header..]);
    }
}

#[test]
fn udp_over_ipv4_has_its_checksum() {
    let payload = b"ports";
    let frame = Packet::new().with(Ipv4::new(V4.0, V4.1)).with(Udp::new(53, 50_000)).with(payload).build();
    let headers = parsed(&frame);
    let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Udp(udp))) = (&headers.net, &headers.transport)
    else {
        panic!("not UDP over IPv4: {headers:?}");
    };
    assert_eq!(udp.checksum, udp.calc_checksum_ipv4(ip, payload).expect("a short payload"));
    assert_ne!(udp.checksum, 0);
}

#[test]
fn the_checksums_of_icmp_and_igmp_verify() {
    let echo = Packet::new().with(Ipv4::new(V4.0, V4.1)).with(Icmp4::echo_request(7, 9)).with(b"odd").build();
    assert_eq!(internet_checksum(&[&echo[34..]]), 0);
    let Some(TransportHeader::Icmpv4(read)) = parsed(&echo).transport else { panic!("no ICMP in {echo:?}") };
    assert_eq!(
        read.icmp_type,
        etherparse::Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 7, seq: 9 })
    );

    let echo = Packet::new().with(Ipv6::new(V6.0, V6.1)).with(Icmp6::echo_request(7, 9)).with(b"odd").build();
    let Some(TransportHeader::Icmpv6(read)) = parsed(&echo).transport else {
        panic!("no ICMPv6 in {echo:?}")
    };
    let checksum = read.icmp_type.calc_checksum(V6.0.octets(), V6.1.octets(), b"odd").expect("short");
    assert_eq!(read.checksum, checksum);

    let report = Packet::new().with(Ipv4::new(V4.0, [224, 0, 0, 9])).with(Igmp::new(0x16, [224, 0, 0, 9]));
    assert_eq!(internet_checksum(&[&report.build()[34..]]), 0);
}

#[test]
fn tags_stack_outermost_first() {
    let frame = Packet::ethernet(Ethernet::new([2; 6], Ethernet::BROADCAST))
        .with(Vlan::service(4095))
        .with(Vlan { priority: 5, ..Vlan::new(7) })
        .with(Ipv4::new(V4.0, V4.1))
        .with(Tcp::syn(1, 2))
        .build();
    let headers = parsed(&frame);
    let Some(LinkHeader::Ethernet2(ethernet)) = headers.link else { panic!("no Ethernet in {headers:?}") };
    assert_eq!((ethernet.source, ethernet.destination), ([2; 6], [0xff; 6]));
    assert_eq!(ethernet.ether_type.0, ether_type::SERVICE_VLAN);
    let tags = headers.link_exts.iter().map(|tag| match tag {
        LinkExtHeader::Vlan(tag) => (tag.vlan_id, tag.pcp.value(), tag.ether_type.0),
        LinkExtHeader::Macsec(_) => panic!("no MACsec was built"),
    });
    let id = |id| VlanId::try_new(id).expect("12 bits");
    assert_eq!(tags.collect::<Vec<_>>(), [(id(4095), 0, ether_type::VLAN), (id(7), 5, ether_type::IPV4)]);
    assert!(matches!(headers.transport, Some(TransportHeader::Tcp(_))));
}

#[test]
fn extension_headers_chain_to_the_transport() {
    let frame = Packet::new()
        .with(Ipv6::new(V6.0, V6.1))
        .with(Extension::router_alert())
        .with(Extension::destination_options(&[1, 7, 0, 0, 0, 0, 0, 0, 0]))
        .with(Extension::routing(4, 0, &[V6.1]))
        .with(Extension::fragment(0, false, 0xdead_beef))
        .with(Extension::authentication(3, 4))
        .with(Tcp::syn(1, 443))
        .build();
    let headers = parsed(&frame);
    let read = v6_extensions(&headers);
    let hop = read.hop_by_hop_options.expect("hop-by-hop options");
    assert_eq!((hop.next_header, hop.payload()), (IpNumber(60), &[5, 2, 0, 0, 1, 0][..]));
    let options = read.destination_options.expect("destination options");
    assert_eq!(options.payload(), [1, 7, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0]);
    let routing = read.routing.expect("a routing header").routing;
    assert_eq!((routing.payload()[0], routing.payload()[1]), (4, 0));
    assert_eq!(routing.payload()[6..], V6.1.octets());
    let fragment = read.fragment.expect("a fragment header");
    assert_eq!((fragment.identification, fragment.next_header), (0xdead_beef, IpNumber(51)));
    let authentication = read.auth.expect("an authentication header");
    assert_eq!((authentication.spi, authentication.sequence_number), (3, 4));
    assert_eq!(authentication.next_header, IpNumber::TCP);
    let Some(TransportHeader::Tcp(tcp)) = headers.transport else { panic!("no TCP behind the chain") };
    assert_eq!((tcp.destination_port, tcp.syn), (443, true));
}

#[test]
fn an_icmp_error_carries_a_packet() {
    let frame = Packet::new()
        .with(Ipv4::new(V4.1, V4.0))
        .with(Icmp4::new(3, 3))
        .with(Ipv4::new(V4.0, V4.1))
        .with(Udp::new(9, 10))
        .build();
    assert_eq!(frame[14 + 9], protocol::ICMP);
    let inner = PacketHeaders::from_ip_slice(&frame[14 + 20 + 8..]).expect("a whole packet inside");
    let Some(TransportHeader::Udp(udp)) = inner.transport else { panic!("no UDP inside: {inner:?}") };
    assert_eq!((udp.source_port, udp.destination_port), (9, 10));
}

#[test]
fn a_length_takes_the_place_of_the_ether_type_before_llc() {
    let frame = Packet::new().with(Llc::SPANNING_TREE).with(&[0; 35]).padded().build();
    assert_eq!(frame.len(), ETHERNET_MINIMUM);
    assert_eq!(frame[12..17], [0, 38, 0x42, 0x42, 3]);
}

#[test]
fn an_arp_request_reads_back() {
    let frame = arp_request([2, 0, 0, 0, 0, 9], V4.0, V4.1).build();
    let Some(NetHeaders::Arp(arp)) = parsed(&frame).net else { panic!("no ARP in {frame:?}") };
    assert_eq!(arp.sender_hw_addr(), [2, 0, 0, 0, 0, 9]);
    assert_eq!(
        (arp.sender_protocol_addr(), arp.target_protocol_addr()),
        (&V4.0.octets()[..], &V4.1.octets()[..])
    );
}

#[test]
fn overrides_reach_the_wire() {
    let frame = Packet::new()
        .with(Ipv4 {
            version: 7,
            header_words: Some(4),
            total_length: Some(9),
            more_fragments: true,
            offset: 185,
            protocol: Some(99),
            checksum: Some(0xabcd),
            ..Ipv4::new(V4.0, V4.1)
        })
        .with(Tcp { data_offset: Some(3), flags: 0xfff, checksum: Some(1), ..Tcp::new(1, 2) })
        .build();
    assert_eq!((frame[14], &frame[16..18]), (0x74, &[0, 9][..]));
    assert_eq!((&frame[20..22], frame[23], &frame[24..26]), (&[0x20, 185][..], 99, &[0xab, 0xcd][..]));
    assert_eq!((&frame[46..48], &frame[50..52]), (&[0x3f, 0xff][..], &[0, 1][..]));

    let frame = Packet::new()
        .with(Ipv6 { payload_length: Some(4), next: Some(200), version: 5, ..Ipv6::new(V6.0, V6.1) })
        .with(Extension { next: Some(1), length: Some(255), ..Extension::hop_by_hop(&[]) })
        .with(Udp { length: Some(7), checksum: Some(0), ..Udp::new(1, 2) })
        .build();
    assert_eq!((frame[14] >> 4, &frame[18..21]), (5, &[0, 4, 200][..]));
    assert_eq!((&frame[54..56], &frame[66..70]), (&[1, 255][..], &[0, 7, 0, 0][..]));
}

#[test]
fn nothing_counts_the_filling_and_a_cut_changes_no_header() {
    let packet = Packet::new().with(Ipv4::new(V4.0, V4.1)).with(Udp::new(1, 2));
    let whole = packet.build();
    assert_eq!(packet.clone().padded().build()[..whole.len()], whole);
    assert_eq!(packet.clone().padded().build().len(), 60);
    assert_eq!(packet.truncated(37).build(), whole[..37]);
}
