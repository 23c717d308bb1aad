//! What the commands that speak to an agent print: JSON for programs, text for people.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Tcp, Udp};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{FrameSocket, eventually, send_streams};
use serde_json::Value;

use super::cli;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// A frame from the client every 20 ms until this is dropped: nobody knows when a command has begun to listen, and events
/// that nobody listens to go unheard.
struct Again {
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

impl Again {
    fn and_again(scene: &Scene, frame: Vec<u8>) -> Self {
        let socket = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                socket.send(&frame).expect("a frame");
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, sender: Some(sender) }
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.sender.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the sender failed");
    }
}

#[test]
fn status_switch_and_watch_are_json_for_programs() {
    let scene = Scene::new().expect("a scene");
    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let status = cli(&scene, ["status", "--json"]).json().expect("JSON");
    assert_eq!(status["generation"], 1);
    assert_eq!(status["pid"], agent.pid().as_raw());
    assert_eq!(status["mode"], "enforce");
    assert_eq!(status["interfaces"][0]["name"], Pair::HOST_LINK);
    assert_eq!(status["interfaces"][0]["mode"], "native");
    assert_eq!(status["targets"][0]["roles"], serde_json::json!(["reverse-proxy"]));
    assert_eq!(status["targets"][0]["tcp"], serde_json::json!(["443"]));

    let switched = cli(&scene, ["--json", "switch", "director-vip"]).json().expect("JSON");
    assert_eq!(switched["generation"], 2);
    let opened: Vec<_> =
        switched["opened"].as_array().expect("a list").iter().map(|port| &port["first"]).collect();
    assert_eq!(opened, [80, 4443, 5061, 8080, 50_001]);
    assert_eq!(switched["closed"], serde_json::json!([]));

    FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK)
        .and_then(|socket| socket.send(&Pair::frame_v4().with(Tcp::syn(40_000, 445)).build()))
        .expect("a frame");
    let mut counters = Value::Null;
    let seen = eventually(PATIENT, || {
        counters = cli(&scene, ["watch", "--json", "-n", "1"]).json().expect("JSON");
        counters["ports"].as_array().is_some_and(|ports| !ports.is_empty())
    });
    assert!(seen, "{counters}");
    assert_eq!(counters["ports"][0]["port"], 445);
    assert_eq!(counters["ports"][0]["packets"], 1);
    assert!(counters["rules"].as_array().is_some_and(|rules| rules.len() >= 6), "{counters}");
    // What comes in by an interface, and how it is guarded.
    assert_eq!(counters["interface_counts"][0]["name"], Pair::HOST_LINK, "{counters}");
    assert_eq!(counters["interfaces"][0]["mode"], "native", "{counters}");
    let once = cli(&scene, ["watch", "--json", "-n", "1"]).success().expect("a look");
    assert_eq!(once.matches("\"interfaces\":").count(), 1, "{once}");
    // Two looks are two lines.
    let looks = cli(&scene, ["watch", "--json", "-n", "2"]).success().expect("two looks");
    assert_eq!(looks.lines().map(serde_json::from_str::<Value>).filter(Result::is_ok).count(), 2, "{looks}");

    let detached = cli(&scene, ["detach", "--json"]).json().expect("JSON");
    // The switch above holds against the file.
    assert_eq!(keys(&detached), ["interfaces", "kept", "maps"]);
}

#[test]
fn status_and_watch_are_text_for_people() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    cli(&scene, ["switch", "director-vip"]).success().expect("a switch");
    let status = cli(&scene, ["status"]).success().expect("a status");
    for text in
        ["enforcing, generation 2", Pair::HOST_LINK, "native", "director-vip", "the file differs", "5061"]
    {
        assert!(status.contains(text), "no {text:?} in:\n{status}");
    }
    let watch = cli(&scene, ["watch", "-n", "1"]).success().expect("a look");
    assert!(watch.contains("generation 2") && !watch.contains('\u{1b}'), "{watch}");
}

#[test]
fn events_are_one_json_object_a_line() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let mut command = scene.instance.command();
    let command = command.args(["events", "--json", "-n", "3"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let _packets = Again::and_again(&scene, Pair::frame_v4().with(Udp::new(40_000, 161)).with(b"x").build());
    let events: Vec<Value> =
        lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON")).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(events.len(), 3);
    for event in events {
        assert!(event["time"].as_f64().is_some_and(|time| time > 1.6e9), "{event}");
        let told =
            ["action", "reason", "interface", "source", "destination", "protocol"].map(|key| &event[key]);
        let (source, destination) = (Pair::CLIENT_V4.to_string(), Pair::HOST_V4.to_string());
        assert_eq!(told, ["drop", "closed", Pair::HOST_LINK, &source, &destination, "udp"], "{event}");
        assert_eq!((&event["source_port"], &event["destination_port"]), (&40_000.into(), &161.into()));
        assert_eq!(event["length"], 14 + 20 + 8 + 1);
        assert!(event.get("tcp_flags").is_none() && event.get("vlan").is_none(), "{event}");
    }
}

#[test]
fn events_are_lines_for_people_and_end_with_their_reader() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let mut child = scene.instance.command().arg("events").stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let _packets = Again::and_again(&scene, Pair::frame_v6().with(Tcp::syn(40_000, 5061)).build());
    let line = lines.next().expect("a line").expect("text");
    // As `| head -1` does.
    drop(lines);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let packet = format!("tcp [{}]:40000 > [{}]:5061 SYN  SIP/TLS", Pair::CLIENT_V6, Pair::HOST_V6);
    for text in ["drop closed", Pair::HOST_LINK, &packet] {
        assert!(line.contains(text), "no {text:?} in {line}");
    }
}

#[test]
fn a_client_that_reads_no_events_harms_nobody() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let ask = |text: &str| {
        let mut stream = UnixStream::connect(scene.instance.socket()).expect("the agent serves");
        stream.write_all(text.as_bytes()).expect("a request");
        stream
    };
    // Listeners that never read, one that never finishes its request, one that says nothing.
    let events = "GET /v1/events HTTP/1.1\r\nHost: lyncwall\r\n\r\n";
    let _stalled =
        [ask(events), ask(events), ask("POST /v1/switch HTTP/1.1\r\nContent-Length: 99\r\n"), ask("")];
    let mut reader = api.events().expect("a stream");
    // Ten seconds' worth of events from many CPUs do not come from here; what matters is that more come than a socket
    // holds, and at least one of the readers gets them.
    let client = scene.pair.client.clone();
    let sender = thread::spawn(move || {
        let packets =
            [Pair::frame_v4().with(Tcp::syn(40_000, 445)), Pair::frame_v6().with(Udp::new(40_000, 161))];
        send_streams(&client, Pair::CLIENT_LINK, &packets, 100_000, Some(50_000))
    });
    let mut seen = 0;
    let mut slowest = Duration::ZERO;
    while !sender.is_finished() {
        if reader.next(Duration::from_millis(200)).expect("a stream that holds").is_some() {
            seen += 1;
        }
        if seen % 20 == 0 {
            let start = Instant::now();
            let other = if seen % 40 == 0 { "director-vip" } else { "reverse-proxy" };
            lyncwall_tests::agent::Api::new(&scene.instance.socket())
                .and_then(|api| api.switch(&[other]))
                .expect("a switch");
            slowest = slowest.max(start.elapsed());
        }
    }
    sender.join().expect("a sender that does not panic").expect("two streams");
    println!("{seen} events read, the slowest switch took {slowest:.1?}");
    assert!(seen >= 100, "{seen} events in four seconds");
    assert!(api.counters().expect("counters").0.events_lost > 0, "the rate is limited");
    let finished = agent.stop().expect("it ends while they are connected");
    assert_eq!(finished.code, Some(0), "{finished:?}");
}
