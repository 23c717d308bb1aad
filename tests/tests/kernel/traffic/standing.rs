//! What stands when enforcement begins goes on, packet by packet: connections of the box, its conversations by UDP, what
//! it forwards. Only who connected to the box is judged by its rules.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use lyncwall_common::abi::{Flow, FlowKeyV4, FlowState, map};
use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ipv4, Tcp};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{FrameSocket, eventually, tcp_exchange, tcp_open, udp_exchange};

use super::{tcp_servers, udp_servers};

/// Between two packets of a conversation.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks again and again until told to stop; counts questions, and panics at the first that has no answer.
fn talk(stop: &AtomicBool, count: &AtomicU32, mut ask: impl FnMut() -> bool) {
    while !stop.load(Ordering::Relaxed) {
        assert!(ask(), "question {} has no answer", count.load(Ordering::Relaxed));
        count.fetch_add(1, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
}

/// Ends the talk also where a test fails in the middle of it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_the_box_opened_goes_on_when_enforcement_begins() {
    let scene = Scene::new().expect("a scene");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    let _tcp = tcp_servers(client, &[8443]);
    let _udp = udp_servers(client, &[5000]);
    let stop = AtomicBool::new(false);
    for (address, own) in Scene::CLIENT.into_iter().zip(Scene::HOST) {
        stop.store(false, Ordering::Relaxed);
        let busy = tcp_open(host, (address, 8443).into(), PATIENT).expect("a connection");
        // One that is silent until long after the start.
        let silent = tcp_open(host, (address, 8443).into(), PATIENT).expect("a connection");
        // One whose far side speaks first, in the middle of its silence.
        let far = client.run(|| TcpListener::bind((address, 9443)).expect("a listener"));
        let near = tcp_open(host, (address, 9443).into(), PATIENT).expect("a connection");
        let (mut far, _) = far.accept().expect("the other end");
        // A UDP socket without a peer: no list of sockets tells whom it talks to. And one with a peer, which is silent.
        let loose = host.run(|| UdpSocket::bind((own, 4000)).expect("a socket"));
        loose.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let firm = host.run(|| {
            let socket = UdpSocket::bind((own, 4001)).expect("a socket");
            socket.connect((address, 5001)).expect("a peer");
            socket
        });
        let peer = client.run(|| UdpSocket::bind((address, 5001)).expect("a socket"));
        let counts = [const { AtomicU32::new(0) }; 2];
        let to = SocketAddr::from((address, 5000));
        thread::scope(|scope| {
            let ended = Stop(&stop);
            scope.spawn(|| {
                talk(&stop, &counts[0], || tcp_exchange(&busy, PATIENT).is_ok_and(|o| o == Answered));
            });
            scope.spawn(|| {
                talk(&stop, &counts[1], || {
                    loose.send_to(b"question", to).expect("it is sent");
                    loose.recv(&mut [0; 64]).is_ok()
                });
            });
            let counted = |least: u32| counts.iter().all(|count| count.load(Ordering::Relaxed) >= least);
            assert!(eventually(PATIENT, || counted(5)), "they talk");
            let (agent, api) = scene.start(&Config::default().learn(1)).expect("an agent");
            let before = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            let more = || counts.iter().zip(before).all(|(count, n)| count.load(Ordering::Relaxed) > n + 20);
            let go_on = eventually(PATIENT, more);
            far.write_all(b"news").expect("it is sent");
            near.set_read_timeout(Some(PATIENT)).expect("a timeout");
            let news = (&near).read_exact(&mut [0; 4]);
            let answered = tcp_exchange(&silent, PATIENT).expect("a try");
            peer.send_to(b"news", (own, 4001)).expect("it is sent");
            firm.set_read_timeout(Some(PATIENT)).expect("a timeout");
            let firm_news = firm.recv(&mut [0; 64]);
            drop(ended);
            assert!(go_on, "they stopped: {counts:?}");
            news.expect("the far side spoke first");
            assert_eq!(answered, Answered);
            firm_news.expect("the peer spoke first");
            let counters = api.counters().expect("counters");
            for reason in ["no-flow", "closed"] {
                assert_eq!(counters.of(reason, "drop"), 0, "{reason} with {address}: {counters:?}");
            }
            drop(agent);
        });
        scene.instance.cli(["detach"]).expect("it runs").success().expect("an open box");
    }
}

#[test]
fn who_connected_to_a_closed_port_of_the_box_is_cut_and_to_an_open_one_is_not() {
    let scene = Scene::new().expect("a scene");
    let _servers = tcp_servers(&scene.pair.host, &[443, 445]);
    let open = tcp_open(&scene.pair.client, Scene::v4(443), PATIENT).expect("a connection");
    let closed = tcp_open(&scene.pair.client, Scene::v4(445), PATIENT).expect("a connection");
    for stream in [&open, &closed] {
        assert_eq!(tcp_exchange(stream, PATIENT).expect("a try"), Answered);
    }
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"]).learn(1)).expect("an agent");
    assert_eq!(tcp_exchange(&open, PATIENT).expect("a try"), Answered);
    assert_eq!(tcp_exchange(&closed, BRIEF).expect("a try"), TimedOut);
    assert!(eventually(PATIENT, || api.counters().expect("counters").of("no-flow", "drop") > 0));
}

const BEHIND: Ipv4Addr = Pair::BEHIND_V4;

#[test]
fn what_the_box_forwards_goes_on_and_its_replies_come_back() {
    let scene = Scene::new().expect("a scene");
    let inside = scene.pair.behind().expect("a server behind");
    let _tcp = tcp_servers(&scene.pair.client, &[8443]);
    let _udp = udp_servers(&scene.pair.client, &[53]);
    let _hidden = tcp_servers(&inside, &[5081]);
    let to: SocketAddr = (Pair::CLIENT_V4, 8443).into();
    let busy: TcpStream = tcp_open(&inside, to, PATIENT).expect("a connection");
    let (stop, count) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let ended = Stop(&stop);
        scope.spawn(|| talk(&stop, &count, || tcp_exchange(&busy, PATIENT).is_ok_and(|o| o == Answered)));
        assert!(eventually(PATIENT, || count.load(Ordering::Relaxed) >= 5), "it talks");
        let (_agent, api) = scene.start(&Config::default().learn(1)).expect("an agent");
        let before = count.load(Ordering::Relaxed);
        let goes_on = eventually(PATIENT, || count.load(Ordering::Relaxed) > before + 20);
        let new = tcp_open(&inside, to, PATIENT).and_then(|stream| tcp_exchange(&stream, PATIENT));
        let asked = udp_exchange(&inside, 0, (Pair::CLIENT_V4, 53).into(), PATIENT);
        let in_from_outside = tcp_open(&scene.pair.client, (BEHIND, 5081).into(), BRIEF);
        drop(ended);
        assert!(goes_on, "it stopped");
        assert_eq!(new.expect("a new one"), Answered);
        assert_eq!(asked.expect("a try"), Answered);
        assert!(in_from_outside.is_err(), "who did not open is let in");
        let counters = api.counters().expect("counters");
        assert_eq!(counters.of("no-flow", "drop"), 0, "{counters:?}");
        // It forwards, so what is behind it is not `host`.
        assert!(counters.of("unmatched", "drop") > 0, "{counters:?}");
    });
}

/// Who is in front of the box can send whatever segment it likes of a connection that goes through.
#[test]
fn forged_segments_of_a_forwarded_connection_shorten_nothing() {
    let scene = Scene::new().expect("a scene");
    let inside = scene.pair.behind().expect("a server behind");
    let _server = tcp_servers(&inside, &[443]);
    let target =
        format!("[[target]]\nname = \"vip\"\naddress = [\"{BEHIND}\"]\nroles = [\"reverse-proxy\"]\n");
    let host = "[[target]]\nname = \"host\"\naddress = \"host\"\n";
    let config = Config::default().interface(Pair::INNER_LINK).toml().replacen("[[target]]\n", host, 1);
    scene.instance.configure(&(config + &target)).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let stream = tcp_open(&scene.pair.client, (BEHIND, 443).into(), PATIENT).expect("a connection");
    assert_eq!(tcp_exchange(&stream, PATIENT).expect("a try"), Answered);
    let port = stream.local_addr().expect("an address").port();
    let flow = || {
        let pin = scene.instance.pins().join(map::FLOWS_V4);
        let flows = Map::LruHashMap(MapData::from_pin(pin).expect("the pinned map"));
        let flows: HashMap<_, FlowKeyV4, Flow> = flows.try_into().expect("a map of flows");
        let mut found = flows.iter().filter_map(Result::ok);
        let flow = found.find(|(key, _)| key.local_port.number() == port).map(|(_, flow)| flow);
        flow.expect("the flow of the connection")
    };
    assert_eq!(flow().state(), FlowState::Established as u8);
    let wire = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    for flags in [Tcp::RST, Tcp::RST | Tcp::ACK, Tcp::FIN | Tcp::ACK, Tcp::SYN] {
        let before = scene.pair.host.statistics(Pair::INNER_LINK).expect("statistics").tx_packets;
        let segment = Tcp { flags, ..Tcp::new(port, 443) };
        let forged = Pair::frame().with(Ipv4::new(Pair::CLIENT_V4, BEHIND)).with(segment);
        wire.send(&forged.build()).expect("it is sent");
        let forwarded =
            || scene.pair.host.statistics(Pair::INNER_LINK).expect("statistics").tx_packets > before;
        assert!(eventually(PATIENT, forwarded), "{flags:#x} is forwarded");
        // It lives as long as before.
        assert!(flow().stands(), "after {flags:#x}: {:?}", flow());
    }
    assert_eq!(tcp_exchange(&stream, PATIENT).expect("a try"), Answered);
    // Data takes back what a forged end said.
    assert_eq!(flow().state(), FlowState::Established as u8);
}
