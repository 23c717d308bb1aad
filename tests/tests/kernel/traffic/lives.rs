//! How long flows live, and what becomes of them afterwards. The tests write flows that are older than they are, as if
//! the time had passed.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use lyncwall_common::abi::{Flow, FlowKeyV4, map};
use lyncwall_datapath::connections::sessions;
use lyncwall_tests::expect::{PATIENT, expect_tcp};
use lyncwall_tests::kernel::ticks_per_second;
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::Answered;
use lyncwall_tests::traffic::{eventually, tcp_exchange, tcp_open};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};

use super::tcp_servers;

/// Makes the IPv4 flows to a port of the far side so many seconds older; returns their number.
fn age(scene: &Scene, port: u16, seconds: u64) -> usize {
    let pin = scene.instance.pins().join(map::FLOWS_V4);
    let data = MapData::from_pin(&pin).unwrap_or_else(|error| panic!("{}: {error}", pin.display()));
    let mut flows: HashMap<MapData, FlowKeyV4, Flow> =
        aya::maps::Map::LruHashMap(data).try_into().expect("a table of flows");
    let ticks = seconds * ticks_per_second().expect("the length of a tick");
    let old: Vec<_> = flows
        .iter()
        .map(|flow| flow.expect("a flow can be read"))
        .filter(|(key, _)| key.remote_port.number() == port)
        .collect();
    for (key, flow) in &old {
        /// Only where the flow is there yet (linux/bpf.h).
        const BPF_EXIST: u64 = 2;
        flows.insert(key, flow.at(flow.last() - ticks), BPF_EXIST).expect("the flow is there");
    }
    old.len()
}

/// A busy proxy: connections that ended must not push out ones that live and are silent.
#[test]
fn closed_connections_make_room_before_idle_ones_are_pushed_out() {
    let scene = Scene::new().expect("a scene");
    let host = scene.pair.host.clone();
    closed_connections_make_room(&scene, &host, 125);
}

/// Nobody can say for sure that a connection has ended which a gateway forwards.
#[test]
fn forwarded_connections_that_seem_closed_make_room_before_idle_ones_are_pushed_out() {
    let scene = Scene::new().expect("a scene");
    let behind = scene.pair.behind().expect("a server behind");
    closed_connections_make_room(&scene, &behind, 245);
}

/// `silence` is for how long the closed connections are silent, in seconds.
fn closed_connections_make_room(scene: &Scene, from: &Netns, silence: u64) {
    const IDLE: usize = 20;
    const SHORT: usize = 650;
    let (mut agent, api) = scene.start(&Config::default().further("size = 1024\n")).expect("an agent");
    let _server = tcp_servers(&scene.pair.client, &[8443]);
    // It keeps no connection: a guest grants 1,024 descriptors.
    let bind = || TcpListener::bind((Pair::CLIENT_V4, 8444));
    let listener = scene.pair.client.run(bind).expect("a listener");
    let closing = thread::spawn(move || (0..2 * SHORT).for_each(|_| drop(listener.accept())));
    let open = || tcp_open(from, (Pair::CLIENT_V4, 8443).into(), PATIENT).expect("a connection");
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| open()).collect();
    let short = (Pair::CLIENT_V4, 8444).into();
    let connect = || drop(TcpStream::connect_timeout(&short, PATIENT).expect("a connection"));
    // All of them by one thread: to enter a namespace takes longer than a connection.
    let many = || from.run(|| (0..SHORT).for_each(|_| connect()));
    let flows = || api.status().expect("a status").flows;

    many();
    // The last segments of a connection would make its flow young again.
    let client = &scene.pair.client;
    let over = |at: &Netns| at.run(|| sessions().expect("the sockets").len()) == IDLE;
    assert!(eventually(PATIENT, || over(from) && over(client)));
    // More than half of the table is in use, and the ended connections are at an age at which little of them is left.
    // The agent stands still meanwhile: between two of them it would see a table that is not crowded.
    agent.signal(Signal::SIGSTOP).expect("a signal");
    assert_eq!(age(scene, 8444, silence), SHORT);
    agent.signal(Signal::SIGCONT).expect("a signal");
    assert!(eventually(PATIENT, || flows().v4 as usize == IDLE), "{:?}", flows());
    many();
    for connection in &idle {
        assert_eq!(tcp_exchange(connection, PATIENT).expect("a try"), Answered, "{:?}", flows());
    }
    closing.join().expect("it took every connection");
    let flows = flows();
    assert_eq!((flows.evicted, flows.lost, flows.freed), (0, 0, SHORT as u64), "{flows:?}");
}

/// What `status` and the alert count are flows that live.
#[test]
fn flows_that_are_over_are_not_counted_and_are_freed() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::default()).expect("an agent");
    let _servers = tcp_servers(&scene.pair.client, &[8443, 8444]);
    let host = &scene.pair.host;
    let open = |port| tcp_open(host, (Pair::CLIENT_V4, port).into(), PATIENT).expect("a connection");
    let (_young, _old) = (open(8443), open(8444));
    expect_tcp(host, (Pair::CLIENT_V4, 8444), Answered);
    let flows = || api.status().expect("a status").flows;
    let counted = || (flows().v4, flows().over, flows().freed);
    assert_eq!(counted(), (3, 0, 0));
    // The silent connection gets a grace, the ended one none.
    assert_eq!(age(&scene, 8444, 7501), 2);
    assert!(eventually(PATIENT, || counted() == (1, 1, 1)), "{:?}", flows());
    assert_eq!(age(&scene, 8444, 901), 1);
    assert!(eventually(PATIENT, || counted() == (1, 0, 2)), "{:?}", flows());
    assert_eq!(flows().evicted, 0);
}

/// A connection of the box, with both of its ends.
fn connection(scene: &Scene, port: u16) -> (TcpStream, TcpStream) {
    let address = (Pair::CLIENT_V4, port);
    let listener = scene.pair.client.run(|| TcpListener::bind(address)).expect("a listener");
    let near = tcp_open(&scene.pair.host, address.into(), PATIENT).expect("a connection");
    let (far, _) = listener.accept().expect("the far end");
    (near, far)
}

/// Makes an end ask each second whether the other one lives.
fn keep_alive(stream: &TcpStream) {
    setsockopt(stream, sockopt::TcpKeepIdle, &1).expect("an option of the socket");
    setsockopt(stream, sockopt::TcpKeepInterval, &1).expect("an option of the socket");
    setsockopt(stream, sockopt::KeepAlive, &true).expect("an option of the socket");
}

/// True where what `from` sends arrives.
fn arrives(mut from: &TcpStream, mut to: &TcpStream, patience: Duration) -> bool {
    to.set_read_timeout(Some(patience)).expect("a time-out");
    from.write_all(b"x").expect("the kernel takes it");
    to.read_exact(&mut [0]).is_ok()
}

/// Often the life of a flow and the keepalive of the far side are equally long, and only the far side asks.
#[test]
fn a_keepalive_of_the_far_side_finds_a_flow_shortly_after_its_life() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::default().further("tcp-established = 60\n")).expect("an agent");
    let flows = || api.status().expect("a status").flows;
    let (near, far) = connection(&scene, 8443);
    assert_eq!(age(&scene, 8443, 61), 1);
    assert_eq!((flows().v4, flows().over), (0, 1));
    keep_alive(&far);
    // The answer of the box begins the life of the flow anew.
    assert!(eventually(PATIENT, || flows().v4 == 1), "{:?}", flows());
    assert!(arrives(&far, &near, PATIENT));

    // Data of the far side is no question.
    let (near, far) = connection(&scene, 8444);
    assert_eq!(age(&scene, 8444, 61), 1);
    assert!(!arrives(&far, &near, Duration::from_millis(100)));
    assert!(api.counters().expect("counters").of("no-flow", "drop") > 0);
    // The box itself goes on when it likes.
    assert!(arrives(&near, &far, PATIENT));
    assert!(eventually(PATIENT, || near.take_error().is_ok() && flows().v4 == 2), "{:?}", flows());
}

/// After the grace, nobody is let in to ask.
#[test]
fn a_keepalive_long_after_the_life_of_a_flow_is_dropped() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::default().further("tcp-established = 60\n")).expect("an agent");
    let (_near, far) = connection(&scene, 8443);
    assert_eq!(age(&scene, 8443, 60 + 901), 1);
    keep_alive(&far);
    let dropped = || api.counters().expect("counters").of("no-flow", "drop");
    assert!(eventually(PATIENT, || dropped() > 0));
    assert_eq!(api.status().expect("a status").flows.v4, 0);
}
