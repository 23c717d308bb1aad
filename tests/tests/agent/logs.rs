//! The log: where its lines go, with which fields, and what the program in the kernel writes into it.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Instant;

use aya::maps::MapInfo;
use aya::programs::ProgramFd;
use lyncwall_common::abi::{FLOWS, map};
use lyncwall_datapath::{Datapath, LogLevel};
use lyncwall_tests::agent::{Agent, Api, binary};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::kernel::{Translated, translated};
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::object::object;
use lyncwall_tests::packet::Tcp;
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::programs::{self, Folder, Program};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{FrameSocket, eventually};
use nix::mount::{MsFlags, mount};
use serde_json::Value;

/// Starts an agent by a shell that runs `lyncwall run … OPTIONS` with these settings of the environment before it.
fn start(scene: &mut Scene, folder: &Folder, settings: &str, options: &str) -> (Agent, Api) {
    let script =
        format!("#!/bin/sh\nunset RUST_LOG\n{settings} exec {} \"$@\" {options}\n", binary().display());
    scene.instance.run_by(&folder.script("lyncwall", &script).expect("a script"));
    scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent")
}

/// Sends an opening to a port that is closed, and waits until the program has counted that many drops in all.
fn knock(scene: &Scene, api: &Api, all: u64) {
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a wire");
    let frame = Pair::frame_v4().with(Tcp::syn(40_000, 3389)).build();
    wire.send(&frame).expect("a frame that is sent");
    let counted = eventually(PATIENT, || api.counters().expect("counters").port("tcp", 3389) == all);
    assert!(counted, "{:?}", api.counters());
}

/// True if a message begins like this.
fn says(message: &Value, start: &str) -> bool {
    message.as_str().is_some_and(|message| message.starts_with(start))
}

/// The objects in the lines of a text.
fn objects(text: &str) -> Vec<Value> {
    let lines =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    lines.collect()
}

/// Those of the program's about port 3389, which nobody else knocks at.
fn about_closed(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|line| line["target"] == "bpf" && line["reason"] == "closed").collect()
}

#[test]
fn json_lines_have_fields_and_those_of_the_program_come_where_they_are_asked_for() {
    let mut scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    for (round, level, lines) in [(1, "off", 0), (2, "warn", 0), (3, "debug", 1)] {
        let (agent, api) = start(&mut scene, &folder, "", &format!("--log json --program-log {level}"));
        knock(&scene, &api, round);
        if lines > 0 {
            agent.wait_for_log("\"closed\"").expect("a line of the program");
        }
        let log = objects(&agent.stop().expect("it ends").stderr);
        let guarding = log.iter().find(|line| says(&line["message"], "guarding")).expect("what it guards");
        assert_eq!(guarding["level"], "INFO", "{guarding}");
        assert!(guarding["generation"].as_u64().is_some_and(|number| number > 0), "{guarding}");
        assert!(guarding["timestamp"].as_str().is_some_and(|time| time.contains('T')), "{guarding}");
        let told = about_closed(&log);
        assert_eq!(told.len(), lines, "{level}: {log:?}");
        let said = format!("dropped: closed, 54 bytes on {}", Pair::HOST_LINK);
        for line in told {
            assert_eq!(
                (&line["level"], &line["message"]),
                (&"DEBUG".into(), &said.as_str().into()),
                "{line}"
            );
            assert_eq!(
                (&line["interface"], &line["length"]),
                (&Pair::HOST_LINK.into(), &54.into()),
                "{line}"
            );
        }
        if level == "off" {
            assert!(log.iter().all(|line| line["target"] != "bpf"), "{log:?}");
        }
    }
}

#[test]
fn a_flood_of_packets_makes_no_flood_of_lines() {
    let mut scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    let (agent, api) = start(&mut scene, &folder, "", "--log json --program-log trace");
    let begin = Instant::now();
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a wire");
    let frame = Pair::frame_v4().with(Tcp::syn(40_000, 3389)).build();
    let flooded = eventually(PATIENT, || {
        for _ in 0..2_000 {
            // The wire drops what does not fit its queue.
            wire.send(&frame).ok();
        }
        api.counters().expect("counters").port("tcp", 3389) >= 20_000
    });
    assert!(flooded, "{:?}", api.counters());
    agent.wait_for_log("\"closed\"").expect("a line of the program");
    let log = objects(&agent.stop().expect("it ends").stderr);
    let lines = about_closed(&log).len() as u64;
    // As events: a hundred at once and a hundred a second, on each CPU.
    let cpus = aya::util::online_cpus().expect("the CPUs").len() as u64;
    let most = cpus * 100 * (begin.elapsed().as_secs() + 2);
    println!("{lines} lines of at least 20,000 packets in {:?}, at most {most}", begin.elapsed());
    assert!((1..=most).contains(&lines) && lines < 20_000, "{lines}, at most {most}");
}

/// A journal of this thread's own, at the place where all programs look for one: it has a mount namespace of its own already.
fn journal(namespace: &Netns, folder: &Folder) -> Program {
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&Path>).expect("a /run of its own");
    fs::create_dir_all("/run/systemd/journal").expect("a folder");
    fs::create_dir_all("/run/systemd/journald.conf.d").expect("a folder");
    // It leaves the machine's kernel log and audit alone.
    let settings =
        "[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nForwardToSyslog=no\nForwardToWall=no\n";
    fs::write("/run/systemd/journald.conf.d/own.conf", settings).expect("a configuration");
    let no_arguments: [&str; 0] = [];
    let journal = Program::start(namespace, folder, "systemd-journald", no_arguments).expect("a journal");
    journal.ready(PATIENT, |_| Path::new("/run/systemd/journal/socket").exists()).expect("a journal's socket")
}

/// What the journal has of the agent.
fn entries(namespace: &Netns) -> Vec<Value> {
    let arguments = ["-D", "/run/log/journal", "-o", "json", "--no-pager", "SYSLOG_IDENTIFIER=lyncwall"];
    let finished = programs::run(namespace, "journalctl", arguments, PATIENT).expect("journalctl");
    objects(&finished.stdout)
}

#[test]
fn the_journal_gets_lines_with_their_fields() {
    let mut scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    let host = scene.pair.host.clone();
    let _journal = journal(&host, &folder);
    let find = |message: &str| {
        let found = || entries(&host).into_iter().rev().find(|entry| says(&entry["MESSAGE"], message));
        assert!(eventually(PATIENT, || found().is_some()), "no {message:?} in {:?}", entries(&host));
        found().expect("it is there")
    };
    let (agent, api) = start(&mut scene, &folder, "", "--log journald --program-log debug");
    let guarding = find("guarding");
    assert_eq!(guarding["PRIORITY"], "6", "{guarding}");
    assert_eq!(guarding["_PID"], agent.pid().to_string(), "{guarding}");
    let generation = api.status().expect("a status").generation.to_string();
    assert_eq!(guarding["F_GENERATION"], generation, "{guarding}");
    assert!(
        guarding["F_INTERFACES"].as_str().is_some_and(|text| text.contains(Pair::HOST_LINK)),
        "{guarding}"
    );
    // Without a look at the fields, a line says what, where and who.
    let link = Pair::HOST_LINK;
    find(&format!("guarding {link} (native): enforcing, generation {generation}; host: reverse-proxy"));
    find(&format!("attached to {link} in native mode"));
    api.switch(&["director-vip"]).expect("a switch");
    let switched =
        find("switched, asked by user 0: generation 2 is live; host: reverse-proxy to director-vip; opened");
    assert_eq!((&switched["F_GENERATION"], &switched["F_UID"]), (&"2".into(), &"0".into()), "{switched}");
    knock(&scene, &api, 1);
    let dropped = || entries(&host).into_iter().find(|entry| entry["F_REASON"] == "closed");
    assert!(eventually(PATIENT, || dropped().is_some()), "{:?}", entries(&host));
    let dropped = dropped().expect("it is there");
    assert_eq!(
        (&dropped["PRIORITY"], says(&dropped["MESSAGE"], "dropped: closed")),
        (&"7".into(), true),
        "{dropped}"
    );
    assert_eq!((&dropped["TARGET"], &dropped["F_LENGTH"]), (&"bpf".into(), &"54".into()), "{dropped}");
    assert_eq!(agent.stop().expect("it ends").stderr, "", "nothing goes two ways");
    find("stopping: SIGTERM");

    // Where systemd connected stderr to the journal it says which one that is; another is not.
    let own = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)";
    let (agent, _) = start(&mut scene, &folder, own, "");
    let pid = agent.pid().to_string();
    assert!(eventually(PATIENT, || entries(&host).iter().any(|entry| entry["_PID"] == *pid)), "{pid}");
    assert_eq!(agent.stop().expect("it ends").stderr, "");
    let before = entries(&host).len();
    let (agent, _) = start(&mut scene, &folder, "JOURNAL_STREAM=1:1", "");
    agent.wait_for_log("guarding").expect("lines on stderr");
    agent.stop().expect("it ends");
    assert_eq!(entries(&host).len(), before);
}

#[test]
fn without_a_journal_lines_go_to_stderr_and_say_so() {
    let mut scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&Path>).expect("an empty /run");
    let (agent, _) = start(&mut scene, &folder, "", "--log journald");
    agent.wait_for_log("guarding").expect("lines on stderr");
    let log = agent.stop().expect("it ends").stderr;
    assert_eq!(log.matches("cannot reach the journal").count(), 1, "{log}");
}

/// What the verifier left of the two programs that packets come to, and the number of the map of log lines.
fn loaded(bpffs: &Bpffs, level: LogLevel) -> ([Translated; 2], u32) {
    let pins = bpffs.path().join(format!("level{}", level as u8));
    let datapath = Datapath::open_with(object(), &pins, FLOWS, level).expect("the data path opens");
    let (ingress, egress) = (datapath.program().expect("loaded"), datapath.egress().expect("loaded"));
    let left = |program: &ProgramFd| translated(program.as_fd()).expect("its instructions");
    let left = [ingress.fd().expect("loaded"), egress.fd().expect("loaded")].map(left);
    let info = ingress.info().expect("what the kernel has of it");
    let maps = info.map_ids().expect("its maps").expect("this kernel tells");
    let maps = maps.into_iter().map(|number| MapInfo::from_id(number).expect("a map"));
    let lines: Vec<u32> =
        maps.filter(|info| info.name_as_str() == Some(map::LOGS)).map(|info| info.id()).collect();
    assert_eq!(lines.len(), 1, "the program names the map, whether instructions of it are left or not");
    (left, lines[0])
}

#[test]
fn the_verifier_takes_lines_that_nobody_asked_for_out_of_the_programs() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let [off, error, warn, debug] =
        [LogLevel::Off, LogLevel::Error, LogLevel::Warn, LogLevel::Debug].map(|level| loaded(&bpffs, level));
    let uses = |(programs, lines): &([Translated; 2], u32)| {
        programs.each_ref().map(|program| program.maps.contains(lines))
    };
    let lengths =
        |(programs, _): &([Translated; 2], u32)| programs.each_ref().map(|program| program.instructions);
    println!("{:?}", [&off, &error, &warn, &debug].map(lengths));
    // Off, nothing is left that could write; asked for, it is found, so the look would see it.
    assert_eq!(uses(&off), [false, false]);
    assert_eq!(uses(&error), [false, false]);
    assert_eq!(uses(&warn), [true, true]);
    assert_eq!(uses(&debug), [true, true]);
    assert_eq!(lengths(&off), lengths(&error));
    assert!(lengths(&off)[0] < lengths(&warn)[0] && lengths(&off)[1] < lengths(&warn)[1]);
    assert!(lengths(&warn)[0] < lengths(&debug)[0]);
    assert_eq!(lengths(&warn)[1], lengths(&debug)[1], "what is sent is reported by nothing");
}
