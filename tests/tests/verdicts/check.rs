//! Judges lists of fixtures, in the kernel and by the same policy in memory, and compares all that was counted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lyncwall::config::Mode;
use lyncwall::policy::HostTables;
use lyncwall_common::abi::{NO_COUNTER, PortTransport};
use lyncwall_common::reason::{Action, Reason};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::prerequisites::require_root;

use crate::firewall::{Counts, Entry, Firewall};
use crate::fixture::{Expected, Fixture, Tags};
use crate::world::{Policy, World};

/// Both entry points, enforcing and in audit mode, without and with VLAN tags.
pub(crate) fn check(fixtures: &[Fixture]) {
    require_root();
    assert!(!fixtures.is_empty());
    let bpffs = Bpffs::mount().expect("a BPF file system");
    for entry in Entry::BOTH {
        for mode in [Mode::Enforce, Mode::Audit] {
            for world in World::ALL {
                let own: Vec<&Fixture> = fixtures.iter().filter(|fixture| fixture.world == world).collect();
                if !own.is_empty() {
                    let directory = bpffs.path().join(format!("{entry:?}-{mode:?}-{world:?}"));
                    let total = check_world(directory, entry, mode, world, &own);
                    assert!(total >= own.len() as u64);
                }
            }
        }
    }
}

/// One entry point over the fixtures of one world; returns how many frames were judged.
fn check_world(directory: PathBuf, entry: Entry, mode: Mode, world: World, fixtures: &[&Fixture]) -> u64 {
    let policy = Policy::of(world, mode);
    let firewall = Firewall::new(directory, entry, &policy.compiled);
    let mut bench = Bench::new(firewall, &policy, mode);
    let variants: &[Tags] = match mode {
        Mode::Enforce => &Tags::ALL,
        Mode::Audit => &[Tags::None],
    };
    for tags in variants {
        bench.firewall.forget_fragments();
        bench.host.fragments.borrow_mut().clear();
        for fixture in fixtures.iter().filter(|fixture| *tags == Tags::None || fixture.may_be_tagged) {
            let place = format!("{} [{entry:?}, {mode:?}, {world:?}, tags {tags:?}]", fixture.description);
            bench.judge(&place, &tags.on(&fixture.frame), fixture.expected);
        }
    }
    bench.finish()
}

/// A firewall and what it must have counted so far.
pub(crate) struct Bench<'a> {
    pub(crate) firewall: Firewall,
    pub(crate) host: HostTables<'a>,
    policy: &'a Policy,
    mode: Mode,
    counts: Counts,
    port_drops: BTreeMap<(PortTransport, u16), u64>,
    frames: u64,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(firewall: Firewall, policy: &'a Policy, mode: Mode) -> Self {
        let counts = firewall.counts();
        assert_eq!(counts.total(), 0, "new maps are empty");
        Self {
            firewall,
            host: HostTables::new(&policy.compiled, 1),
            policy,
            mode,
            counts,
            port_drops: BTreeMap::new(),
            frames: 0,
        }
    }

    /// Judges a frame and checks everything about it.
    pub(crate) fn judge(&mut self, place: &str, frame: &[u8], expected: Expected) {
        self.frames += 1;
        let wanted = match self.mode {
            Mode::Enforce => expected.judged,
            Mode::Audit => Action::Pass,
        };
        let counter = expected.rule.map_or(NO_COUNTER, |rule| self.policy.counter(rule));

        let host = self.host.judge(frame);
        assert_eq!((host.reason, host.action), (expected.reason, wanted), "in memory: {place}");
        assert_eq!((host.judged, host.counter), (expected.judged, counter), "in memory: {place}");
        let port = host.port.map(|(transport, port)| (transport, port.number()));
        assert_eq!(port.filter(|_| host.judged == Action::Drop), expected.port, "in memory: {place}");

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
            let captured = frame.len().min(128) / 8 * 8;
            assert_eq!(event.frame, frame[..captured], "{place}");
        }
    }

    /// Compares what is too large to be read after every frame; returns how many there were.
    pub(crate) fn finish(self) -> u64 {
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
