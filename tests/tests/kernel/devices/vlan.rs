//! 802.1Q and 802.1ad interfaces. Between two of them the tag is a field of the kernel's buffer, not bytes of the frame.

use lyncwall_datapath::{Attach, Mode};
use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::{Pair, Tag};
use lyncwall_tests::packet::{Tcp, Vlan, ip};
use lyncwall_tests::traffic::{FrameSocket, Outcome};

use super::{Bench, CLIENT, CLOSED, HOST, OPEN};

/// VLAN 7 of the wire on both sides; names as `ip link` users give them.
fn with_vlan(bench: &Bench) -> [&'static str; 2] {
    let names = ["client0.7", "host0.7"];
    bench.pair.client.add_vlan(Pair::CLIENT_LINK, names[0], Tag::Customer, 7).expect("a VLAN");
    bench.pair.host.add_vlan(Pair::HOST_LINK, names[1], Tag::Customer, 7).expect("a VLAN");
    bench.address(names[0], names[1]);
    names
}

/// 802.1Q VLAN 7 inside of 802.1ad VLAN 9, on both sides.
fn with_qinq(bench: &Bench) -> [&'static str; 2] {
    let names = ["client0.9.7", "host0.9.7"];
    for (namespace, parent, outer, inner) in [
        (&bench.pair.client, Pair::CLIENT_LINK, "client0.9", names[0]),
        (&bench.pair.host, Pair::HOST_LINK, "host0.9", names[1]),
    ] {
        namespace.add_vlan(parent, outer, Tag::Service, 9).expect("a VLAN");
        namespace.add_vlan(outer, inner, Tag::Customer, 7).expect("a VLAN in a VLAN");
    }
    bench.address(names[0], names[1]);
    names
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_vlan_takes_the_generic_mode_and_is_guarded() {
    for with in [with_vlan, with_qinq] {
        let mut bench = Bench::new();
        let [_, vlan] = with(&bench);
        let client = bench.pair.client.clone();
        bench.expect_open(&client, HOST);
        bench.attached_generic_for_want_of_native(vlan);
        bench.expect_guarded(&client, HOST);
        // Untagged frames do not come in by this interface.
        bench.expect_open(&client, Pair::HOST_V4);

        let mut bench = bench.reopened();
        assert!(bench.attach(vlan, Attach::Auto).expect("the link").replaced);
        bench.expect_guarded(&client, HOST);
        assert_eq!(bench.detach(), [vlan]);
        assert_eq!(bench.attached(vlan, Attach::Generic), Mode::Generic);
        bench.expect_guarded(&client, HOST);
        bench.detach();
        bench.expect_open(&client, HOST);
    }
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn the_parent_judges_tagged_traffic_by_its_inner_packet() {
    for with in [with_vlan, with_qinq] {
        for (attach, mode) in [(Attach::Native, Mode::Native), (Attach::Generic, Mode::Generic)] {
            let mut bench = Bench::new();
            let _ = with(&bench);
            let client = bench.pair.client.clone();
            bench.expect_open(&client, HOST);
            assert_eq!(bench.attached(Pair::HOST_LINK, attach), mode);
            bench.expect_guarded(&client, HOST);
            bench.expect_guarded(&client, Pair::HOST_V4);
            bench.detach();
            bench.expect_open(&client, HOST);
        }
    }
}

/// Frames whose tags are bytes, as a driver hands them over that strips none, on the way to a VLAN's own interface.
#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn tags_that_are_bytes_of_the_frame_are_no_way_round() {
    for on_parent in [Some(Attach::Native), Some(Attach::Generic), None] {
        let mut bench = Bench::new();
        let [_, vlan] = with_vlan(&bench);
        match on_parent {
            Some(attach) => bench.attached(Pair::HOST_LINK, attach),
            None => bench.attached(vlan, Attach::Auto),
        };
        let sender = FrameSocket::open(&bench.pair.client, Pair::CLIENT_LINK).expect("a socket");
        let receiver = FrameSocket::open(&bench.pair.host, vlan).expect("a socket");
        let to = |tags: &[Vlan], port| {
            let tagged = tags.iter().fold(Pair::frame(), |frame, tag| frame.with(tag.clone()));
            tagged.with(ip(CLIENT.into(), HOST.into())).with(Tcp::syn(40_000, port)).build()
        };
        let inner = |frame: &[u8], tags: usize| [&frame[..12], &frame[12 + 4 * tags..]].concat();
        for (port, passes) in [(OPEN, true), (CLOSED, false), (OPEN, true)] {
            // The outer tag picks the interface; what is inside of it may have one more.
            for tags in [&[Vlan::new(7)][..], &[Vlan::new(7), Vlan::new(8)]] {
                let frame = to(tags, port);
                let wanted = [inner(&frame, 1), inner(&frame, tags.len())];
                sender.send(&frame).expect("a frame");
                let patience = if passes { PATIENT } else { BRIEF };
                let received = receiver.receive(patience, |seen| wanted.iter().any(|frame| frame == seen));
                let place = format!("{port} with {tags:?}, parent {on_parent:?}");
                assert_eq!(received.expect("a socket").is_some(), passes, "{place}");
            }
        }
        assert_eq!(bench.drops_at(CLOSED), 2);
    }
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_closed_port_behind_a_tag_is_refused_at_once() {
    for with in [with_vlan, with_qinq] {
        for parent in [true, false] {
            let mut bench = Bench::new();
            let [_, vlan] = with(&bench);
            let interface = if parent { Pair::HOST_LINK } else { vlan };
            bench.reject(interface, Pair::HOST_MAC);
            assert_eq!(bench.attached(interface, Attach::Generic), Mode::Generic);
            let client = bench.pair.client.clone();
            bench.expect(&client, HOST, OPEN, Outcome::Answered);
            bench.expect(&client, HOST, CLOSED, Outcome::Refused);
            let answered = bench.datapath.counters().expect("counters").answered;
            assert_eq!(answered, [1, 0], "by {interface}");
        }
    }
}
