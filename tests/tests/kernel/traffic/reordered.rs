//! Fragments whose last part arrives first, at a socket behind the stack's own reassembly.

use std::net::{Ipv6Addr, UdpSocket};

use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Packet, Udp};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{FrameSocket, eventually};

use super::expect_count;

/// The port that a rule opens, with this `[fragments]` table.
fn config(fragments: &str) -> Config {
    let rule = "[[allow]]\nname = \"sip\"\ntransport = \"udp\"\nports = [5060]\n";
    Config::default().further(&format!("{fragments}\n{rule}"))
}

/// A datagram of 1,800 bytes in two parts, the last one first.
fn reordered(side: usize, port: u16, id: u32) -> [Vec<u8>; 2] {
    let frame: Packet = [Pair::frame_v4(), Pair::frame_v6()][side].clone();
    let parts = frame.with(Udp::new(5060, port)).with(&[7; 1800]).fragments(1400, id);
    assert_eq!(parts.len(), 2);
    [parts[1].build(), parts[0].build()]
}

/// A scene, a sender on the wire, and a socket of the host.
struct Wire {
    scene: Scene,
    sender: FrameSocket,
    socket: UdpSocket,
}

impl Wire {
    fn new(port: u16) -> Self {
        let scene = Scene::new().expect("a scene");
        scene.pair.introduce().expect("neighbours");
        let sender = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
        let bind = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port));
        let socket = scene.pair.host.run(bind).expect("a socket");
        Self { scene, sender, socket }
    }

    fn send(&self, frames: &[Vec<u8>]) {
        for frame in frames {
            self.sender.send(frame).expect("a frame");
        }
    }

    fn arrives(&self, expected: bool) -> bool {
        self.socket.set_read_timeout(Some(if expected { PATIENT } else { BRIEF })).expect("a time-out");
        let mut bytes = [0; 2000];
        self.socket.recv(&mut bytes).is_ok_and(|length| bytes[..length] == [7; 1800])
    }
}

#[test]
fn a_datagram_whose_last_fragment_comes_first_arrives_where_the_configuration_says_so() {
    for (early, arrives) in [("", false), ("[fragments]\nearly = 10\n", true)] {
        let wire = Wire::new(5060);
        let (_agent, api) = wire.scene.start(&config(early)).expect("an agent");
        for side in 0..2 {
            wire.send(&reordered(side, 5060, 70));
            assert_eq!(wire.arrives(arrives), arrives, "{early:?}");
        }
        let reason = if arrives { ("fragment-early", "pass") } else { ("fragment-orphan", "drop") };
        expect_count(&api, reason.0, reason.1, 2);
    }
}

/// What comes early is no way around a rule, and costs the stack a bounded number of fragments.
#[test]
fn early_fragments_open_no_port_and_have_a_rate() {
    let wire = Wire::new(5061);
    let (_agent, api) = wire.scene.start(&config("[fragments]\nearly = 10\n")).expect("an agent");
    for side in 0..2 {
        wire.send(&reordered(side, 5061, 80));
        assert!(!wire.arrives(false));
    }
    expect_count(&api, "closed", "drop", 2);
    let blocked = wire.scene.instance.cli(["block", "192.0.2.1"]).expect("a command");
    blocked.success().expect("a blocked source");
    wire.send(&reordered(0, 5060, 81)[..1]);
    expect_count(&api, "blocked", "drop", 1);
    let many: Vec<Vec<u8>> = (0..1000).map(|id| reordered(1, 5060, 1000 + id)[0].clone()).collect();
    wire.send(&many);
    let of = |reason: &str, action: &str| api.counters().expect("counters").of(reason, action);
    eventually(PATIENT, || of("fragment-early", "pass") + of("fragment-orphan", "drop") == 1002);
    // Some seconds may have passed, on each of a few processors.
    let early = of("fragment-early", "pass");
    assert!((10..500).contains(&early) && of("fragment-orphan", "drop") == 1002 - early, "{early}");
}
