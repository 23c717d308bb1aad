//! Mistakes in the file, on the command line and of the machine.

use std::fs;

use lyncwall_tests::agent::lyncwall;
use lyncwall_tests::expect::BRIEF;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::Tcp;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::FrameSocket;

use super::{cli, errors, expect_refused};

/// True where nothing on the wire is in the way of an opening to a port that no role opens.
fn is_open(scene: &Scene) -> bool {
    let sender = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let receiver = FrameSocket::open(&scene.pair.host, Pair::HOST_LINK).expect("a socket");
    let frame = Pair::frame_v4().with(Tcp::syn(40_000, 9)).build();
    sender.send(&frame).expect("a frame");
    receiver.receive(BRIEF, |received| received == frame).expect("a socket").is_some()
}

/// A file with one mistake, and what is said about it.
struct Mistake {
    good: &'static str,
    bad: &'static str,
    place: &'static str,
    said: &'static str,
}

const GOOD: &str = "\
[management]
from = [\"10.0.0.0/8\"]
tcp = [22]

[[interface]]
name = \"host0\"

[[target]]
roles = [\"reverse-proxy\"]
";

const MISTAKES: [Mistake; 5] = [
    Mistake {
        good: "reverse-proxy",
        bad: "revers-proxy",
        place: ":9:10: target[0].roles[0]: ",
        said: "`reverse-proxy`",
    },
    Mistake {
        good: "[management]",
        bad: "mod = \"audit\"\n[management]",
        place: ":1:1: mod: ",
        said: "`mode`",
    },
    Mistake {
        good: "tcp = [22]",
        bad: "tcp = [70000]",
        place: ":3:8: management.tcp[0]: ",
        said: "1 to 65535",
    },
    Mistake {
        good: "[\"10.0.0.0/8\"]",
        bad: "[\"10.0.0.0/8\", \"10.2.0.0/16\"]",
        place: ":2:23: management.from[1]: ",
        said: "10.2.0.0/16 overlaps 10.0.0.0/8",
    },
    Mistake { good: "[[target]]", bad: "[[target]", place: ":8:", said: "" },
];

#[test]
fn each_mistake_of_a_file_is_named_with_its_place_and_its_fix() {
    let scene = Scene::new().expect("a scene");
    for Mistake { good, bad, place, said } in MISTAKES {
        scene.instance.configure(&GOOD.replace(good, bad)).expect("a file");
        let finished = scene.instance.start_in_vain().expect("it ends");
        expect_refused(&finished, &[&format!("lyncwall.toml{place}"), said]);
        assert_eq!(errors(&finished).len(), 1, "{}", finished.stderr);
        assert!(!scene.instance.socket().exists());
    }
    assert!(is_open(&scene), "the wire was touched");
    assert_eq!(fs::read_dir(scene.instance.pins()).map(Iterator::count).unwrap_or_default(), 0);
    // The file that they were made from is good.
    scene.instance.configure(GOOD).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    assert!(!is_open(&scene));
}

#[test]
fn several_mistakes_come_together() {
    let scene = Scene::new().expect("a scene");
    let bad =
        MISTAKES[1..4].iter().fold(GOOD.to_owned(), |text, mistake| text.replace(mistake.good, mistake.bad));
    scene.instance.configure(&bad).expect("a file");
    let path = scene.instance.config();
    for finished in [
        scene.instance.start_in_vain().expect("it ends"),
        cli(&scene, ["check".as_ref(), "--config".as_ref(), path.as_os_str()]),
    ] {
        let lines = errors(&finished);
        assert_eq!(lines.len(), 3, "{}", finished.stderr);
        for (line, place) in
            lines.iter().zip([":1:1: mod: ", ":3:23: management.from[1]: ", ":4:8: management.tcp[0]: "])
        {
            assert!(line.contains(place), "no {place:?} in {line}");
        }
        assert_eq!(finished.code, Some(1));
    }
}

#[test]
fn mistakes_of_the_file_and_the_machine_come_together() {
    let scene = Scene::new().expect("a scene");
    // The interface takes the tags of VLANs out of frames.
    let zones = GOOD
        .replace(
            "[[interface]]",
            "[[zone]]\nname = \"a\"\n[[zone]]\nname = \"b\"\n[[interface]]\nzone = \"a\"",
        )
        .replace("[[target]]", "vlans = { b = 10 }\n[[target]]\nzone = \"a\"");
    scene.instance.configure(&zones).expect("a file");
    let mut command = scene.pair.host.command(lyncwall_tests::agent::binary());
    command.arg("--socket").arg(scene.instance.socket()).args([
        "--pin-dir",
        "/tmp/lyncwall-pins",
        "run",
        "--config",
    ]);
    let output = command.arg(scene.instance.config()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("host0 takes the VLAN tags out of frames"), "{said}");
    assert!(said.contains("is not on a BPF file system"), "{said}");
    assert!(said.contains("mount -t bpf bpf /sys/fs/bpf"), "{said}");
    assert!(!std::path::Path::new("/tmp/lyncwall-pins").exists());
    assert!(!scene.instance.socket().exists());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for command in ["run", "check"] {
        let finished = lyncwall([command, "--config", "/nonexistent/lyncwall.toml"]).expect("it runs");
        expect_refused(&finished, &["/nonexistent/lyncwall.toml"]);
    }
}

#[test]
fn a_socket_that_nobody_serves_is_named() {
    for command in ["status", "watch", "events", "reload"] {
        let finished = lyncwall(["--socket", "/nonexistent/lyncwall.sock", command]).expect("it runs");
        expect_refused(
            &finished,
            &["no agent serves /nonexistent/lyncwall.sock", "lyncwall run", "--socket"],
        );
    }
    let finished = lyncwall(["--socket", "/nonexistent/lyncwall.sock", "switch", "edge"]).expect("it runs");
    expect_refused(&finished, &["no agent serves /nonexistent/lyncwall.sock"]);
}

#[test]
fn a_command_line_that_is_wrong_ends_with_1() {
    let cases: [(&[&str], &str); 6] = [
        (&["enforce"], "enforce"),
        (&["switch"], "ROLE"),
        (&["switch", "--none", "director-vip"], "--none"),
        (&["watch", "--interval", "0"], "interval"),
        (&["run", "--conf", "x"], "--conf"),
        (&[], "Usage"),
    ];
    for (arguments, said) in cases {
        expect_refused(&lyncwall(arguments).expect("it runs"), &[said]);
    }
    assert_eq!(lyncwall(["--version"]).expect("it runs").code, Some(0));
}

#[test]
fn an_unknown_role_or_target_changes_nothing() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let before = api.status().expect("a status");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["switch", "director-vpi"], &["`director-vpi`", "director-vip"]),
        (&["switch", "reverse-proxy", "nonsense", "more"], &["`nonsense`", "`more`"]),
        // An add-on needs its role.
        (&["switch", "collocated-mediation"], &["collocated-mediation", "front-end"]),
        (&["switch", "--target", "inside", "director-vip"], &["inside", "host"]),
        (&["switch", "director-vip", "director-vip"], &["director-vip"]),
    ];
    for (arguments, said) in cases {
        expect_refused(&cli(&scene, arguments), said);
        let after = api.status().expect("a status");
        assert_eq!((after.generation, &after.targets), (before.generation, &before.targets), "{arguments:?}");
    }
    let said = cli(&scene, ["switch", "director-vip"]).success().expect("a good switch");
    for text in ["generation 2", "Opened", "tcp 5061", "SIP"] {
        assert!(said.contains(text), "no {text:?} in:\n{said}");
    }
    let said = cli(&scene, ["switch", "--none"]).success().expect("a good switch");
    assert!(said.contains("no role") && said.contains("Closed"), "{said}");
}
