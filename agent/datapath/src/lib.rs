//! The kernel side: the only code that names a BPF map, loads, pins and attaches.
//!
//! Maps and links are pinned, so enforcement outlives the agent, and the next agent adopts them
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
pub mod listening;
mod load;
mod log;
mod netlink;
mod netlink_watch;
mod pinned_links;
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
    /// The program for explanations; loaded on the first question.
    explainers: Vec<Explainer>,
    /// The BPF object, to load that program from.
    object: Vec<u8>,
    state: StateMap,
    // The last field, so that the lock is released after everything else.
    pins: PinDir,
}

// The agent holds it behind a lock and calls it from worker threads.
const _: () = {
    const fn sendable<T: Send>() {}
    sendable::<Datapath>();
    sendable::<Events>();
};

/// The loaded program and its interfaces.
#[derive(Debug, Clone)]
pub struct Status {
    /// The name of the XDP program: with or without multi-buffer frames.
    pub program: &'static str,
    /// The kernel's number of the program.
    pub id: u32,
    /// The kernel's hash of its instructions.
    pub tag: u64,
    /// Instructions that the verifier walked; `None` before kernel 5.16.
    pub verified_instructions: Option<u32>,
    /// The time of loading.
    pub loaded_at: Option<SystemTime>,
    /// How long it took to create the maps and verify the program.
    pub load_time: Duration,
    /// Memory of the maps in bytes, as the kernel counts it.
    pub map_memory: u64,
    /// Interfaces of this network namespace with the program.
    pub interfaces: Vec<Attached>,
    /// The kernel's features at the time of loading.
    pub features: Features,
}

impl Datapath {
    /// Loads `object` over the maps that are pinned in `pin_dir`; creates and pins missing ones. Touches no
    /// interface: an earlier agent's program stays attached until [`Datapath::attach_all`] replaces it.
    ///
    /// # Errors
    /// [`Problems`](lyncwall_policy::problem::Problems) for problems that the user can fix: no privilege, an old
    /// kernel, no BPF file system, another agent in the directory, pinned maps of another version. A first
    /// start that fails leaves no pins behind.
    pub fn open(object: &[u8], pin_dir: &Path) -> Result<Self> {
        Self::open_with(object, pin_dir, FLOWS, LogLevel::Off)
    }

    /// Like [`Datapath::open`]; new flow tables get room for `flows`, and the programs log at this level.
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
            // From now on the maps have a version, so no later start mistakes them for those of an aborted
            // one.
            datapath.state.store(&[])?;
        }
        // Leftovers of a killed agent.
        datapath.end_capture();
        datapath.pins.keep();
        Ok(datapath)
    }

    /// Attaches the program to an interface of this thread's network namespace, or replaces that of an
    /// earlier agent.
    ///
    /// # Errors
    /// As [`Datapath::attach_all`].
    pub fn attach(&mut self, interface: &str, mode: Attach) -> Result<Attached> {
        self.attach_all(&[(interface, mode)])?.pop().context("one interface was asked for")
    }

    /// Attaches the program to all these interfaces of this thread's network namespace. Replaces an earlier
    /// agent's program in one step.
    ///
    /// # Errors
    /// [`Problems`](lyncwall_policy::problem::Problems) of all interfaces together: one that does not exist, has a
    /// foreign XDP program (which lyncwall never removes), or does not take the mode. Nothing changes then:
    /// interfaces that were attached before the refusal are detached again.
    pub fn attach_all(&mut self, wanted: &[(&str, Attach)]) -> Result<Vec<Attached>> {
        let links = self.pins.links_dir();
        links::attach_all(load::xdp(&mut self.ebpf, self.program)?, &links, wanted)
    }

    /// Finds obstacles to [`Datapath::attach_all`], as far as they show beforehand.
    ///
    /// # Errors
    /// As [`Datapath::attach_all`].
    pub fn check_interfaces(&self, wanted: &[(&str, Attach)]) -> Result<()> {
        links::check(&self.pins.links_dir(), wanted)
    }

    /// Attaches the egress program to these interfaces of this thread's network namespace, or replaces that
    /// of an earlier agent. It changes no packet. Returns the names of interfaces that had none.
    ///
    /// # Errors
    /// If one does not exist, or the kernel refuses.
    pub fn attach_egress(&mut self, interfaces: &[&str]) -> Result<Vec<String>> {
        let tcx = self.features.features.iter().find(|feature| feature.id == FeatureId::Tcx);
        let hook = match tcx {
            Some(Feature { answer: Answer::Found, .. }) => Hook::Tcx,
            _ => Hook::Clsact,
        };
        let directory = self.pins.egress_dir();
        egress::attach_all(load::egress(&mut self.ebpf)?, &directory, hook, interfaces)
    }

    /// True if the egress program is on all these interfaces.
    ///
    /// # Errors
    /// If a pin cannot be read.
    pub fn watches(&self, interfaces: &[&str]) -> Result<bool> {
        egress::is_on(&self.pins.egress_dir(), interfaces)
    }

    /// Takes the programs off all interfaces but these, and returns the names of the detached ones.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn detach_interfaces_except(&mut self, keep: &[&str]) -> Result<Vec<String>> {
        let detached = links::detach_except(&self.pins.links_dir(), keep)?;
        egress::detach_except(&self.pins.egress_dir(), keep)?;
        Ok(detached)
    }

    /// Writes a generation into a free slot and switches to it; returns its number. Each packet is judged by
    /// the old or the new generation, never by a mixture.
    ///
    /// Excludes the management tables: see [`Datapath::set_management`]. Takes a grace period (up to a
    /// second) longer if two switches follow each other without a [`Datapath::retire`] between them.
    ///
    /// # Errors
    /// If a map cannot be written. The old generation stays live then.
    pub fn install(&mut self, compiled: &Compiled) -> Result<u64> {
        self.install_observed(compiled, &mut |_| Ok(()))
    }

    /// Like [`Datapath::install`], and calls `after_write` with the map after each write before the switch;
    /// an error from `after_write` stops the installation.
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

    /// Like [`Datapath::install`], with a hold.
    ///
    /// # Errors
    /// As [`Datapath::install`].
    pub fn install_for(&mut self, compiled: &Compiled, hold: Hold) -> Result<u64> {
        self.generations.install(&self.control, compiled, hold, &mut |_| Ok(()))
    }

    /// The number that the next generation gets.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn next_generation(&self) -> Result<u64> {
        self.generations.next_number()
    }

    /// The moment `time` from now, in jiffies of the program's clock.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn deadline_in(&self, time: Duration) -> Result<u64> {
        Ok(clock::deadline(clock::jiffies(&self.ebpf)?, time, self.hz))
    }

    /// How long the generation that was installed [`Hold::Until`] a deadline stays live: zero if the program
    /// has rolled back already, `None` without a deadline.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn time_left(&self) -> Result<Option<Duration>> {
        match self.control.live().deadline() {
            0 => Ok(None),
            deadline => Ok(Some(clock::left(clock::jiffies(&self.ebpf)?, deadline, self.hz))),
        }
    }

    /// Removes the deadline: the waiting generation holds for good. Call [`Datapath::time_left`] first: after
    /// a rollback, this would bring the rolled-back generation back.
    pub fn confirm(&mut self) {
        self.generations.confirm(&self.control);
    }

    /// Makes the generation before the waiting one permanent, before or after the deadline.
    pub fn go_back(&mut self) {
        self.generations.go_back(&self.control);
    }

    /// Waits until no packet is judged by a retired slot, so that the next switch need not wait. Call it
    /// after answering a switch: it blocks for some milliseconds, or for a second if the kernel has no
    /// barrier.
    pub fn retire(&mut self) {
        self.generations.retire(&self.control);
    }

    /// Replaces the management rule element by element: sources in both the old and the new rule get in all
    /// the time.
    ///
    /// # Errors
    /// If a map cannot be read or written.
    pub fn set_management(&mut self, tables: &ManagementTables) -> Result<()> {
        self.add_management(tables)?;
        self.prune_management(tables)
    }

    /// The first half of [`Datapath::set_management`]: adds the new sources and ports.
    ///
    /// # Errors
    /// If a map cannot be read or written. The old sources still get in then.
    pub fn add_management(&mut self, tables: &ManagementTables) -> Result<()> {
        self.control.add_management(tables)
    }

    /// The second half: removes all others.
    ///
    /// # Errors
    /// If a map cannot be read or written.
    pub fn prune_management(&mut self, tables: &ManagementTables) -> Result<()> {
        self.control.prune_management(tables)
    }

    /// The live generation.
    ///
    /// # Errors
    /// If the map or the kernel's clock cannot be read.
    pub fn live(&self) -> Result<LiveGeneration> {
        // Without a deadline the time is not needed.
        let now = if self.control.live().deadline() == 0 { 0 } else { clock::jiffies(&self.ebpf)? };
        self.generations.live(&self.control, now)
    }

    /// The counters by reason and by rule.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        self.counters.read()
    }

    /// Drops by destination port, in packets, without zeros, sorted. Reads 1 MiB for each CPU.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn port_drops(&self) -> Result<Vec<(PortTransport, u16, u64)>> {
        self.counters.port_drops()
    }

    /// The sampled drops. Only one reader is possible: a second call fails.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// If the stream was taken before.
    pub fn events(&mut self) -> Result<Events> {
        Events::new(self.events.take().context("the events have a reader already")?)
    }

    /// The log lines of the programs; `None` if logging is off, or they have a reader already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// If the buffer cannot be polled.
    pub fn program_log(&mut self) -> Result<Option<ProgramLog>> {
        self.lines.take().map(ProgramLog::new).transpose()
    }

    /// Dropped packets from now on, as long as [`Datapath::go_on_capturing`] renews the capture. Only one
    /// reader is possible: a second stream would take packets from the first.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// If the kernel cannot create the buffers.
    pub fn capture(&mut self) -> Result<Captures> {
        Captures::open(&mut self.captures)
    }

    /// Makes the program hand out `snap` bytes of each packet that is dropped for these reasons, for `time`
    /// from now on.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn go_on_capturing(&self, snap: u16, reasons: ReasonSet, time: Duration) -> Result<()> {
        self.control.set_capture(Capture::new(snap, self.deadline_in(time)?), reasons);
        Ok(())
    }

    /// Ends the capture.
    pub fn end_capture(&self) {
        self.control.set_capture(Capture::NONE, ReasonSet::ALL);
    }

    /// The program's verdict on a frame from the interface with this number, now. Leaves no trace in
    /// counters, events or flows. The first call for an interface loads the object again, which takes some
    /// 100 ms.
    ///
    /// # Errors
    /// [`Problem`](lyncwall_policy::problem::Problem) for a frame below [`SHORTEST`] or above [`LONGEST`] bytes; an
    /// error if the kernel refuses the program or the run.
    pub fn explain(&mut self, ifindex: u32, frame: &[u8]) -> Result<Explanation> {
        if let Some(loaded) = self.explainers.iter().find(|loaded| loaded.is_of(ifindex)) {
            return loaded.explain(frame);
        }
        if self.explainers.len() >= explain::KEPT {
            self.explainers.remove(0);
        }
        let loaded = Explainer::load(&self.object, self.pins.path(), self.hz, ifindex)?;
        let verdict = loaded.explain(frame);
        self.explainers.push(loaded);
        verdict
    }

    /// The blob of the last [`Datapath::store_state`], by this agent or an earlier one; `None` without one.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn load_state(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.state.load()?.map(|(_, blob)| blob).filter(|blob| !blob.is_empty()))
    }

    /// Stores the agent's state beside the maps. An interrupted store leaves the earlier state.
    ///
    /// # Errors
    /// A blob over 1 MiB less a header of 32 bytes; a map that cannot be written.
    pub fn store_state(&mut self, blob: &[u8]) -> Result<()> {
        self.state.store(blob)
    }

    /// The loaded program and its interfaces.
    ///
    /// # Errors
    /// If the kernel does not answer.
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

    /// The loaded egress program, for test runs.
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
    /// If a pin cannot be removed.
    pub fn remove(self) -> Result<Detached> {
        self.pins.remove()
    }

    /// Examines these interfaces of this thread's network namespace before attaching. Needs neither privilege
    /// nor a BPF file system.
    ///
    /// # Errors
    /// If netlink does not answer.
    pub fn examine(pin_dir: &Path, interfaces: &[&str]) -> Result<Vec<Examined>> {
        links::examine(&pin_dir.join(pins::LINKS), interfaces)
    }

    /// Opens the box without an agent: takes the program off all interfaces and removes all pins below
    /// `pin_dir`. Returns an empty [`Detached`] ([`Detached::is_empty`]) if there was nothing to remove.
    ///
    /// # Errors
    /// A [`Problems`](lyncwall_policy::problem::Problems) if an agent runs or the privilege is missing.
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

/// The action, for an error.
fn loading(log: LogLevel) -> String {
    match log {
        LogLevel::Off => "loading the programs".to_owned(),
        level => format!("loading the programs with log lines of level {}", level.name()),
    }
}

/// Memory of a BPF object in bytes, from its descriptor's fdinfo.
fn memlock(object: impl AsFd) -> io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", object.as_fd().as_raw_fd());
    let text = fs::read_to_string(path)?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    bytes.and_then(|bytes| bytes.trim().parse().ok()).ok_or_else(|| io::Error::other("no memlock in fdinfo"))
}
