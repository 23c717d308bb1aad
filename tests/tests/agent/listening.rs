//! The warning that nothing listens where management gets in.

use std::net::Ipv4Addr;

use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::TcpEcho;

#[test]
fn nothing_that_listens_at_the_management_ports_is_told() {
    let scene = Scene::new().expect("a scene");
    let (agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let silent = "nothing listens at a port of [management] now (tcp 22)";
    agent.wait_for_log(silent).expect("the log says so");
    let config = scene.instance.config().display().to_string();
    let told = || {
        ["check", "doctor"].map(|command| {
            let finished = scene.instance.cli([command, "--config", &config]).expect("it runs");
            finished.stderr.contains(silent)
        })
    };
    assert_eq!(told(), [true, true]);
    let loopback = TcpEcho::start(&scene.pair.host, (Ipv4Addr::LOCALHOST, 22)).expect("a server");
    assert_eq!(told(), [true, true], "nobody reaches it from outside");
    drop(loopback);
    let _sshd = TcpEcho::start(&scene.pair.host, (Pair::HOST_V4, 22)).expect("a server");
    assert_eq!(told(), [false, false]);
}
