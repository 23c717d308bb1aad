//! By which interface a frame came in, and how many buffers it fills: what kernels differ in.

use lyncwall_common::reason::{Action, Reason};
use lyncwall_policy::compile::InterfaceInput;
use lyncwall_policy::config::Mode;
use lyncwall_policy::judge::judge;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Packet, Udp, ip};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::traffic::{FrameSocket, eventually};
use lyncwall_tests::{kernel, run};

use crate::verdicts::firewall::{Entry, Firewall};
use crate::verdicts::kernel::directory;
use crate::verdicts::world::{Policy, World, input};

/// The number of `lo` in every network namespace.
const LO: u32 = 1;

#[test]
fn dhcp_replies_pass_on_marked_interfaces_only() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let [from, to] = ["fe80::1", "fe80::2"].map(|text| text.parse().expect("an address"));
    let replies = [
        Pair::frame_v4().with(Udp::new(67, 68)).build(),
        Pair::frame().with(ip(from, to)).with(Udp::new(5547, 546)).build(),
    ];
    for entry in Entry::judging() {
        let pair = Pair::new().expect("a pair");
        let index = pair.host.index(Pair::HOST_LINK).expect("an index");
        assert_ne!(index, LO);
        for marked in [index, LO] {
            let mut input = input(World::Host, Mode::Enforce);
            input.interfaces = [index, LO]
                .map(|ifindex| InterfaceInput {
                    ifindex,
                    dhcp_client: ifindex == marked,
                    ..InterfaceInput::default()
                })
                .to_vec();
            let policy = Policy::from_input(&input);
            let place = bpffs.path().join(format!("{entry:?}-{marked}"));
            let mut firewall = Firewall::new(place, entry, &policy.compiled);
            let by_interface = kernel::takes_interface_in_test_runs(firewall.program()).expect("test runs");
            if !by_interface {
                println!(
                    "test runs of this kernel cannot name an interface: frames on the wire alone show it"
                );
            }
            for (reply, interface) in replies.iter().flat_map(|reply| [(reply, index), (reply, LO)]) {
                let reason = if interface == marked { Reason::Dhcp } else { Reason::Closed };
                let host = judge(&policy.compiled, interface, reply);
                assert_eq!((host.reason, host.action), (reason, reason.action()));
                let before = firewall.counts();
                // A test run that names no interface is one on lo.
                let action = match interface {
                    LO => firewall.judge(reply),
                    other if by_interface => pair.host.run(|| firewall.judge_on(reply, other)),
                    _ => continue,
                };
                assert_eq!(action, reason.action(), "on {interface}, {marked} is marked");
                let since = firewall.counts().since(&before);
                assert_eq!(since, [(Some(reason), action, 1)]);
                let reported = firewall.event().map(|event| event.ifindex);
                assert_eq!(reported, (action == Action::Drop).then_some(interface));
            }
            on_the_wire(&pair, &mut firewall, &replies, (index, marked));
        }
    }
}

/// The same by frames that come in on the interface itself: this holds for every kernel.
fn on_the_wire(pair: &Pair, firewall: &mut Firewall, replies: &[Vec<u8>], (index, marked): (u32, u32)) {
    pair.host.run(|| firewall.attach(Pair::HOST_LINK));
    let sender = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a socket");
    let receiver = FrameSocket::open(&pair.host, Pair::HOST_LINK).expect("a socket");
    for reply in replies {
        let (reason, other) = match index == marked {
            true => (Reason::Dhcp, Reason::Closed),
            false => (Reason::Closed, Reason::Dhcp),
        };
        // The stacks say things of their own on this wire, but none of these two.
        let count = |reason: Reason| firewall.counts().of(reason, reason.action());
        let before = (count(reason), count(other));
        sender.send(reply).expect("a frame");
        let wanted = (before.0 + 1, before.1);
        let judged = eventually(PATIENT, || (count(reason), count(other)) == wanted);
        assert!(judged, "{marked} of {index} is marked: {:?}, not {wanted:?}", (count(reason), count(other)));
        if reason.action() == Action::Pass {
            let arrived = receiver.receive(PATIENT, |frame| frame == reply.as_slice()).expect("a socket");
            assert!(arrived.is_some(), "the reply does not arrive");
        } else {
            let events = std::iter::from_fn(|| firewall.event());
            let reported = events.filter(|event| event.reason == Some(reason)).map(|event| event.ifindex);
            assert_eq!(reported.collect::<Vec<_>>(), [index]);
        }
    }
}

#[test]
fn frames_in_several_buffers_are_judged() {
    /// More than a page holds beside the headroom and what the kernel keeps behind a frame.
    const PAGE: usize = 4096;
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    for entry in Entry::judging() {
        let policy = Policy::of(World::Host, Mode::Enforce);
        let mut firewall = Firewall::new(directory(&bpffs, entry), entry, &policy.compiled);
        for ip in [Pair::frame_v4(), Pair::frame_v6()] {
            let malformed =
                if ip == Pair::frame_v4() { Reason::MalformedIpv4 } else { Reason::MalformedIpv6 };
            let with =
                |port: u16, room: usize| -> Packet { ip.clone().with(Udp::new(1, port)).with(vec![7; room]) };
            for room in [3000, 3300, 4000, 8972, 20_000] {
                let cases = [
                    (with(3478, room), Reason::Allowed),
                    (with(3479, room), Reason::Closed),
                    (with(3478, room).truncated(room), malformed),
                ];
                for (packet, reason) in cases {
                    let frame = packet.build();
                    assert_eq!(judge(&policy.compiled, 1, &frame).reason, reason);
                    if entry == Entry::Ingress && frame.len() > PAGE - 256 - 320 {
                        // No driver hands it such a frame. Test runs of some kernels do, and it sees the first
                        // buffer: a packet that is cut off.
                        if let Ok(action) = run::judge(firewall.program(), &frame) {
                            assert_eq!(action, run::Action::Drop, "{} bytes", frame.len());
                        }
                        while firewall.event().is_some() {}
                        continue;
                    }
                    let before = firewall.counts();
                    assert_eq!(firewall.judge(&frame), reason.action(), "{reason} of {room} bytes");
                    let since = firewall.counts().since(&before);
                    assert_eq!(since, [(Some(reason), reason.action(), 1)], "{room} bytes");
                    if let Some(event) = firewall.event() {
                        assert_eq!(event.length as usize, frame.len());
                        assert_eq!(event.frame, frame[..128]);
                    }
                }
            }
        }
    }
}
