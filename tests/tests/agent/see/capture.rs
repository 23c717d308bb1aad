//! `lyncwall capture`: the dropped packets as they came in, for tcpdump and Wireshark, and nothing that grows without end.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Packet, Tcp, Udp, ip};
use lyncwall_tests::programs::{Folder, run};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{FrameSocket, eventually, send_streams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn syn(port: u16) -> Packet {
    Pair::frame().with(ip(Scene::CLIENT[0], Scene::HOST[0])).with(Tcp::syn(40_000, port))
}

/// A datagram of 900 bytes.
fn long(port: u16) -> Packet {
    Pair::frame()
        .with(ip(Scene::CLIENT[0], Scene::HOST[0]))
        .with(Udp::new(40_000, port))
        .with(vec![0x5a; 900])
}

/// What a program of the folder says of a file.
fn read(scene: &Scene, name: &str, arguments: &[&str]) -> String {
    let finished = run(&scene.pair.client, name, arguments, PATIENT).expect("a program");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout
}

/// Waits until the agent hands packets out.
fn wait_until_capturing(agent: &lyncwall_tests::agent::Agent, times: usize) {
    let begun = || agent.stderr().matches("capturing dropped packets").count() >= times;
    assert!(eventually(PATIENT, begun), "{}", agent.stderr());
}

#[test]
fn what_is_dropped_is_in_the_file_with_its_reason() {
    let scene = Scene::new().expect("a scene");
    let (agent, _) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let folder = Folder::new().expect("a folder");
    let file = folder.file("drops.pcapng");
    let mut command = scene.instance.command();
    command.args(["capture", "--drops", "-w", &file, "-n", "3", "--port", "1433,3389,5060", "--for", "5min"]);
    let mut capture = command.stderr(Stdio::piped()).spawn().expect("a capture");
    wait_until_capturing(&agent, 1);
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let frames =
        [syn(1433).build(), syn(443).build(), long(5060).build(), syn(8443).build(), syn(3389).build()];
    for frame in &frames {
        wire.send(frame).expect("a frame");
    }
    assert!(capture.wait().expect("an end").success(), "{}", agent.stderr());
    // tcpdump and Wireshark read it, and see the packets whole.
    let listed = read(&scene, "tcpdump", &["-n", "-e", "-r", &file]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    for part in [".1433: Flags [S]", ".5060:", ".3389: Flags [S]"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let fields =
        ["-e", "frame.comment", "-e", "frame.len", "-e", "frame.cap_len", "-e", "frame.interface_name"];
    let shown = read(&scene, "tshark", &[&["-r", &file, "-T", "fields"][..], &fields].concat());
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 3, "{shown}");
    for (line, frame) in lines.iter().zip([&frames[0], &frames[2], &frames[4]]) {
        assert!(line[0].contains("closed") && line[0].contains("target: host"), "{line:?}");
        let length = frame.len().to_string();
        assert_eq!((line[1], line[2], line[3]), (&*length, &*length, Pair::HOST_LINK), "{line:?}");
    }
    // The same file can be explained.
    let finished = scene.instance.cli(["explain", "--packet", &file]).expect("a command");
    let text = finished.success().expect("explanations");
    assert_eq!(text.lines().filter(|line| line.contains("closed")).count(), 3, "{text}");
}

#[test]
fn it_streams_to_tcpdump_and_ends_with_it() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::default()).expect("an agent");
    let folder = Folder::new().expect("a folder");
    let listing = File::create(folder.path().join("listing")).expect("a file");
    let mut capture = scene.instance.command();
    let mut capture =
        capture.args(["capture", "-w", "-", "-s", "64"]).stdout(Stdio::piped()).spawn().expect("a capture");
    let stream = capture.stdout.take().expect("a pipe");
    // The command would keep the other end of the pipe.
    let mut tcpdump = {
        let mut command = std::process::Command::new("tcpdump");
        command.args(["-n", "-l", "-c", "2", "-r", "-", "udp port 5060"]).stdin(stream).stdout(listing);
        command.spawn().expect("tcpdump")
    };
    wait_until_capturing(&agent, 1);
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    // Another one has to wait, and the first goes on.
    let other = scene.instance.cli(["capture", "-w", &folder.file("other")]).expect("a command");
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stderr.contains("another capture is running"), "{}", other.stderr);
    let end = Instant::now() + PATIENT;
    while tcpdump.try_wait().expect("its state").is_none() {
        assert!(Instant::now() < end, "tcpdump has its two packets");
        wire.send(&long(5060).build()).expect("a frame");
        std::thread::sleep(Duration::from_millis(50));
    }
    let listed = folder.read("listing");
    assert!(listed.lines().count() == 2 && listed.contains("SIP"), "{listed}");
    // It ends when it can write no more, and the agent stops handing packets out.
    let gone = eventually(PATIENT, || {
        wire.send(&long(5060).build()).expect("a frame");
        capture.try_wait().expect("its state").is_some()
    });
    assert!(gone, "the capture ends when nobody reads it");
    assert!(eventually(PATIENT, || agent.stderr().contains("the capture has ended")), "{}", agent.stderr());
    let before = api.counters().expect("counters").0.captures_lost;
    wire.send(&long(5060).build()).expect("a frame");
    assert_eq!(api.counters().expect("counters").0.captures_lost, before);
}

#[test]
fn a_flood_neither_fills_the_disk_nor_the_memory() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (agent, api) = scene.start(&Config::default()).expect("an agent");
    let folder = Folder::new().expect("a folder");
    let file = folder.file("flood.pcapng");
    let mut command = scene.instance.command();
    command.args(["capture", "-w", &file, "--max-size", "1", "--for", "10min"]);
    let mut capture = command.stderr(Stdio::piped()).spawn().expect("a capture");
    wait_until_capturing(&agent, 1);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("a status");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("its memory").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let before = memory();
    let mut sent = 0;
    let ended = eventually(PATIENT, || {
        let flood = send_streams(&scene.pair.client, Pair::CLIENT_LINK, &[long(5060)], 10_000, Some(50_000));
        sent += flood.expect("a flood").frames;
        capture.try_wait().expect("its state").is_some()
    });
    assert!(ended, "it ends at its size");
    let size = std::fs::metadata(&file).expect("the file").len();
    assert!((900 << 10..=1 << 20).contains(&size), "{size} bytes");
    let more = memory().saturating_sub(before);
    assert!(more < 64 << 10, "{more} KiB more after {sent} packets");
    // A file that ends there can be read.
    let listed = read(&scene, "tcpdump", &["-n", "-r", &file]);
    assert!(listed.lines().count() > 500, "{} packets", listed.lines().count());
    // All that arrived were dropped and counted, captured or not.
    let dropped = api.counters().expect("counters").port("udp", 5060);
    assert!(dropped <= sent && dropped > sent / 2, "{dropped} of {sent} dropped");
}

#[test]
fn a_flood_of_others_takes_no_room_of_the_reasons_that_are_asked_for() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let groups = "[groups]\nreverse-proxy = [\"198.51.100.64/28\"]\n";
    let (agent, api) = scene.start(&Config::roles(&["director"]).further(groups)).expect("an agent");
    let folder = Folder::new().expect("a folder");
    let file = folder.file("source.pcapng");
    let mut command = scene.instance.command();
    command.args(["capture", "-w", &file, "-n", "5", "--reason", "source"]);
    let mut capture = command.stderr(Stdio::piped()).spawn().expect("a capture");
    wait_until_capturing(&agent, 1);
    let before = api.counters().expect("counters");
    // Far more than are handed out in that time.
    let flooded = eventually(PATIENT, || {
        send_streams(&scene.pair.client, Pair::CLIENT_LINK, &[syn(1433)], 60_000, None).expect("a flood");
        api.counters().expect("counters").port("tcp", 1433) - before.port("tcp", 1433) > 50_000
    });
    assert!(flooded, "{:?}", api.counters());
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let ended = eventually(PATIENT, || {
        wire.send(&syn(4443).build()).expect("a frame");
        capture.try_wait().expect("its state").is_some()
    });
    assert!(ended, "{}", agent.stderr());
    let after = api.counters().expect("counters");
    assert_eq!(after.0.captures_lost, before.0.captures_lost);
    let listed = read(&scene, "tcpdump", &["-n", "-r", &file]);
    assert_eq!(listed.matches(".4443: Flags [S]").count(), 5, "{listed}");
}

#[test]
fn an_end_by_signal_leaves_a_whole_file_and_one_by_force_ends_the_capture() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::default().top("mode = \"audit\"")).expect("an agent");
    let folder = Folder::new().expect("a folder");
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    for (n, signal) in [Signal::SIGINT, Signal::SIGKILL].into_iter().enumerate() {
        let file = folder.file(&format!("{signal}.pcapng"));
        let mut command = scene.instance.command();
        let mut capture =
            command.args(["capture", "-w", &file]).stderr(Stdio::piped()).spawn().expect("a capture");
        wait_until_capturing(&agent, n + 1);
        let written = || std::fs::metadata(&file).map_or(0, |file| file.len());
        let start = written();
        wire.send(&syn(1433).build()).expect("a frame");
        assert!(eventually(PATIENT, || written() > start + 54), "{signal}: {} bytes", written());
        let pid = Pid::from_raw(capture.id().cast_signed());
        kill(pid, signal).expect("a signal");
        capture.wait().expect("an end");
        let listed = read(&scene, "tcpdump", &["-n", "-r", &file]);
        assert!(listed.contains(".1433: Flags [S]"), "{signal}: {listed}");
        let ended = || agent.stderr().matches("the capture has ended").count() > n;
        assert!(eventually(PATIENT, ended), "{signal}: {}", agent.stderr());
    }
    // In audit mode it is what would have been dropped.
    let counters = api.counters().expect("counters");
    assert!(counters.of("closed", "pass") >= 2 && counters.of("closed", "drop") == 0);
}

#[test]
fn the_longest_frames_are_cut_and_break_nothing() {
    let scene = Scene::new().expect("a scene");
    // As long as a wire of this kind lets them be; a record in the kernel's buffer has less room.
    for (namespace, link) in [(&scene.pair.client, Pair::CLIENT_LINK), (&scene.pair.host, Pair::HOST_LINK)] {
        namespace.set_mtu(link, 65_535).expect("an MTU");
    }
    let (agent, api) = scene.start(&Config::default().attach("generic")).expect("an agent");
    let folder = Folder::new().expect("a folder");
    let file = folder.file("long.pcapng");
    let mut command = scene.instance.command();
    command.args(["capture", "-w", &file, "-n", "40", "--port", "5060"]);
    let mut capture = command.stderr(Stdio::piped()).spawn().expect("a capture");
    wait_until_capturing(&agent, 1);
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let longest = Pair::frame()
        .with(ip(Scene::CLIENT[0], Scene::HOST[0]))
        .with(Udp::new(40_000, 5060))
        .with([9, 0, 7, 7, 7, 7, 7, 7].repeat(8182))
        .build();
    assert_eq!(longest.len(), 14 + 20 + 8 + 65_456);
    for n in 0..40 {
        let frame = if n % 2 == 0 { longest.clone() } else { long(5060).build() };
        wire.send(&frame).expect("a frame");
        // Three of them fill the buffer.
        std::thread::sleep(Duration::from_millis(30));
    }
    let ended = eventually(PATIENT, || capture.try_wait().expect("its state").is_some());
    assert!(ended, "{}", agent.stderr());
    let shown =
        read(&scene, "tshark", &["-r", &file, "-T", "fields", "-e", "frame.len", "-e", "frame.cap_len"]);
    let lengths: Vec<&str> = shown.lines().collect();
    let (long, cut) = (long(5060).build().len(), format!("{}\t65000", longest.len()));
    for (n, line) in lengths.iter().enumerate() {
        let wanted = if n % 2 == 0 { cut.clone() } else { format!("{long}\t{long}") };
        assert_eq!(**line, *wanted, "packet {n}");
    }
    assert_eq!(lengths.len(), 40);
    assert_eq!(api.counters().expect("counters").port("udp", 5060), 40);
}
