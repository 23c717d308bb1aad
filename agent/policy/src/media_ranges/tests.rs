use std::net::IpAddr;

use lyncwall_common::abi::PortTransport::{self, Tcp, Udp};

use super::{Overlap, exposed, media_ranges, overlaps};
use crate::compile::tests::{host, input, listed, rule, tcp};
use crate::compile::{Input, Rule};
use crate::connection::Listener;
use crate::net::PortRange;

fn scene(own: Vec<Rule>) -> Input {
    let elsewhere = listed("behind", &["192.0.2.90"], vec![rule(Udp, 20_000, 30_000)]);
    let mut input = input(vec![host(own), elsewhere]);
    input.local = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 2])].into_iter().collect();
    input
}

fn ports(first: u16, last: u16) -> PortRange {
    PortRange::between(first, last)
}

fn listener(transport: PortTransport, address: [u8; 4], port: u16, process: Option<&str>) -> Listener {
    Listener { transport, address: address.into(), port, inode: 1, process: process.map(str::to_owned) }
}

#[test]
fn a_range_is_wide_from_a_hundred_ports_on_and_on_this_box() {
    let input =
        scene(vec![tcp(443), rule(Tcp, 1000, 1098), rule(Tcp, 2000, 2099), rule(Udp, 49_152, 57_500)]);
    let found: Vec<_> = media_ranges(&input).iter().map(|range| (range.target, range.ports())).collect();
    assert_eq!(found, [("host", ports(2000, 2099)), ("host", ports(49_152, 57_500))]);
}

#[test]
fn listeners_in_a_wide_range_are_exposed_by_process() {
    let input = scene(vec![rule(Udp, 49_152, 57_500)]);
    let any = [0, 0, 0, 0];
    let listeners = [
        listener(Udp, any, 49_500, Some("named")),
        listener(Udp, [192, 0, 2, 2], 49_152, Some("named")),
        listener(Udp, [192, 0, 2, 2], 49_500, Some("named")),
        listener(Udp, any, 57_500, None),
        // Another transport, other ports, another address.
        listener(Tcp, any, 49_501, Some("named")),
        listener(Udp, any, 49_151, Some("named")),
        listener(Udp, any, 57_501, Some("named")),
        listener(Udp, [192, 0, 2, 90], 50_000, Some("named")),
    ];
    let ranges = media_ranges(&input);
    let found: Vec<_> = exposed(&ranges, &input, &listeners)
        .into_iter()
        .map(|exposed| (exposed.process, exposed.ports))
        .collect();
    assert_eq!(found, [(None, vec![57_500]), (Some("named".to_owned()), vec![49_152, 49_500])]);
}

#[test]
fn own_ports_overlap_wide_ranges_only() {
    let own = [ports(32_768, 60_999)];
    let of = |rules| overlaps(&media_ranges(&scene(rules)), &own);
    assert_eq!(of(vec![tcp(50_001), rule(Tcp, 40_000, 40_050)]), None);
    assert_eq!(of(vec![rule(Udp, 20_000, 32_767), rule(Udp, 61_000, 65_535)]), None);
    assert_eq!(
        of(vec![rule(Udp, 49_152, 57_500), rule(Udp, 57_501, 65_535), rule(Tcp, 60_000, 60_100)]),
        Some(Overlap {
            open: vec![(Tcp, vec![ports(60_000, 60_100)]), (Udp, vec![ports(49_152, 60_999)])],
            left: Some(ports(32_768, 49_151)),
        })
    );
    assert_eq!(
        of(vec![rule(Udp, 1024, 65_535)]),
        Some(Overlap { open: vec![(Udp, own.to_vec())], left: None })
    );
    assert_eq!(
        overlaps(&media_ranges(&scene(vec![rule(Udp, 49_152, 65_535)])), &[ports(32_768, 49_151)]),
        None
    );
}
