//! One drop seen in all ways, by lyncwall alone: it runs on every kernel.

use lyncwall_tests::agent::binary;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Tcp, Udp};
use lyncwall_tests::programs::Folder;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{FrameSocket, eventually};

#[test]
fn a_drop_is_counted_told_logged_captured_and_explained() {
    let mut scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    let script = format!("#!/bin/sh\nexec {} \"$@\" --program-log debug --log json\n", binary().display());
    scene.instance.run_by(&folder.script("lyncwall", &script).expect("a script"));
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    // Commands write no such lines.
    scene.instance.run_by(&binary());
    let mut events = api.events_where("port=1433,5060").expect("events");
    let file = folder.file("drops.pcapng");
    let mut capture = scene.instance.command();
    capture.args(["capture", "-w", &file, "-n", "2", "--port", "1433,5060"]);
    let mut capture = capture.spawn().expect("a capture");
    agent.wait_for_log("capturing dropped packets").expect("it captures");

    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let frames = [
        Pair::frame_v4().with(Tcp::syn(40_000, 1433)).build(),
        Pair::frame_v4().with(Udp::new(40_000, 5060)).with(vec![0x5a; 900]).build(),
    ];
    for frame in &frames {
        wire.send(frame).expect("a frame");
    }
    let ended = eventually(PATIENT, || capture.try_wait().expect("its state").is_some());
    assert!(ended, "{}", agent.stderr());
    for (frame, port) in frames.iter().zip([1433, 5060]) {
        let event = events.next(PATIENT).expect("a stream").expect("an event");
        assert_eq!((&*event.reason, event.destination_port), ("closed", Some(port)), "{event:?}");
        assert_eq!((&*event.interface, event.length as usize), (Pair::HOST_LINK, frame.len()), "{event:?}");
    }
    let counters = api.counters().expect("counters");
    assert_eq!((counters.port("tcp", 1433), counters.port("udp", 5060)), (1, 1));
    let logged = || {
        let log = agent.stderr();
        log.lines().filter(|line| line.contains("\"bpf\"") && line.contains("\"closed\"")).count()
    };
    assert!(eventually(PATIENT, || logged() >= 2), "{}", agent.stderr());

    // The packets are whole, so they are judged as they were.
    let explained = scene.instance.cli(["--json", "explain", "--packet", &file]).expect("a command");
    let explained = explained.success().expect("explanations");
    let told: Vec<serde_json::Value> =
        explained.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(told.len(), 2, "{explained}");
    for (told, (frame, port)) in told.iter().zip(frames.iter().zip([1433, 5060])) {
        let event = &told["verdicts"][0]["event"];
        assert_eq!(
            (&event["reason"], &event["destination_port"]),
            (&"closed".into(), &port.into()),
            "{told}"
        );
        assert_eq!(
            (&event["length"], &event["interface"]),
            (&frame.len().into(), &Pair::HOST_LINK.into()),
            "{told}"
        );
    }
    assert_eq!(api.counters().expect("counters").of("closed", "drop"), counters.of("closed", "drop"));
}
