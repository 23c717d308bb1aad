//! Events: what they name, which of them somebody gets, and that a flood of one kind leaves the others theirs.

use std::time::Duration;

use lyncwall::api::Event;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Packet, Tcp, Udp, ip};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{FrameSocket, send_streams};

/// For an event that comes.
const PATIENT: Duration = Duration::from_secs(30);
/// For one that does not.
const BRIEF: Duration = Duration::from_millis(400);

fn director() -> Config {
    Config::roles(&["director"]).further("[groups]\nreverse-proxy = [\"198.51.100.64/28\"]\n")
}

/// An opening to the host.
fn syn(port: u16) -> Packet {
    Pair::frame().with(ip(Scene::CLIENT[0], Scene::HOST[0])).with(Tcp::syn(40_000, port))
}

fn udp(port: u16) -> Packet {
    Pair::frame().with(ip(Scene::CLIENT[0], Scene::HOST[0])).with(Udp::new(40_000, port))
}

#[test]
fn an_event_names_target_service_rule_and_what_else_matters() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&director()).expect("an agent");
    let mut events = api.events().expect("events");
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let mut next = |packet: Packet| -> Event {
        wire.send(&packet.build()).expect("a frame");
        loop {
            let event = events.next(PATIENT).expect("a stream").expect("an event");
            // The client's stack says things by itself.
            if event.source_port == Some(40_000) {
                return event;
            }
        }
    };
    let source = next(syn(4443));
    assert_eq!((&*source.reason, source.target.as_deref()), ("source", Some("host")));
    assert_eq!(source.rule.as_deref(), Some("host tcp 4443"));
    assert!(
        source.service.as_deref().is_some_and(|service| service.contains("Director web services")),
        "{source:?}"
    );
    assert!(source.note.as_deref().is_some_and(|note| note.contains("reverse-proxy")), "{source:?}");
    let management = next(syn(22));
    assert_eq!(&*management.reason, "closed");
    assert!(management.note.as_deref().is_some_and(|note| note.contains("not from here")), "{management:?}");
    let other = next(udp(3478));
    assert_eq!((&*other.reason, other.rule.as_deref()), ("closed", None));
    assert!(other.service.is_some(), "the catalogue knows the port: {other:?}");
}

#[test]
fn whoever_asks_for_some_gets_only_those() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&director()).expect("an agent");
    let asked = [
        "reason=source",
        "port=udp/3000-4000",
        "rule=tcp+4443",
        "from=203.0.113.0/24",
        "reason=closed&port=1433",
        "target=nobody",
    ];
    let mut streams: Vec<_> = asked.iter().map(|query| api.events_where(query).expect("a stream")).collect();
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    for packet in [syn(4443), syn(1433), udp(3478), udp(1433)] {
        wire.send(&packet.build()).expect("a frame");
    }
    let mut got = |n: usize| -> Vec<(String, u16)> {
        let mut all = Vec::new();
        while let Some(event) =
            streams[n].next(if all.is_empty() { BRIEF * 3 } else { BRIEF }).expect("a stream")
        {
            all.push((event.reason, event.destination_port.expect("a port")));
        }
        all
    };
    assert_eq!(got(0), [("source".to_owned(), 4443)]);
    assert_eq!(got(1), [("closed".to_owned(), 3478)]);
    assert_eq!(got(2), [("source".to_owned(), 4443)]);
    assert_eq!(got(3), []);
    assert_eq!(got(4), [("closed".to_owned(), 1433), ("closed".to_owned(), 1433)]);
    assert_eq!(got(5), []);
    let finished =
        scene.instance.cli(["events", "--reason", "closd", "--port", "x", "--from", "192.0.2.1/8"]);
    let finished = finished.expect("a command");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for part in ["did you mean `closed`", "`x` is no port", "`192.0.2.1/8` is no address"] {
        assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
    }
}

#[test]
fn a_flood_of_one_kind_leaves_the_others_their_events() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&director()).expect("an agent");
    let mut rare = api.events_where("reason=source").expect("a stream");
    let before = api.counters().expect("counters");
    let client = scene.pair.client.clone();
    let flood = std::thread::spawn(move || {
        send_streams(&client, Pair::CLIENT_LINK, &[syn(1433)], 60_000, Some(30_000)).expect("a flood")
    });
    std::thread::sleep(Duration::from_millis(700));
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    for _ in 0..5 {
        wire.send(&syn(4443).build()).expect("a frame");
    }
    let sent = flood.join().expect("no panic").frames;
    for n in 0..5 {
        assert!(rare.next(PATIENT).expect("a stream").is_some(), "event {n}");
    }
    let after = api.counters().expect("counters");
    assert_eq!(after.of("closed", "drop") - before.of("closed", "drop"), sent);
    let lost = after.0.events_lost - before.0.events_lost;
    assert!(lost > 0 && lost < sent, "{lost} of {sent} lost");
}
