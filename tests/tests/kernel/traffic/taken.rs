//! What another tool takes off comes back, wherever the kernel has it.

use std::fs;
use std::path::PathBuf;

use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::{PATIENT, expect_tcp};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::eventually;

use super::tcp_servers;

/// The only entry of a folder of pins.
fn only_entry(scene: &Scene, folder: &str) -> PathBuf {
    let entries = fs::read_dir(scene.instance.pins().join(folder)).expect("a folder of pins");
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// Waits until the agent has put something back again.
#[track_caller]
fn expect_mended(api: &Api, before: u64) -> u64 {
    let mended = || api.status().expect("a status").mended;
    assert!(eventually(PATIENT, || mended() > before), "nothing was put back: {:?}", api.status());
    let status = api.status().expect("a status");
    assert!(status.unguarded.is_empty(), "{:?}", status.unguarded);
    status.mended
}

#[test]
fn programs_and_pins_that_another_tool_takes_away_come_back() {
    let scene = Scene::new().expect("a scene");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    let _far = tcp_servers(client, &[8443]);
    let _near = tcp_servers(host, &[443, 444]);
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let judges = || {
        expect_tcp(client, (Pair::HOST_V4, 443), Answered);
        expect_tcp(client, (Pair::HOST_V4, 444), TimedOut);
        expect_tcp(host, (Pair::CLIENT_V4, 8443), Answered);
    };
    judges();

    // The egress program: a filter of clsact goes with clsact, a link with its pin.
    let egress = only_entry(&scene, "egress");
    if egress.is_dir() {
        host.delete_clsact(Pair::HOST_LINK).expect("clsact was there");
    } else {
        fs::remove_file(&egress).expect("it was there");
    }
    let mended = expect_mended(&api, 0);
    assert!(agent.stderr().contains("the program on outgoing packets"), "{}", agent.stderr());
    judges();

    fs::remove_file(only_entry(&scene, "links")).expect("it was there");
    let mended = expect_mended(&api, mended);
    assert!(agent.stderr().contains("the program on incoming packets"), "{}", agent.stderr());
    judges();

    // Everything at once, as `rm -r` does it.
    let generation = api.switch(&["reverse-proxy"]).expect("a switch").generation;
    fs::remove_dir_all(scene.instance.pins()).expect("it was there");
    expect_mended(&api, mended);
    judges();
    agent.kill().expect("it ran");
    judges();
    // The next agent adopts the maps that were pinned again.
    let _agent = scene.instance.start().expect("the next agent");
    let now = api.status().expect("a status").generation;
    assert!(now > generation, "{now} after {generation}");
    judges();
}
