//! Every row of the verdict table through the kernel's program, frame by frame: the action, the one counter that goes
//! up, the event, and the same verdict in memory.

mod answer;
mod blocked;
mod check;
mod firewall;
mod fixture;
mod flows;
mod fragments;
mod icmp;
mod interface;
mod ipv4;
mod ipv6;
mod kernel;
mod limit;
mod link;
mod modes;
mod policy;
mod transport;
mod world;
mod zones;

use check::check;
use fixture::Fixture;

/// Every list.
fn fixtures() -> Vec<Fixture> {
    [
        link::fixtures(),
        ipv4::fixtures(),
        ipv6::fixtures(),
        fragments::fixtures(),
        transport::fixtures(),
        icmp::fixtures(),
        policy::fixtures(),
        flows::fixtures(),
        blocked::fixtures(),
        limit::fixtures(),
    ]
    .concat()
}

#[test]
fn flows_and_their_replies() {
    check(&flows::fixtures());
}

#[test]
fn ethernet_and_vlan_tags() {
    check(&link::fixtures());
}

#[test]
fn ipv4_headers_and_options() {
    check(&ipv4::fixtures());
}

#[test]
fn ipv6_headers_and_extensions() {
    check(&ipv6::fixtures());
}

#[test]
fn fragments_follow_their_first() {
    check(&fragments::fixtures());
}

#[test]
fn transport_headers_ports_and_replies() {
    check(&transport::fixtures());
}

#[test]
fn icmp_and_neighbour_discovery() {
    check(&icmp::fixtures());
}

#[test]
fn management_rules_targets_and_multicast() {
    check(&policy::fixtures());
}
