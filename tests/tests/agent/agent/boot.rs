//! The start at a boot: what waits for the agent comes up behind a closed box, and nothing beside enforcing keeps
//! the box open.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{eventually, tcp_connect};

use super::Openings;

const PORTS: [u16; 2] = [443, 5061];

#[test]
fn the_service_manager_hears_of_the_start_when_the_box_is_closed() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    let place = scene.instance.state().with_file_name("notify");
    let manager = UnixDatagram::bind(&place).expect("a socket");
    manager.set_read_timeout(Some(PATIENT)).expect("a time");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    let mut command = scene.instance.command();
    command.env("NOTIFY_SOCKET", &place).arg("run").arg("--config").arg(scene.instance.config());
    let mut agent = command.spawn().expect("an agent");
    let mut state = [0; 64];
    let length = manager.recv(&mut state).expect("a word");
    assert_eq!(&state[..length], b"READY=1");
    assert_eq!(openings.open(&PORTS), [443]);
    agent.kill().expect("it ran");
    agent.wait().expect("it ends");
}

#[test]
fn a_start_waits_for_connections_only_where_some_may_stand() {
    let waits = "learning flows from outgoing packets";
    let config = Config::roles(&["reverse-proxy"]).learn(3);
    let scene = Scene::new().expect("a scene");
    let (agent, _) = scene.start(&config).expect("an agent");
    assert!(!agent.stderr().contains(waits), "{}", agent.stderr());
    scene.instance.cli(["detach"]).expect("it runs").success().expect("it opens the box");
    agent.wait().expect("it ends");

    // A socket that may wait for an answer.
    let host = &scene.pair.host;
    let socket = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 4000))).expect("a socket");
    socket.send_to(b"?", (lyncwall_tests::netns::Pair::CLIENT_V4, 53)).expect("a question");
    let begin = Instant::now();
    let (agent, _) = scene.start(&config).expect("an agent");
    assert!(agent.stderr().contains(waits), "{}", agent.stderr());
    assert!(begin.elapsed() >= Duration::from_secs(3));
}

#[test]
fn a_metrics_address_that_is_taken_fails_alone_and_is_served_once_it_is_free() {
    let scene = Scene::new().expect("a scene");
    let host = &scene.pair.host;
    let taken = host.run(|| TcpListener::bind("127.0.0.1:9464")).expect("an address");
    let listen = "[metrics]\nlisten = [\"127.0.0.1:9464\", \"127.0.0.1:9465\"]\n";
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"]).further(listen)).expect("an agent");
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
    let failing = || api.status().expect("a status").failing;
    let text = "metrics.listen[0]: cannot serve metrics on 127.0.0.1:9464";
    assert!(failing().iter().any(|what| what.contains(text)), "{:?}", failing());
    assert!(agent.stderr().contains(text), "{}", agent.stderr());
    let said = scene.instance.cli(["status"]).expect("it runs");
    assert!(said.stderr.contains(text), "{said:?}");
    let served = |port| tcp_connect(host, (Ipv4Addr::LOCALHOST, port).into(), PATIENT).is_ok();
    assert!(served(9465));
    drop(taken);
    assert!(eventually(PATIENT, || failing().is_empty()), "{:?}", failing());
    assert!(served(9464));
    assert_eq!(agent.stderr().matches(text).count(), 1, "said once: {}", agent.stderr());
}
