//! The agent with the rights that the systemd unit leaves it, and no more.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lyncwall_tests::agent::binary;
use lyncwall_tests::expect::{PATIENT, expect_tcp};
use lyncwall_tests::netns::{End, Pair, veth};
use lyncwall_tests::programs;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{TcpEcho, eventually};

/// As setpriv takes them, from `CAP_BPF CAP_NET_ADMIN`.
fn capabilities() -> String {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/lyncwall.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.expect("a set of capabilities").split_whitespace();
    let kept = names.map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()));
    format!("-all{}", kept.collect::<String>())
}

#[test]
fn the_rights_of_the_unit_are_enough_to_start_reload_explain_capture_and_start_again() {
    let mut scene = Scene::new().expect("a scene");
    programs::run(&scene.pair.host, "setpriv", ["--version"], PATIENT).expect("setpriv");
    let folder = tempfile::tempdir().expect("a folder");
    let wrapper = folder.path().join("lyncwall");
    let script = format!(
        "#!/bin/sh\nexec setpriv --bounding-set={} --no-new-privs {} \"$@\"\n",
        capabilities(),
        binary().display()
    );
    fs::write(&wrapper, script).expect("a script");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("a script that runs");
    scene.instance.run_by(&wrapper);
    veth(
        End { namespace: &scene.pair.host, name: "spare0", mac: [2, 0, 0, 0, 0x30, 1] },
        End { namespace: &scene.pair.client, name: "spare1", mac: [2, 0, 0, 0, 0x30, 2] },
    )
    .expect("a second wire");
    let _servers = [443, 444].map(|port| {
        TcpEcho::start(&scene.pair.host, (std::net::Ipv6Addr::UNSPECIFIED, port)).expect("a server")
    });
    let holds = || {
        expect_tcp(&scene.pair.client, (Pair::HOST_V4, 443), Answered);
        expect_tcp(&scene.pair.client, (Pair::HOST_V4, 444), TimedOut);
    };
    let one = Config::roles(&["reverse-proxy"]);
    let (agent, api) = scene.start(&one).expect("an agent");
    let rights = fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("its status");
    assert!(rights.contains("NoNewPrivs:\t1"), "{rights}");
    let effective = rights.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("its capabilities");
    let effective = u64::from_str_radix(effective, 16).expect("a number");
    assert_eq!(effective.count_ones(), 3, "{effective:x}");
    holds();
    scene.instance.configure(&one.clone().interface("spare0").toml()).expect("a file");
    api.reload().expect("a reload");
    api.switch(&["reverse-proxy"]).expect("a switch");
    let preview = api.preview(&[]).expect("a preview");
    assert_eq!(preview.closed.len(), 1, "{preview:?}");
    // Another program is loaded for an explanation, and a capture opens perf events.
    let asked = lyncwall_api::Explain {
        from: Some("192.0.2.7".to_owned()),
        to: Some(Pair::HOST_V4.to_string()),
        protocol: Some("tcp".to_owned()),
        port: Some(444),
        interface: Some(Pair::HOST_LINK.to_owned()),
        ..lyncwall_api::Explain::default()
    };
    assert_eq!(&*api.explain(&asked).expect("an explanation").verdicts[0].event.reason, "closed");
    let file = folder.path().join("drops.pcapng");
    let mut capture = scene.instance.command();
    let mut capture = capture.args(["capture", "-n", "1", "-w"]).arg(&file).spawn().expect("a capture");
    agent.wait_for_log("capturing dropped packets").expect("it captures");
    expect_tcp(&scene.pair.client, (Pair::HOST_V4, 444), TimedOut);
    assert!(eventually(PATIENT, || capture.try_wait().expect("its state").is_some()), "{}", agent.stderr());
    assert!(fs::metadata(&file).expect("a file").len() > 100);
    agent.kill().expect("a dead agent");
    let agent = scene.instance.start().expect("the next agent");
    holds();
    agent.stop().expect("it ends");
    let _agent = scene.instance.start().expect("one more");
    holds();
    let detached = scene.instance.cli(["detach"]).expect("a command").success().expect("an open box");
    assert!(detached.contains("spare0"), "{detached}");
}
