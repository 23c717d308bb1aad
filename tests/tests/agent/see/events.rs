//! Events: what they name, which of them somebody gets, and that a flood of one kind leaves the others theirs.

use std::fs::File;
use std::process::Stdio;

use lyncwall_api::Event;
use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Packet, Tcp, Udp, ip};
use lyncwall_tests::programs::Folder;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{FrameSocket, eventually, send_streams};

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
        "target=host&reason=limit",
    ];
    let mut streams: Vec<_> = asked.iter().map(|query| api.events_where(query).expect("a stream")).collect();
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    for packet in [syn(4443), syn(1433), udp(3478), udp(1433)] {
        wire.send(&packet.build()).expect("a frame");
    }
    let expected: [&[(&str, u16)]; 6] =
        [&[("source", 4443)], &[("closed", 3478)], &[("source", 4443)], &[], &[("closed", 1433); 2], &[]];
    for ((stream, query), expected) in streams.iter_mut().zip(asked).zip(expected) {
        let mut got = Vec::new();
        while let Some(event) =
            stream.next(if got.len() < expected.len() { PATIENT } else { BRIEF }).expect("a stream")
        {
            got.push((event.reason, event.destination_port.expect("a port")));
        }
        let got: Vec<(&str, u16)> = got.iter().map(|(reason, port)| (&**reason, *port)).collect();
        assert_eq!(got, expected, "{query}");
    }
    let finished =
        scene.instance.cli(["events", "--reason", "closd", "--port", "x", "--from", "192.0.2.1/8"]);
    let finished = finished.expect("a command");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let parts = ["did you mean `closed`", "`x` is not a port", "`192.0.2.1/8` is not a"];
    // Who waits for what is not there would wait for ever.
    let nothing =
        scene.instance.cli(["events", "--target", "hots", "--in", "eth7", "--rule", "tcp 1,tcp 4443"]);
    let nothing = nothing.expect("a command");
    let unknown = ["did you mean `host`", "unknown guarded interface `eth7`", "unknown open rule `tcp 1`"];
    let silent = scene.instance.cli(["events", "--reason", "multicast"]).expect("a command");
    assert!(
        silent.code == Some(1) && silent.stderr.contains("`multicast` has no events"),
        "{}",
        silent.stderr
    );
    for part in unknown {
        assert!(nothing.code == Some(1) && nothing.stderr.contains(part), "{part}: {}", nothing.stderr);
    }
    assert!(!nothing.stderr.contains("4443`"), "{}", nothing.stderr);
    for part in parts {
        assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
    }
}

#[test]
fn a_flood_of_one_kind_leaves_the_others_their_events() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&director()).expect("an agent");
    let mut rare = api.events_where("reason=source").expect("a stream");
    let mut many = api.events_where("reason=closed").expect("a stream");
    let before = api.counters().expect("counters");
    let client = scene.pair.client.clone();
    let flood = std::thread::spawn(move || {
        send_streams(&client, Pair::CLIENT_LINK, &[syn(1433)], 60_000, Some(30_000)).expect("a flood")
    });
    // More than come at once: the flood has used its events up.
    let mut told: u64 = 0;
    while told < 150 {
        assert!(many.next(PATIENT).expect("a stream").is_some(), "{told} events of the flood");
        told += 1;
    }
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let mut heard = 0;
    let all = eventually(PATIENT, || {
        wire.send(&syn(4443).build()).expect("a frame");
        heard += u64::from(rare.next(BRIEF).expect("a stream").is_some());
        heard == 5
    });
    assert!(all, "{heard} events of another kind");
    while !flood.is_finished() {
        told += u64::from(many.next(BRIEF).expect("a stream").is_some());
    }
    flood.join().expect("no panic");
    // Until the last frame of it is judged.
    let mut after = api.counters().expect("counters");
    loop {
        std::thread::sleep(BRIEF);
        let then = std::mem::replace(&mut after, api.counters().expect("counters"));
        if then.of("closed", "drop") == after.of("closed", "drop") {
            break;
        }
    }
    let dropped = after.of("closed", "drop") - before.of("closed", "drop");
    let lost = after.0.events_lost - before.0.events_lost;
    while told + lost < dropped {
        assert!(many.next(PATIENT).expect("a stream").is_some(), "{told} told, {lost} lost of {dropped}");
        told += 1;
    }
    assert_eq!(many.next(BRIEF).expect("a stream"), None, "each drop is told or counted as lost");
    assert_eq!(told + lost, dropped);
    assert!(lost > told, "{told} told, {lost} lost");

    // Who reads them is told that these are not all.
    let folder = Folder::new().expect("a folder");
    let said = File::create(folder.path().join("said")).expect("a file");
    let mut reader = scene.instance.command();
    let mut reader = reader.arg("events").stdout(Stdio::null()).stderr(said).spawn().expect("a command");
    let told = eventually(PATIENT, || {
        send_streams(&scene.pair.client, Pair::CLIENT_LINK, &[syn(1433)], 2_000, None).expect("a flood");
        folder.read("said").contains("drops had no event")
    });
    reader.kill().expect("it ran");
    reader.wait().expect("it ended");
    assert!(told, "{}", folder.read("said"));
}
