//! Judges lists of fixtures, in the kernel and by the same policy in memory, and compares all that was counted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lyncwall_common::abi::{BlockRecord, NO_COUNTER, PortTransport, Until};
use lyncwall_common::reason::{Action, Reason};
use lyncwall_datapath::{LONGEST, SHORTEST};
use lyncwall_policy::compile::Input;
use lyncwall_policy::config::Mode;
use lyncwall_policy::judge::HostTables;
use lyncwall_policy::net::Prefix;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::kernel::judges_every_variant;
use lyncwall_tests::prerequisites::require_root;

use crate::verdicts::firewall::{Counts, Entry, Firewall};
use crate::verdicts::fixture::{Expected, Fixture, Tags};
use crate::verdicts::world::{Policy, World, input};

/// Every entry point that the kernel takes, enforcing, in audit mode, and with one mode here and the other there; without and
/// with VLAN tags.
pub(crate) fn check(fixtures: &[Fixture]) {
    require_root();
    assert!(!fixtures.is_empty());
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let modes = if judges_every_variant() { &Modes::ALL[..] } else { &[Modes::Nowhere] };
    for entry in Entry::judging() {
        let mut bench = Bench::new(bpffs.path().join(format!("{entry:?}")), entry);
        for &modes in modes {
            for world in World::ALL {
                let own: Vec<&Fixture> = fixtures.iter().filter(|fixture| fixture.world == world).collect();
                if !own.is_empty() {
                    bench.check(&format!("{entry:?}, {modes:?}, {world:?}"), world, modes, &own);
                }
            }
        }
        let judged = bench.finish();
        let expected = fixtures.iter().filter(|fixture| fixture.expected.is_some()).count();
        assert!(judged >= (modes.len() * expected) as u64, "{judged} frames");
    }
}

/// Where nothing is dropped but what is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modes {
    Nowhere,
    Everywhere,
    /// At the first target.
    First,
    /// Everywhere else.
    AllButFirst,
}

impl Modes {
    const ALL: [Self; 4] = [Self::Nowhere, Self::Everywhere, Self::First, Self::AllButFirst];

    fn policy(self, world: World) -> Policy {
        let (rest, first) = match self {
            Self::Nowhere => (Mode::Enforce, Mode::Enforce),
            Self::Everywhere => (Mode::Audit, Mode::Audit),
            Self::First => (Mode::Enforce, Mode::Audit),
            Self::AllButFirst => (Mode::Audit, Mode::Enforce),
        };
        Policy::from_input(&Input { modes: vec![first], ..input(world, rest) })
    }

    /// What is done about a frame; `in_memory` is what the same policy does in memory, where this does not tell.
    fn action(self, expected: Expected, in_memory: Action) -> Action {
        match self {
            _ if expected.judged == Action::Pass || expected.reason == Reason::Blocked => expected.judged,
            Self::Nowhere => Action::Drop,
            Self::Everywhere => Action::Pass,
            Self::First | Self::AllButFirst => in_memory,
        }
    }
}

/// A firewall and what it must have counted so far.
struct Bench {
    firewall: Firewall,
    counts: Counts,
    port_drops: BTreeMap<(PortTransport, u16), u64>,
    frames: u64,
}

fn for_good(prefix: Prefix) -> (Prefix, BlockRecord) {
    (prefix, BlockRecord { until: Until::FOR_GOOD, own: Until::FOR_GOOD })
}

/// What judges at the moment.
struct Judge<'a> {
    policy: &'a Policy,
    modes: Modes,
    /// The same in memory.
    host: HostTables<'a>,
}

impl Bench {
    fn new(directory: PathBuf, entry: Entry) -> Self {
        let policy = Policy::of(World::Host, Mode::Enforce);
        let firewall = Firewall::new(directory, entry, &policy.compiled);
        let counts = firewall.counts();
        assert_eq!(counts.total(), 0, "new maps are empty");
        Self { firewall, counts, port_drops: BTreeMap::new(), frames: 0 }
    }

    /// The fixtures of one world.
    fn check(&mut self, place: &str, world: World, modes: Modes, fixtures: &[&Fixture]) {
        let policy = modes.policy(world);
        self.firewall.install(&policy.compiled);
        self.firewall.block(world);
        let tagged = modes == Modes::Nowhere && judges_every_variant();
        let variants = if tagged { &Tags::ALL[..] } else { &[Tags::None] };
        for tags in variants {
            self.firewall.forget();
            let mut host = HostTables::new(&policy.compiled, 1);
            host.blocked = world.blocked().into_iter().map(for_good).collect();
            let judge = Judge { policy: &policy, modes, host };
            for fixture in fixtures.iter().filter(|fixture| *tags == Tags::None || fixture.may_be_tagged) {
                let place = format!("{} [{place}, tags {tags:?}]", fixture.description);
                match fixture.expected {
                    Some(expected) => self.judge(&judge, &place, &tags.on(&fixture.frame), expected),
                    None => self.send(&judge, &place, &fixture.frame),
                }
            }
        }
    }

    /// A frame that goes out. Its tags would be beside it, and it is not counted.
    fn send(&mut self, judge: &Judge<'_>, place: &str, frame: &[u8]) {
        judge.host.track(frame);
        self.firewall.send(frame);
        let counts = self.firewall.counts();
        assert_eq!(counts.since(&self.counts), [], "{place}");
        assert_eq!(counts.flows_lost, 0, "{place}");
        self.counts = counts;
    }

    /// Judges a frame and checks everything about it.
    fn judge(&mut self, judge: &Judge<'_>, place: &str, frame: &[u8], expected: Expected) {
        self.frames += 1;
        let counter = expected.rule.map_or(NO_COUNTER, |rule| judge.policy.counter(rule));

        let host = judge.host.judge(frame);
        // Audit mode asks for the block-list once more before it lets anything pass.
        let blocks = judge.modes != Modes::Nowhere
            && host.reason == Reason::Blocked
            && expected.judged == Action::Drop;
        let expected = if blocks { Expected { reason: Reason::Blocked, ..expected } } else { expected };
        let wanted = judge.modes.action(expected, host.action);
        assert_eq!((host.reason, host.action), (expected.reason, wanted), "in memory: {place}");
        assert_eq!((host.judged, host.counter), (expected.judged, counter), "in memory: {place}");
        let port = host.port.map(|(transport, port)| (transport, port.number()));
        assert_eq!(port.filter(|_| host.judged == Action::Drop), expected.port, "in memory: {place}");

        // What it leaves behind would show in all that follows.
        if (SHORTEST..=LONGEST).contains(&frame.len()) {
            let told = self.firewall.datapath.explain(1, frame).expect("an explanation");
            let explained = (told.reason, told.action, told.judged, told.counter.unwrap_or(NO_COUNTER));
            assert_eq!(explained, (expected.reason, wanted, expected.judged, counter), "explained: {place}");
        }
        let action = self.firewall.judge(frame);
        let counts = self.firewall.counts();
        let counted = counts.since(&self.counts);
        assert_eq!(counted, [(Some(expected.reason), wanted, 1)], "in the kernel: {place}");
        assert_eq!(action, wanted, "{place}");

        let rule = |counts: &Counts, counter: u32| counts.rules[counter as usize];
        if expected.rule.is_some() {
            assert_eq!(rule(&counts, counter), rule(&self.counts, counter) + 1, "{place}");
            self.counts.rules[counter as usize] += 1;
        }
        assert!(counts.rules == self.counts.rules, "another rule's counter: {place}");
        assert_eq!(counts.fragments_lost, 0, "{place}");
        if let (Some(port), Action::Drop) = (expected.port, wanted) {
            *self.port_drops.entry(port).or_default() += 1;
        }
        self.check_event(place, frame, expected, wanted, counts.events_lost);
        self.counts = counts;
    }

    /// Each drop is reported or counted as lost, but for the noise of multicast.
    fn check_event(&mut self, place: &str, frame: &[u8], expected: Expected, wanted: Action, lost: u64) {
        let reported = expected.judged == Action::Drop && expected.reason != Reason::Multicast;
        let event = self.firewall.event();
        let lost = lost - self.counts.events_lost;
        assert_eq!(u64::from(event.is_some()) + lost, u64::from(reported), "{event:?}, {lost} lost: {place}");
        assert_eq!(self.firewall.event(), None, "{place}");
        if let Some(event) = event {
            assert_eq!((event.reason, event.action), (Some(expected.reason), wanted as u8), "{place}");
            assert_eq!((event.length as usize, event.ifindex), (frame.len(), 1), "{place}");
            let captured = frame.len().min(128) / 2 * 2;
            assert_eq!(event.frame, frame[..captured], "{place}");
        }
    }

    /// Compares what is too large to be read after every frame; returns how many there were.
    fn finish(self) -> u64 {
        assert_eq!(self.firewall.port_drops(), self.port_drops, "drops by port");
        let counters = self.firewall.datapath.counters().expect("the counters can be read");
        for (reason, action, count) in &counters.reasons {
            assert_eq!(*count, self.counts.of(*reason, *action), "{reason} {action}");
        }
        let (low, high) = counters.rules.split_at(counters.rules.len().min(self.counts.rules.len()));
        assert!(self.counts.rules.starts_with(low) && high.is_empty(), "rule counters");
        assert_eq!(self.counts.total(), self.frames, "each frame is counted once");
        self.frames
    }
}
