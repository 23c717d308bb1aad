//! What the box itself asks for comes back in, by the provisional rules that hold until flows are tracked.

use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::Tcp;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, Refused, TimedOut};
use lyncwall_tests::traffic::{FrameSocket, tcp_exchange, tcp_open};

use super::{PATIENT, expect_count, expect_ping, expect_tcp, expect_udp, tcp_servers, udp_servers};

#[test]
fn the_boxs_own_connections_questions_and_pings_are_answered() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::default()).expect("an agent");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    let _tcp = tcp_servers(client, &[8443]);
    let _udp = udp_servers(client, &[53, 123, 5000]);
    for address in Scene::CLIENT {
        let at = |port| (address, port).into();
        expect_tcp(host, at(8443), Answered);
        // Nobody there: the client's reset has to get in, too.
        expect_tcp(host, at(8444), Refused);
        let standing = tcp_open(host, at(8443), PATIENT).expect("a connection");
        assert_eq!(tcp_exchange(&standing, PATIENT).expect("a try"), Answered);
        expect_ping(host, address, Answered);
        // A resolver with a fixed port, a time client, and any program with an ephemeral port.
        expect_udp(host, 2053, at(53), Answered);
        expect_udp(host, 123, at(123), Answered);
        expect_udp(host, 0, at(5000), Answered);
        // Known limit until flows are tracked: own port fixed, peer's port neither 53 nor 123.
        expect_udp(host, 2000, at(5000), TimedOut);
    }
    expect_count(&api, "closed", "drop", 2);
    let provisional = api.counters().expect("counters").of("provisional", "pass");
    assert!(provisional >= 16, "{provisional}");
}

#[test]
fn a_stray_acknowledgement_passes_as_provisional_and_an_opening_does_not() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&Config::default()).expect("an agent");
    let sender = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let opening = Tcp { flags: Tcp::SYN | Tcp::ECE | Tcp::CWR, ..Tcp::syn(40_000, 445) };
    for tcp in [Tcp::ack(40_000, 445), opening, Tcp { flags: Tcp::SYN | Tcp::FIN, ..Tcp::syn(40_000, 445) }] {
        sender.send(&Pair::frame_v4().with(tcp).build()).expect("a frame");
    }
    expect_count(&api, "provisional", "pass", 1);
    expect_count(&api, "closed", "drop", 1);
    expect_count(&api, "tcp-flags", "drop", 1);
}
