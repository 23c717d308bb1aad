//! What the agent and its commands say: nothing that acts on a terminal, JSON where JSON is asked for, and sentences in
//! the log.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use lyncwall_tests::agent::{Finished, lyncwall};
use lyncwall_tests::expect::refusal;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use serde_json::Value;

const MEDIATION: &str = "mediation";

/// A server with a hostile name; it ends on drop.
struct Named(Child);

impl Named {
    fn start(scene: &Scene, name: &str, port: u16) -> Self {
        let mut command = scene.pair.host.command(env!("CARGO_BIN_EXE_named"));
        command.arg(name).arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut ready).expect("a line");
        assert_eq!(ready, "ready\n");
        Self(child)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// True if nothing in it acts on a terminal.
fn is_harmless(text: &str) -> bool {
    !text.contains(|letter: char| letter != '\n' && lyncwall_policy::text::acts(letter))
}

/// The problems that a command says as JSON on stderr.
#[track_caller]
fn problems(finished: &Finished) -> Vec<Value> {
    assert_eq!(finished.stdout, "", "data beside the mistake");
    let said: Value = serde_json::from_str(&finished.stderr).unwrap_or_else(|_| panic!("{finished:?}"));
    said["problems"].as_array().unwrap_or_else(|| panic!("{finished:?}")).clone()
}

#[test]
fn what_others_chose_does_not_reach_a_terminal_as_it_is() {
    let scene = Scene::new().expect("a scene");
    // It would set the title of a terminal, ring its bell, and begin a line of its own.
    let hostile = "\u{1b}]0;x\u{7}\nerror";
    let _server = Named::start(&scene, hostile, 49_500);
    let (mut agent, _api) = scene.start(&Config::roles(&[MEDIATION])).expect("an agent");
    let config = scene.instance.config();
    let config = config.to_str().expect("a path");
    let cli = |words: &[&str]| scene.instance.cli(words).expect("it runs");
    let shown = r"process \u{1b}]0;x\u{7}\nerror";
    for words in [&["check", "--config", config][..], &["status"]] {
        let Finished { code, stdout, stderr } = cli(words);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(is_harmless(&stdout) && is_harmless(&stderr), "{stdout:?} {stderr:?}");
        assert!(stderr.contains(shown), "{stderr:?}");
    }
    // A preview has it in a table.
    let previewed = cli(&["preview", "--none"]);
    assert!(previewed.stdout.contains(r"\u{1b}]0;x\u{7}\nerror"), "{previewed:?}");
    assert!(is_harmless(&previewed.stdout), "{previewed:?}");
    // In JSON the name is whole.
    for words in [&["check", "--json", "--config", config][..], &["status", "--json"]] {
        let told = cli(words);
        assert!(is_harmless(&told.stdout), "{told:?}");
        assert!(told.json().expect("JSON")["warnings"].to_string().contains(r"\u001b]0;x\u0007\nerror"));
    }

    // The content of a file, and the names of files.
    let text = Config::default().toml().replace("attach = \"auto\"", "attach = \"\\u001B[2J\\u009B\"");
    scene.instance.configure(&text).expect("a file");
    for finished in
        [cli(&["check", "--config", config]), cli(&["reload"]), cli(&["check", "--config", "\u{1b}[2J"])]
    {
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(is_harmless(&finished.stderr) && finished.stderr.contains(r"\u{1b}[2J"), "{finished:?}");
    }
    agent.reload().expect("a signal");
    agent.wait_for_log("SIGHUP").expect("it is refused");
    assert!(is_harmless(&agent.stderr()), "{}", agent.stderr());
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let cli = |words: &[&str]| scene.instance.cli(words).expect("it runs");
    // The agent refuses, the command line is wrong, nobody answers.
    let refused = cli(&["--json", "switch", "sip-proxy"]);
    assert!(problems(&refused)[0]["message"].as_str().is_some_and(|text| text.contains("`sip-proxy`")));
    assert!(!problems(&refused)[0]["fix"].as_str().expect("a fix").is_empty());
    assert_eq!(refused.code, Some(1));
    let refused = cli(&["switch", "edge", "--json", "--confirm", "5"]);
    assert!(problems(&refused)[0]["message"].as_str().is_some_and(|text| text.contains("5s")), "{refused:?}");
    assert_eq!(refused.code, Some(1));
    let refused = lyncwall(["--json", "--socket", "/nonexistent/socket", "rollback"]).expect("it runs");
    assert!(problems(&refused)[0]["message"].as_str().is_some_and(|text| text.contains("/nonexistent")));
    // A file with several mistakes, each with its place.
    let text = Config::roles(&["sip-proxy"]).toml().replace("22", "70000");
    scene.instance.configure(&text).expect("a file");
    let refused = cli(&["--json", "check", "--config", scene.instance.config().to_str().expect("a path")]);
    let places: Vec<Value> = problems(&refused).iter().map(|problem| problem["place"].clone()).collect();
    assert_eq!(places.len(), 2, "{refused:?}");
    assert!(places[0].as_str().is_some_and(|place| place.ends_with("management.tcp[0]")), "{places:?}");
    // Without --json, they are lines.
    assert!(cli(&["switch", "sip-proxy"]).stderr.starts_with("error: "));
    let unit = cli(&["switch", "edge", "--confirm", "5"]).stderr;
    assert!(unit.contains("5s") && !unit.contains("5ms"), "{unit}");
}

#[test]
fn a_configuration_comes_from_stdin_where_nobody_reads_it_again() {
    let scene = Scene::new().expect("a scene");
    let run = |words: &[&str], text: &str| -> Finished {
        let mut command = scene.instance.command();
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).ok();
        let output = child.wait_with_output().expect("it ends");
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        Finished { code: output.status.code(), stdout, stderr }
    };
    let good = Config::roles(&["reverse-proxy"]).toml();
    let checked = run(&["check", "--config", "-"], &good);
    assert!(checked.code == Some(0) && checked.stdout.contains("stdin has no mistakes"), "{checked:?}");
    let refused = run(&["check", "--config", "-"], &good.replace("22", "70000"));
    assert!(
        refused.code == Some(1) && refused.stderr.contains("stdin:4:8: management.tcp[0]"),
        "{refused:?}"
    );
    let refused = run(&["run", "--config", "-"], &good);
    assert!(refused.code == Some(1) && refused.stderr.contains("name a file with --config"), "{refused:?}");
}

#[test]
fn check_warns_of_what_this_machine_lacks() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&Config::default().interface("eth7").toml()).expect("a file");
    let config = scene.instance.config();
    let checked =
        scene.instance.cli(["check", "--config", config.to_str().expect("a path")]).expect("it runs");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("interface[1].name: eth7 does not exist on this machine"), "{checked:?}");
    assert!(!checked.stderr.contains(&format!("{} does not", Pair::HOST_LINK)), "{checked:?}");
}

#[test]
fn the_log_says_what_changed_where_and_who_asked() {
    let scene = Scene::new().expect("a scene");
    let (mut agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let cli = |words: &[&str]| scene.instance.cli(words).expect("it runs");
    api.switch(&["director-vip"]).expect("a switch");
    refusal(api.switch(&["sip-proxy"]));
    cli(&["mode", "audit", "--confirm", "60s"]);
    cli(&["rollback"]);
    cli(&["block", "192.0.2.7", "2001:db8:5::/48", "--for", "1h"]);
    cli(&["block", "0.0.0.0/0"]);
    cli(&["unblock", "192.0.2.7"]);
    let rule = "[[allow]]\nname = \"node exporter\"\ntransport = \"tcp\"\nports = 9100\n";
    let good = Config::roles(&["reverse-proxy"]).further(rule).toml();
    scene.instance.configure(&good).expect("a file");
    cli(&["reload"]);
    scene.instance.configure(&good.replace("9100", "70000")).expect("a file");
    cli(&["reload"]);
    let file = "allow rule added: node exporter: tcp 9100 from anywhere";
    for text in [
        &format!("attached to {} in native mode", Pair::HOST_LINK),
        &format!("guarding {} (native): enforcing, generation 1; host: reverse-proxy", Pair::HOST_LINK),
        "user 0 asks: POST /v1/switch",
        "switched, asked by user 0: generation 2 is live; host: reverse-proxy to director-vip; opened host tcp 80",
        "not switched: unknown role `sip-proxy`",
        "changed the mode, asked by user 0: generation 3 is live; mode: enforce to audit; it rolls back in 60 s",
        "rolled back, asked by user 0: generation",
        "blocked 192.0.2.7/32, 2001:db8:5::/48 for 3600 s, asked by user 0",
        "not blocked: 0.0.0.0/0 would block everybody",
        "unblocked 192.0.2.7/32, asked by user 0",
        "reloaded, asked by user 0: generation",
        file,
        "not reloaded: ",
        "70000 is out of range; a port is a number from 1 to 65535 (asked by user 0)",
    ] {
        agent.wait_for_log(text).expect("a sentence");
    }
    // A signal says what the socket says.
    scene.instance.configure(&Config::roles(&["director-vip"]).toml()).expect("a file");
    agent.reload().expect("a signal");
    agent.wait_for_log("reloaded, asked by SIGHUP: generation").expect("it is reloaded");
    agent.wait_for_log("allow rule removed: node exporter").expect("what changed");
    assert!(is_harmless(&agent.stderr()));
}

#[test]
fn a_time_to_confirm_in_that_passes_while_flows_are_learned_is_refused() {
    let scene = Scene::new().expect("a scene");
    let _behind = scene.pair.behind().expect("a server behind");
    let (_agent, api) = scene.start(&Config::default()).expect("an agent");
    let zones = "[[zone]]\nname = \"outside\"\n[[zone]]\nname = \"inside\"\nunmatched = \"pass\"\n";
    let moved = Config::default().interface(Pair::INNER_LINK).learn(7).further(zones).toml();
    let moved = moved.replace("[[target]]\n", "[[target]]\nzone = \"outside\"\n");
    let in_zone = |text: String, link: &str, zone: &str| {
        let name = format!("name = {link:?}\n");
        text.replace(&name, &format!("{name}zone = {zone:?}\n"))
    };
    let moved = in_zone(in_zone(moved, Pair::HOST_LINK, "outside"), Pair::INNER_LINK, "inside");
    scene.instance.configure(&moved).expect("a file");
    let said = refusal(api.reload_within(7));
    assert!(
        said.contains("learning their flows takes 7 s of the 7 s") && said.contains("--confirm"),
        "{said}"
    );
    scene.instance.configure(&moved.replace("learn = 7", "learn = 0")).expect("a file");
    api.reload_within(60).expect("a reload");
    api.confirm().expect("in time");
}
