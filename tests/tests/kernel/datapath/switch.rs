//! What is judged by: generations, management, counters, events.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use lyncwall_common::abi::{Features, NO_COUNTER, PortTransport, map};
use lyncwall_common::reason::{Action as Verdict, Reason};
use lyncwall_datapath::{Attach, Counters, Datapath, Hold};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::kernel::is_emulated;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::Udp;
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::traffic::FrameSocket;
use tokio_stream::StreamExt as _;

use super::{
    management, open, open_ports, passes, pin_dir, policy, policy_with_allow, runtime, send_until, syn,
    syn_v6, with_target,
};

#[test]
fn a_generation_replaces_the_one_before_at_once() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut datapath = open(&pin_dir(&bpffs));
    let ports = [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007];
    for (number, port) in (1..).zip(ports) {
        assert_eq!(datapath.install(&policy(&[port])).expect("a generation"), number);
        assert_eq!(open_ports(&datapath, &ports), [port]);
        let live = datapath.live().expect("a live generation");
        assert_eq!((live.number, live.audit, live.deadline), (number, false, 0));
        if number % 2 == 0 {
            datapath.retire();
        }
    }
    let mut audit = policy(&[]);
    audit.features = Features::AUDIT;
    datapath.install(&audit).expect("a generation");
    assert_eq!(open_ports(&datapath, &ports), ports);
    assert!(datapath.live().expect("a live generation").audit);
}

#[test]
fn a_generation_with_a_deadline_judges_until_then_and_the_one_before_again() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    let ports = [1000, 1001, 1002];
    let time = Duration::from_secs(if is_emulated() { 20 } else { 2 });
    datapath.install(&policy(&[1000])).expect("a generation");
    assert_eq!(datapath.time_left().expect("the clock"), None);

    let asked = Instant::now();
    let hold = Hold::Until(datapath.deadline_in(time).expect("the clock"));
    let mut audit = policy(&[1001]);
    audit.features = Features::AUDIT;
    assert_eq!(datapath.install_for(&audit, hold).expect("a generation"), 2);
    assert_eq!(open_ports(&datapath, &ports), ports, "nothing is dropped in audit mode");
    // One more takes its place, and leaves the deadline and what is gone back to.
    assert_eq!(datapath.install_for(&policy(&[1002]), Hold::Alike).expect("a generation"), 3);
    assert_eq!(open_ports(&datapath, &ports), [1002]);
    let left = datapath.time_left().expect("the clock").expect("a deadline");
    assert!(left <= time + Duration::from_millis(30), "{left:?}");
    // Whoever opens it next finds it so.
    drop(datapath);
    let mut datapath = open(&directory);
    while open_ports(&datapath, &ports) == [1002] {
        assert!(asked.elapsed() < PATIENT, "it does not go back");
    }
    assert!(asked.elapsed() >= time, "{:?}", asked.elapsed());
    assert_eq!(open_ports(&datapath, &ports), [1000]);
    assert_eq!(datapath.time_left().expect("the clock"), Some(Duration::ZERO));
    let live = datapath.live().expect("a live generation");
    assert_eq!((live.number, live.audit), (1, false));

    // Gone back from for good, the slots are free again.
    datapath.go_back();
    assert_eq!((open_ports(&datapath, &ports), datapath.time_left().expect("the clock")), (vec![1000], None));
    for port in [1001, 1002, 1001, 1002] {
        let hold = Hold::Until(datapath.deadline_in(PATIENT).expect("the clock"));
        datapath.install_for(&policy(&[port]), hold).expect("a generation");
        assert_eq!(open_ports(&datapath, &ports), [port]);
        if port == 1001 {
            datapath.go_back();
            assert_eq!(open_ports(&datapath, &ports), [1000]);
        } else {
            datapath.confirm();
            assert_eq!(open_ports(&datapath, &ports), [port]);
            datapath.install(&policy(&[1000])).expect("a generation");
        }
    }
}

#[test]
fn sources_of_allow_rules_go_with_their_generation() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    // Three slots: each is used, and then used again.
    for round in 0..4 {
        // Twice the same does no harm.
        let mine = policy_with_allow(&[], 2000, &["192.0.2.0/24", "2001:db8::1", "192.0.2.0/24"]);
        datapath.install(&mine).expect("a generation");
        assert!(passes(&datapath, &syn(2000)) && passes(&datapath, &syn_v6(2000)), "round {round}");
        let other = policy_with_allow(&[], 2000, &["198.51.100.0/24"]);
        datapath.install(&other).expect("a generation");
        assert!(!passes(&datapath, &syn(2000)) && !passes(&datapath, &syn_v6(2000)), "round {round}");
        if round == 1 {
            // The next agent finds the sources that this one wrote.
            drop(datapath);
            datapath = open(&directory);
            assert!(!passes(&datapath, &syn(2000)));
        }
    }
}

#[test]
fn a_fault_after_any_write_leaves_the_old_generation_judging() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    let ports = [443, 5061, 2000, 2001];
    let old = policy_with_allow(&[443], 2000, &["192.0.2.0/24", "2001:db8::/32"]);
    let old = with_target(old, Pair::HOST_V4, 1);
    // An attempt goes on where the one before stopped, so there are enough writes for each map to be the last one of an attempt.
    let mut sources = vec!["192.0.2.1", "203.0.113.0/24", "2001:db8::1"];
    sources.extend(["2001:db8:2::/48", "2001:db8:3::/48", "2001:db8:4::/48", "2001:db8:5::/48"]);
    let new = policy_with_allow(&[5061], 2001, &sources);
    let new = with_target(new, Pair::HOST_V4, 0);
    // A set that held something else before has sources to remove as well.
    let before = ["192.0.2.1", "198.51.100.0/24", "2001:db8:1::/48"];
    let first = with_target(policy_with_allow(&[1], 2, &before), Pair::HOST_V4, 0);
    let second = with_target(policy_with_allow(&[3], 4, &before[1..]), Pair::HOST_V4, 0);
    for compiled in [&first, &second, &old] {
        datapath.install(compiled).expect("a generation");
        datapath.retire();
    }
    let number = datapath.live().expect("a live generation").number;
    assert_eq!(open_ports(&datapath, &ports), [443, 2000]);

    let mut written = Vec::new();
    for fault in 0.. {
        let count = Cell::new(0);
        let names = &mut written;
        let result = datapath.install_observed(&new, &mut |name| {
            if count.replace(count.get() + 1) == fault {
                names.push(name);
                bail!("as expected");
            }
            Ok(())
        });
        let Err(error) = result else { break };
        assert!(format!("{error:#}").contains("as expected"), "{error:#}");
        assert_eq!(open_ports(&datapath, &ports), [443, 2000], "after write {fault}");
        assert!(passes(&datapath, &syn_v6(2000)) && !passes(&datapath, &syn_v6(2001)));
        assert_eq!(datapath.live().expect("a live generation").number, number);
        if fault == 3 {
            // Killed there, the next agent takes over what was left.
            drop(datapath);
            datapath = open(&directory);
            assert_eq!(open_ports(&datapath, &ports), [443, 2000]);
        }
    }
    assert_eq!(open_ports(&datapath, &ports), [5061, 2001]);
    let scoped = [map::TARGETS, map::POLICIES, map::ALLOW, map::SOURCES_V4, map::SOURCES_V6];
    for name in scoped.into_iter().chain([map::GENERATIONS]) {
        assert!(written.contains(&name), "no fault after a write to {name}: {written:?}");
    }
}

#[test]
fn what_the_program_could_not_judge_by_is_refused() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut datapath = open(&pin_dir(&bpffs));
    datapath.install(&policy(&[443])).expect("a generation");
    let mut without_policy = policy(&[]);
    without_policy.policies.clear();
    datapath.install(&without_policy).expect_err("no policy for host");
    let mut unknown_policy = with_target(policy(&[]), Pair::HOST_V4, 0);
    unknown_policy.policies.clear();
    datapath.install(&unknown_policy).expect_err("a target without its policy");
    let mut without_table = policy(&[]);
    without_table.features = Features::ALLOW;
    datapath.install(&without_table).expect_err("no table of rules");
    let mut uncounted = policy_with_allow(&[], 2000, &[]);
    uncounted.allow.as_mut().expect("a table of rules").counters[0] = NO_COUNTER;
    datapath.install(&uncounted).expect_err("a rule without a counter");
    assert_eq!(open_ports(&datapath, &[443]), [443]);
}

#[test]
fn management_is_edited_without_a_cut() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut datapath = open(&pin_dir(&bpffs));
    datapath.install(&policy(&[443])).expect("a generation");
    assert!(!passes(&datapath, &syn(22)));
    datapath.set_management(&management(&[22], &["192.0.2.0/24", "2001:db8::/64"])).expect("an edit");
    assert!(passes(&datapath, &syn(22)) && passes(&datapath, &syn_v6(22)) && !passes(&datapath, &syn(23)));
    datapath.install(&policy(&[444])).expect("a generation");
    assert!(passes(&datapath, &syn(22)), "no switch touches it");
    datapath.set_management(&management(&[23], &["192.0.2.1"])).expect("an edit");
    assert!(!passes(&datapath, &syn(22)) && passes(&datapath, &syn(23)) && !passes(&datapath, &syn_v6(23)));
    datapath.set_management(&management(&[], &[])).expect("an edit");
    assert!(!passes(&datapath, &syn(23)));

    // While the tables change around it, an access that both have never ends.
    let one = management(&[22, 23], &["192.0.2.0/24", "10.0.0.0/8"]);
    let other = management(&[22, 80], &["192.0.2.1", "172.16.0.0/12"]);
    datapath.set_management(&one).expect("an edit");
    let pair = Pair::new().expect("a pair");
    pair.introduce().expect("neighbours");
    pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect("a link");
    let before = datapath.counters().expect("counters");
    let sender = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a packet socket");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| send_until(&stop, &sender, &syn(22)));
        // How many of the frames get as far as the program is the machine's affair: a veth's queue is short.
        let (mut edits, start) = (0, Instant::now());
        let few = |datapath: &Datapath| since(datapath, &before, Reason::Management, Verdict::Pass) < 1000;
        while (edits < 500 || few(&datapath)) && start.elapsed() < PATIENT {
            datapath.set_management(&other).expect("an edit");
            datapath.set_management(&one).expect("an edit");
            edits += 1;
        }
        stop.store(true, Ordering::Relaxed);
        sending.join().expect("the sender ends")
    });
    assert!(since(&datapath, &before, Reason::Management, Verdict::Pass) >= 1000);
    assert_eq!(since(&datapath, &before, Reason::Closed, Verdict::Drop), 0);
}

fn since(datapath: &Datapath, before: &Counters, reason: Reason, action: Verdict) -> u64 {
    datapath.counters().expect("counters").of(reason, action) - before.of(reason, action)
}

#[test]
fn counters_are_sums_over_the_cpus() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    assert!(datapath.counters().expect("counters").rules.is_empty());
    datapath.install(&policy(&[80, 443])).expect("a generation");
    let judge_on = |cpu: usize, frame: &[u8]| {
        let mut set = nix::sched::CpuSet::new();
        set.set(cpu).expect("a CPU number");
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).expect("the CPU is there");
        passes(&datapath, frame)
    };
    let cpus = aya::util::online_cpus().expect("a list of CPUs");
    for cpu in &cpus {
        for _ in 0..3 {
            judge_on(*cpu as usize, &syn(443));
        }
        judge_on(*cpu as usize, &syn(8443));
        judge_on(*cpu as usize, &Pair::frame_v4().with(Udp::new(9, 1)).build());
    }
    let each = cpus.len() as u64;
    let counters = datapath.counters().expect("counters");
    assert_eq!(counters.of(Reason::Allowed, Verdict::Pass), 3 * each);
    assert_eq!(counters.of(Reason::Closed, Verdict::Drop), 2 * each);
    assert_eq!(counters.of(Reason::Closed, Verdict::Pass), 0);
    assert_eq!(counters.rules, [0, 3 * each]);
    assert_eq!(counters.reasons.iter().map(|(_, _, count)| count).sum::<u64>(), 5 * each);
    let expected = [(PortTransport::Tcp, 8443, each), (PortTransport::Udp, 1, each)];
    assert_eq!(datapath.port_drops().expect("drops"), expected);
    assert_eq!((&counters.events_lost[..], counters.fragments_lost), (&[][..], 0));

    let start = Instant::now();
    datapath.counters().expect("counters");
    let read = start.elapsed();
    let start = Instant::now();
    datapath.port_drops().expect("drops");
    println!("counters {read:?}, port drops {:?}", start.elapsed());

    // They survive switches and agents.
    datapath.install(&policy(&[80])).expect("a generation");
    drop(datapath);
    assert_eq!(open(&directory).counters().expect("counters"), counters);
}

#[test]
fn drops_come_as_events_to_one_reader() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut datapath = open(&pin_dir(&bpffs));
    datapath.install(&policy(&[443])).expect("a generation");
    assert!(!passes(&datapath, &syn(8443)));
    runtime().block_on(async {
        let mut events = datapath.events().expect("the first reader");
        datapath.events().err().expect("there is one reader");
        let event = events.next().await.expect("a stream").expect("an event");
        assert_eq!(event.length as usize, syn(8443).len());
        assert_eq!((event.reason, event.action), (Reason::Closed as u8, Verdict::Drop as u8));
        let none = tokio::time::timeout(Duration::from_millis(20), events.next()).await;
        none.expect_err("nothing was dropped since");
        // What comes later wakes the reader up.
        for size in [100, 200] {
            let frame = Pair::frame_v4().with(Udp::new(9, 1)).with(vec![0; size]).build();
            assert!(!passes(&datapath, &frame));
            let woken = tokio::time::timeout(PATIENT, events.next()).await;
            let event = woken.expect("in time").expect("a stream").expect("an event");
            assert_eq!(event.length as usize, frame.len());
        }
        assert_eq!(events.unreadable(), 0);
    });
}
