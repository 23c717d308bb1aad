//! Real traffic between two namespaces through the agent's firewall: sockets of a real client, a real stack behind.

mod answers;
mod blocked;
mod frames;
mod gateway;
mod groups;
mod large;
mod limit;
mod lives;
mod reachable;
mod reordered;
mod replies;
mod standing;
mod taken;
mod targets;

use std::net::Ipv6Addr;

use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::{TcpEcho, UdpEcho, eventually};

/// Servers on these ports of both address families.
fn tcp_servers(at: &Netns, ports: &[u16]) -> Vec<TcpEcho> {
    let start = |port: &u16| TcpEcho::start(at, (Ipv6Addr::UNSPECIFIED, *port)).expect("a TCP server");
    ports.iter().map(start).collect()
}

fn udp_servers(at: &Netns, ports: &[u16]) -> Vec<UdpEcho> {
    let start = |port: &u16| UdpEcho::start(at, (Ipv6Addr::UNSPECIFIED, *port)).expect("a UDP server");
    ports.iter().map(start).collect()
}

/// Waits until the agent has counted so many packets: frames on their way are judged a moment after they were sent.
#[track_caller]
fn expect_count(api: &Api, reason: &str, action: &str, packets: u64) {
    let count = || api.counters().expect("counters").of(reason, action);
    eventually(PATIENT, || count() >= packets);
    assert_eq!(count(), packets, "{reason} {action} in {:?}", api.counters().expect("counters").0.reasons);
}

/// `lyncwall switch` with these arguments.
#[track_caller]
fn cli_switch(scene: &Scene, arguments: &[&str]) {
    let arguments = ["switch"].iter().chain(arguments);
    scene.instance.cli(arguments).expect("it runs").success().expect("a switch");
}
