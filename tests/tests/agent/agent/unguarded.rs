//! Interfaces that the agent cannot guard, and it says so at once and everywhere.

use std::fs;

use lyncwall_datapath::{Attach, Datapath};
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::eventually;
use nix::sys::signal::Signal;

use super::Openings;

#[test]
fn an_interface_that_somebody_else_took_is_unguarded_in_every_answer() {
    let scene = Scene::new().expect("a scene");
    let (mut agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let object = lyncwall_tests::object::object();
    let mut other = Datapath::open(object, &scene.bpffs.path().join("other")).expect("another program");
    agent.signal(Signal::SIGSTOP).expect("it runs");
    fs::remove_file(scene.instance.pins().join("links").join(Pair::HOST_LINK)).expect("a pin");
    scene.pair.host.run(|| other.attach(Pair::HOST_LINK, Attach::Generic)).expect("it is free");
    agent.signal(Signal::SIGCONT).expect("it is there");
    let said = format!("UNGUARDED: nobody judges the packets of {}", Pair::HOST_LINK);
    agent.wait_for_log(&said).expect("a log line");

    let status = api.status().expect("a status");
    assert_eq!(status.unguarded.len(), 1, "{status:?}");
    let gone = &status.unguarded[0];
    assert_eq!(gone.interface, Pair::HOST_LINK);
    assert!(gone.why.contains("foreign XDP program"), "{gone:?}");
    let metrics = crate::api::ask(&scene.instance.socket(), "GET", "/metrics", "").expect("an answer").body;
    assert!(metrics.lines().any(|line| line == "lyncwall_unguarded 1"), "{metrics}");

    let run = |arguments: &[&str]| scene.instance.cli(arguments).expect("it runs");
    let told = run(&["status"]).success().expect("a status");
    let second = told.lines().nth(1).unwrap_or_default();
    assert!(second.contains("UNGUARDED") && second.contains(Pair::HOST_LINK), "{told}");
    let blocked = run(&["blocked"]);
    assert!(blocked.stderr.starts_with(&said), "{blocked:?}");
    let switched = run(&["switch", "director"]).success().expect("a switch");
    assert!(switched.starts_with(&said), "{switched}");
    assert!(!switched.contains(" live in "), "{switched}");
    let json = run(&["--json", "switch", "reverse-proxy"]).json().expect("JSON");
    assert_eq!(json["unguarded"][0]["interface"], Pair::HOST_LINK, "{json}");

    scene.pair.host.run(|| other.detach_interfaces_except(&[])).expect("off");
    let guarded = || api.status().expect("a status").unguarded.is_empty();
    assert!(eventually(PATIENT, guarded), "{:?}", api.status());
    assert_eq!(Openings::on(&scene.pair).open(&[443, 5061]), [443]);
    assert!(run(&["blocked"]).stderr.is_empty());
}
