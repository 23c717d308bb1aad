//! Closed ports that reject: what a real client sees.

use lyncwall_tests::agent::Instance;
use lyncwall_tests::expect::{expect_tcp, expect_udp};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, Refused, TimedOut};

use super::{expect_count, tcp_servers, udp_servers};

fn rejecting() -> Config {
    Config::roles(&["reverse-proxy"]).target("on-closed = \"reject\"")
}

#[test]
fn a_client_of_a_closed_port_is_refused_at_once() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&rejecting().attach("generic")).expect("an agent");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    // Behind closed ports, so that the refusal is the firewall's doing.
    let _tcp = tcp_servers(host, &[443, 8080]);
    let _udp = udp_servers(host, &[1434]);
    for address in Scene::HOST {
        expect_tcp(client, (address, 443), Answered);
        expect_tcp(client, (address, 8080), Refused);
        expect_udp(client, 0, (address, 1434).into(), Refused);
    }
    // One packet each: no opening was repeated.
    expect_count(&api, "closed", "drop", 4);
    let answered = api.counters().expect("counters").0.answered;
    assert_eq!((answered.tcp, answered.udp), (2, 2));
    let status = api.status().expect("a status");
    assert_eq!(status.targets[0].on_closed, "reject");
    assert!(!status.warnings.iter().any(|warning| warning.contains("on-closed")), "{:?}", status.warnings);

    let explained = scene.instance.cli(["explain", "tcp/8080", "--from", "192.0.2.1", "--to", "192.0.2.2"]);
    let explained = explained.expect("it runs").stdout;
    assert!(explained.contains("the sender gets a TCP reset"), "{explained}");

    // In audit mode the servers answer themselves, and with "drop" nobody does.
    api.set_mode(None, lyncwall_api::Mode::Audit).expect("a mode");
    expect_tcp(client, (Pair::HOST_V4, 8080), Answered);
    api.set_mode(None, lyncwall_api::Mode::Enforce).expect("a mode");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).attach("generic").toml()).expect("a file");
    let reloaded = api.reload().expect("a reload");
    assert!(
        reloaded.changes.iter().any(|change| change == "on-closed of target host: reject to drop"),
        "{reloaded:?}"
    );
    expect_tcp(client, (Pair::HOST_V4, 8080), TimedOut);
}

#[test]
fn a_veth_in_native_mode_answers_an_end_with_a_program() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&rejecting().attach("native")).expect("an agent");
    let status = api.status().expect("a status");
    assert_eq!(status.interfaces[0].mode, "native");
    let warned = status.warnings.iter().any(|warning| warning.contains("by host0, a veth"));
    assert!(warned, "{:?}", status.warnings);
    let client = &scene.pair.client;
    expect_tcp(client, (Pair::HOST_V4, 8080), TimedOut);
    // The far side is guarded, too.
    let far = Instance::new(client, &scene.bpffs, "far").expect("a place");
    let mut config = Config::roles(&[]).top("mode = \"audit\"");
    config.interfaces = vec![(Pair::CLIENT_LINK.to_owned(), "native")];
    far.configure(&config.toml()).expect("a file");
    let _far = far.start().expect("an agent");
    for address in Scene::HOST {
        expect_tcp(client, (address, 8080), Refused);
        expect_udp(client, 0, (address, 1434).into(), Refused);
    }
    let answered = api.counters().expect("counters").0.answered;
    assert!(answered.tcp >= 3 && answered.udp >= 2, "{answered:?}");
}
