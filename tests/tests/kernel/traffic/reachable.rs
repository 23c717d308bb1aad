//! What a client reaches, and what it does not.

use std::net::IpAddr;

use lyncwall_tests::expect::{PATIENT, expect_ping, expect_tcp, expect_udp};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, Refused, TimedOut};

use super::{expect_count, tcp_servers, udp_servers};

/// Opens UDP ports, as the roles in front of a pool have none.
const STUN: &str = "[[allow]]\nname = \"stun\"\ntransport = \"udp\"\nports = [3478, 3479]\n";

fn open_ports_answer_and_closed_ones_are_silent(attach: &'static str) {
    let scene = Scene::new().expect("a scene");
    let config = Config::roles(&["director-vip"]).further(STUN).attach(attach);
    let (_agent, api) = scene.start(&config).expect("an agent");
    assert_eq!(api.status().expect("a status").interfaces[0].mode, attach);
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    // Behind closed ports as well, so that silence is the firewall's doing.
    let _tcp = tcp_servers(host, &[443, 5061, 1433]);
    let _udp = udp_servers(host, &[3478, 1434]);
    for address in Scene::HOST {
        let at = |port| (address, port).into();
        expect_ping(client, address, Answered);
        expect_tcp(client, at(443), Answered);
        expect_tcp(client, at(5061), Answered);
        expect_udp(client, 0, at(3478), Answered);
        expect_tcp(client, at(1433), TimedOut);
        expect_udp(client, 0, at(1434), TimedOut);
        // Open, and nobody there: the stack says so itself.
        expect_tcp(client, at(4443), Refused);
        expect_udp(client, 0, at(3479), Refused);
    }
    expect_count(&api, "closed", "drop", 4);
    let counters = api.counters().expect("counters");
    assert_eq!((counters.port("tcp", 1433), counters.port("udp", 1434)), (2, 2));
    // The opening only: what follows it on a standing connection does not open.
    assert!(counters.rule("tcp", "443") >= 2 && counters.rule("tcp", "4443") == 2, "{:?}", counters.0.rules);
    assert_eq!(counters.allow("stun"), 4);
    assert_eq!(counters.of("icmp-echo", "pass"), 2);
    // Nobody introduced the two sides: ARP and neighbour discovery had to get in.
    assert!(counters.of("non-ip", "pass") >= 1 && counters.of("neighbour", "pass") >= 1);
    assert_eq!(counters.of("internal", "drop"), 0);
}

#[test]
fn open_ports_answer_and_closed_ones_are_silent_in_native_mode() {
    open_ports_answer_and_closed_ones_are_silent("native");
}

#[test]
fn open_ports_answer_and_closed_ones_are_silent_in_generic_mode() {
    open_ports_answer_and_closed_ones_are_silent("generic");
}

#[test]
fn management_is_for_its_sources_whatever_the_roles() {
    let scene = Scene::new().expect("a scene");
    let [v4, v6] = Scene::CLIENT.map(|address: IpAddr| address.to_string());
    let (_agent, api) = scene.start(&Config::default().management(&[&v4])).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[22, 23]);
    expect_tcp(client, Scene::v4(22), Answered);
    expect_tcp(client, Scene::v4(23), TimedOut);
    expect_tcp(client, Scene::v6(22), TimedOut);

    scene.instance.configure(&Config::default().management(&[&v6]).toml()).expect("a file");
    api.reload().expect("a reload");
    expect_tcp(client, Scene::v4(22), TimedOut);
    expect_tcp(client, Scene::v6(22), Answered);
    assert!(api.counters().expect("counters").of("management", "pass") >= 2);
    expect_count(&api, "closed", "drop", 3);
    // A switch does not touch it.
    api.switch(&["reverse-proxy"]).expect("a switch");
    expect_tcp(client, Scene::v6(22), Answered);
}

#[test]
fn an_allow_rule_is_for_its_sources_and_has_its_own_counter() {
    let scene = Scene::new().expect("a scene");
    let rules = format!(
        "[[allow]]\nname = \"node exporter\"\ntransport = \"tcp\"\nports = [9100, \"9200-9210\"]\n\
         from = [\"{}\"]\n",
        Pair::CLIENT_V4
    );
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"]).further(&rules)).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443, 9100, 9199, 9200, 9210, 9211]);
    for port in [443, 9100, 9200, 9210] {
        expect_tcp(client, Scene::v4(port), Answered);
    }
    for port in [9199, 9211] {
        expect_tcp(client, Scene::v4(port), TimedOut);
    }
    expect_tcp(client, Scene::v6(9100), TimedOut);
    let allowed = api.counters().expect("counters").allow("node exporter");
    assert!(allowed >= 3, "{allowed}");
    assert_eq!(api.counters().expect("counters").of("allow", "pass"), allowed);
}

#[test]
fn audit_mode_passes_everything_and_counts_what_would_have_been_dropped() {
    let scene = Scene::new().expect("a scene");
    let config = Config::roles(&["reverse-proxy"]).top("mode = \"audit\"\n");
    let (_agent, api) = scene.start(&config).expect("an agent");
    let client = &scene.pair.client;
    let _tcp = tcp_servers(&scene.pair.host, &[443, 1433]);
    let _udp = udp_servers(&scene.pair.host, &[1434]);
    let mut events = api.events().expect("a stream");
    for address in Scene::HOST {
        expect_tcp(client, (address, 443), Answered);
        expect_tcp(client, (address, 1433), Answered);
        expect_udp(client, 0, (address, 1434).into(), Answered);
    }
    expect_count(&api, "closed", "pass", 4);
    let counters = api.counters().expect("counters");
    assert!(counters.0.reasons.iter().all(|count| count.action == "pass"), "{:?}", counters.0.reasons);
    assert_eq!(api.status().expect("a status").dropped, 0);
    let event = events.next(PATIENT).expect("a stream that holds").expect("an event");
    assert_eq!((event.action.as_str(), event.reason.as_str()), ("pass", "closed"));
    assert_eq!((event.protocol.as_deref(), event.destination_port), (Some("tcp"), Some(1433)));
    drop(events);

    // The same box, enforcing.
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    api.reload().expect("a reload");
    expect_tcp(client, Scene::v4(1433), TimedOut);
    expect_tcp(client, Scene::v4(443), Answered);
    expect_count(&api, "closed", "drop", 1);
}
