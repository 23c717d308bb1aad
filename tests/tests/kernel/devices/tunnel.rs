//! Tunnels of generic routing encapsulation: one that carries frames, and one that carries packets.

use lyncwall_common::reason::{Action, Reason};
use lyncwall_datapath::{Attach, Mode};
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::{Gre, Pair};
use lyncwall_tests::traffic::{Outcome, eventually};

use super::{Bench, HOST, OPEN, problem};

/// Not the names that every namespace has from the module itself.
const TUNNEL: &str = "tunnel1";

fn with_tunnel(bench: &Bench, what: Gre) {
    let pair = &bench.pair;
    pair.client.add_gre(TUNNEL, what, Pair::CLIENT_V4, Pair::HOST_V4).expect("a tunnel");
    pair.host.add_gre(TUNNEL, what, Pair::HOST_V4, Pair::CLIENT_V4).expect("a tunnel");
    bench.address(TUNNEL, TUNNEL);
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_tunnel_of_frames_takes_the_generic_mode_and_is_guarded() {
    let mut bench = Bench::new();
    with_tunnel(&bench, Gre::Frames);
    let client = bench.pair.client.clone();
    bench.expect_open(&client, HOST);
    bench.attached_generic_for_want_of_native(TUNNEL);
    bench.expect_guarded(&client, HOST);
    bench.expect_open(&client, Pair::HOST_V4);
    bench.detach();
    assert_eq!(bench.attached(TUNNEL, Attach::Generic), Mode::Generic);
    bench.expect_guarded(&client, HOST);
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_tunnel_of_packets_is_refused_with_what_to_guard_instead() {
    let mut bench = Bench::new();
    with_tunnel(&bench, Gre::Packets);
    let client = bench.pair.client.clone();
    for wanted in [Attach::Auto, Attach::Native, Attach::Generic] {
        let text = problem(&bench.attach(TUNNEL, wanted).expect_err("no Ethernet header"));
        assert!(text.contains(&format!("`{TUNNEL}` has frames without an Ethernet header")), "{text}");
        assert!(text.contains("guard the interface below it"), "{text}");
    }
    bench.expect_open(&client, HOST);
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn what_a_tunnel_brings_is_dropped_as_a_protocol_where_no_rule_allows_it() {
    for what in [Gre::Frames, Gre::Packets] {
        let mut bench = Bench::new();
        with_tunnel(&bench, what);
        let client = bench.pair.client.clone();
        assert_eq!(bench.attached(Pair::HOST_LINK, Attach::Auto), Mode::Native);
        bench.expect(&client, HOST, OPEN, Outcome::TimedOut);
        let dropped = || bench.datapath.counters().expect("counters").of(Reason::Protocol, Action::Drop);
        assert!(eventually(PATIENT, || dropped() >= 1), "{what:?}");
        bench.expect_guarded(&client, Pair::HOST_V4);
    }
}
