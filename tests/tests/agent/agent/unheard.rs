//! Commands while no agent answers: the pins say what holds, and what needs no agent works.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use lyncwall_tests::agent::{Instance, binary};
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::eventually;
use nix::sys::signal::Signal;

use super::{Openings, expect_refused, second_wire};

const PORTS: [u16; 2] = [443, 5061];
/// Commands give up after 5 s; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn no_command_waits_for_a_stopped_agent_and_detach_opens_the_box() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    let (mut agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let process = agent.pid().to_string();
    agent.signal(Signal::SIGSTOP).expect("it runs");
    let timed = |arguments: &[&str]| {
        let begin = Instant::now();
        let finished = scene.instance.cli(arguments).expect("it runs");
        assert!(begin.elapsed() < SOON, "{arguments:?} took {:?}", begin.elapsed());
        finished
    };
    let status = thread::scope(|scope| {
        for arguments in [&["switch", "director"][..], &["events"], &["block", "192.0.2.77"]] {
            let refused =
                || expect_refused(&timed(arguments), &["does not answer", &format!("kill -CONT {process}")]);
            scope.spawn(refused);
        }
        timed(&["status"])
    });
    expect_refused(&status, &["does not answer"]);
    for text in [&*process, "enforcing", "reverse-proxy", Pair::HOST_LINK] {
        assert!(status.stdout.contains(text), "no {text:?} in {status:?}");
    }
    assert_eq!(openings.open(&PORTS), [443]);

    let detached = timed(&["detach"]);
    assert_eq!(detached.code, Some(0), "{detached:?}");
    assert!(detached.stdout.contains("the box is open"), "{detached:?}");
    assert_eq!(openings.open(&PORTS), PORTS);
    assert!(!scene.instance.pins().exists(), "pins are left");
    // It does not close the box again, but ends as after any other detach.
    agent.signal(Signal::SIGCONT).expect("it is there");
    let finished = agent.wait().expect("it ends");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(openings.open(&PORTS), PORTS);
    assert!(!scene.instance.pins().exists(), "pins are left");
}

#[test]
fn a_stopped_agent_costs_no_other_agent_its_pins() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    second_wire(&scene.pair);
    let elsewhere = Instance::new(&scene.pair.host, &scene.bpffs, "elsewhere").expect("a place");
    let config = Config::roles(&["director"]).toml().replace(Pair::HOST_LINK, "host1");
    elsewhere.configure(&config).expect("a file");
    let mut stopped = elsewhere.start().expect("a second agent");
    stopped.signal(Signal::SIGSTOP).expect("it runs");
    // The socket of one agent and the pins of another.
    let mut command = scene.pair.host.command(binary());
    command.arg("--socket").arg(elsewhere.socket()).arg("--pin-dir").arg(scene.instance.pins());
    let output = command.arg("detach").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("another lyncwall agent uses"), "{output:?}");
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
}

#[test]
fn without_an_agent_the_pins_answer_and_take_blocks_and_audit_mode() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    let run = |arguments: &[&str]| scene.instance.cli(arguments).expect("it runs");
    let nothing = run(&["block", "192.0.2.77"]);
    expect_refused(&nothing, &["no agent serves"]);
    let pins = fs::read_dir(scene.instance.pins()).map_or(0, Iterator::count);
    assert_eq!(pins, 0, "a command made pins");

    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    agent.kill().expect("it ran");
    let client = Pair::CLIENT_V4.to_string();
    let blocked = run(&["block", &client, "--for", "1h"]).success().expect("a block");
    assert!(blocked.contains("is blocked for 1h"), "{blocked}");
    assert!(openings.open(&PORTS).is_empty(), "the source is blocked");
    let status = run(&["--json", "status"]);
    assert_eq!(status.code, Some(1), "{status:?}");
    let status = status.json().expect("JSON");
    assert_eq!((&status["unattended"], &status["mode"]), (&true.into(), &"enforce".into()), "{status}");
    assert_eq!(status["blocked"]["v4"], 1, "{status}");
    assert_eq!(status["interfaces"][0]["name"], Pair::HOST_LINK, "{status}");
    let mistakes = run(&["unblock", "192.0.2.78", "rubbish"]);
    expect_refused(&mistakes, &["192.0.2.78/32 is not on the block-list", "rubbish"]);
    run(&["unblock", &client]).success().expect("no block");
    assert_eq!(openings.open(&PORTS), [443]);

    expect_refused(&run(&["mode", "enforce"]), &["no agent serves"]);
    let audits = run(&["mode", "audit"]);
    assert!(audits.stderr.contains("no agent answers"), "{audits:?}");
    let said = audits.success().expect("audit mode");
    assert!(said.contains("AUDIT"), "{said}");
    assert_eq!(openings.open(&PORTS), PORTS);

    run(&["block", "198.51.100.0/24"]).success().expect("a block");
    let agent = scene.instance.start().expect("the next agent");
    let status = api.status().expect("a status");
    assert_eq!((status.mode, status.file_mode), (lyncwall_api::Mode::Audit, lyncwall_api::Mode::Enforce));
    assert_eq!(status.blocked.v4, 1, "{status:?}");
    assert_eq!(openings.open(&PORTS), PORTS);
    // While an agent runs, nobody else changes the maps.
    let mut command = scene.pair.host.command(binary());
    command.args(["--socket", "/nonexistent/lyncwall.sock", "--pin-dir"]).arg(scene.instance.pins());
    let output = command.args(["mode", "audit"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("another lyncwall agent uses"), "{output:?}");
    agent.stop().expect("it ends");
    assert!(eventually(PATIENT, || !scene.instance.socket().exists()), "the socket is left");
}
