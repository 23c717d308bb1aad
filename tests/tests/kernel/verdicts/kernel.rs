//! What a single frame does not show: rates, time, and that no row was forgotten.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use lyncwall_common::abi::{Features, FragmentRecord, Live};
use lyncwall_common::fragment::FRAGMENT_SECONDS;
use lyncwall_common::reason::{Action, Reason};
use lyncwall_common::tables::ICMP_ECHO_RATE;
use lyncwall_policy::config::Mode;
use lyncwall_policy::judge::{HostTables, judge};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::kernel::ticks_per_second;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Icmp4, Icmp6, Packet, Payload, Tcp, Udp, protocol};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::run::measure;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::verdicts::firewall::{Entry, Firewall};
use crate::verdicts::link::HIDING;
use crate::verdicts::policy::{ADMIN, HOST, between};
use crate::verdicts::world::{Policy, World};

/// Reasons that this version never gives.
const RESERVED: [Reason; 1] = [Reason::Internal];

pub(crate) fn directory(bpffs: &Bpffs, entry: Entry) -> PathBuf {
    bpffs.path().join(format!("{entry:?}"))
}

/// Ticks of this kernel per second.
fn hz() -> u64 {
    ticks_per_second().expect("the length of a tick")
}

fn syn(port: u16) -> Vec<u8> {
    Pair::frame_v4().with(Tcp::syn(40_000, port)).build()
}

#[test]
fn every_reason_but_the_reserved_ones_comes_up() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let fixtures = crate::verdicts::fixtures();
    let mut totals = [0; Reason::ALL.len()];
    for world in World::ALL {
        let policy = Policy::of(world, Mode::Enforce);
        let place = bpffs.path().join(format!("{world:?}"));
        let mut firewall = Firewall::new(place, Entry::best(), &policy.compiled);
        firewall.block(world);
        let mut frames = 0;
        for fixture in fixtures.iter().filter(|fixture| fixture.world == world) {
            if fixture.expected.is_none() {
                firewall.send(&fixture.frame);
                continue;
            }
            firewall.judge(&fixture.frame);
            frames += 1;
        }
        let burst = 3 * ICMP_ECHO_RATE;
        let echo = Pair::frame_v4().with(Icmp4::echo_request(1, 1)).build();
        measure(firewall.program(), &echo, burst as u32).expect("test runs");
        let counts = firewall.counts();
        assert_eq!(counts.total(), frames + burst, "each frame has one reason, and a known one");
        for (total, reason) in totals.iter_mut().zip(Reason::ALL) {
            *total += counts.reasons[*reason as usize].iter().sum::<u64>();
        }
    }
    println!("{} fixtures", fixtures.len());
    for (total, reason) in totals.into_iter().zip(Reason::ALL) {
        assert_eq!(total == 0, RESERVED.contains(reason), "{reason}: {total}");
    }
}

#[test]
fn every_ether_type_has_its_row() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    for entry in Entry::judging() {
        let policy = Policy::of(World::Host, Mode::Enforce);
        let firewall = Firewall::new(directory(&bpffs, entry), entry, &policy.compiled);
        let mut expected = [0u64; 4];
        let reasons = [Reason::NonIp, Reason::Encapsulated, Reason::MalformedIpv4, Reason::MalformedIpv6];
        for kind in 0..=u16::MAX {
            let reason = match kind {
                0x0800 => Reason::MalformedIpv4,
                0x86dd => Reason::MalformedIpv6,
                kind if HIDING.iter().any(|(hiding, _)| *hiding == kind) => Reason::Encapsulated,
                // A VLAN tag full of zeros has type 0 inside, which is a length.
                _ => Reason::NonIp,
            };
            let frame = Pair::frame().with(Payload::of_ether_type(kind, [0; 46])).build();
            assert_eq!(firewall.judge(&frame), reason.action(), "{kind:#06x}");
            assert_eq!(judge(&policy.compiled, 1, &frame).reason, reason, "{kind:#06x}");
            let at = reasons.iter().position(|other| *other == reason).expect("one of the four");
            expected[at] += 1;
        }
        let counts = firewall.counts();
        assert_eq!(reasons.map(|reason| counts.of(reason, reason.action())), expected);
        assert_eq!(counts.total(), 65_536);
    }
}

/// The kernel's test runs want a whole Ethernet header, so this form is for the judge in memory alone.
#[test]
fn a_frame_without_a_whole_ethernet_header_is_malformed() {
    let policy = Policy::of(World::Host, Mode::Enforce);
    for length in 0..14 {
        let verdict = judge(&policy.compiled, 1, &syn(443)[..length]);
        assert_eq!((verdict.reason, verdict.action), (Reason::MalformedEthernet, Action::Drop), "{length}");
    }
}

fn stay_on(cpu: u32) {
    let mut set = CpuSet::new();
    set.set(cpu as usize).expect("a CPU number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("the CPU is there");
}

/// Counts of a row and of what its rate refused, over 3,000 runs of one frame.
fn burst(firewall: &Firewall, frame: &[u8], row: Reason, refused: Action) -> (u64, u64) {
    let before = firewall.counts();
    let runs = 3000;
    measure(firewall.program(), frame, runs).expect("test runs");
    let after = firewall.counts();
    let more = |reason, action| after.of(reason, action) - before.of(reason, action);
    let (passed, limited) = (more(row, Action::Pass), more(Reason::IcmpRate, refused));
    assert_eq!(passed + limited, u64::from(runs), "{:?}", after.since(&before));
    (passed, limited)
}

#[test]
fn icmp_is_limited_by_kind_and_cpu() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let rate = 1000;
    let echo_v4 = Pair::frame_v4().with(Icmp4::echo_request(1, 1)).build();
    let echo_v6 = Pair::frame_v6().with(Icmp6::echo_request(1, 1)).build();
    let error_v4 = Pair::frame_v4().with(Icmp4::new(3, 1)).build();
    let error_v6 = Pair::frame_v6().with(Icmp6::new(2, 0)).build();
    let enforcing = Entry::judging().into_iter().map(|entry| (entry, Mode::Enforce, Action::Drop));
    for (entry, mode, refused) in enforcing.chain([(Entry::best(), Mode::Audit, Action::Pass)]) {
        let policy = Policy::of(World::Host, mode);
        let place = bpffs.path().join(format!("{entry:?}-{mode:?}"));
        let firewall = Firewall::new(place, entry, &policy.compiled);
        for cpu in aya::util::online_cpus().expect("a list of CPUs") {
            stay_on(cpu);
            // Both versions of IP share a bucket; errors and echo requests do not.
            for (row, frames) in
                [(Reason::IcmpEcho, [&echo_v4, &echo_v6]), (Reason::IcmpError, [&error_v4, &error_v6])]
            {
                let start = Instant::now();
                let (full, _) = burst(&firewall, frames[0], row, refused);
                let (rest, _) = burst(&firewall, frames[1], row, refused);
                // What came in meanwhile, with the tick that had begun and the one that has not ended.
                let ticks = rate / hz() + 1;
                let meanwhile = start.elapsed().as_millis() as u64 * rate / 1000 + 2 * ticks;
                assert!(full >= rate, "{full} of {row} on CPU {cpu}");
                let most = rate + meanwhile;
                assert!(full + rest <= most, "{full} and {rest} of {row} on CPU {cpu}, at most {most}");
            }
        }
        // A second of silence fills a bucket, and no more than fills it.
        thread::sleep(Duration::from_millis(1500));
        let start = Instant::now();
        let (again, _) = burst(&firewall, &echo_v6, Reason::IcmpEcho, refused);
        let most = rate + start.elapsed().as_millis() as u64 + 2 * (rate / hz() + 1);
        assert!((rate..=most).contains(&again), "{again} of {rate} to {most}");

        // In memory the clock stands still.
        let host = HostTables::new(&policy.compiled, 1);
        let reasons: Vec<Reason> = (0..3000).map(|_| host.judge(&echo_v4).reason).collect();
        assert!(reasons[..1000].iter().all(|reason| *reason == Reason::IcmpEcho));
        assert!(reasons[1000..].iter().all(|reason| *reason == Reason::IcmpRate));
    }
}

/// An ICMP error that a router sends about a packet.
fn error_about(packet: &Packet) -> Vec<u8> {
    let quote = packet.build()[14..].to_vec();
    if packet.build()[12..14] == [0x08, 0x00] {
        Pair::frame_v4().with(Icmp4::new(3, 4)).with(quote).build()
    } else {
        Pair::frame_v6().with(Icmp6::new(2, 0)).with(quote).build()
    }
}

#[test]
fn forged_errors_leave_room_for_those_about_flows_and_open_ports() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    // Answers of the open port to two far sides, of a closed port, and what this side opened; and of an allowed protocol.
    let far = [["203.0.113.9", "203.0.113.10"], ["2001:db8:9::9", "2001:db8:9::a"]];
    for entry in Entry::judging() {
        let policy = Policy::of(World::Host, Mode::Enforce);
        let firewall = Firewall::new(directory(&bpffs, entry), entry, &policy.compiled);
        for (own, far) in HOST.into_iter().zip(far) {
            stay_on(0);
            let call = between(own, far[0]).with(Tcp::syn(40_000, 80));
            firewall.send(&call.build());
            let answer = |far: &str, port| between(own, far).with(Tcp::ack(port, 50_000));
            let question = between(own, far[0]).with(Udp::new(41_000, 53));
            firewall.send(&question.build());
            let ping = between(own, far[0]);
            let ping = if far[0].contains(':') {
                ping.with(Icmp6::echo_request(7, 1))
            } else {
                ping.with(Icmp4::echo_request(7, 1))
            };
            firewall.send(&ping.build());
            let pass = |what: &str, packet: &Packet| {
                let before = firewall.counts();
                firewall.judge(&error_about(packet));
                let counted = firewall.counts().since(&before);
                assert_eq!(counted, [(Some(Reason::IcmpError), Action::Pass, 1)], "{what}");
            };
            let flood =
                |packet: &Packet| burst(&firewall, &error_about(packet), Reason::IcmpError, Action::Drop);
            // Errors about nothing: a closed port, a far side that nobody called, another port of a flow.
            let forged = [
                answer(far[0], 8888),
                between(own, far[1]).with(Tcp::syn(40_000, 80)),
                between(own, far[0]).with(Tcp::syn(40_000, 81)),
                between(own, far[0]).with(Udp::new(41_000, 54)),
            ];
            for packet in &forged {
                assert!(flood(packet).1 > 1000, "{packet:?}");
                for _ in 0..40 {
                    pass("of a connection that this side opened", &call);
                }
                pass("of a question", &question);
                pass("of an echo request", &ping);
                pass("of an open port", &answer(far[0], 443));
                pass(
                    "of a management port",
                    &between(own, ADMIN[usize::from(own.contains(':'))]).with(Tcp::ack(22, 50_000)),
                );
                pass(
                    "of a protocol that is allowed",
                    &between(own, far[0]).with(Payload::of_protocol(protocol::ESP, [0; 16])),
                );
            }
            // The errors about one far side leave those about another.
            let (passed, dropped) = flood(&answer(far[0], 443));
            assert!(passed >= 200 && dropped > 1000, "{passed} and {dropped}");
            for _ in 0..50 {
                pass("of another far side", &answer(far[1], 443));
                pass("of a flow", &call);
            }
            // A flood about a flow leaves the rest.
            let other = between(own, far[1]).with(Tcp::syn(40_001, 90));
            firewall.send(&other.build());
            assert!(flood(&call).1 > 1000);
            pass("of a flow to another far side", &other);
            pass("of another far side", &answer(far[1], 443));
            thread::sleep(Duration::from_millis(1100));
            pass("of nothing that is known", &forged[0]);
        }
        // In memory the clock stands still.
        let host = HostTables::new(&policy.compiled, 1);
        let unknown = error_about(&between(HOST[0], far[0][0]).with(Tcp::ack(8888, 1)));
        let of_port = error_about(&between(HOST[0], far[0][0]).with(Tcp::ack(443, 1)));
        assert_eq!((0..3000).filter(|_| host.judge(&unknown).reason == Reason::IcmpError).count(), 1000);
        assert_eq!((0..3000).filter(|_| host.judge(&of_port).reason == Reason::IcmpError).count(), 250);
        // What lies behind the packet is padding, and a later fragment quotes no ports.
        let quote = Pair::frame_v4().with(Icmp4::new(3, 4)).build();
        let inner = between(HOST[0], far[0][1]).with(Tcp::ack(443, 1)).build();
        let padded = [&quote[..], &inner[14..]].concat();
        assert_eq!(host.judge(&padded).reason, Reason::IcmpRate);
    }
}

#[test]
fn later_fragments_of_an_echo_request_take_from_its_rate() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    for entry in Entry::judging() {
        let policy = Policy::of(World::Host, Mode::Enforce);
        let firewall = Firewall::new(directory(&bpffs, entry), entry, &policy.compiled);
        stay_on(0);
        let requests = [
            Pair::frame_v4().with(Icmp4::echo_request(1, 1)),
            Pair::frame_v6().with(Icmp6::echo_request(1, 1)),
        ];
        for request in requests {
            thread::sleep(Duration::from_millis(1100));
            let parts = request.with(&[0; 100]).fragments(48, 7);
            assert_eq!(firewall.judge(&parts[0].build()), Action::Pass);
            let start = Instant::now();
            let (passed, limited) = burst(&firewall, &parts[1].build(), Reason::Fragment, Action::Drop);
            let most = ICMP_ECHO_RATE + start.elapsed().as_millis() as u64 + 2 * (ICMP_ECHO_RATE / hz() + 1);
            assert!(passed >= ICMP_ECHO_RATE - 1 && passed <= most, "{passed} and {limited}");
            let (_, limited) = burst(&firewall, &parts[0].build(), Reason::IcmpEcho, Action::Drop);
            assert!(limited > 1000, "the rate is one: {limited}");
        }
        // Those of a datagram to an open port have no such rate.
        let parts = Pair::frame_v4().with(Udp::new(1, 3478)).with(&[0; 100]).fragments(48, 8);
        assert_eq!(firewall.judge(&parts[0].build()), Action::Pass);
        assert_eq!(burst(&firewall, &parts[1].build(), Reason::Fragment, Action::Drop), (3000, 0));
    }
}

/// The kernel's jiffies, as the program itself reports them with a drop.
fn jiffies(firewall: &mut Firewall) -> u64 {
    // The rate of events lets one through within a few milliseconds.
    loop {
        while firewall.event().is_some() {}
        firewall.judge(&syn(1));
        if let Some(event) = firewall.event() {
            return event.jiffies;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_first_fragment_is_remembered_for_thirty_seconds() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    for entry in Entry::judging() {
        let policy = Policy::of(World::Host, Mode::Enforce);
        let mut firewall = Firewall::new(directory(&bpffs, entry), entry, &policy.compiled);
        for whole in [Pair::frame_v4(), Pair::frame_v6()] {
            firewall.forget();
            let parts = whole.with(Udp::new(1, 3478)).with(&[0; 100]).fragments(48, 0x0102_0304);
            let [first, later] = [parts[0].build(), parts[1].build()];
            let host = HostTables::new(&policy.compiled, 1);
            assert_eq!(host.judge(&first).reason, Reason::Allowed);
            assert_eq!(firewall.judge(&first), Action::Pass);
            let now = jiffies(&mut firewall);

            let mut fragments = firewall.fragments();
            let found: Vec<_> = fragments.iter().collect::<Result<_, _>>().expect("the map can be read");
            let [(key, record)] = found[..] else { panic!("one record: {found:?}") };
            let in_memory: Vec<_> = host.fragments.borrow().keys().copied().collect();
            assert_eq!((in_memory, record.end), (vec![key], 48));
            let hz = hz();
            let left = record.expires - now;
            assert!(left <= FRAGMENT_SECONDS * hz && left > (FRAGMENT_SECONDS - 5) * hz, "{left} at {hz}");

            let reason = |firewall: &Firewall| {
                let before = firewall.counts();
                firewall.judge(&later);
                let since = firewall.counts().since(&before);
                let [(Some(reason), _, 1)] = since[..] else { panic!("{since:?}") };
                reason
            };
            assert_eq!(reason(&firewall), Reason::Fragment);
            for (expires, expected) in [
                (now, Reason::FragmentOrphan),
                (now + 10 * hz, Reason::Fragment),
                (0, Reason::FragmentOrphan),
            ] {
                fragments.insert(key, FragmentRecord { expires, ..record }, 0).expect("the record is there");
                assert_eq!(reason(&firewall), expected, "{expires} at {now}");
                host.jiffies.set(now);
                host.fragments.borrow_mut().insert(key, FragmentRecord { expires, ..record });
                assert_eq!(host.judge(&later).reason, expected, "{expires} at {now}");
            }
        }
    }
}

#[test]
fn a_flood_of_first_fragments_pushes_out_the_oldest() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let policy = Policy::of(World::Host, Mode::Enforce);
    let entry = Entry::best();
    let firewall = Firewall::new(directory(&bpffs, entry), entry, &policy.compiled);
    let datagram = Pair::frame_v4().with(Udp::new(1, 3478)).with(&[0; 24]);
    let parts = |id| datagram.fragments(16, id);
    for id in 0..40_000 {
        assert_eq!(firewall.judge(&parts(id)[0].build()), Action::Pass, "{id}");
    }
    let counts = firewall.counts();
    assert_eq!((counts.of(Reason::Allowed, Action::Pass), counts.fragments_lost), (40_000, 0));
    let kept = firewall.fragments().keys().count();
    assert!((1000..=16_384).contains(&kept), "{kept} records");
    assert_eq!(firewall.judge(&parts(39_999)[1].build()), Action::Pass);
    assert_eq!(firewall.judge(&parts(0)[1].build()), Action::Drop);
}

#[test]
fn a_passed_deadline_makes_the_program_go_back() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    for entry in Entry::taken() {
        // Before: the box. After: a virtual address alone, so that 443 of the box is in no target.
        let before = Policy::of(World::Host, Mode::Enforce).compiled;
        let after = Policy::of(World::VipDrop, Mode::Enforce).compiled;
        let mut firewall = Firewall::new(directory(&bpffs, entry), entry, &before);
        let fallback = firewall.datapath.live().expect("a live generation").slot;
        firewall.datapath.install(&after).expect("a generation");
        let slot = firewall.datapath.live().expect("a live generation").slot;
        assert_ne!(slot, fallback);
        let live = |deadline, features: Features| {
            Live::with_fallback(slot, after.features, fallback, features, deadline)
        };
        let verdict = |firewall: &Firewall| {
            let counts = firewall.counts();
            firewall.judge(&syn(443));
            firewall.counts().since(&counts)
        };
        let new = [(Some(Reason::Unmatched), Action::Drop, 1)];
        let old = [(Some(Reason::Allowed), Action::Pass, 1)];
        assert_eq!(verdict(&firewall), new);

        let now = jiffies(&mut firewall);
        let hz = hz();
        for (deadline, expected) in [
            (now + 3600 * hz, &new),
            (now, &old),
            (now - 1, &old),
            (1, &old),
            (0, &new),
            ((1 << 40) - 1, &new),
        ] {
            firewall.set_live(live(deadline, before.features));
            assert_eq!(verdict(&firewall), expected, "deadline {deadline} at {now}");
            assert_eq!(firewall.datapath.live().expect("a live generation").deadline, deadline);
        }
        // What the fallback makes use of is its own.
        firewall.set_live(live(now, before.features.with(Features::AUDIT)));
        let counts = firewall.counts();
        assert_eq!(firewall.judge(&syn(444)), Action::Pass);
        assert_eq!(firewall.counts().since(&counts), [(Some(Reason::Closed), Action::Pass, 1)]);

        // Nobody does anything, and the time comes.
        let start = Instant::now();
        let now = jiffies(&mut firewall);
        firewall.set_live(live(now + hz, before.features));
        assert_eq!(verdict(&firewall), new);
        let event = firewall.event();
        assert!(event.is_none_or(|event| u32::from(event.slot) == slot));
        while verdict(&firewall) == new {
            assert!(start.elapsed() < PATIENT, "the deadline does not pass");
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(verdict(&firewall), old);
        assert!(start.elapsed() >= Duration::from_millis(950), "after {:?}", start.elapsed());
        assert!(jiffies(&mut firewall) >= now + hz);
    }
}
