//! A bridge with two ports: the box's own traffic, and what only goes through.

use lyncwall_datapath::{Attach, Mode};
use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::{End, Netns, Pair, veth};
use lyncwall_tests::packet::{Ethernet, Packet, Tcp, ip};
use lyncwall_tests::traffic::FrameSocket;

use super::{Bench, CLIENT, CLOSED, HOST, OPEN};

const BRIDGE: &str = "br0";
const PORTS: [&str; 2] = [Pair::HOST_LINK, "host1"];

/// A third namespace behind the second port.
fn with_bridge(bench: &Bench) -> Netns {
    let pair = &bench.pair;
    let behind = Netns::new().expect("a namespace");
    veth(
        End { namespace: &behind, name: "behind0", mac: [2, 0, 0, 0, 0x20, 1] },
        End { namespace: &pair.host, name: PORTS[1], mac: [2, 0, 0, 0, 0x20, 2] },
    )
    .expect("a second wire");
    pair.host.add_bridge(BRIDGE).expect("a bridge");
    for port in PORTS {
        pair.host.enslave(port, BRIDGE).expect("a port");
        pair.host.wait_until_up(port).expect("a carrier");
    }
    pair.host.wait_until_up(BRIDGE).expect("a carrier");
    bench.address(Pair::CLIENT_LINK, BRIDGE);
    behind
}

/// Which of these ports a frame gets through to the namespace behind.
fn through(bench: &Bench, behind: &Netns, ports: &[(u16, bool)]) {
    let sender = FrameSocket::open(&bench.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let receiver = FrameSocket::open(behind, "behind0").expect("a socket");
    for (port, passes) in ports {
        let frame = Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, [2, 0, 0, 0, 0x20, 1]))
            .with(ip(CLIENT.into(), [198, 51, 100, 3].into()))
            .with(Tcp::syn(40_000, *port))
            .build();
        sender.send(&frame).expect("a frame");
        let patience = if *passes { PATIENT } else { BRIEF };
        let received = receiver.receive(patience, |seen| seen == frame).expect("a socket");
        assert_eq!(received.is_some(), *passes, "{port} through the bridge");
    }
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_port_judges_what_is_for_the_box_and_what_goes_through() {
    for (attach, mode) in [(Attach::Native, Mode::Native), (Attach::Generic, Mode::Generic)] {
        let mut bench = Bench::new();
        let behind = with_bridge(&bench);
        let client = bench.pair.client.clone();
        bench.expect_open(&client, HOST);
        through(&bench, &behind, &[(OPEN, true), (CLOSED, true)]);
        assert_eq!(bench.attached(PORTS[0], attach), mode);
        bench.expect_guarded(&client, HOST);
        through(&bench, &behind, &[(OPEN, true), (CLOSED, false)]);
    }
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn the_bridge_itself_judges_what_is_for_the_box_alone() {
    let mut bench = Bench::new();
    let behind = with_bridge(&bench);
    let client = bench.pair.client.clone();
    bench.attached_generic_for_want_of_native(BRIDGE);
    bench.expect_guarded(&client, HOST);
    through(&bench, &behind, &[(OPEN, true), (CLOSED, true)]);
    bench.detach();
    bench.expect_open(&client, HOST);
}
