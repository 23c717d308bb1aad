//! A gateway with two legs: its addresses, and zones that come and are refused. `samples` runs the sample of a gateway.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::{BRIEF, PATIENT, expect_tcp, expect_udp};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ethernet, Packet, Tcp, Udp, ip};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{FrameSocket, eventually, tcp_exchange, tcp_open};

use super::{tcp_servers, udp_servers};

/// A Front End with Mediation on it behind the inner leg, which may call what its roles call.
const ZONES: &str = r#"
management = "none"

[[zone]]
name = "outside"

[[zone]]
name = "inside"
outbound = "catalogue"

[[interface]]
name = "host0"
zone = "outside"

[[interface]]
name = "inner0"
zone = "inside"

[[target]]
name = "pool"
zone = "outside"
address = ["10.1.0.2", "fd00:1::2"]
roles = ["front-end", "collocated-mediation"]

[flows]
learn = 0
"#;

/// Sends a SYN for an address of the gateway that it may not have.
fn knock(scene: &Scene, address: Ipv4Addr) {
    let sender = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let ip = lyncwall_tests::packet::Ipv4::new(Pair::CLIENT_V4, address);
    sender.send(&Pair::frame().with(ip).with(Tcp::syn(40_000, 443)).build()).expect("a frame");
}

/// Knocks until it is judged so.
fn is_judged(scene: &Scene, api: &Api, address: Ipv4Addr, reason: &str, action: &str) {
    let before = api.counters().expect("counters").of(reason, action);
    let seen = eventually(PATIENT, || {
        knock(scene, address);
        api.counters().expect("counters").of(reason, action) > before
    });
    assert!(seen, "{address} is not judged as {reason}");
}

#[test]
fn a_box_that_forwards_is_its_addresses_as_they_come_and_go() {
    let scene = Scene::new().expect("a scene");
    let gateway = &scene.pair.host;
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let later = Ipv4Addr::new(192, 0, 2, 50);
    // It does not forward yet: every destination is the box.
    is_judged(&scene, &api, later, "allowed", "pass");

    gateway.forward(true).expect("forwarding");
    is_judged(&scene, &api, later, "unmatched", "drop");
    let _servers = tcp_servers(gateway, &[443]);
    for address in Scene::HOST {
        expect_tcp(&scene.pair.client, (address, 443), Answered);
    }
    for _ in 0..3 {
        gateway.add_address(Pair::HOST_LINK, later.into(), 24).expect("an address");
        is_judged(&scene, &api, later, "allowed", "pass");
        expect_tcp(&scene.pair.client, (later, 443), Answered);
        gateway.remove_address(Pair::HOST_LINK, later.into(), 24).expect("it was there");
        is_judged(&scene, &api, later, "unmatched", "drop");
    }
    // An address that changes nothing about the tables makes no generation: those of lo are no destination.
    let generation = api.status().expect("a status").generation;
    gateway.add_address("lo", Ipv4Addr::new(127, 0, 0, 77).into(), 32).expect("an address");
    gateway.add_address(Pair::HOST_LINK, Ipv4Addr::new(192, 0, 2, 51).into(), 24).expect("an address");
    assert!(eventually(PATIENT, || api.status().expect("a status").generation > generation));
    assert_eq!(api.status().expect("a status").generation, generation + 1);

    gateway.forward(false).expect("forwarding");
    is_judged(&scene, &api, later, "allowed", "pass");
}

/// Load balancers of clouds tell a box its addresses by local routes only, and something like a container engine makes it
/// forward.
#[test]
fn a_destination_that_is_a_local_route_only_is_the_boxs_own() {
    let scene = Scene::new().expect("a scene");
    let gateway = &scene.pair.host;
    gateway.forward(true).expect("forwarding");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let one = Ipv4Addr::new(198, 51, 100, 7);
    let (first, last) = (Ipv4Addr::new(198, 51, 100, 64), Ipv4Addr::new(198, 51, 100, 127));
    for (route, prefix, own) in [(one, 32, &[one][..]), (first, 26, &[first, last])] {
        for address in own {
            is_judged(&scene, &api, *address, "unmatched", "drop");
        }
        gateway.add_local_route(route.into(), prefix).expect("a route");
        for address in own {
            is_judged(&scene, &api, *address, "allowed", "pass");
        }
        gateway.remove_local_route(route.into(), prefix).expect("it was there");
        for address in own {
            is_judged(&scene, &api, *address, "unmatched", "drop");
        }
    }
}

/// One interface is enough, whatever the switches of the whole box say.
#[test]
fn a_box_forwards_where_one_of_its_interfaces_does() {
    let scene = Scene::new().expect("a scene");
    let gateway = &scene.pair.host;
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let other = Ipv4Addr::new(192, 0, 2, 50);
    is_judged(&scene, &api, other, "allowed", "pass");
    let mut switches = vec!["net.ipv4.conf.host0.forwarding"];
    // Linux 6.17 brought it.
    if gateway.run(|| Path::new("/proc/sys/net/ipv6/conf/host0/force_forwarding").exists()) {
        switches.push("net.ipv6.conf.host0.force_forwarding");
    }
    for switch in switches {
        gateway.sysctl(switch, "1").expect("a switch");
        is_judged(&scene, &api, other, "unmatched", "drop");
        gateway.sysctl(switch, "0").expect("a switch");
        is_judged(&scene, &api, other, "allowed", "pass");
    }
}

/// Servers behind the gateway may call everybody, but not the gateway: nor by a broadcast to the network of a leg, by the
/// anycast address of the routers there, or by no address at all. The kernel gives it all of these.
#[test]
fn no_destination_that_the_kernel_gives_the_gateway_counts_as_somebody_else() {
    let scene = Scene::new().expect("a scene");
    let server = scene.pair.behind().expect("a server behind");
    let zones = ZONES.replace("outbound = \"catalogue\"", "outbound = \"any\"");
    let target = "\n[[target]]\nname = \"gateway\"\nzone = \"inside\"\naddress = \"host\"\nroles = []\n";
    scene.instance.configure(&format!("{zones}{target}")).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    let sender = FrameSocket::open(&server, "uplink0").expect("a socket");
    let count = |reason: &str, action: &str| api.counters().expect("counters").of(reason, action);
    let send = |from: IpAddr, to: IpAddr| {
        let frame = Ethernet::new([2, 0, 0, 0, 0x20, 2], [2, 0, 0, 0, 0x20, 1]);
        sender
            .send(&Packet::ethernet(frame).with(ip(from, to)).with(Udp::new(9999, 161)).build())
            .expect("a frame");
    };
    let behind = [IpAddr::from(Pair::BEHIND_V4), Pair::BEHIND_V6.into()];
    let passed = count("unmatched", "pass");
    for to in
        ["10.1.0.1", "10.1.0.255", "192.0.2.255", "0.0.0.0", "fd00:1::1", "fd00:1::", "2001:db8::", "fe80::"]
    {
        let to: IpAddr = to.parse().expect("an address");
        let from = match to {
            IpAddr::V4(to) if to.is_unspecified() => to.into(),
            IpAddr::V4(_) => behind[0],
            IpAddr::V6(_) => behind[1],
        };
        let dropped = count("closed", "drop");
        send(from, to);
        assert!(eventually(PATIENT, || count("closed", "drop") > dropped), "{to} is not the gateway");
    }
    assert_eq!(count("unmatched", "pass"), passed);
    // They call others as before.
    for (from, to) in behind.into_iter().zip(Scene::CLIENT) {
        let passed = count("unmatched", "pass");
        send(from, to);
        assert!(eventually(PATIENT, || count("unmatched", "pass") > passed), "{to} is not called");
    }
}

/// A rule that lets a server's questions out holds for whoever writes the server's address into a packet. The gateway sends such
/// a packet back to where it came from; that must not open the way for an answer.
#[test]
fn a_packet_in_a_servers_name_that_is_sent_back_opens_nothing() {
    let rule = "\n[[allow]]\nname = \"resolvers\"\ntransport = \"udp\"\nports = [53]\n\
                from = [\"fd00:1::2\", \"2001:db8::2\", \"10.1.0.2\"]\n\
                [[target]]\nname = \"gateway\"\nzone = \"outside\"\naddress = \"host\"\nroles = []\n";
    let scene = Scene::new().expect("a scene");
    let server = scene.pair.behind().expect("a server behind");
    scene.instance.configure(&format!("{ZONES}{rule}")).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    let _resolver = udp_servers(&scene.pair.client, &[53]);
    let sender = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let far = Scene::CLIENT[1];
    let count = |reason: &str, action: &str| api.counters().expect("counters").of(reason, action);
    // The server itself is answered.
    expect_udp(&server, 9998, (far, 53).into(), Answered);
    let established = count("established", "pass");
    for own in [IpAddr::V6(Pair::BEHIND_V6), IpAddr::V6(Pair::HOST_V6)] {
        let (let_out, dropped) = (count("allow", "pass"), count("closed", "drop"));
        let flows = api.status().expect("a status").flows.added;
        let forged = Pair::frame().with(ip(own, far)).with(Udp::new(9999, 53)).build();
        sender.send(&forged).expect("a frame");
        assert!(eventually(PATIENT, || count("allow", "pass") > let_out), "the rule lets it pass");
        let knock = Pair::frame().with(ip(far, own)).with(Udp::new(53, 9999)).build();
        sender.send(&knock).expect("a frame");
        assert!(eventually(PATIENT, || count("closed", "drop") > dropped), "{own}: it is not dropped");
        assert_eq!(api.status().expect("a status").flows.added, flows, "{own}");
    }
    assert_eq!(count("established", "pass"), established);
}

/// The other of two gateways held the address until now, and the connections that go through it.
#[test]
fn connections_go_on_where_an_address_comes_over_and_its_target_says_so() {
    let moving = Ipv4Addr::new(192, 0, 2, 100);
    for takes_over in [false, true] {
        let scene = Scene::new().expect("a scene");
        let gateway = &scene.pair.host;
        let server = scene.pair.behind().expect("a server behind");
        let _near = tcp_servers(&server, &[5061]);
        let standing =
            tcp_open(&scene.pair.client, (Pair::BEHIND_V4, 5061).into(), PATIENT).expect("a connection");
        let target = format!(
            "\n[[target]]\nname = \"gateway\"\nzone = \"outside\"\naddress = [\"host\", \"{moving}\"]\nroles = []\n\
             takeover = {takes_over}\n"
        );
        scene.instance.configure(&format!("{ZONES}{target}")).expect("a file");
        let agent = scene.instance.start().expect("an agent");
        // The server's answers come in by a leg where nothing lets them in: this box did not see the opening.
        assert_eq!(tcp_exchange(&standing, BRIEF).expect("a try"), TimedOut);
        gateway.add_address(Pair::HOST_LINK, moving.into(), 24).expect("an address");
        if takes_over {
            agent.wait_for_log("picking up TCP connections midway").expect("the log says so");
            assert!(eventually(PATIENT, || tcp_exchange(&standing, BRIEF).expect("a try") == Answered));
        } else {
            agent.wait_for_log("followed the machine").expect("the log says so");
            assert_eq!(tcp_exchange(&standing, 4 * BRIEF).expect("a try"), TimedOut);
        }
    }
}

#[test]
fn zones_that_a_reload_brings_hold_at_once() {
    let scene = Scene::new().expect("a scene");
    let server = scene.pair.behind().expect("a server behind");
    let pstn = &scene.pair.client;
    let _far = tcp_servers(pstn, &[5081, 5090]);
    let (_agent, api) = scene
        .start(&Config::default().interface(Pair::INNER_LINK).top("mode = \"audit\""))
        .expect("an agent");
    let free: SocketAddr = (Scene::CLIENT[0], 5090).into();
    expect_tcp(&server, free, Answered);
    // What stands goes on, though the server's answers come in by a zone that there was not before.
    let _near = tcp_servers(&server, &[5068]);
    let standing = tcp_open(pstn, (Pair::BEHIND_V4, 5068).into(), PATIENT).expect("a connection");
    scene.instance.configure(&ZONES.replace("learn = 0", "learn = 1")).expect("a file");
    let switched = thread::scope(|scope| {
        let talking = scope.spawn(|| {
            (0..60).all(|_| {
                thread::sleep(Duration::from_millis(50));
                tcp_exchange(&standing, PATIENT).is_ok_and(|outcome| outcome == Answered)
            })
        });
        let switched = api.reload().expect("a reload");
        assert!(talking.join().expect("it talks"), "it was cut");
        switched
    });
    assert!(
        switched.changes.iter().any(|change| change.starts_with("zone added: inside: outbound catalogue")),
        "{switched:?}"
    );
    expect_tcp(&server, free, TimedOut);
    assert!(api.counters().expect("counters").of("unmatched", "drop") > 0);
    for far in Scene::CLIENT {
        expect_tcp(&server, (far, 5081), Answered);
    }
    // The printed row of Mediation on a Front End lets it.
    let counters = api.counters().expect("counters").0;
    let mut rules = counters.rules.iter();
    let called =
        rules.find(|rule| rule.target.as_deref() == Some("inside (outbound)") && rule.ports == "5081");
    let called = called.unwrap_or_else(|| panic!("no counter of what was called: {counters:?}"));
    assert_eq!((called.packets >= 2, called.rows.join(" ")), (true, "server.25".to_owned()));
}
