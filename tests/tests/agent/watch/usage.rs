//! Which rules and rows are used, over all that an agent lives through.

use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::eventually;
use serde_json::Value;

use super::open;

fn cli(scene: &Scene, arguments: &[&str]) -> Value {
    scene.instance.cli(arguments).expect("it runs").json().expect("JSON")
}

/// The rows that `unused` names as never used, with their ports and since when.
fn never(scene: &Scene) -> Vec<(String, Vec<String>, String)> {
    let unused = cli(scene, &["unused", "--json"]);
    let rows = unused["never"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let ports = |row: &Value| row["ports"].as_array().expect("a list").iter().map(text).collect();
    rows.map(|row| (text(&row["row"]), ports(row), text(&row["since"]))).collect()
}

/// Whether a row that opens this port was never used.
fn unused(scene: &Scene, port: &str) -> bool {
    never(scene).iter().any(|(_, ports, _)| ports.iter().any(|known| known == port))
}

/// Since when the rule of a port is counted for, and when it was used last.
fn times(api: &Api, ports: &str) -> (Option<String>, Option<String>) {
    let counters = api.counters().expect("counters").0;
    let rule =
        counters.rules.iter().find(|rule| rule.ports == ports && rule.transport.as_deref() == Some("tcp"));
    let rule = rule.unwrap_or_else(|| panic!("no rule for {ports} in {:?}", counters.rules));
    (rule.since.clone(), rule.last_used.clone())
}

#[track_caller]
fn expect_used(scene: &Scene, port: u16) {
    open(scene, port, 3);
    let port = format!("tcp {port}");
    assert!(eventually(PATIENT, || !unused(scene, &port)), "{port} carried packets: {:?}", never(scene));
}

#[test]
fn what_is_used_is_remembered_over_a_switch_a_kill_a_reload_and_a_detach() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (agent, api) = scene.start(&Config::roles(&["director-vip"])).expect("an agent");
    assert!(unused(&scene, "tcp 443") && unused(&scene, "tcp 5061"), "{:?}", never(&scene));
    assert_eq!(
        scene.instance.cli(["top"]).expect("it runs").success().expect("text"),
        "no rule has let a packet in yet\n"
    );
    expect_used(&scene, 443);
    let text = scene.instance.cli(["unused"]).expect("it runs").success().expect("text");
    for said in ["Never used", "director-vip", "tcp 5061", "less than a minute ago", "A hint"] {
        assert!(text.contains(said), "no {said:?} in\n{text}");
    }
    let https = times(&api, "443");
    assert!(https.0.is_some() && https.1.is_some(), "{https:?}");

    // Another role, in which the same port is another rule, and back.
    api.switch(&["reverse-proxy"]).expect("a switch");
    api.switch(&["director-vip"]).expect("a switch");
    assert_eq!(times(&api, "443"), https, "it carried nothing since");

    // Nobody looked at what came while no agent ran.
    let since = times(&api, "5061").0;
    agent.kill().expect("it ran");
    open(&scene, 5061, 2);
    let agent = scene.instance.start().expect("the next agent");
    assert!(eventually(PATIENT, || !unused(&scene, "tcp 5061")), "{:?}", never(&scene));
    let sip = times(&api, "5061");
    assert!(sip.0 == since && sip.1.is_some(), "{sip:?} after {since:?}");
    assert_eq!(times(&api, "443"), https);

    scene
        .instance
        .configure(&Config::roles(&["director-vip"]).top("on-exit = \"keep\"").toml())
        .expect("a file");
    api.reload().expect("a reload");
    assert_eq!((times(&api, "443"), times(&api, "5061")), (https.clone(), sip.clone()));

    // As after a boot: the maps are new, the state directory is not.
    scene.instance.cli(["detach"]).expect("it runs").success().expect("an open box");
    agent.wait().expect("it ends");
    let _agent = scene.instance.start().expect("an agent with new maps");
    assert_eq!(api.counters().expect("counters").rule("tcp", "443"), 0);
    assert_eq!((times(&api, "443"), times(&api, "5061")), (https, sip));
    assert!(!unused(&scene, "tcp 443"));
}

#[test]
fn top_names_the_rules_with_the_most_packets_and_their_roles() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&Config::roles(&["director-vip"])).expect("an agent");
    open(&scene, 443, 3);
    open(&scene, 5061, 9);
    assert!(eventually(PATIENT, || api.counters().expect("counters").rule("tcp", "5061") == 9));
    let top = cli(&scene, &["top", "--json", "-n", "1"]);
    assert_eq!((&top[0]["ports"], &top[0]["packets"]), (&"5061".into(), &9.into()), "{top}");
    assert_eq!(top[0]["roles"], serde_json::json!(["director-vip"]));
    assert_eq!(top.as_array().map(Vec::len), Some(1));
    let over = cli(&scene, &["top", "--json", "--over", "1s", "--target", "host"]);
    assert_eq!(over[0]["rate"], 0.0, "{over}");
    for command in ["top", "unused"] {
        let refused = scene.instance.cli([command, "--target", "hots"]).expect("it runs");
        assert!(refused.code == Some(1) && refused.stderr.contains("unknown target hots"), "{refused:?}");
    }
}
