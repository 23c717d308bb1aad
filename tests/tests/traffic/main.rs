//! Real traffic between two namespaces through the agent's firewall: sockets of a real client, a real stack behind.

mod blocked;
mod frames;
mod gateway;
mod groups;
mod large;
mod limit;
mod reachable;
mod replies;
mod standing;
mod targets;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lyncwall_tests::agent::Api;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::{Outcome, TcpEcho, UdpEcho, eventually, ping, tcp_connect, udp_exchange};

/// For an answer that comes, on an emulated machine as well.
const PATIENT: Duration = Duration::from_secs(60);
/// For an answer that does not. Shorter than the second after which TCP repeats its opening, so that a try is one
/// packet.
const BRIEF: Duration = Duration::from_millis(250);

/// Patience by what is expected.
fn patience(expected: Outcome) -> Duration {
    if expected == Outcome::TimedOut { BRIEF } else { PATIENT }
}

#[track_caller]
fn expect_tcp(from: &Netns, to: SocketAddr, expected: Outcome) {
    let outcome = tcp_connect(from, to, patience(expected)).expect("a try");
    assert_eq!(outcome, expected, "TCP to {to}");
}

#[track_caller]
fn expect_udp(from: &Netns, source: u16, to: SocketAddr, expected: Outcome) {
    let outcome = udp_exchange(from, source, to, patience(expected)).expect("a try");
    assert_eq!(outcome, expected, "UDP from {source} to {to}");
}

#[track_caller]
fn expect_ping(from: &Netns, to: IpAddr, expected: Outcome) {
    let outcome = ping(from, to, patience(expected)).expect("a try");
    assert_eq!(outcome, expected, "a ping of {to}");
}

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
