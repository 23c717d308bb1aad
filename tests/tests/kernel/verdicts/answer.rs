//! What the sender of a packet to a closed port gets where the target rejects: byte by byte, and who gets nothing.

use std::net::IpAddr;

use lyncwall_common::reason::{Action, Reason};
use lyncwall_policy::compile::Answers;
use lyncwall_policy::config::{Mode, OnClosed};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{
    Ethernet, Extension, Icmp4, Icmp6, Ipv4, Ipv6, Mac, Packet, Tcp, Udp, Vlan, ip,
};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::run::{self, changed};

use crate::verdicts::firewall::{Entry, Firewall};
use crate::verdicts::policy::{CLIENT, HOST, VIP};
use crate::verdicts::world::{Policy, World, input};

/// The addresses of the far side and of the box on the link.
const FAR: Mac = [2, 0, 0, 0, 0, 1];
const OWN: Mac = [2, 0, 0, 0, 0, 2];
/// A port that no rule of [`World::Targets`] opens.
const CLOSED: u16 = 444;

/// The box rejects, the virtual address drops. Test runs come in on lo, number 1.
fn answers() -> Answers {
    Answers { targets: vec![OnClosed::Reject, OnClosed::Drop], interfaces: vec![(1, OWN)] }
}

fn rejecting(world: World, mode: Mode) -> Policy {
    let mut input = input(world, mode);
    input.answers = answers();
    Policy::from_input(&input)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A frame from the far side with these tags.
fn to_box(tags: &[Vlan]) -> Packet {
    tags.iter().fold(Packet::ethernet(Ethernet::new(FAR, OWN)), |packet, tag| packet.with(tag.clone()))
}

/// The headers of the answer, up to that of IP.
fn back(tags: &[Vlan], side: usize, service: u8) -> Packet {
    let packet =
        tags.iter().fold(Packet::ethernet(Ethernet::new(OWN, FAR)), |packet, tag| packet.with(tag.clone()));
    match (address(HOST[side]), address(CLIENT[side])) {
        (IpAddr::V4(host), IpAddr::V4(client)) => {
            packet.with(Ipv4 { dont_fragment: true, service, ..Ipv4::new(host, client) })
        }
        (IpAddr::V6(host), IpAddr::V6(client)) => packet.with(Ipv6::new(host, client)),
        _ => unreachable!("both of one family"),
    }
}

fn with_firewall(world: World, mode: Mode, test: impl Fn(&mut Firewall, &str)) {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let policy = rejecting(world, mode);
    for entry in Entry::judging() {
        let name = format!("{entry:?}");
        let mut firewall = Firewall::new(bpffs.path().join(&name), entry, &policy.compiled);
        test(&mut firewall, &name);
    }
}

fn answered(firewall: &Firewall) -> [u64; 2] {
    firewall.datapath.counters().expect("counters").answered
}

#[test]
fn an_answer_is_right_to_the_last_byte() {
    let tags = [
        vec![],
        vec![Vlan { priority: 5, ..Vlan::new(7) }],
        vec![Vlan::service(100), Vlan { priority: 3, ..Vlan::new(4094) }],
    ];
    let data = b"a question".as_slice();
    with_firewall(World::Targets, Mode::Enforce, |firewall, entry| {
        for (side, tags) in (0..2).flat_map(|side| tags.iter().map(move |tags| (side, tags))) {
            let place = format!("{entry}, side {side}, {} tags", tags.len());
            let from_client = || to_box(tags).with(ip(address(CLIENT[side]), address(HOST[side])));

            // SYNs with and without options, data, and a sequence number that wraps.
            for (sequence, options, data) in
                [(0, &[][..], &[][..]), (u32::MAX - 4, &[2, 4, 5, 180, 1, 1, 4, 2], data)]
            {
                let syn = Tcp { sequence, options: options.to_vec(), ..Tcp::syn(40_000, CLOSED) };
                let question = from_client().with(syn).with(data.to_vec());
                let reset = Tcp {
                    sequence: 0,
                    acknowledgement: sequence.wrapping_add(1).wrapping_add(data.len() as u32),
                    flags: Tcp::RST | Tcp::ACK,
                    window: 0,
                    ..Tcp::new(CLOSED, 40_000)
                };
                let wanted = back(tags, side, 0).with(reset).build();
                for question in [question.clone(), question.padded()] {
                    let (action, frame) = changed(firewall.program(), &question.build()).expect("a run");
                    assert_eq!(action, run::Action::Tx, "{place}");
                    assert_eq!(frame, wanted, "{place}");
                    assert!(frame.len() <= question.build().len(), "{place}: no amplification");
                }
            }

            for data in [&[][..], data, &[7; 1200]] {
                let question = from_client().with(Udp::new(40_000, CLOSED)).with(data.to_vec()).build();
                let network = 14 + 4 * tags.len();
                let quoted = &question[network..][..[28, 48][side]];
                let wanted = match side {
                    0 => back(tags, side, 0xc0).with(Icmp4::new(3, 3)).with(quoted.to_vec()),
                    _ => back(tags, side, 0).with(Icmp6::new(1, 4)).with(quoted.to_vec()),
                };
                let (action, frame) = changed(firewall.program(), &question).expect("a run");
                assert_eq!(action, run::Action::Tx, "{place}");
                assert_eq!(frame, wanted.build(), "{place}");
                assert!(frame.len() <= question.len() + [28, 48][side], "{place}: bounded");
            }
        }
        // Each is a drop with this reason, and counted as answered beside that.
        let counts = firewall.counts();
        assert_eq!(counts.of(Reason::Closed, Action::Drop), 24 + 18, "{entry}");
        assert_eq!((counts.total(), answered(firewall)), (24 + 18, [24, 18]), "{entry}");
    });
}

#[test]
fn nobody_else_gets_an_answer() {
    let syn = || Tcp::syn(40_000, CLOSED);
    let mut silent: Vec<(&str, Packet)> = Vec::new();
    for side in 0..2 {
        let (client, host, vip) = (address(CLIENT[side]), address(HOST[side]), address(VIP[side]));
        let frame = || to_box(&[]).with(ip(client, host));
        silent.extend([
            ("a segment of no flow", frame().with(Tcp::ack(40_000, CLOSED))),
            ("a reset", frame().with(Tcp { flags: Tcp::RST, ..syn() })),
            ("SYN and ACK", frame().with(Tcp { flags: Tcp::SYN | Tcp::ACK, ..syn() })),
            ("bad flags", frame().with(Tcp { flags: Tcp::SYN | Tcp::RST, ..syn() })),
            ("from port 0", frame().with(Tcp::syn(0, CLOSED))),
            ("UDP that wants no answer", frame().with(Udp::new(0, CLOSED))),
            ("a target that drops", to_box(&[]).with(ip(client, vip)).with(syn())),
            ("from its own address", to_box(&[]).with(ip(host, host)).with(syn())),
            (
                "to another machine",
                Packet::ethernet(Ethernet::new(FAR, [2, 0, 0, 0, 0, 3])).with(ip(client, host)).with(syn()),
            ),
            (
                "to a group of machines",
                Packet::ethernet(Ethernet::new(FAR, [3, 0, 0, 0, 0, 2])).with(ip(client, host)).with(syn()),
            ),
            (
                "to all machines",
                Packet::ethernet(Ethernet::new(FAR, Ethernet::BROADCAST)).with(ip(client, host)).with(syn()),
            ),
            (
                "from a group of machines",
                Packet::ethernet(Ethernet::new([3, 0, 0, 0, 0, 1], OWN)).with(ip(client, host)).with(syn()),
            ),
            ("cut off", frame().with(Udp::new(1, CLOSED)).with(vec![1; 50]).truncated(60)),
        ]);
        let large = frame().with(Udp::new(1, CLOSED)).with(vec![1; 100]);
        silent.extend(large.fragments(64, 9).into_iter().map(|fragment| ("a fragment", fragment)));
    }
    for source in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        silent.push(("a forged source", to_box(&[]).with(ip(address(source), address(HOST[0]))).with(syn())));
    }
    for source in ["::", "::1", "::ffff:192.0.2.1", "ff02::1"] {
        silent.push(("a forged source", to_box(&[]).with(ip(address(source), address(HOST[1]))).with(syn())));
    }
    for group in ["224.0.0.1", "255.255.255.255"] {
        silent.push(("to many", to_box(&[]).with(ip(address(CLIENT[0]), address(group))).with(syn())));
    }
    silent.push(("to many", to_box(&[]).with(ip(address(CLIENT[1]), address("ff02::1"))).with(syn())));
    let options = Ipv4 { options: vec![1, 1, 1, 1], ..Ipv4::new(Pair::CLIENT_V4, Pair::HOST_V4) };
    silent.push(("options", to_box(&[]).with(options).with(syn())));
    let extended = to_box(&[]).with(ip(address(CLIENT[1]), address(HOST[1])));
    silent.push(("an extension header", extended.with(Extension::destination_options(&[])).with(syn())));
    let error = to_box(&[]).with(ip(address(CLIENT[0]), address(HOST[0])));
    silent.push(("an ICMP message", error.with(Icmp4::new(13, 0))));

    with_firewall(World::Targets, Mode::Enforce, |firewall, entry| {
        for (what, packet) in &silent {
            let question = packet.build();
            let (action, frame) = changed(firewall.program(), &question).expect("a run");
            assert_eq!(action, run::Action::Drop, "{entry}: {what}");
            assert_eq!(frame, question, "{entry}: {what}");
        }
        assert_eq!(answered(firewall), [0, 0], "{entry}");
    });
}

#[test]
fn a_blocked_source_gets_no_answer() {
    with_firewall(World::Blocked, Mode::Enforce, |firewall, entry| {
        firewall.block(World::Blocked);
        let from = |source| to_box(&[]).with(ip(address(source), address(HOST[0]))).with(Tcp::syn(1, CLOSED));
        assert_eq!(firewall.judge(&from("203.0.113.9").build()), Action::Drop, "{entry}");
        assert_eq!(answered(firewall), [0, 0], "{entry}");
        let (action, _) = changed(firewall.program(), &from("198.51.100.9").build()).expect("a run");
        assert_eq!(action, run::Action::Tx, "{entry}: anybody else");
    });
}

#[test]
fn audit_mode_and_targets_that_drop_answer_nothing() {
    let syn = |side: usize| {
        to_box(&[]).with(ip(address(CLIENT[side]), address(HOST[side]))).with(Tcp::syn(1, CLOSED)).build()
    };
    with_firewall(World::Targets, Mode::Audit, |firewall, entry| {
        assert_eq!(firewall.judge(&syn(0)), Action::Pass, "{entry}");
        // The slot that judged before does not answer for the one that judges now.
        let change = |firewall: &mut Firewall, answers: Answers| {
            let mut input = input(World::Targets, Mode::Enforce);
            input.answers = answers;
            firewall.install(&Policy::from_input(&input).compiled);
        };
        for _ in 0..6 {
            change(firewall, answers());
            assert_eq!(changed(firewall.program(), &syn(1)).expect("a run").0, run::Action::Tx, "{entry}");
            change(firewall, Answers::default());
            assert_eq!(changed(firewall.program(), &syn(1)).expect("a run").0, run::Action::Drop, "{entry}");
        }
        // An interface whose address nobody knows.
        change(firewall, Answers { interfaces: vec![(2, OWN)], ..answers() });
        assert_eq!(changed(firewall.program(), &syn(0)).expect("a run").0, run::Action::Drop, "{entry}");
    });
}

#[test]
fn each_cpu_sends_so_many_answers_a_second_and_no_more() {
    with_firewall(World::Targets, Mode::Enforce, |firewall, entry| {
        let question =
            to_box(&[]).with(ip(address(CLIENT[0]), address(HOST[0]))).with(Tcp::syn(1, CLOSED)).build();
        let start = std::time::Instant::now();
        for _ in 0..20_000 {
            changed(firewall.program(), &question).expect("a run");
        }
        let seconds = start.elapsed().as_secs_f64();
        let [tcp, udp] = answered(firewall);
        // The bucket of each CPU that ran a part of it is full at first.
        let cpus = std::thread::available_parallelism().expect("a number").get() as f64;
        assert!(
            tcp >= 1000 && tcp as f64 <= 1000.0 * (seconds + 1.0) * cpus,
            "{entry}: {tcp} in {seconds} s"
        );
        assert_eq!(udp, 0);
        // UDP has a rate of its own.
        let datagram =
            to_box(&[]).with(ip(address(CLIENT[0]), address(HOST[0]))).with(Udp::new(1, CLOSED)).build();
        assert_eq!(changed(firewall.program(), &datagram).expect("a run").0, run::Action::Tx, "{entry}");
    });
}
