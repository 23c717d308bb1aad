//! A limit on openings under real traffic.

use std::thread;
use std::time::Duration;

use lyncwall_tests::expect::{BRIEF, PATIENT, expect_tcp};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::Tcp;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::FrameSocket;
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{eventually, tcp_connect, tcp_exchange, tcp_open};

use super::{expect_count, tcp_servers};

#[test]
fn a_scanner_loses_and_another_source_gets_in() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let config = Config::roles(&["reverse-proxy"]).further("[limit]\nopenings-per-second = 1\nburst = 20\n");
    let (_agent, api) = scene.start(&config).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443]);
    let session = tcp_open(client, Scene::v4(443), PATIENT).expect("a session");

    // From one port after the other, as scanners do.
    let scanner = FrameSocket::open(client, Pair::CLIENT_LINK).expect("a socket");
    for port in 20_000..20_400 {
        scanner.send(&Pair::frame_v4().with(Tcp::syn(port, 443)).build()).expect("a frame");
    }
    expect_tcp(client, Scene::v4(443), TimedOut);
    expect_tcp(client, Scene::v6(443), Answered);
    // What stands already goes on.
    assert_eq!(tcp_exchange(&session, PATIENT).expect("an exchange"), Answered);
    let limited = || api.counters().expect("counters").of("limit", "drop");
    assert!(eventually(PATIENT, || limited() >= 370), "{}", limited());
    // Beside the scanner's 400 there were the session and one try, or a few where TCP repeated it.
    assert!(limited() <= 390, "{}", limited());
    // Who stops is let in again.
    let again = || tcp_connect(client, Scene::v4(443), BRIEF).expect("a try") == Answered;
    assert!(eventually(PATIENT, || {
        thread::sleep(Duration::from_millis(300));
        again()
    }));
}

#[test]
fn a_targets_own_limit_comes_and_goes_with_a_reload_and_audit_only_counts() {
    let scene = Scene::new().expect("a scene");
    let config = |top: &str, limit: &str| {
        let further = if limit.is_empty() { String::new() } else { format!("[target.limit]\n{limit}\n") };
        // `[target.limit]` belongs to the last target: there is one.
        Config::roles(&["reverse-proxy"]).top(top).further(&further)
    };
    let one = "openings-per-second = 1\nburst = 1";
    let (_agent, api) = scene.start(&config("mode = \"audit\"", one)).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443]);
    for _ in 0..3 {
        expect_tcp(client, Scene::v4(443), Answered);
    }
    expect_count(&api, "limit", "pass", 2);
    scene.instance.configure(&config("", one).toml()).expect("a file");
    api.reload().expect("a reload");
    thread::sleep(Duration::from_millis(1100));
    expect_tcp(client, Scene::v6(443), Answered);
    expect_tcp(client, Scene::v6(443), TimedOut);
    scene.instance.configure(&config("", "").toml()).expect("a file");
    let changes = api.reload().expect("a reload").changes;
    let told = "limit of target host: 1 openings per second, burst 1 to none";
    assert!(changes.iter().any(|change| change == told), "{changes:?}");
    for _ in 0..3 {
        expect_tcp(client, Scene::v6(443), Answered);
    }
}
