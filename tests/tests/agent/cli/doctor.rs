//! `lyncwall doctor`, and what `status` says of the kernel and of drivers that refuse.

use std::fs;

use lyncwall_api::Kernel;
use lyncwall_datapath::{Attach, Datapath, Features};
use lyncwall_tests::agent::{Finished, lyncwall};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use serde_json::{Value, json};

use super::cli;

/// `doctor` with the scene's configuration.
#[track_caller]
fn doctor(scene: &Scene, further: &[&str]) -> Finished {
    let config = scene.instance.config();
    let config = config.to_str().expect("text");
    cli(scene, ["doctor", "--config", config].iter().chain(further))
}

/// What this kernel answers to the tests themselves.
fn kernel() -> Kernel {
    lyncwall::wire::kernel(&Features::ask().expect("the kernel tells"))
}

#[test]
fn doctor_says_that_lyncwall_runs_here() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    let text = doctor(&scene, &[]).success().expect("it runs here");
    for said in [
        "lyncwall can run here",
        "no agent serves",
        "veth",
        "free; only attaching shows whether its driver",
        "has no mistakes",
    ] {
        assert!(text.contains(said), "no {said:?} in:\n{text}");
    }
    let kernel = kernel();
    assert!(text.contains(&kernel.release), "{text}");
    for feature in &kernel.features {
        assert!(text.contains(&feature.name) && text.contains(&feature.detail), "no {feature:?} in:\n{text}");
    }
    let left = fs::read_dir(scene.instance.pins()).map(Iterator::count).unwrap_or_default();
    assert_eq!(left, 0, "it pinned something");
}

#[test]
fn doctor_is_json_for_programs_and_sees_the_agent() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    let before = doctor(&scene, &["--json"]).json().expect("JSON");
    assert_eq!(before["runs_here"], true);
    assert_eq!(before["problems"], json!([]));
    assert_eq!(before["agent"]["pid"], Value::Null);
    let kernel = serde_json::to_value(kernel()).expect("JSON");
    assert_eq!(before["kernel"], kernel);
    let needed = ["map-types", "mapped-array", "ring-buffer", "jiffies", "xdp-link", "link-update"];
    for name in needed {
        let features = kernel["features"].as_array().expect("a list");
        let feature = features.iter().find(|feature| feature["name"] == name).expect("it is listed");
        assert_eq!((&feature["found"], &feature["needed"]), (&json!(true), &json!(true)), "{feature}");
    }

    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let status = cli(&scene, ["status", "--json"]).json().expect("JSON");
    assert_eq!(status["kernel"], kernel);
    let during = doctor(&scene, &["--json"]).json().expect("JSON");
    assert_eq!(during["agent"]["pid"], agent.pid().as_raw());
    let interface = &during["interfaces"][0];
    assert_eq!(
        (&interface["name"], &interface["good"], &interface["state"]),
        (&json!(Pair::HOST_LINK), &json!(true), &json!("guarded, in native mode"))
    );
}

#[test]
fn doctor_lists_all_that_is_to_be_mended() {
    let scene = Scene::new().expect("a scene");
    let object = lyncwall::object::require().expect("the tests are built with the BPF object");
    let mut other = Datapath::open(object, &scene.bpffs.path().join("other")).expect("another program");
    scene.pair.host.run(|| other.attach(Pair::HOST_LINK, Attach::Generic)).expect("it is free");
    let _tun = scene.pair.host.tun("tun0").expect("a tun interface");
    let config = Config::roles(&["reverse-proxy"]).interface("eth9").interface("tun0");
    scene.instance.configure(&config.toml()).expect("a file");
    let finished = doctor(&scene, &["--pin-dir", "/nonexistent/lyncwall"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let said = ["BPF file system", "foreign XDP program", "without an Ethernet header"];
    let lines: Vec<&str> =
        finished.stdout.lines().skip_while(|line| !line.ends_with("fix:")).skip(1).collect();
    assert_eq!(lines.len(), said.len(), "{lines:?}");
    for (line, said) in lines.iter().zip(said) {
        assert!(line.contains(said) && line.contains("; "), "no {said:?}, or no fix, in {line}");
    }
    assert!(lines[0].contains("mount -t bpf bpf /sys/fs/bpf"), "{}", lines[0]);
    assert!(finished.stderr.contains("eth9 does not exist"), "a start waits for it: {finished:?}");
    // The rest is told all the same.
    for said in ["xdp-link", "BAD", "cannot be guarded", "cannot run here until"] {
        assert!(finished.stdout.contains(said), "no {said:?} in:\n{}", finished.stdout);
    }
    let finished = doctor(&scene, &["--pin-dir", "/nonexistent/lyncwall", "--json"]);
    let report: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!((finished.code, &report["runs_here"]), (Some(1), &json!(false)));
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(3), "{report}");
}

#[test]
fn doctor_needs_no_configuration_and_names_the_mistakes_of_one() {
    let scene = Scene::new().expect("a scene");
    let finished = cli(&scene, ["doctor"]);
    let text = finished.success().expect("it runs here");
    assert!(text.contains("does not exist, so no interface was checked"), "{text}");
    // One that is named must be there.
    fs::remove_file(scene.instance.config()).expect("an empty file");
    let finished = doctor(&scene, &[]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("cannot read"), "{}", finished.stdout);
    scene.instance.configure("mod = \"audit\"\n").expect("a file");
    let finished = doctor(&scene, &[]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains(":1:1: mod: "), "{}", finished.stdout);
    // Nor a BPF file system, to say that there is none.
    let finished = lyncwall(["--pin-dir", "/tmp/lyncwall-pins", "doctor"]).expect("it runs");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("is not on a BPF file system"), "{}", finished.stdout);
    assert!(finished.stderr.is_empty(), "{}", finished.stderr);
}

#[test]
fn status_says_why_a_driver_refused_and_so_does_the_next_agent() {
    let scene = Scene::new().expect("a scene");
    // The kernel gives lo no native mode.
    let config = Config::roles(&["reverse-proxy"]).interface("lo");
    let (agent, api) = scene.start(&config).expect("an agent");
    let told = || {
        let interfaces = api.status().expect("a status").interfaces;
        interfaces.into_iter().map(|on| (on.name, on.mode, on.native_refused)).collect::<Vec<_>>()
    };
    let first = told();
    let (name, mode, why) = first.iter().find(|(name, ..)| name == "lo").expect("it is guarded");
    assert_eq!((name.as_str(), mode.as_str()), ("lo", "generic"));
    let why = why.as_ref().expect("a reason");
    assert!(why.contains("its driver has no native XDP") && why.contains("(EOPNOTSUPP)"), "{why}");
    assert!(first.iter().all(|(name, _, why)| name == "lo" || why.is_none()), "{first:?}");
    let text = cli(&scene, ["status"]).success().expect("a status");
    assert!(text.contains("no native mode: its driver has no native XDP"), "{text}");
    assert!(text.contains("entry point  ingress"), "{text}");

    agent.kill().expect("it dies");
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!(told(), first);
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    cli(&scene, ["reload"]).success().expect("a reload");
    assert_eq!(told().len(), 1);
}
