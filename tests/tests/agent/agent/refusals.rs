//! Starts that must not be: nothing changes on the wire, nothing is left behind, and the user is told what to do.

use std::fs;
use std::os::unix::net::UnixListener;

use lyncwall_datapath::{Attach, Datapath};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};

use super::{Openings, expect_refused};

const PORTS: [u16; 2] = [443, 5061];

/// The box is open, and neither pins nor a socket are left.
#[track_caller]
fn expect_untouched(scene: &Scene) {
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), PORTS);
    let pinned = |directory| fs::read_dir(directory).map(Iterator::count).unwrap_or_default();
    assert_eq!(pinned(scene.instance.pins()), 0, "pins are left");
}

#[test]
fn the_program_of_somebody_else_is_left() {
    let scene = Scene::new().expect("a scene");
    let object = lyncwall_tests::object::object();
    let mut other = Datapath::open(object, &scene.bpffs.path().join("other")).expect("another program");
    scene.pair.host.run(|| other.attach(Pair::HOST_LINK, Attach::Generic)).expect("it is free");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    let finished = scene.instance.start_in_vain().expect("it ends");
    expect_refused(&finished, &[Pair::HOST_LINK, "foreign XDP program", "bpftool prog show"]);
    let status = scene.pair.host.run(|| other.status()).expect("a status");
    assert_eq!(status.interfaces.len(), 1, "{status:?}");
    assert!(!scene.instance.socket().exists(), "the socket is left");
    // It has no policy, so it lets nothing in; ours opens 443.
    assert!(Openings::on(&scene.pair).open(&PORTS).is_empty());
    scene.pair.host.run(|| other.detach_interfaces_except(&[])).expect("off");
    expect_untouched(&scene);
}

#[test]
fn a_socket_that_is_taken_stops_the_start_before_the_wire_is_touched() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    let taken = UnixListener::bind(scene.instance.socket()).expect("a socket");
    let finished = scene.instance.start_in_vain().expect("it ends");
    expect_refused(&finished, &["another agent serves", "--socket"]);
    assert!(scene.instance.socket().exists(), "it is not ours to remove");
    expect_untouched(&scene);

    drop(taken);
    // Nobody serves it any more: an agent that was killed left it.
    let agent = scene.instance.start().expect("a stale socket is replaced");
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
    scene.instance.cli(["detach"]).expect("it runs").success().expect("it opens the box");
    agent.wait().expect("it ends, and removes its socket");

    fs::write(scene.instance.socket(), "precious").expect("a file");
    let finished = scene.instance.start_in_vain().expect("it ends");
    expect_refused(&finished, &["is not a socket", "--socket"]);
    assert_eq!(fs::read(scene.instance.socket()).expect("the file is left"), b"precious");
    expect_untouched(&scene);
}

#[test]
fn a_mode_that_the_interface_does_not_take_is_refused() {
    let scene = Scene::new().expect("a scene");
    // The kernel gives lo no native mode.
    let mut config = Config::roles(&["reverse-proxy"]).attach("native");
    config.interfaces[0].0 = "lo".to_owned();
    scene.instance.configure(&config.toml()).expect("a file");
    let finished = scene.instance.start_in_vain().expect("it ends");
    expect_refused(&finished, &["lo", "native", "auto", "generic"]);
    expect_untouched(&scene);

    config = config.attach("auto").interface(Pair::HOST_LINK);
    let (agent, api) = scene.start(&config).expect("an agent");
    let modes: Vec<_> = api.status().expect("a status").interfaces.into_iter().map(|on| on.mode).collect();
    assert_eq!(modes, ["generic", "native"], "lo first");
    agent.wait_for_log("the driver refused").expect("it says so");
}

/// The program would take the first half of an IPv4 source address for an EtherType, and pass nearly everything.
#[test]
fn an_interface_without_ethernet_is_refused() {
    let scene = Scene::new().expect("a scene");
    let _tun = scene.pair.host.tun("tun0").expect("a tun interface");
    let mut config = Config::roles(&["reverse-proxy"]);
    config.interfaces[0].0 = "tun0".to_owned();
    scene.instance.configure(&config.toml()).expect("a file");
    let finished = scene.instance.start_in_vain().expect("it ends");
    expect_refused(&finished, &["tun0", "without an Ethernet header"]);
    expect_untouched(&scene);
}

/// A BPF file system that was mounted without a mode is open to everybody.
#[test]
fn a_pin_directory_of_somebody_else_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    fs::create_dir_all(scene.instance.pins()).expect("a directory");
    fs::set_permissions(scene.instance.pins(), fs::Permissions::from_mode(0o777)).expect("a mode");
    let finished = scene.instance.start_in_vain().expect("it ends");
    expect_refused(&finished, &["only user 0 can write to", "--pin-dir"]);
}
