//! What the end of an agent leaves, and the one command that opens the box.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

use lyncwall_tests::agent::Finished;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use super::{Openings, expect_refused};
use lyncwall_tests::traffic::eventually;

const PORTS: [u16; 2] = [443, 5061];

#[test]
fn the_end_keeps_the_rules_unless_told_otherwise() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
        agent.signal(signal).expect("it runs");
        let finished = agent.wait().expect("it ends");
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stderr.contains("the kernel keeps the rules"), "{finished:?}");
        assert!(!scene.instance.socket().exists(), "the socket is left");
        assert_eq!(openings.open(&PORTS), [443]);
    }
}

#[test]
fn the_end_opens_the_box_where_the_file_says_so() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    let config = Config::roles(&["reverse-proxy"]).top("on-exit = \"detach\"\n");
    let (agent, _api) = scene.start(&config).expect("an agent");
    assert_eq!(openings.open(&PORTS), [443]);
    let finished = agent.stop().expect("it ends");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stderr.contains("the box is open"), "{finished:?}");
    assert_eq!(openings.open(&PORTS), PORTS);
    assert!(!scene.instance.pins().exists(), "pins are left");
    // Nobody to ask whether to open the box: a killed agent keeps it closed even so.
    let (agent, _api) = scene.start(&config).expect("an agent");
    agent.kill().expect("it ran");
    assert_eq!(openings.open(&PORTS), [443]);
}

#[test]
fn detach_opens_the_box_by_the_running_agent_which_ends() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    for _ in 0..5 {
        let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
        assert_eq!(openings.open(&PORTS), [443]);
        let said = scene.instance.cli(["detach"]).expect("it runs").success().expect("it opens the box");
        assert!(said.contains("the box is open") && said.contains(Pair::HOST_LINK), "{said}");
        let finished = agent.wait().expect("it ends");
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(openings.open(&PORTS), PORTS);
        assert!(!scene.instance.pins().exists(), "pins are left");
        assert!(!scene.instance.socket().exists(), "the socket is left");
    }
}

#[test]
fn a_client_that_leaves_during_detach_leaves_no_agent_behind() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let pins = || fs::read_dir(scene.instance.pins().join("links")).map_or(0, Iterator::count);
    let before = pins();
    assert!(before > 0, "pinned links");
    let mut client = UnixStream::connect(scene.instance.socket()).expect("the socket");
    client.write_all(b"POST /v1/detach HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("a request");
    assert!(eventually(PATIENT, || pins() < before), "it has begun");
    drop(client);
    let finished = agent.wait().expect("it ends");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(openings.open(&PORTS), PORTS);
    assert!(!scene.instance.pins().exists(), "pins are left");
}

#[test]
fn detach_opens_the_box_without_an_agent() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    agent.kill().expect("it ran");
    assert_eq!(openings.open(&PORTS), [443]);
    let detached = scene.instance.cli(["--json", "detach"]).expect("it runs");
    let answer = detached.json().expect("JSON");
    assert_eq!(answer["interfaces"], serde_json::json!([Pair::HOST_LINK]), "{answer}");
    assert!(answer["maps"].as_u64().is_some_and(|maps| maps > 10), "{answer}");
    assert_eq!(openings.open(&PORTS), PORTS);
    assert!(!scene.instance.pins().exists(), "pins are left");

    let again = scene.instance.cli(["detach"]).expect("it runs").success().expect("nothing to do is fine");
    assert!(again.contains("nothing to detach"), "{again}");
}

#[test]
fn detach_leaves_what_an_agent_with_another_socket_guards() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let mut command = scene.pair.host.command(lyncwall_tests::agent::binary());
    command.args(["--socket", "/nonexistent/lyncwall.sock", "--pin-dir"]).arg(scene.instance.pins());
    let output = command.arg("detach").output().expect("it runs");
    let finished = Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    expect_refused(&finished, &["another lyncwall agent uses"]);
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
}

#[test]
fn an_interface_that_was_destroyed_and_made_again_is_guarded_again() {
    use lyncwall_tests::netns::{End, veth};

    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let pair = &scene.pair;
    assert_eq!(Openings::on(pair).open(&PORTS), [443]);
    pair.client.delete_link(Pair::CLIENT_LINK).expect("it was there");
    assert!(eventually(PATIENT, || super::interfaces(&api).is_empty()), "it goes");
    let status = api.status().expect("a status");
    assert_eq!(status.interfaces[0].mode, "UNGUARDED", "{status:?}");
    let first = api.switch(&["director-vip"]).expect("a switch without the interface");
    assert!(!first.opened.is_empty());
    veth(
        End { namespace: &pair.client, name: Pair::CLIENT_LINK, mac: Pair::CLIENT_MAC },
        End { namespace: &pair.host, name: Pair::HOST_LINK, mac: Pair::HOST_MAC },
    )
    .expect("a new wire");
    assert!(eventually(PATIENT, || super::interfaces(&api) == [Pair::HOST_LINK]), "it comes back");
    assert_eq!(Openings::on(pair).open(&[443, 444, 5061]), [443, 5061]);
}

#[test]
fn an_ended_agent_leaves_nothing_beside_its_pins() {
    let scene = Scene::new().expect("a scene");
    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    agent.stop().expect("an end");
    let directory = scene.instance.config().parent().expect("a directory").to_owned();
    let mut left: Vec<_> = fs::read_dir(directory).expect("it can be listed").flatten().collect();
    left.retain(|entry| ![scene.instance.config(), scene.instance.state()].contains(&entry.path()));
    assert!(left.is_empty(), "beside the configuration and the state directory: {left:?}");
    let state = fs::read_dir(scene.instance.state()).expect("it can be listed").flatten();
    let state: BTreeSet<_> = state.map(|entry| entry.file_name()).collect();
    assert_eq!(
        state,
        ["confirmed.copy.json", "confirmed.json", "usage.copy.json", "usage.json"].map(Into::into).into()
    );
}

#[test]
fn an_agent_that_cannot_remove_its_pins_ends_and_detach_goes_on_without_it() {
    let scene = Scene::new().expect("a scene");
    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let pins = scene.instance.pins().parent().expect("a BPF file system").to_owned();
    let remount = |flags: MsFlags| {
        let nothing = None::<&str>;
        mount(nothing, &pins, nothing, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, nothing)
            .expect("a remount");
    };
    remount(MsFlags::MS_RDONLY);
    let finished = scene.instance.cli(["detach"]).expect("it runs");
    assert_eq!(finished.code, Some(2), "{finished:?}");
    // The programs come off, and only their pins stay.
    assert!(finished.stdout.starts_with("the box is open: detached from host0"), "{finished:?}");
    assert!(finished.stderr.contains("detach did not finish"), "{finished:?}");
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), PORTS);
    agent.wait().expect("it ends");
    assert!(scene.instance.pins().exists(), "pins are left");
    remount(MsFlags::empty());
    scene.instance.cli(["detach"]).expect("it runs").success().expect("it opens the box");
    assert!(!scene.instance.pins().exists(), "pins are left");
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), PORTS);
}
