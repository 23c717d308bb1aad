//! The block-list under real traffic.

use std::time::{Duration, Instant};

use lyncwall_tests::expect::{BRIEF, PATIENT, expect_ping, expect_tcp, expect_udp};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{eventually, ping, tcp_exchange, tcp_open};

use super::{tcp_servers, udp_servers};

fn said(scene: &Scene, arguments: &[&str]) -> String {
    scene.instance.cli(arguments).expect("it runs").success().expect("it is done")
}

/// Less what the test took until here.
fn lasts_an_hour(text: &str) -> bool {
    text.contains("for 1h") || text.contains("for 59m")
}

#[test]
fn who_is_blocked_while_a_session_talks_is_cut_and_comes_back() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    let _servers = tcp_servers(host, &[443]);
    let _far = (tcp_servers(client, &[4443]), udp_servers(client, &[53]));
    let session = tcp_open(client, Scene::v4(443), PATIENT).expect("a session");
    let other = tcp_open(client, Scene::v6(443), PATIENT).expect("a session");
    assert_eq!(tcp_exchange(&session, PATIENT).expect("an exchange"), Answered);

    let text = said(&scene, &["block", "192.0.2.0/30", "--for", "1h"]);
    assert!(text.contains("192.0.2.0/30 is blocked for 1h"), "{text}");
    assert_eq!(tcp_exchange(&session, BRIEF).expect("an exchange"), TimedOut);
    expect_tcp(client, Scene::v4(443), TimedOut);
    expect_ping(client, Pair::HOST_V4.into(), TimedOut);
    // What the box asks of it is not answered either.
    expect_tcp(host, (Pair::CLIENT_V4, 4443), TimedOut);
    expect_udp(host, 40_000, (Pair::CLIENT_V4, 53).into(), TimedOut);
    assert_eq!(ping(host, Pair::CLIENT_V4.into(), BRIEF).expect("a try"), TimedOut);
    // The other family is not on the list.
    assert_eq!(tcp_exchange(&other, PATIENT).expect("an exchange"), Answered);
    let dropped = api.counters().expect("counters").of("blocked", "drop");
    assert!(dropped >= 6, "{dropped}");
    let status = api.status().expect("a status").blocked;
    assert_eq!((status.v4, status.v6), (1, 0));
    assert!(status.dropped >= dropped);
    let text = said(&scene, &["blocked"]);
    assert!(text.contains("192.0.2.0/30") && lasts_an_hour(&text), "{text}");

    said(&scene, &["unblock", "192.0.2.0/30"]);
    expect_tcp(client, Scene::v4(443), Answered);
    expect_udp(host, 40_001, (Pair::CLIENT_V4, 53).into(), Answered);
    // The session that was cut goes on: its peer repeats what was dropped.
    let again = tcp_open(client, Scene::v4(443), PATIENT).expect("a session");
    assert_eq!(tcp_exchange(&again, PATIENT).expect("an exchange"), Answered);
    assert_eq!(said(&scene, &["blocked"]), "no prefix is blocked\n");
}

#[test]
fn audit_mode_drops_what_is_blocked_and_nothing_else() {
    let scene = Scene::new().expect("a scene");
    let config = Config::roles(&["reverse-proxy"]).top("mode = \"audit\"");
    let (_agent, _api) = scene.start(&config).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443, 444]);
    expect_tcp(client, Scene::v6(444), Answered);
    said(&scene, &["block", "2001:db8::1"]);
    expect_tcp(client, Scene::v6(443), TimedOut);
    expect_tcp(client, Scene::v6(444), TimedOut);
    expect_tcp(client, Scene::v4(444), Answered);
}

/// A server with one socket for both families logs its clients in this form.
#[test]
fn an_ipv4_address_in_ipv6_form_is_blocked_as_the_address_that_is_meant() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443]);
    let text = said(&scene, &["block", "::ffff:192.0.2.1"]);
    assert!(text.contains("192.0.2.1/32 is blocked"), "{text}");
    expect_tcp(client, Scene::v4(443), TimedOut);
    expect_tcp(client, Scene::v6(443), Answered);
    said(&scene, &["unblock", "::ffff:c000:201"]);
    expect_tcp(client, Scene::v4(443), Answered);
    // No packet carries this one.
    let refused = scene.instance.cli(["block", "::192.0.2.1"]).expect("it runs");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("the IPv4 address is 192.0.2.1"), "{refused:?}");
}

#[test]
fn a_block_ends_in_time_without_an_agent() {
    let scene = Scene::new().expect("a scene");
    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443]);
    let start = Instant::now();
    said(&scene, &["block", "192.0.2.1", "2001:db8::1", "--for", "3s"]);
    agent.kill().expect("it ran");
    expect_tcp(client, Scene::v6(443), TimedOut);
    let comes_back =
        || lyncwall_tests::traffic::tcp_connect(client, Scene::v4(443), BRIEF).expect("a try") == Answered;
    assert!(!comes_back());
    assert!(eventually(PATIENT, comes_back), "it does not end");
    assert!(start.elapsed() >= Duration::from_millis(2900), "after {:?}", start.elapsed());
    expect_tcp(client, Scene::v6(443), Answered);
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!(said(&scene, &["blocked"]), "no prefix is blocked\n");
}

#[test]
fn the_block_list_survives_the_agent_and_a_boot_and_goes_with_detach() {
    let scene = Scene::new().expect("a scene");
    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443]);
    said(&scene, &["block", "192.0.2.1", "198.51.100.0/24"]);
    said(&scene, &["block", "198.51.100.7", "--for", "1h"]);
    let listed = |text: &str| {
        let shown: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(shown[1..4], ["192.0.2.1/32", "198.51.100.0/24", "198.51.100.7/32"], "{text}");
        assert!(lasts_an_hour(text), "each has its own end: {text}");
    };
    listed(&said(&scene, &["blocked"]));
    agent.kill().expect("it ran");
    expect_tcp(client, Scene::v4(443), TimedOut);
    let agent = scene.instance.start().expect("the next agent");
    expect_tcp(client, Scene::v4(443), TimedOut);
    listed(&said(&scene, &["blocked"]));

    // After a boot there are no pins; what the state directory has is enforced from the first packet on.
    agent.kill().expect("it ran");
    let file = scene.instance.state().join("blocked.json");
    let kept = std::fs::read(&file).expect("a file");
    let detached = said(&scene, &["detach"]);
    assert!(detached.contains("the box is open: detached from "), "{detached}");
    assert!(!file.exists(), "`detach` forgets the list");
    std::fs::write(&file, kept).expect("what a boot would find");
    let agent = scene.instance.start().expect("an agent after the boot");
    expect_tcp(client, Scene::v4(443), TimedOut);
    listed(&said(&scene, &["blocked"]));

    said(&scene, &["detach"]);
    assert_eq!(agent.wait().expect("it ends").code, Some(0));
    assert!(!file.exists(), "`detach` forgets the list, with an agent as well");
    let _agent = scene.instance.start().expect("another agent");
    expect_tcp(client, Scene::v4(443), Answered);
}

#[test]
fn mistakes_in_prefixes_come_together_and_block_nobody() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let refused = |arguments: &[&str], said: &[&str]| {
        let finished = scene.instance.cli(arguments).expect("it runs");
        assert_eq!(finished.code, Some(1), "{finished:?}");
        for text in said {
            assert!(finished.stderr.contains(text), "no {text:?} in {finished:?}");
        }
        assert_eq!(finished.stderr.matches("error: ").count(), said.len(), "{finished:?}");
        assert_eq!(api.status().expect("a status").blocked.v4, 0);
    };
    refused(
        &[
            "block",
            "203.0.113.9",
            "203.0.113.9/24",
            "0.0.0.0/0",
            "::/0",
            "host",
            "192.0.2.0/33",
            "--for",
            "0s",
        ],
        &[
            "`203.0.113.9/24`: the address has bits set behind the prefix length; the prefix is 203.0.113.0/24",
            "0.0.0.0/0 would block everybody; name longer prefixes",
            "::/0 would block everybody",
            "`host`: not an address or prefix",
            "`192.0.2.0/33`: the prefix length is over 32",
            "0 s is not a valid time to block for; set --for to 1s to 365d",
        ],
    );
    refused(&["block", "203.0.113.9", "--for", "366d"], &["31622400 s is not a valid time to block for"]);
    refused(&["block", "203.0.113.9", "--for", "soon"], &["invalid value 'soon'"]);
    refused(&["unblock", "203.0.113.9"], &["203.0.113.9/32 is not on the block-list"]);

    // Management is told, and wins.
    let blocked = scene.instance.cli(["block", "203.0.112.0/20"]).expect("it runs");
    assert_eq!(blocked.code, Some(0), "{blocked:?}");
    let warned = "203.0.112.0/20 includes sources of [management]";
    assert!(blocked.stderr.contains(warned), "{blocked:?}");
    let inner = scene.instance.cli(["unblock", "203.0.113.9"]).expect("it runs");
    let told = "203.0.113.9/32 is not on the block-list; 203.0.112.0/20, which contains it, is";
    assert!(inner.code == Some(1) && inner.stderr.contains(told), "{inner:?}");
    said(&scene, &["block", "203.0.113.9"]);
    let inner = scene.instance.cli(["unblock", "203.0.113.9"]).expect("it runs");
    assert!(inner.stderr.contains("203.0.113.9/32 stays blocked: 203.0.112.0/20"), "{inner:?}");
    let json = scene.instance.cli(["blocked", "--json"]).expect("it runs").json().expect("JSON");
    assert_eq!(json["prefixes"], serde_json::json!([{"prefix": "203.0.112.0/20", "seconds": null}]));
    assert_eq!((&json["v4"], &json["v6"], &json["size"]), (&1.into(), &0.into(), &65_536.into()));
}
