//! What the box itself asks for comes back in, and nothing else does.

use lyncwall_tests::expect::{PATIENT, expect_ping, expect_tcp, expect_udp};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Icmp4, Tcp, Udp};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, Refused};
use lyncwall_tests::traffic::{FrameSocket, tcp_exchange, tcp_open};

use super::{expect_count, tcp_servers, udp_servers};

#[test]
fn the_boxs_own_connections_questions_and_pings_are_answered() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::default()).expect("an agent");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    let _tcp = tcp_servers(client, &[8443]);
    let _udp = udp_servers(client, &[53, 123, 500, 5000]);
    for address in Scene::CLIENT {
        let at = |port| (address, port).into();
        expect_tcp(host, at(8443), Answered);
        // Nobody there: the client's reset has to get in, too.
        expect_tcp(host, at(8444), Refused);
        let standing = tcp_open(host, at(8443), PATIENT).expect("a connection");
        assert_eq!(tcp_exchange(&standing, PATIENT).expect("a try"), Answered);
        expect_ping(host, address, Answered);
        // A resolver with a fixed port, a time client, IKE, any program with an ephemeral port and one with a fixed port.
        for (source, port) in [(2053, 53), (123, 123), (500, 500), (0, 5000), (2000, 5000)] {
            expect_udp(host, source, at(port), Answered);
        }
    }
    let counters = api.counters().expect("counters");
    assert_eq!((counters.of("closed", "drop"), counters.of("no-flow", "drop")), (0, 0), "{counters:?}");
    let established = counters.of("established", "pass");
    assert!(established >= 20, "{established}");
    let flows = api.status().expect("a status").flows;
    assert!(flows.v4 >= 8 && flows.v6 >= 8, "{flows:?}");
    assert_eq!(flows.added, u64::from(flows.v4 + flows.v6), "{flows:?}");
    assert_eq!((flows.evicted, flows.lost), (0, 0));
    // One for each 32 KiB of memory, within bounds.
    let memory = std::fs::read_to_string("/proc/meminfo").expect("the memory of the machine");
    let kibibytes: u32 =
        memory.split_whitespace().nth(1).and_then(|total| total.parse().ok()).expect("MemTotal comes first");
    assert_eq!(flows.size, (kibibytes / 32).clamp(65_536, 262_144));
}

#[test]
fn what_only_looks_like_a_reply_is_dropped() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&Config::default()).expect("an agent");
    let sender = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let opening = Tcp { flags: Tcp::SYN | Tcp::ECE | Tcp::CWR, ..Tcp::syn(40_000, 445) };
    for tcp in [Tcp::ack(40_000, 445), opening, Tcp { flags: Tcp::SYN | Tcp::FIN, ..Tcp::syn(40_000, 445) }] {
        sender.send(&Pair::frame_v4().with(tcp).build()).expect("a frame");
    }
    for udp in [Udp::new(53, 40_000), Udp::new(123, 123)] {
        sender.send(&Pair::frame_v4().with(udp).build()).expect("a frame");
    }
    sender.send(&Pair::frame_v4().with(Icmp4::echo_reply(7, 1)).build()).expect("a frame");
    expect_count(&api, "no-flow", "drop", 1);
    expect_count(&api, "closed", "drop", 3);
    expect_count(&api, "tcp-flags", "drop", 1);
    expect_count(&api, "icmp-other", "drop", 1);
}
