//! The kernel's side: a data path as the agent opens it, with all that it counts compared after every frame.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::xdp::XdpMode;
use aya::programs::{Program, Xdp};
use aya::{Ebpf, EbpfLoader};
use lyncwall_common::abi::{
    Bucket, Control, CounterBlock, CpuRecord, Event, Flow, FlowKeyV4, FlowKeyV6, FragmentKey, FragmentRecord,
    Live, OpeningKey, PortTransport, REASONS, map, program,
};
use lyncwall_common::reason::{Action, Reason};
use lyncwall_datapath::Datapath;
use lyncwall_policy::compile::Compiled;
use lyncwall_tests::object::object;
use lyncwall_tests::{kernel, run};

use crate::verdicts::world::World;

/// An entry point of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Ingress,
    IngressFrags,
}

impl Entry {
    /// Those that this kernel must take: `ingress` always, and the other where it takes any program of that kind. So a
    /// verifier that refuses ours is a failure.
    pub(crate) fn taken() -> Vec<Self> {
        let mut taken = vec![Self::Ingress];
        if kernel::takes_frags().expect("the kernel says whether it takes frames in several buffers") {
            taken.push(Self::IngressFrags);
        } else {
            println!(
                "this kernel takes no XDP program for frames in several buffers (xdp.frags): {} is left out",
                Self::IngressFrags.name()
            );
        }
        taken
    }

    /// Those that frames are judged by: all of them, or on a guest the one that the agent takes there.
    pub(crate) fn judging() -> Vec<Self> {
        let mut taken = Self::taken();
        if !kernel::judges_every_variant() {
            taken.drain(..taken.len() - 1);
        }
        taken
    }

    /// The one that the agent takes on this kernel.
    pub(crate) fn best() -> Self {
        *Self::taken().last().expect("`ingress` is always there")
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ingress => program::INGRESS,
            Self::IngressFrags => program::INGRESS_FRAGS,
        }
    }
}

/// A data path with a policy, and one entry point loaded a second time over its maps: the data path itself takes the one
/// that the kernel likes best.
pub(crate) struct Firewall {
    pub(crate) datapath: Datapath,
    directory: PathBuf,
    entry: Entry,
    ebpf: Ebpf,
    events: RingBuf<MapData>,
    cpu: PerCpuArray<MapData, CpuRecord>,
    rules: PerCpuArray<MapData, CounterBlock>,
}

/// What is read after every frame. The datapath's own counters hold the same; these take a tenth of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By the values of reason and action, also those that stand for nothing.
    pub(crate) reasons: [[u64; 2]; REASONS],
    pub(crate) events_lost: u64,
    pub(crate) fragments_lost: u64,
    pub(crate) flows_added: u64,
    pub(crate) flows_lost: u64,
    /// The first 4,096 rule counters.
    pub(crate) rules: Vec<u64>,
}

impl Counts {
    pub(crate) fn of(&self, reason: Reason, action: Action) -> u64 {
        self.reasons[reason as usize][action as usize]
    }

    pub(crate) fn total(&self) -> u64 {
        self.reasons.as_flattened().iter().sum()
    }

    /// Each reason and action that went up since `before`, and by how much.
    pub(crate) fn since(&self, before: &Self) -> Vec<(Option<Reason>, Action, u64)> {
        let mut grown = Vec::new();
        for (value, (old, new)) in before.reasons.iter().zip(&self.reasons).enumerate() {
            for action in Action::ALL {
                let more = new[action as usize] - old[action as usize];
                if more != 0 {
                    grown.push((Reason::from_value(value as u8), action, more));
                }
            }
        }
        grown
    }
}

impl Firewall {
    /// With its pins in `directory`, which must not be there yet.
    pub(crate) fn new(directory: PathBuf, entry: Entry, compiled: &Compiled) -> Self {
        let object = object();
        let datapath = Datapath::open(object, &directory).expect("the data path opens");
        let hz = kernel::ticks_per_second().expect("a length");
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .default_map_pin_directory(&directory)
            .override_global(program::HZ, &hz, true)
            .override_global(program::LOG_LEVEL, &0_u8, true)
            .load(object)
            .expect("the object loads over the pinned maps");
        match ebpf.program_mut(entry.name()) {
            Some(Program::Xdp(program)) => program.load().expect("the verifier takes the program"),
            _ => panic!("the object has no XDP program {}", entry.name()),
        }
        let events =
            Map::RingBuf(pinned(&directory, map::EVENTS)).try_into().expect("the events are a ring buffer");
        let cpu = Map::PerCpuArray(pinned(&directory, map::CPU)).try_into().expect("a record for each CPU");
        let rules = Map::PerCpuArray(pinned(&directory, map::RULE_HITS)).try_into().expect("rule counters");
        let mut firewall = Self { datapath, directory, entry, ebpf, events, cpu, rules };
        firewall.install(compiled);
        firewall
    }

    /// Makes another policy live, as the agent would.
    pub(crate) fn install(&mut self, compiled: &Compiled) {
        self.datapath.install(compiled).expect("a generation");
        self.datapath.set_management(&compiled.management).expect("a management rule");
        self.datapath.retire();
    }

    /// Makes the block-list that of a world.
    pub(crate) fn block(&mut self, world: World) {
        let before: Vec<_> =
            self.datapath.blocked().expect("a list").into_iter().map(|(prefix, _)| prefix).collect();
        self.datapath.unblock(&before).expect("no list");
        let blocked: Vec<_> = world.blocked().into_iter().map(|prefix| (prefix, None)).collect();
        self.datapath.block(&blocked).expect("a list");
    }

    pub(crate) fn program(&self) -> &Xdp {
        match self.ebpf.program(self.entry.name()) {
            Some(Program::Xdp(program)) => program,
            _ => panic!("the object has no XDP program {}", self.entry.name()),
        }
    }

    pub(crate) fn judge(&self, frame: &[u8]) -> Action {
        action(run::judge(self.program(), frame).expect("a test run"))
    }

    pub(crate) fn judge_on(&self, frame: &[u8], interface: u32) -> Action {
        action(run::judge_on(self.program(), frame, interface).expect("a test run"))
    }

    /// Attaches the program that judges here to an interface of this thread's network namespace, until this goes.
    pub(crate) fn attach(&mut self, interface: &str) {
        let name = self.entry.name();
        match self.ebpf.program_mut(name) {
            Some(Program::Xdp(program)) => {
                program.attach(interface, XdpMode::Driver).expect("it takes the program")
            }
            _ => panic!("the object has no XDP program {name}"),
        };
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts {
            reasons: [[0; 2]; REASONS],
            events_lost: 0,
            fragments_lost: 0,
            flows_added: 0,
            flows_lost: 0,
            rules: Vec::new(),
        };
        for record in self.cpu.get(&0, 0).expect("the counters can be read").iter() {
            let counted = record.reasons.as_flattened();
            for (sum, count) in counts.reasons.as_flattened_mut().iter_mut().zip(counted) {
                *sum += count;
            }
            counts.events_lost += record.events_lost.iter().sum::<u64>();
            counts.fragments_lost += record.fragments_lost;
            counts.flows_added += record.flows_added;
            counts.flows_lost += record.flows_lost;
        }
        for block in self.rules.get(&0, 0).expect("the counters can be read").iter() {
            counts.rules.resize(block.0.len(), 0);
            for (sum, count) in counts.rules.iter_mut().zip(&block.0) {
                *sum += count;
            }
        }
        counts
    }

    pub(crate) fn port_drops(&self) -> BTreeMap<(PortTransport, u16), u64> {
        let drops = self.datapath.port_drops().expect("the counters can be read");
        drops.into_iter().map(|(transport, port, count)| ((transport, port), count)).collect()
    }

    /// The next event, if there is one.
    pub(crate) fn event(&mut self) -> Option<Seen> {
        self.events.next().map(|bytes| Seen::new(&bytes))
    }

    pub(crate) fn fragments(&self) -> HashMap<MapData, FragmentKey, FragmentRecord> {
        let map = Map::LruHashMap(pinned(&self.directory, map::FRAGMENTS));
        map.try_into().expect("the map of fragments")
    }

    /// Forgets what frames before have left: first fragments, flows and openings.
    pub(crate) fn forget(&self) {
        empty(&mut self.fragments());
        let map = |name| Map::LruHashMap(pinned(&self.directory, name));
        let mut v4: HashMap<_, FlowKeyV4, Flow> = map(map::FLOWS_V4).try_into().expect("a map of flows");
        let mut v6: HashMap<_, FlowKeyV6, Flow> = map(map::FLOWS_V6).try_into().expect("a map of flows");
        empty(&mut v4);
        empty(&mut v6);
        empty(&mut self.buckets());
    }

    /// How many sources have a bucket.
    pub(crate) fn openings(&self) -> usize {
        self.buckets().keys().count()
    }

    fn buckets(&self) -> HashMap<MapData, OpeningKey, Bucket> {
        let map = Map::LruHashMap(pinned(&self.directory, map::OPENINGS));
        map.try_into().expect("the map of openings")
    }

    /// Shows a frame to the program on what is sent, which lets all pass.
    pub(crate) fn send(&self, frame: &[u8]) {
        /// The next in the chain decides.
        const TC_ACT_UNSPEC: i32 = -1;
        let program = self.datapath.egress().expect("it is loaded");
        assert_eq!(run::send(program, frame).expect("a test run"), TC_ACT_UNSPEC);
    }

    /// Changes the live word behind the agent's back.
    pub(crate) fn set_live(&self, live: Live) {
        let map = Map::Array(pinned(&self.directory, map::CONTROL));
        let mut map: Array<_, Control> = map.try_into().expect("an array");
        let mut control = map.get(&0, 0).expect("the one element");
        control.live = live.0;
        map.set(0, control, 0).expect("the one element");
    }
}

/// An event as it lies in the ring buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) jiffies: u64,
    pub(crate) ifindex: u32,
    pub(crate) length: u32,
    pub(crate) reason: Option<Reason>,
    pub(crate) action: u8,
    pub(crate) slot: u8,
    pub(crate) frame: Vec<u8>,
}

impl Seen {
    fn new(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), size_of::<Event>(), "an event and nothing else");
        let number = |at: usize| u32::from_ne_bytes(std::array::from_fn(|n| bytes[at + n]));
        Self {
            jiffies: u64::from_ne_bytes(std::array::from_fn(|n| bytes[n])),
            ifindex: number(8),
            length: number(12),
            reason: Reason::from_value(bytes[16]),
            action: bytes[17],
            slot: bytes[18],
            frame: bytes[24..24 + usize::from(bytes[19])].to_vec(),
        }
    }
}

fn action(action: run::Action) -> Action {
    match action {
        run::Action::Pass => Action::Pass,
        run::Action::Drop => Action::Drop,
        other => panic!("the program answered {other:?}"),
    }
}

fn empty<K: aya::Pod, V: aya::Pod>(map: &mut HashMap<MapData, K, V>) {
    let keys: Vec<_> = map.keys().collect::<Result<_, _>>().expect("the keys can be read");
    for key in keys {
        map.remove(&key).expect("the key is there");
    }
}

fn pinned(directory: &Path, name: &str) -> MapData {
    MapData::from_pin(directory.join(name)).unwrap_or_else(|error| panic!("the pin {name}: {error}"))
}
