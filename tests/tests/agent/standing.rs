//! Which connections are found to stand: real sockets, and what a forwarding box tracks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use lyncwall_common::abi::PortTransport::{Tcp, Udp};
use lyncwall_datapath::connections::{connections, listeners, name_processes};
use lyncwall_policy::connection::{Connection as Standing, Protocol};
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::{
    Outcome, TcpEcho, UdpEcho, eventually, ping, tcp_exchange, tcp_open, udp_exchange,
};

/// What comes from behind leaves with an address of the box; connection tracking is on.
const MASQUERADE: &str = "table inet nat {
    chain out {
        type nat hook postrouting priority 100
        oifname \"host0\" ip saddr 10.1.0.0/24 masquerade
        oifname \"host0\" ip6 saddr fd00:1::/64 masquerade
    }
    chain tracked {
        type filter hook prerouting priority 0
        ct state established accept
    }
}";

#[test]
fn sockets_with_a_peer_elsewhere_stand_and_no_others() {
    require_root();
    let pair = Pair::new().expect("namespaces");
    assert_eq!(standing(&pair.host), [], "an empty namespace");
    let mut open = Vec::new();
    let mut servers = Vec::new();
    let mut expected = Vec::new();
    // Inbound to a server of either family; outbound to one.
    for (host, client) in Scene::HOST.into_iter().zip(Scene::CLIENT) {
        servers.push(TcpEcho::start(&pair.host, (host, 443)).expect("a server"));
        servers.push(TcpEcho::start(&pair.client, (client, 5061)).expect("a server"));
        let inbound = opened(&pair.client, (host, 443).into());
        expected.push(tcp((host, 443).into(), inbound.local_addr().expect("an address")));
        let outbound = opened(&pair.host, (client, 5061).into());
        expected.push(tcp(outbound.local_addr().expect("an address"), (client, 5061).into()));
        open.extend([inbound, outbound]);
    }
    // An IPv6 socket that takes IPv4 as well.
    servers.push(TcpEcho::start(&pair.host, (Ipv6Addr::UNSPECIFIED, 8080)).expect("a server"));
    let mapped = opened(&pair.client, Scene::v4(8080));
    expected.push(tcp(Scene::v4(8080), mapped.local_addr().expect("an address")));
    // UDP with a peer, and without one.
    let mut datagrams = Vec::new();
    for (host, client) in Scene::HOST.into_iter().zip(Scene::CLIENT) {
        let connected = udp_socket(&pair.host, (host, 40_000).into());
        connected.connect((client, 3478)).expect("a peer");
        expected.push(Standing {
            protocol: Protocol::Udp,
            local: (host, 40_000).into(),
            remote: (client, 3478).into(),
        });
        datagrams.extend([connected, udp_socket(&pair.host, (host, 40_001).into())]);
    }
    // What stays inside.
    for inside in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        servers.push(TcpEcho::start(&pair.host, (inside, 9000)).expect("a server"));
        open.push(opened(&pair.host, (inside, 9000).into()));
        let connected = udp_socket(&pair.host, (inside, 0).into());
        connected.connect((inside, 9001)).expect("a peer");
        datagrams.push(connected);
    }
    expected.sort_unstable();
    assert_eq!(standing(&pair.host), expected);
}

#[test]
fn sockets_that_anybody_may_send_to_listen_and_no_others() {
    require_root();
    let pair = Pair::new().expect("namespaces");
    let host = &pair.host;
    let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let [v4, v6] = Scene::HOST;
    let bound: [(IpAddr, u16); 3] = [(v4, 443), (v6, 443), (any, 5061)];
    let _tcp = bound.map(|to| host.run(|| TcpListener::bind(to).expect("a listener")));
    let _udp = [udp_socket(host, (v4, 3478).into()), udp_socket(host, (any, 3480).into())];
    // One with a peer, those of loopback, and a connection.
    let firm = udp_socket(host, (v4, 3479).into());
    firm.connect((Pair::CLIENT_V4, 6000)).expect("a peer");
    let inside = IpAddr::from(Ipv4Addr::LOCALHOST);
    let _inside = (
        host.run(|| TcpListener::bind((inside, 9000)).expect("a listener")),
        udp_socket(host, (inside, 9000).into()),
    );
    let _open = opened(&pair.client, Scene::v4(443));

    let mut found = host.run(listeners).expect("who listens");
    name_processes(&mut found);
    let name = std::fs::read_to_string("/proc/self/comm").expect("a name").trim_end().to_owned();
    assert!(found.iter().all(|listener| listener.process.as_ref() == Some(&name)), "{found:?}");
    let found: Vec<_> =
        found.into_iter().map(|listener| (listener.transport, listener.address, listener.port)).collect();
    let expected = [(Tcp, v4, 443), (Tcp, any, 5061), (Tcp, v6, 443), (Udp, v4, 3478), (Udp, any, 3480)];
    assert_eq!(found, expected);
}

#[test]
fn a_connection_that_ends_stands_no_more() {
    require_root();
    let pair = Pair::new().expect("namespaces");
    let listener = pair.client.run(|| TcpListener::bind((Pair::CLIENT_V4, 5061))).expect("a server");
    let near = opened(&pair.host, (Pair::CLIENT_V4, 5061).into());
    let (far, _) = listener.accept().expect("the connection");
    let expected = tcp(near.local_addr().expect("an address"), (Pair::CLIENT_V4, 5061).into());
    // The near side ends it first, so that it waits in TIME_WAIT.
    near.shutdown(std::net::Shutdown::Write).expect("an end");
    assert_eq!(standing(&pair.host), [expected], "half of it still stands");
    drop((far, near));
    assert!(eventually(PATIENT, || standing(&pair.host).is_empty()), "{:?}", standing(&pair.host));
}

/// After source NAT the source is an address of the box, and yet it is no forged one.
#[test]
fn what_a_masquerading_box_forwards_is_answered_through_the_firewall() {
    let scene = Scene::new().expect("a scene");
    let inner = scene.pair.hidden().expect("a namespace behind");
    nft(&scene.pair.host, MASQUERADE);
    let file = "management = \"none\"\n[flows]\nlearn = 0\n[[zone]]\nname = \"outside\"\n\
                [[zone]]\nname = \"inside\"\noutbound = \"any\"\n\
                [[interface]]\nname = \"host0\"\nzone = \"outside\"\n[[interface]]\nname = \"inner0\"\nzone = \"inside\"\n\
                [[target]]\nzone = \"outside\"\nroles = []\n";
    scene.instance.configure(file).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    for client in Scene::CLIENT {
        let _server = TcpEcho::start(&scene.pair.client, (client, 5061)).expect("a server");
        let _answerer = UdpEcho::start(&scene.pair.client, (client, 3478)).expect("a server");
        let stream = opened(&inner, (client, 5061).into());
        assert_eq!(tcp_exchange(&stream, PATIENT).expect("a try"), Outcome::Answered);
        let answer = udp_exchange(&inner, 40_000, (client, 3478).into(), PATIENT).expect("a try");
        assert_eq!(answer, Outcome::Answered);
        assert_eq!(ping(&inner, client, PATIENT).expect("a try"), Outcome::Answered);
    }
}

#[test]
fn what_a_masquerading_box_forwards_stands_with_its_addresses_on_the_wire() {
    require_root();
    let pair = Pair::new().expect("namespaces");
    let inner = pair.hidden().expect("a namespace behind");
    nft(&pair.host, MASQUERADE);
    let mut servers = Vec::new();
    let mut answerers = Vec::new();
    let mut open = Vec::new();
    let mut expected = Vec::new();
    for (host, client) in Scene::HOST.into_iter().zip(Scene::CLIENT) {
        servers.push(TcpEcho::start(&pair.client, (client, 5061)).expect("a server"));
        answerers.push(UdpEcho::start(&pair.client, (client, 3478)).expect("a server"));
        let stream = opened(&inner, (client, 5061).into());
        // The port stays what it was where it is free.
        let port = stream.local_addr().expect("an address").port();
        expected.push(tcp((host, port).into(), (client, 5061).into()));
        open.push(stream);
        let answer = udp_exchange(&inner, 40_000, (client, 3478).into(), PATIENT).expect("a try");
        assert_eq!(answer, Outcome::Answered);
        expected.push(Standing {
            protocol: Protocol::Udp,
            local: (host, 40_000).into(),
            remote: (client, 3478).into(),
        });
        assert_eq!(ping(&inner, client, PATIENT).expect("a try"), Outcome::Answered);
    }
    // What is begun outside and meant for the box itself: a socket where it is TCP, nothing where it is UDP.
    servers.push(TcpEcho::start(&pair.host, Scene::v4(443)).expect("a server"));
    answerers.push(UdpEcho::start(&pair.host, Scene::v4(3478)).expect("a server"));
    let inbound = opened(&pair.client, Scene::v4(443));
    expected.push(tcp(Scene::v4(443), inbound.local_addr().expect("an address")));
    let answer = udp_exchange(&pair.client, 0, Scene::v4(3478), PATIENT).expect("a try");
    assert_eq!(answer, Outcome::Answered);

    let (echoes, others): (Vec<Standing>, Vec<Standing>) =
        standing(&pair.host).into_iter().partition(|standing| standing.protocol == Protocol::IcmpEcho);
    expected.sort_unstable();
    assert_eq!(others, expected);
    let ends: Vec<(IpAddr, IpAddr)> = echoes.iter().map(|echo| (echo.local.ip(), echo.remote.ip())).collect();
    assert_eq!(ends, Scene::HOST.into_iter().zip(Scene::CLIENT).collect::<Vec<_>>());
    assert!(echoes.iter().all(|echo| echo.local.port() == echo.remote.port() && echo.local.port() != 0));

    // Ended on both sides, the connections wait in conntrack for stragglers and stand no more.
    drop(open);
    let forwarded =
        |standing: &Standing| standing.protocol == Protocol::Tcp && standing.remote.port() == 5061;
    assert!(eventually(PATIENT, || !standing(&pair.host).iter().any(forwarded)));
}

fn nft(namespace: &Netns, rules: &str) {
    let done = namespace
        .command("nft")
        .arg(rules)
        .output()
        .expect("nft of Debian's package nftables runs: `apt-get install nftables`");
    assert!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr));
}

fn standing(namespace: &Netns) -> Vec<Standing> {
    namespace.run(connections).expect("what stands")
}

fn tcp(local: SocketAddr, remote: SocketAddr) -> Standing {
    Standing { protocol: Protocol::Tcp, local, remote }
}

fn opened(from: &Netns, to: SocketAddr) -> TcpStream {
    tcp_open(from, to, PATIENT).expect("a connection")
}

fn udp_socket(namespace: &Netns, address: SocketAddr) -> UdpSocket {
    namespace.run(|| UdpSocket::bind(address)).expect("a socket")
}
