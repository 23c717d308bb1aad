//! Neighbours are found while the firewall enforces: ARP and neighbour discovery, by the stack and by nmap.

use std::net::IpAddr;

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::programs;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::Answered;
use lyncwall_tests::traffic::ping;

use super::ip;

const CLIENT_MAC: &str = "02:00:00:00:10:01";
const HOST_MAC: &str = "02:00:00:00:10:02";

/// Forgets what is known of neighbours, and finds one again by talking to it.
#[track_caller]
fn expect_found(from: &Netns, link: &str, to: IpAddr, mac: &str) {
    ip(from, &format!("neighbour flush dev {link}"));
    let known = || ip(from, &format!("neighbour show {to} dev {link}"));
    assert!(!known().contains(mac), "{}", known());
    assert_eq!(ping(from, to, PATIENT).expect("a try"), Answered, "a ping of {to}");
    assert!(known().contains(mac), "{}", known());
}

#[test]
fn forgotten_neighbours_are_found_again_from_both_sides() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::default()).expect("an agent");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    for _ in 0..3 {
        for (address, peer) in Scene::HOST.into_iter().zip(Scene::CLIENT) {
            expect_found(client, Pair::CLIENT_LINK, address, HOST_MAC);
            expect_found(host, Pair::HOST_LINK, peer, CLIENT_MAC);
        }
    }
    let counters = api.counters().expect("counters");
    // Three times from each side, a question or an answer that came in.
    assert!(counters.of("non-ip", "pass") >= 6 && counters.of("neighbour", "pass") >= 6, "{counters:?}");
}

/// Which of these nmap finds up, and at which MAC it does, by ARP or neighbour discovery.
fn found(from: &Netns, more: &[&str], addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let arguments = ["-sn", "-n", "--reason"].iter().copied().chain(more.iter().copied());
    let arguments = arguments.chain(addresses.iter().map(String::as_str));
    programs::run(from, "nmap", arguments, PATIENT).expect("nmap").success().expect("a scan")
}

#[test]
fn nmap_finds_the_box_and_the_box_finds_its_neighbours() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::default()).expect("an agent");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    let absent = ["192.0.2.77", "2001:db8::77"].map(|text| text.parse::<IpAddr>().expect("an address"));
    for (at, reason) in [(0, "arp-response"), (1, "nd-response")] {
        let more: &[&str] = if at == 0 { &[] } else { &["-6"] };
        for (from, to, mac) in [(client, Scene::HOST[at], HOST_MAC), (host, Scene::CLIENT[at], CLIENT_MAC)] {
            let report = found(from, more, &[to, absent[at]]);
            assert!(report.contains("(1 host up)"), "{report}");
            assert!(report.contains(reason) && report.to_lowercase().contains(mac), "{report}");
        }
    }
}
