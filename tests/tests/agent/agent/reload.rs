//! A new file for a running agent: all of it or nothing.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use lyncwall_api as api;
use lyncwall_datapath::{Attach, Datapath};
use lyncwall_tests::agent::binary;
use lyncwall_tests::expect::{BRIEF, PATIENT, refusal};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ethernet, Packet, Tcp, ip};
use lyncwall_tests::programs::Folder;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{FrameSocket, TcpEcho, eventually, tcp_exchange, tcp_open};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Openings, expect_generation_after, expect_refused, interfaces, second_wire};

const PORTS: [u16; 3] = [443, 5061, 9100];
const EXPORTER: &str = "[[allow]]\nname = \"node exporter\"\ntransport = \"tcp\"\nports = [9100]\n";

#[test]
fn a_signal_brings_a_good_file_into_force() {
    let scene = Scene::new().expect("a scene");
    let (mut agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let openings = Openings::on(&scene.pair);
    assert_eq!(openings.open(&PORTS), [443]);
    scene.instance.configure(&Config::roles(&["director-vip"]).further(EXPORTER).toml()).expect("a file");
    assert_eq!(openings.open(&PORTS), [443], "a file alone changes nothing");
    agent.reload().expect("it runs");
    expect_generation_after(&api, 1);
    assert_eq!(openings.open(&PORTS), PORTS);
    agent.wait_for_log("reloaded").expect("it says so");
}

#[test]
fn a_signal_with_a_bad_file_logs_every_mistake_and_changes_nothing() {
    let scene = Scene::new().expect("a scene");
    let good = Config::roles(&["reverse-proxy"]);
    let (mut agent, api) = scene.start(&good).expect("an agent");
    let openings = Openings::on(&scene.pair);
    let mut bad = Config::roles(&["director-vip", "sip-proxy"]).further(EXPORTER);
    bad.management = vec!["10.0.0.0/8".to_owned(), "10.1.0.0/16".to_owned()];
    bad.further = bad.further.replace("9100", "70000");
    scene.instance.configure(&bad.toml()).expect("a file");
    agent.reload().expect("it runs");
    for text in ["10.1.0.0/16 overlaps 10.0.0.0/8", "70000 is out of range", "unknown role `sip-proxy`"] {
        agent.wait_for_log(text).expect("each mistake is logged");
    }
    let log = agent.stderr();
    assert_eq!(log.matches("not reloaded: ").count(), 3, "all at once: {log}");
    assert_eq!(api.status().expect("a status").generation, 1);
    assert_eq!(openings.open(&PORTS), [443]);

    // The command says the same to whoever calls it.
    let finished = scene.instance.cli(["reload"]).expect("it runs");
    expect_refused(&finished, &["lyncwall.toml:", "`sip-proxy`"]);
    assert_eq!(api.status().expect("a status").generation, 1);
    // And a file that was mended holds.
    scene.instance.configure(&good.further(EXPORTER).toml()).expect("a file");
    agent.reload().expect("it runs");
    expect_generation_after(&api, 1);
    assert_eq!(openings.open(&PORTS), [443, 9100]);
}

#[test]
fn a_file_that_is_gone_changes_nothing() {
    let scene = Scene::new().expect("a scene");
    let (mut agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    fs::remove_file(scene.instance.config()).expect("it was there");
    agent.reload().expect("it runs");
    agent.wait_for_log("not reloaded: ").expect("it says so");
    assert_eq!(api.status().expect("a status").generation, 1);
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
}

#[test]
fn interfaces_come_and_go_with_the_file() {
    let scene = Scene::new().expect("a scene");
    second_wire(&scene.pair);
    let config = Config::roles(&["reverse-proxy"]);
    let (_agent, api) = scene.start(&config).expect("an agent");
    assert_eq!(interfaces(&api), [Pair::HOST_LINK]);
    let both = config.clone().interface("host1");
    scene.instance.configure(&both.toml()).expect("a file");
    api.reload().expect("a reload");
    assert_eq!(interfaces(&api), [Pair::HOST_LINK, "host1"]);

    let mut other = config.clone();
    other.interfaces = vec![("host1".to_owned(), "auto")];
    scene.instance.configure(&other.toml()).expect("a file");
    api.reload().expect("a reload");
    assert_eq!(interfaces(&api), ["host1"]);
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), PORTS, "no longer guarded");

    // The same over a restart.
    drop(_agent);
    scene.instance.configure(&config.toml()).expect("a file");
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!(interfaces(&api), [Pair::HOST_LINK]);
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
}

/// What comes in by an interface that nothing guarded is let in until then, whatever the policy says.
#[test]
fn an_interface_that_a_reload_adds_cuts_no_management_session_unasked() {
    let scene = Scene::new().expect("a scene");
    second_wire(&scene.pair);
    let [own, far] = [Ipv4Addr::new(198, 51, 100, 2), Ipv4Addr::new(198, 51, 100, 1)];
    scene.pair.host.add_address("host1", own.into(), 24).expect("an address");
    scene.pair.client.add_address("client1", far.into(), 24).expect("an address");
    let _servers = [22, 8000].map(|port| TcpEcho::start(&scene.pair.host, (own, port)).expect("a server"));
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let opened = |port| tcp_open(&scene.pair.client, (own, port).into(), PATIENT).expect("a connection");
    let (session, other) = (opened(22), opened(8000));
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).interface("host1").toml()).expect("a file");
    let refused = refusal(api.reload());
    assert!(
        refused.contains("198.51.100.1:") && refused.contains("would cut the management session"),
        "{refused}"
    );
    assert_eq!(interfaces(&api), [Pair::HOST_LINK]);
    for stream in [&session, &other] {
        assert_eq!(tcp_exchange(stream, PATIENT).expect("a try"), Answered);
    }
    // Who insists is told what it cuts.
    let reloaded = api.reload_within(600).expect("a reload");
    assert_eq!(reloaded.settled.expect("a count").connections, 2, "{reloaded:?}");
    assert!(
        reloaded.warnings.iter().any(|warning| warning.contains("cuts the management session")),
        "{reloaded:?}"
    );
    for stream in [&session, &other] {
        assert_eq!(tcp_exchange(stream, BRIEF).expect("a try"), TimedOut);
    }
}

/// The file is refused while somebody is there whom it shuts out; nobody asks that of a start.
#[test]
fn a_file_that_a_reload_refused_is_not_taken_by_the_next_start() {
    let scene = Scene::new().expect("a scene");
    let inside = Config::roles(&["reverse-proxy"]).management(&["192.0.2.0/24"]);
    let (agent, api) = scene.start(&inside).expect("an agent");
    let _sshd = TcpEcho::start(&scene.pair.host, (Pair::HOST_V4, 22)).expect("a server");
    let session = tcp_open(&scene.pair.client, (Pair::HOST_V4, 22).into(), PATIENT).expect("a connection");
    scene.instance.configure(&Config::roles(&["director-vip"]).toml()).expect("a file");
    assert!(refusal(api.reload()).contains("would cut the management session"));
    agent.kill().expect("a dead agent");
    let agent = scene.instance.start().expect("the next agent");
    agent.wait_for_log("refused or not confirmed").expect("the log says so");
    assert_eq!(tcp_exchange(&session, PATIENT).expect("a try"), Answered);
    assert_eq!(api.status().expect("a status").targets[0].roles, ["reverse-proxy"]);
    // Once nobody is there, it is taken.
    drop(session);
    let taken = eventually(PATIENT, || api.reload().is_ok());
    assert!(taken, "{:?}", api.reload());
    assert_eq!(api.status().expect("a status").targets[0].roles, ["director-vip"]);
}

/// Anybody can begin to open a connection to the management port, in anybody's name.
#[test]
fn a_connection_that_is_only_being_opened_keeps_nobody_from_enforcing() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) =
        scene.start(&Config::roles(&["reverse-proxy"]).top("mode = \"audit\"")).expect("an agent");
    let _sshd = TcpEcho::start(&scene.pair.host, (Pair::HOST_V4, 22)).expect("a server");
    let before = api.counters().expect("counters").of("closed", "pass");
    let forged = Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, Pair::HOST_MAC))
        .with(ip(Ipv4Addr::new(192, 0, 2, 77).into(), Pair::HOST_V4.into()))
        .with(Tcp::syn(40_000, 22))
        .build();
    FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK)
        .expect("a socket")
        .send(&forged)
        .expect("a frame");
    let passed = || api.counters().expect("counters").of("closed", "pass") > before;
    assert!(eventually(PATIENT, passed));
    api.set_mode(None, api::Mode::Enforce).expect("a mode");
}

#[test]
fn a_reload_with_an_interface_that_cannot_be_guarded_changes_nothing() {
    let scene = Scene::new().expect("a scene");
    second_wire(&scene.pair);
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let config = Config::roles(&["director-vip"]).further(EXPORTER);
    let openings = Openings::on(&scene.pair);

    // Native to generic would leave the box open for a moment.
    scene.instance.configure(&config.clone().attach("generic").toml()).expect("a file");
    let said = refusal(api.reload());
    assert!(said.contains("attached in native mode") && said.contains("lyncwall detach"), "{said}");
    assert_eq!(openings.open(&PORTS), [443]);

    let object = lyncwall_tests::object::object();
    let mut other = Datapath::open(object, &scene.bpffs.path().join("other")).expect("another program");
    scene.pair.host.run(|| other.attach("host1", Attach::Auto)).expect("it is free");
    scene.instance.configure(&config.interface("host1").toml()).expect("a file");
    let said = refusal(api.reload());
    assert!(said.contains("foreign XDP program"), "{said}");
    assert_eq!(openings.open(&PORTS), [443]);
    assert_eq!(interfaces(&api), [Pair::HOST_LINK]);
    let status = scene.pair.host.run(|| other.status()).expect("a status");
    assert_eq!(status.interfaces.len(), 1, "{status:?}");
    assert_eq!(api.status().expect("a status").generation, 1);
}

#[test]
fn a_file_that_takes_long_to_read_keeps_nobody_waiting() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    // A pipe is read once somebody writes it.
    let config = scene.instance.config();
    fs::remove_file(&config).expect("no file");
    mkfifo(&config, Mode::S_IRWXU).expect("a pipe");
    thread::scope(|scope| {
        let reloading = scope.spawn(|| scene.instance.api().expect("a client").reload());
        // The agent opens it for reading as soon as it reads: then this opens, too.
        let mut pipe = fs::OpenOptions::new().write(true).open(&config).expect("the agent reads");
        let other = api.switch(&["director-vip"]).expect("a switch meanwhile");
        assert_eq!(other.generation, 2);
        assert_eq!(api.status().expect("a status").generation, 2);
        pipe.write_all(Config::roles(&["mediation"]).toml().as_bytes()).expect("a file");
        drop(pipe);
        let reloaded = reloading.join().expect("no panic").expect("a reload");
        assert_eq!((reloaded.generation, &*reloaded.targets[0].roles), (3, &["mediation".to_owned()][..]));
    });
}

#[test]
fn an_agent_heeds_signals_that_were_blocked_and_ignored_where_it_was_started() {
    let mut scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    let script = format!(
        "#!/bin/sh\ntrap '' HUP TERM INT\nexec env --block-signal=HUP,TERM,INT {} \"$@\"\n",
        binary().display()
    );
    scene.instance.run_by(&folder.script("lyncwall", &script).expect("a script"));
    let (mut agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    scene.instance.configure(&Config::roles(&["director-vip"]).toml()).expect("a file");
    agent.reload().expect("it runs");
    expect_generation_after(&api, 1);
    assert_eq!(agent.stop().expect("it ends").code, Some(0));
}

#[test]
fn a_long_file_that_is_read_again_and_again_takes_no_more_memory() {
    let scene = Scene::new().expect("a scene");
    let config = |first: u32| {
        let prefix = |n: u32| format!("{:?}", Ipv4Addr::from_bits(first + 2 * n).to_string());
        let list = (0..100_000).map(prefix).collect::<Vec<_>>().join(",\n");
        Config::roles(&["reverse-proxy"])
            .further(&format!("[groups]\nbranch = [{list}]\n{EXPORTER}groups = [\"branch\"]\n"))
    };
    let configs = [config(0x0a00_0000), config(0x0b00_0000)];
    let (agent, api) = scene.start(&configs[0]).expect("an agent");
    let reload = |n: usize| {
        scene.instance.configure(&configs[n % 2].toml()).expect("a file");
        api.reload().expect("a reload");
        // It gives memory back after its answer.
        let looks = (0..20).map(|_| {
            thread::sleep(Duration::from_millis(20));
            agent.resident().expect("its memory")
        });
        looks.min().expect("some looks")
    };
    let start = agent.resident().expect("its memory");
    let looks: Vec<u64> = (1..9).map(reload).collect();
    println!("{start} KiB, then {looks:?} KiB");
    assert!(looks[6].max(looks[7]) < start * 2, "{start} KiB, then {looks:?} KiB");
}
