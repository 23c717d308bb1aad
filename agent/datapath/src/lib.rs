//! The kernel side: the only code that names a BPF map, loads, pins and attaches.
//!
//! Maps and links are pinned, so enforcement outlives the agent, and the next one adopts what is there
//! ([`Datapath::open`]). Each concern has a file of its own below this one; `sys` is the only unsafe code.

mod blocked;
mod capture;
mod clock;
pub mod connections;
mod control;
mod counters;
mod egress;
mod events;
mod explain;
pub mod exposure;
mod flows;
pub mod host;
mod install;
mod links;
mod load;
mod log;
mod netlink;
mod netlink_watch;
mod pinned;
mod pins;
mod prefixes;
mod probe;
mod sources;
mod state;
mod sys;
mod xdp;

use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{MapData, PerfEventArray, RingBuf};
use aya::programs::{Program, SchedClassifier, Xdp};
use aya_log::EbpfLogger;
use aya_obj::Object;
use lyncwall_common::abi::{Capture, FLOWS, PortTransport, ReasonSet, map, program};

pub use aya::include_bytes_aligned;
pub use capture::{CapturedPacket, Captures};
pub use counters::Counters;
pub use events::Events;
pub use explain::{Explanation, LONGEST, SHORTEST};
pub use flows::{FlowFill, KnownFlows};
pub use install::{Hold, LiveGeneration};
pub use links::{Attached, Examined};
pub use log::{LogLevel, ProgramLog, TARGET as LOG_TARGET};
pub use lyncwall_policy::config::Attach;
pub use netlink_watch::NetlinkWatch;
pub use pins::Detached;
pub use probe::{Answer, Feature, Features, HostCheck, Id as FeatureId, MAP_TYPES, MemoryLimit};
pub use xdp::Mode;

use blocked::BlockList;
use counters::CounterMaps;
use egress::Hook;
use explain::Explainer;
use flows::FlowMaps;
use install::Generations;
use lyncwall_policy::compile::{Compiled, ManagementTables};
use pins::PinDir;
use state::StateMap;

/// The loaded program and its maps.
///
/// Dropping it changes nothing on the wire: only [`Datapath::detach`] and [`Datapath::remove`] open the box.
pub struct Datapath {
    ebpf: Ebpf,
    program: &'static str,
    features: Features,
    load_time: Duration,
    /// Jiffies a second.
    hz: u64,
    control: control::Control,
    blocked: BlockList,
    generations: Generations,
    counters: CounterMaps,
    flows: FlowMaps,
    events: Option<RingBuf<MapData>>,
    captures: PerfEventArray<MapData>,
    lines: Option<EbpfLogger<log::Forward>>,
    /// For what is explained; loaded when that is asked for.
    explainers: Vec<Explainer>,
    /// The BPF object, to load that from.
    object: Vec<u8>,
    state: StateMap,
    // Last, so that the lock goes when all else is gone.
    pins: PinDir,
}

// The agent holds it behind a lock and calls it from worker threads.
const _: () = {
    const fn sendable<T: Send>() {}
    sendable::<Datapath>();
    sendable::<Events>();
};

/// What is loaded and where.
#[derive(Debug, Clone)]
pub struct Status {
    /// The name of the XDP program: with or without multi-buffer frames.
    pub program: &'static str,
    /// The kernel's number of it.
    pub id: u32,
    /// The hash that the kernel made of its instructions.
    pub tag: u64,
    /// Instructions that the verifier walked; `None` before kernel 5.16.
    pub verified_instructions: Option<u32>,
    /// When it was loaded.
    pub loaded_at: Option<SystemTime>,
    /// How long making the maps and verifying the program took.
    pub load_time: Duration,
    /// Memory that the maps take, in bytes, as the kernel counts it.
    pub map_memory: u64,
    /// Interfaces of this network namespace that the program is attached to.
    pub interfaces: Vec<Attached>,
    /// What the kernel can do, as it was asked when the program was loaded.
    pub features: Features,
}

impl Datapath {
    /// Loads `object` over the maps that are pinned in `pin_dir`, and makes and pins them where there are none. No
    /// interface is touched: an earlier agent's program stays attached until [`Datapath::attach_all`] replaces it.
    ///
    /// # Errors
    /// [`Problems`](lyncwall_policy::problem::Problems) for what the user can mend: no privilege, an old kernel, no BPF file
    /// system, another agent in the same directory, pinned maps of another version. A first start that fails leaves
    /// no pins behind.
    pub fn open(object: &[u8], pin_dir: &Path) -> Result<Self> {
        Self::open_with(object, pin_dir, FLOWS, LogLevel::Off)
    }

    /// The same with room for `flows` in each table of flows that is not there yet, and with programs that write these lines into
    /// the log.
    ///
    /// # Errors
    /// As [`Datapath::open`].
    pub fn open_with(object: &[u8], pin_dir: &Path, flows: u32, log: LogLevel) -> Result<Self> {
        let parsed = Object::parse(object).context("reading the BPF object")?;
        let features = probe::preflight(pin_dir)?;

        let mut pins = PinDir::open(pin_dir)?;
        let adopted = pins.prepare(&parsed)?;
        let start = Instant::now();
        let hz = probe::ticks_per_second()?;
        let (mut ebpf, program) =
            load::load(object, pins.path(), hz, flows, log).with_context(|| loading(log))?;
        let load_time = start.elapsed();
        let control = control::Control::take(&mut ebpf)?;
        let mut datapath = Self {
            program,
            features,
            load_time,
            hz,
            blocked: BlockList::take(&mut ebpf, &control)?,
            control,
            generations: Generations::take(&mut ebpf, adopted)?,
            counters: CounterMaps::take(&mut ebpf)?,
            flows: FlowMaps::take(&mut ebpf)?,
            events: Some(load::take(&mut ebpf, map::EVENTS)?),
            captures: load::take(&mut ebpf, map::CAPTURES)?,
            lines: log::take(&mut ebpf, log)?,
            explainers: Vec::new(),
            object: object.to_vec(),
            state: StateMap::take(&mut ebpf)?,
            ebpf,
            pins,
        };
        if !adopted {
            // From now on the maps have a version, and are not taken for the rest of a start that was cut short.
            datapath.state.store(&[])?;
        }
        // What an agent that was killed left.
        datapath.end_capture();
        datapath.pins.keep();
        Ok(datapath)
    }

    /// Attaches the program to an interface of this thread's network namespace, or replaces an earlier agent's.
    ///
    /// # Errors
    /// As [`Datapath::attach_all`].
    pub fn attach(&mut self, interface: &str, mode: Attach) -> Result<Attached> {
        self.attach_all(&[(interface, mode)])?.pop().context("one interface was asked for")
    }

    /// Attaches the program to all these interfaces of this thread's network namespace. An earlier agent's program
    /// is replaced in one step.
    ///
    /// # Errors
    /// [`Problems`](lyncwall_policy::problem::Problems), of all interfaces together, for one that does not exist, has the XDP
    /// program of somebody else (which is never removed), or does not take the mode. Nothing is changed then: what
    /// was attached before an interface refused is taken off again.
    pub fn attach_all(&mut self, wanted: &[(&str, Attach)]) -> Result<Vec<Attached>> {
        let links = self.pins.links_dir();
        links::attach_all(load::xdp(&mut self.ebpf, self.program)?, &links, wanted)
    }

    /// What would stand in the way of [`Datapath::attach_all`], as far as it can be seen beforehand.
    ///
    /// # Errors
    /// As [`Datapath::attach_all`].
    pub fn check_interfaces(&self, wanted: &[(&str, Attach)]) -> Result<()> {
        links::check(&self.pins.links_dir(), wanted)
    }

    /// Attaches the program on what the box sends to these interfaces of this thread's network namespace, or replaces an
    /// earlier agent's. It changes no packet. Gives the names of those that had none.
    ///
    /// # Errors
    /// Where one does not exist, or the kernel refuses.
    pub fn attach_egress(&mut self, interfaces: &[&str]) -> Result<Vec<String>> {
        let tcx = self.features.features.iter().find(|feature| feature.id == FeatureId::Tcx);
        let hook = match tcx {
            Some(Feature { answer: Answer::Found, .. }) => Hook::Tcx,
            _ => Hook::Clsact,
        };
        let directory = self.pins.egress_dir();
        egress::attach_all(load::egress(&mut self.ebpf)?, &directory, hook, interfaces)
    }

    /// True where the program is on what all of these send already.
    ///
    /// # Errors
    /// Where a pin cannot be read.
    pub fn watches(&self, interfaces: &[&str]) -> Result<bool> {
        egress::is_on(&self.pins.egress_dir(), interfaces)
    }

    /// Takes the programs off all interfaces but these, and says which those were.
    ///
    /// # Errors
    /// Where a pin cannot be removed.
    pub fn detach_interfaces_except(&mut self, keep: &[&str]) -> Result<Vec<String>> {
        let detached = links::detach_except(&self.pins.links_dir(), keep)?;
        egress::detach_except(&self.pins.egress_dir(), keep)?;
        Ok(detached)
    }

    /// Writes a generation into a free slot and switches to it; returns its number. A packet is judged by the one
    /// before or by this one, never by a mixture.
    ///
    /// The management tables are not part of it: see [`Datapath::set_management`]. Takes longer by a grace period
    /// (up to a second) where two switches follow each other without a [`Datapath::retire`] between.
    ///
    /// # Errors
    /// Where a map cannot be written. The generation before goes on judging then.
    pub fn install(&mut self, compiled: &Compiled) -> Result<u64> {
        self.install_observed(compiled, &mut |_| Ok(()))
    }

    /// As [`Datapath::install`]. `after_write` is told the map after each write before the switch, and may stop the
    /// installation there with an error.
    ///
    /// # Errors
    /// As [`Datapath::install`], and those of `after_write`.
    pub fn install_observed(
        &mut self,
        compiled: &Compiled,
        after_write: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<u64> {
        self.generations.install(&self.control, compiled, Hold::ForGood, after_write)
    }

    /// As [`Datapath::install`], for as long as `hold` says.
    ///
    /// # Errors
    /// As [`Datapath::install`].
    pub fn install_for(&mut self, compiled: &Compiled, hold: Hold) -> Result<u64> {
        self.generations.install(&self.control, compiled, hold, &mut |_| Ok(()))
    }

    /// The number that the next generation gets.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn next_generation(&self) -> Result<u64> {
        self.generations.next_number()
    }

    /// The moment in jiffies, as the program counts them, at which `time` from now has passed.
    ///
    /// # Errors
    /// Where the kernel's clock cannot be read.
    pub fn deadline_in(&self, time: Duration) -> Result<u64> {
        Ok(clock::deadline(clock::jiffies(&self.ebpf)?, time, self.hz))
    }

    /// How long the generation that was installed [`Hold::Until`] a deadline judges still: zero where the program has
    /// gone back already, `None` where there is no deadline.
    ///
    /// # Errors
    /// Where the kernel's clock cannot be read.
    pub fn time_left(&self) -> Result<Option<Duration>> {
        match self.control.live().deadline() {
            0 => Ok(None),
            deadline => Ok(Some(clock::left(clock::jiffies(&self.ebpf)?, deadline, self.hz))),
        }
    }

    /// Takes the deadline away: the generation that waits for it holds for good. See [`Datapath::time_left`] first, as
    /// this would bring back what the program went back from.
    pub fn confirm(&mut self) {
        self.generations.confirm(&self.control);
    }

    /// Has the generation before the one with a deadline judge for good, before its deadline or after.
    pub fn go_back(&mut self) {
        self.generations.go_back(&self.control);
    }

    /// Waits until no packet is judged by a retired slot any more, so that the next switch need not. For after a
    /// switch was answered: it blocks for some milliseconds, or for a second where the kernel has no barrier.
    pub fn retire(&mut self) {
        self.generations.retire(&self.control);
    }

    /// Makes the management rule this one, element by element: who may manage the box before and after may do so
    /// all the time.
    ///
    /// # Errors
    /// Where a map cannot be read or written.
    pub fn set_management(&mut self, tables: &ManagementTables) -> Result<()> {
        self.add_management(tables)?;
        self.prune_management(tables)
    }

    /// The first half of [`Datapath::set_management`]: lets these in beside those who are let in already.
    ///
    /// # Errors
    /// Where a map cannot be read or written. Who was let in still is.
    pub fn add_management(&mut self, tables: &ManagementTables) -> Result<()> {
        self.control.add_management(tables)
    }

    /// The second half: lets in nobody but these.
    ///
    /// # Errors
    /// Where a map cannot be read or written.
    pub fn prune_management(&mut self, tables: &ManagementTables) -> Result<()> {
        self.control.prune_management(tables)
    }

    /// The generation that judges.
    ///
    /// # Errors
    /// Where the map or the kernel's clock cannot be read.
    pub fn live(&self) -> Result<LiveGeneration> {
        // Without a deadline nobody asks for the time.
        let now = if self.control.live().deadline() == 0 { 0 } else { clock::jiffies(&self.ebpf)? };
        self.generations.live(&self.control, now)
    }

    /// Counts by reason and by rule.
    ///
    /// # Errors
    /// Where a map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        self.counters.read()
    }

    /// Drops by destination port, in packets, without zeroes, sorted. Reads 1 MiB for each CPU.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn port_drops(&self) -> Result<Vec<(PortTransport, u16, u64)>> {
        self.counters.port_drops()
    }

    /// The sampled drops. There is one reader: the second call fails.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// Where the stream was taken before.
    pub fn events(&mut self) -> Result<Events> {
        Events::new(self.events.take().context("the events have a reader already")?)
    }

    /// The lines that the programs write into the log; `None` where none were asked for, and where they have a reader already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// Where the buffer cannot be waited for.
    pub fn program_log(&mut self) -> Result<Option<ProgramLog>> {
        self.lines.take().map(ProgramLog::new).transpose()
    }

    /// Dropped packets, from now on and for as long as [`Datapath::go_on_capturing`] says so. There is one reader: whoever opens a
    /// second stream takes them from the first.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// Where the kernel makes no buffers.
    pub fn capture(&mut self) -> Result<Captures> {
        Captures::open(&mut self.captures)
    }

    /// Has the program hand out `snap` bytes of each packet that is dropped for these reasons, for `time` from now on.
    ///
    /// # Errors
    /// Where the kernel's clock cannot be read.
    pub fn go_on_capturing(&self, snap: u16, reasons: ReasonSet, time: Duration) -> Result<()> {
        self.control.set_capture(Capture::new(snap, self.deadline_in(time)?), reasons);
        Ok(())
    }

    /// Ends that.
    pub fn end_capture(&self) {
        self.control.set_capture(Capture::NONE, ReasonSet::ALL);
    }

    /// What the program would do with a frame that came in by the interface of this number, now. Nothing is counted, reported or
    /// remembered of it. The first call for an interface loads the object again, which takes some 100 ms.
    ///
    /// # Errors
    /// [`Problem`](lyncwall_policy::problem::Problem) for a frame below [`SHORTEST`] or above [`LONGEST`] bytes; where the kernel refuses the
    /// program or the run.
    pub fn explain(&mut self, ifindex: u32, frame: &[u8]) -> Result<Explanation> {
        if let Some(loaded) = self.explainers.iter().find(|loaded| loaded.is_of(ifindex)) {
            return loaded.explain(frame);
        }
        if self.explainers.len() >= explain::KEPT {
            self.explainers.remove(0);
        }
        let loaded = Explainer::load(&self.object, self.pins.path(), self.hz, ifindex)?;
        let told = loaded.explain(frame);
        self.explainers.push(loaded);
        told
    }

    /// What [`Datapath::store_state`] stored last, by this agent or the one before; `None` where nothing was.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn load_state(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.state.load()?.map(|(_, blob)| blob).filter(|blob| !blob.is_empty()))
    }

    /// Stores the agent's own memory beside the maps. A store that is cut short leaves the one before.
    ///
    /// # Errors
    /// Over 1 MiB less a header of 32 bytes, or where the map cannot be written.
    pub fn store_state(&mut self, blob: &[u8]) -> Result<()> {
        self.state.store(blob)
    }

    /// What is loaded and where.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn status(&self) -> Result<Status> {
        let info = self.program()?.info().context("asking for the XDP program")?;
        Ok(Status {
            program: self.program,
            id: info.id(),
            tag: info.tag(),
            verified_instructions: info.verified_instruction_count(),
            loaded_at: info.loaded_at(),
            load_time: self.load_time,
            map_memory: self.pins.memory()?,
            interfaces: links::attached(&self.pins.links_dir())?,
            features: self.features.clone(),
        })
    }

    /// The loaded program, for test runs.
    ///
    /// # Errors
    /// Never, once opened.
    pub fn program(&self) -> Result<&Xdp> {
        match self.ebpf.program(self.program) {
            Some(Program::Xdp(program)) => Ok(program),
            _ => anyhow::bail!("the BPF object has no XDP program {}", self.program),
        }
    }

    /// The loaded program on what the box sends, for test runs.
    ///
    /// # Errors
    /// Never, once opened.
    pub fn egress(&self) -> Result<&SchedClassifier> {
        match self.ebpf.program(program::EGRESS) {
            Some(Program::SchedClassifier(program)) => Ok(program),
            _ => anyhow::bail!("the BPF object has no tc program {}", program::EGRESS),
        }
    }

    /// Opens the box: takes the program off all interfaces and removes all pins.
    ///
    /// # Errors
    /// Where a pin cannot be removed.
    pub fn remove(self) -> Result<Detached> {
        self.pins.remove()
    }

    /// What can be said of these interfaces of this thread's network namespace before anything is attached to them.
    /// Works without privilege and without a BPF file system.
    ///
    /// # Errors
    /// Where netlink does not answer.
    pub fn examine(pin_dir: &Path, interfaces: &[&str]) -> Result<Vec<Examined>> {
        links::examine(&pin_dir.join(pins::LINKS), interfaces)
    }

    /// Opens the box without an agent: takes the program off all interfaces and removes all pins below `pin_dir`.
    /// [`Detached::is_empty`] where nothing was there.
    ///
    /// # Errors
    /// A [`Problems`](lyncwall_policy::problem::Problems) where an agent runs or the privilege is missing.
    pub fn detach(pin_dir: &Path) -> Result<Detached> {
        probe::privileges()?.or(())?;
        if pin_dir.exists() {
            probe::file_system(pin_dir)?.or(())?;
        }
        match PinDir::open_existing(pin_dir)? {
            Some(pins) => pins.remove(),
            None => Ok(Detached::default()),
        }
    }
}

/// What is done, for an error.
fn loading(log: LogLevel) -> String {
    match log {
        LogLevel::Off => "loading the programs".to_owned(),
        level => format!("loading the programs with log lines of level {}", level.name()),
    }
}

/// Memory of a BPF object in bytes, as the kernel tells of its descriptor.
fn memlock(object: impl AsFd) -> io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", object.as_fd().as_raw_fd());
    let text = fs::read_to_string(path)?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    bytes.and_then(|bytes| bytes.trim().parse().ok()).ok_or_else(|| io::Error::other("no memlock in fdinfo"))
}
