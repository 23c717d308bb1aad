//! Datagrams larger than the link, links larger than a page, and a stream that the sender's stack hands over in
//! pieces larger than either.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;

use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::kernel::takes_frags;
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::tcp_open;

use super::{expect_count, tcp_servers, udp_servers};

const STUN: &str = "[[allow]]\nname = \"stun\"\ntransport = \"udp\"\nports = [3478]\n";

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// Whether a datagram of this length comes back whole.
fn comes_back(from: &Netns, to: SocketAddr, length: usize, expected: bool) -> bool {
    let socket = from.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))).expect("a socket");
    let socket =
        if to.is_ipv4() { from.run(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket") } else { socket };
    socket.connect(to).expect("a route");
    socket.set_read_timeout(Some(if expected { PATIENT } else { BRIEF })).expect("a time-out");
    let sent = text(length);
    assert_eq!(socket.send(&sent).expect("a datagram"), length);
    let mut buffer = vec![0; length + 1];
    match socket.recv(&mut buffer) {
        Ok(received) => buffer[..received] == sent,
        Err(_) => false,
    }
}

/// Sends and gets back a stream of 4 MiB.
fn stream(from: &Netns, to: SocketAddr) {
    let connection = tcp_open(from, to, PATIENT).expect("a connection");
    connection.set_read_timeout(Some(PATIENT)).expect("a time-out");
    let sent = text(4 << 20);
    let mut received = vec![0; sent.len()];
    thread::scope(|scope| {
        scope.spawn(|| (&connection).write_all(&sent).expect("the other end reads"));
        (&connection).read_exact(&mut received).expect("all of it comes back");
    });
    assert!(received == sent, "the stream to {to} came back changed");
}

fn fragments_share_the_verdict_of_the_first(attach: &'static str) {
    let scene = Scene::new().expect("a scene");
    let config = Config::default().further(STUN).attach(attach);
    let (_agent, api) = scene.start(&config).expect("an agent");
    let client = &scene.pair.client;
    let _servers = udp_servers(&scene.pair.host, &[3478, 3480]);
    // Over a link of 1500 bytes: three fragments.
    for (n, address) in (1..).zip(Scene::HOST) {
        assert!(comes_back(client, (address, 3478).into(), 4000, true), "{address}");
        assert!(!comes_back(client, (address, 3480).into(), 4000, false), "{address}");
        expect_count(&api, "allow", "pass", n);
        expect_count(&api, "fragment", "pass", 2 * n);
        expect_count(&api, "closed", "drop", n);
        expect_count(&api, "fragment-orphan", "drop", 2 * n);
    }
    assert_eq!(api.counters().expect("counters").0.fragments_lost, 0);
}

#[test]
fn fragments_share_the_verdict_of_the_first_in_native_mode() {
    fragments_share_the_verdict_of_the_first("native");
}

#[test]
fn fragments_share_the_verdict_of_the_first_in_generic_mode() {
    fragments_share_the_verdict_of_the_first("generic");
}

#[test]
fn a_link_of_9000_bytes_takes_the_program() {
    let scene = Scene::new().expect("a scene");
    scene.pair.client.set_mtu(Pair::CLIENT_LINK, 9000).expect("an MTU");
    scene.pair.host.set_mtu(Pair::HOST_LINK, 9000).expect("an MTU");
    let config = Config::roles(&["reverse-proxy"]).further(STUN);
    let native = config.clone().attach("native");
    let config = if takes_frags().expect("the kernel says so") {
        native
    } else {
        println!("this kernel's drivers take no program where a frame needs more than one buffer");
        scene.instance.configure(&native.toml()).expect("a file");
        let finished = scene.instance.start_in_vain().expect("it ends");
        assert_eq!(finished.code, Some(1), "{finished:?}");
        for said in [Pair::HOST_LINK, "refused a native XDP program", "\"auto\" or \"generic\""] {
            assert!(finished.stderr.contains(said), "no {said:?} in {finished:?}");
        }
        // Left the choice, the agent takes the other mode, and the frames come in whole.
        config
    };
    let (_agent, api) = scene.start(&config).expect("an agent");
    let mode = if takes_frags().expect("the kernel says so") { "native" } else { "generic" };
    assert_eq!(api.status().expect("a status").interfaces[0].mode, mode);
    let client = &scene.pair.client;
    let _udp = udp_servers(&scene.pair.host, &[3478, 3480]);
    let _tcp = tcp_servers(&scene.pair.host, &[443]);
    for (n, address) in (1..).zip(Scene::HOST) {
        assert!(comes_back(client, (address, 3478).into(), 8900, true), "{address}");
        assert!(!comes_back(client, (address, 3480).into(), 8900, false), "{address}");
        expect_count(&api, "allow", "pass", n);
        expect_count(&api, "closed", "drop", n);
        stream(client, (address, 443).into());
    }
    assert_eq!(api.counters().expect("counters").of("fragment", "pass"), 0);
}

#[test]
fn a_stream_of_segments_passes_whole() {
    for attach in ["native", "generic"] {
        let scene = Scene::new().expect("a scene");
        let (_agent, _api) =
            scene.start(&Config::roles(&["reverse-proxy"]).attach(attach)).expect("an agent");
        let _servers = tcp_servers(&scene.pair.host, &[443]);
        for address in Scene::HOST {
            stream(&scene.pair.client, (address, 443).into());
        }
    }
}
