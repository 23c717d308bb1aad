//! The firewall as a whole: the configuration, the run-time settings, and the kernel side that enforces them.

mod blocked;
mod capture;
mod change;
mod change_counts;
mod confirm;
mod durable;
mod explain;
mod guard;
mod memory;
mod mend;
mod open;
mod preview;
mod report;
mod sessions;
mod store;
mod takeover;
mod traffic;
mod trial;
mod unattended;
mod usage;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lyncwall_common::abi::{Generation, TargetTable};
use serde::{Deserialize, Serialize};

use crate::wire;
use lyncwall_datapath::host;
use lyncwall_datapath::host::interfaces;
use lyncwall_datapath::{Attach, Attached, Datapath, Events, Hold, LogLevel, Mode, ProgramLog, StoredState};
use lyncwall_policy::compile::{Compiled, CounterBook, Input, LeftOut, TargetInput, compile};
use lyncwall_policy::config::{self, OnExit};
use lyncwall_policy::locate::Locator;
use lyncwall_policy::net::OwnAddresses;
use lyncwall_policy::plan::{Machine, Plan, Settings};
use lyncwall_policy::problem::{Error, Problems};
use lyncwall_policy::services::Services;
use memory::{Left, Maps};
use store::Origin;
use takeover::Takeover;
use traffic::Traffic;
use trial::{Resumed, Step, Trial};
use usage::Usage;

pub use change_counts::{ChangeCounts, ChangeKind, ChangeResult};
pub use mend::Mended;
pub use store::Store;
pub use unattended::{Pinned, stored_settings};

/// A firewall that enforces.
pub struct Firewall {
    plan: Arc<Plan>,
    services: Arc<Services>,
    datapath: Datapath,
    memory: Memory,
    /// The open ports of the targets, as compiled last.
    targets: Vec<TargetInput>,
    /// The state that survives a reboot.
    store: Store,
    /// The tables installed last that depend on the machine.
    fit: Option<Fit>,
    /// The generation installed last, with names to describe packets.
    locator: Option<Arc<Locator>>,
    /// The destinations that were the box's own at the last look.
    own: OwnAddresses,
    /// Set while connections are picked up midway after an address came over.
    takeover: Option<Takeover>,
    /// The usage of rules.
    usage: Usage,
    /// Why an interface could not be guarded again, by its name.
    obstacles: BTreeMap<String, String>,
    /// How often a program or pins were put back.
    mended: u64,
    /// The ends of timed blocks.
    ends: blocked::Ends,
}

/// The tables that depend on the machine besides the configuration.
struct Fit {
    /// The machine that they were compiled for.
    machine: Machine,
    generation: Generation,
    targets: Option<Box<TargetTable>>,
    /// Facts of that machine that they have no room for.
    left_out: LeftOut,
}

impl Fit {
    fn of(compiled: &Compiled, machine: &Machine) -> Self {
        Self {
            machine: machine.clone(),
            generation: compiled.generation,
            targets: compiled.targets.clone(),
            left_out: compiled.left_out.clone(),
        }
    }

    fn is_of(&self, compiled: &Compiled) -> bool {
        self.generation == compiled.generation && self.targets == compiled.targets
    }
}

/// The state that outlives the agent, besides the maps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Memory {
    /// The run-time settings.
    settings: Settings,
    /// The settings of the file at that time; a setting that the file has changed since comes from the file.
    file: Settings,
    /// The rule of each counter.
    counters: CounterBook,
    /// The value of a counter when it was given to a new rule.
    counted_before: BTreeMap<u32, u64>,
    /// Why a driver refused the program, by interface in generic mode.
    #[serde(default)]
    native_refused: BTreeMap<String, String>,
    /// Flows that were removed from the tables.
    #[serde(default)]
    flows_forgotten: u64,
    /// Which interface each counter cell of the program belongs to.
    #[serde(default)]
    traffic: Traffic,
    /// Whether the settings above are on trial.
    #[serde(default, rename = "waiting")]
    trial: Trial,
    /// Counts of changes.
    #[serde(default)]
    changes: ChangeCounts,
    /// What of the state was lost and nobody has acknowledged, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<String>,
}

impl Firewall {
    /// Loads the program, or adopts that of an earlier agent, and enforces `plan`. Calls `ready` after all
    /// checks and before touching the wire; `ready` may stop the start. `log` selects the lines that the
    /// program logs.
    ///
    /// # Errors
    /// [`Problems`] for mistakes of the user, and those of `ready`. The wire is unchanged then: the policy of
    /// an earlier agent stays in force, and an open box stays open.
    pub fn start<T>(
        plan: Plan,
        object: &[u8],
        pin_dir: &Path,
        mut store: Store,
        log: LogLevel,
        ready: impl FnOnce() -> Result<T>,
    ) -> Result<(Self, T)> {
        let looked = host::look(&plan.config);
        let flow_size = plan.config.flows.size.unwrap_or_else(host::flows_for_memory);
        let (machine, ready, mut datapath) =
            match (looked, Datapath::open_with(object, pin_dir, flow_size, log)) {
                (Ok(machine), Ok(datapath)) => match ready() {
                    Ok(ready) => (machine, ready, datapath),
                    Err(error) => return Err(given_up(datapath, error)),
                },
                (Err(error), Ok(datapath)) => return Err(given_up(datapath, error)),
                (Ok(_), Err(error)) => return Err(error),
                (Err(error), Err(more)) => return Err(Error::from(error).and(more.into()).into()),
            };
        let Left { mut memory, maps } = memory::left(&datapath, &mut store, &plan)?;
        let Resumed { plan, origin, left } = trial::resume(&mut datapath, &mut memory, plan, &store)?;
        let machine = match origin {
            Origin::File => machine,
            Origin::RunTime => host::look_again(&plan.config)?,
        };
        let services = Arc::new(Services::of(&plan.catalogue));
        let settings = under(&memory.settings, &memory.file, &plan);
        let targets = Vec::new();
        let mut usage = Usage::open(store.directory());
        if maps != Maps::Adopted {
            usage.begin_again();
        }
        let mut firewall = Self {
            plan,
            services,
            datapath,
            memory,
            targets,
            store,
            fit: None,
            locator: None,
            own: machine.own.clone(),
            takeover: None,
            usage,
            obstacles: BTreeMap::new(),
            mended: 0,
            ends: blocked::Ends::default(),
        };
        firewall.restore_blocked(maps);
        match firewall.enforce(&machine, &settings) {
            Ok(()) => {
                if let Some(tried) = left {
                    firewall.follow_zones(&tried);
                }
                if !firewall.memory.trial.runs() {
                    firewall.keep(origin);
                }
                firewall.note_usage();
                Ok((firewall, ready))
            }
            // What an earlier agent closed stays closed.
            Err(error) if maps == Maps::New => Err(removed(firewall.datapath, error)),
            Err(error) => Err(error),
        }
    }

    /// After a boot, restores the block-list from its file; otherwise the kernel has the better one.
    fn restore_blocked(&mut self, maps: Maps) {
        if maps == Maps::New {
            for lost in self.block_again() {
                tracing::error!("lost: {lost}");
                self.memory.lost.push(lost);
            }
        } else if let Err(error) = self.keep_blocked_again() {
            tracing::warn!("the next boot may restore another block-list: {error:#}");
        }
    }

    /// Forgets what of the state was lost, and returns it, one sentence each.
    ///
    /// # Errors
    /// If that cannot be stored. `status` shows the losses again after the next start then.
    pub fn acknowledge(&mut self) -> Result<Vec<String>> {
        let lost = std::mem::take(&mut self.memory.lost);
        remember(&mut self.datapath, &self.memory)
            .and_then(|()| self.store.acknowledge())
            .context("acknowledged until the next start only")?;
        Ok(lost)
    }

    /// The settings of the run time that differ from the file, one phrase each.
    #[must_use]
    pub fn differences_from_file(&self) -> Vec<String> {
        self.memory.settings.differences_from_file(&self.plan.settings())
    }

    fn enforce(&mut self, machine: &Machine, settings: &Settings) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        if self.datapath.status()?.interfaces.is_empty() {
            let comparison = self.standing_in_the_way(&plan, settings, machine)?;
            self.install(&plan, settings, machine)?;
            self.keep_sessions(&plan, &plan, &comparison);
            self.take_over_most(&plan, plan.config.flows.learn)?;
        } else {
            let since = self.since_the_earlier_agent(&plan, settings, machine);
            // The old policy judges until the interfaces accept the program.
            self.take_over_most(&plan, Duration::ZERO)?;
            self.install(&plan, settings, machine)?;
            if let Some((before, comparison)) = since {
                self.keep_sessions(&before, &plan, &comparison);
            }
        }
        // Interfaces that a rollback would need stay guarded.
        self.detach_others(&plan)
    }

    /// Follows a change of the machine. Attaches to configured interfaces that have appeared. If interface
    /// numbers, own addresses or forwarding changed the tables, installs them as a new generation.
    ///
    /// # Errors
    /// [`Problems`] if an interface refuses the program, or the machine does not fit the tables.
    pub fn machine_changed(&mut self) -> Result<()> {
        if self.is_open()? {
            return Ok(());
        }
        let machine = host::look_again(&self.plan.config)?;
        let attached = self.datapath.status()?.interfaces;
        let mut problems = Problems::default();
        let mut unexpected = None;
        for (interface, number) in self.plan.config.interfaces.clone().into_iter().zip(&machine.interfaces) {
            if *number == 0 || attached.iter().any(|attached| attached.ifindex == *number) {
                continue;
            }
            // One at a time: a refusal by one interface must not leave another open.
            let mut plan = Plan::clone(&self.plan);
            plan.config.interfaces = vec![interface];
            match self.take_over(&plan, Duration::ZERO) {
                Ok(()) => {}
                Err(Error::Mistakes(found)) => problems.append(found),
                Err(Error::Unexpected(error)) => unexpected = Some(error),
            }
        }
        let (plan, settings) = (Arc::clone(&self.plan), self.memory.settings.clone());
        if attached.iter().any(|attached| !names(&plan, &attached.interface)) {
            // The tables have to fit all the same.
            if let Err(error) = self.detach_others(&plan) {
                unexpected = Some(error);
            }
        }
        if !self.fit.as_ref().is_some_and(|fit| fit.machine == machine)
            && !self.fits(&plan.input(&settings, &machine)?, &machine)?
        {
            let generation = self.install(&plan, &settings, &machine)?;
            let forwards = if machine.forwards { "forwards" } else { "does not forward" };
            tracing::info!(
                generation,
                forwards = machine.forwards,
                "followed the machine, which {forwards} packets: generation {generation} fits its interfaces and addresses"
            );
            let noted = self
                .follow_traffic()
                .and_then(|moved| if moved { remember(&mut self.datapath, &self.memory) } else { Ok(()) });
            if let Err(error) = noted {
                tracing::warn!("the counters may mix up interfaces: {error:#}");
            }
        }
        self.take_connections_over(&machine)?;
        match unexpected {
            Some(error) => Err(error),
            None => Ok(problems.or(())?),
        }
    }

    /// Frees flows that are over, for a moment. Call it every second.
    ///
    /// # Errors
    /// If a map cannot be read or changed.
    pub fn free_flows(&mut self) -> Result<()> {
        let mut times = self.plan.config.flows.times;
        // What a rollback would bring back must not be gone.
        if let Some((_, back)) = self.memory.trial.running() {
            times = times.longer(back.config.flows.times);
        }
        self.datapath.free_flows(times)?;
        Ok(())
    }

    /// True if the tables in force are those of this input, too.
    fn fits(&mut self, input: &Input, machine: &Machine) -> Result<bool> {
        let compiled = compile(input, &mut self.memory.counters.clone())?;
        let fits = self.fit.as_ref().is_some_and(|fit| fit.is_of(&compiled));
        if fits {
            self.note_fit(&compiled, machine);
        }
        Ok(fits)
    }

    /// Notes the tables in force, and says what they have no room for.
    fn note_fit(&mut self, compiled: &Compiled, machine: &Machine) {
        let before = self.fit.replace(Fit::of(compiled, machine)).map(|fit| fit.left_out);
        if before.unwrap_or_default() != compiled.left_out {
            for warning in self.left_out_warnings() {
                tracing::error!("{warning}");
            }
        }
    }

    /// Waits until the previous generation has judged its last packet. Call it after answering a switch.
    pub fn retire(&mut self) {
        self.datapath.retire();
    }

    /// The sampled drops; only one reader is possible.
    ///
    /// # Errors
    /// If they have a reader already.
    pub fn events(&mut self) -> Result<Events> {
        self.datapath.events()
    }

    /// The log lines of the programs; `None` if logging is off.
    ///
    /// # Errors
    /// If they cannot be polled.
    pub fn program_log(&mut self) -> Result<Option<ProgramLog>> {
        self.datapath.program_log()
    }

    /// Services by port, to describe events.
    #[must_use]
    pub fn services(&self) -> Arc<Services> {
        Arc::clone(&self.services)
    }

    /// The generation installed last, with its names; `None` before the first.
    #[must_use]
    pub fn locator(&self) -> Option<Arc<Locator>> {
        self.locator.clone()
    }

    /// The interfaces of the live configuration.
    #[must_use]
    pub fn guarded(&self) -> Vec<String> {
        self.plan.config.interfaces.iter().map(|interface| interface.name.to_string()).collect()
    }

    /// The users of the agent's socket besides root, from the live configuration.
    #[must_use]
    pub fn api(&self) -> &config::Api {
        &self.plan.config.api
    }

    /// The TCP addresses of the metrics, from the live configuration.
    #[must_use]
    pub fn metrics(&self) -> &[config::Listen] {
        &self.plan.config.metrics
    }

    /// The roles and the mode of each target now.
    #[must_use]
    pub fn target_states(&self) -> Vec<lyncwall_api::TargetState> {
        wire::targets(&self.memory.settings)
    }

    /// The configuration file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.plan.file
    }

    /// What the configuration says about the end of the agent.
    #[must_use]
    pub fn on_exit(&self) -> OnExit {
        self.plan.config.on_exit
    }

    /// Installs the live settings anew, for a changed machine or a new agent. A change that waits for
    /// confirmation keeps waiting.
    fn install(&mut self, plan: &Arc<Plan>, settings: &Settings, machine: &Machine) -> Result<u64> {
        self.install_for(Step::Again, plan, settings, machine)
    }

    /// Stores the state that outlives the agent; compiles, fills a generation and switches to it. The plan,
    /// the memory and the trial follow the switch together.
    fn install_for(
        &mut self,
        step: Step,
        plan: &Arc<Plan>,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<u64> {
        let input: Input = plan.input(settings, machine)?;
        let mut counters = self.memory.counters.clone();
        let compiled = compile(&input, &mut counters)?;
        let reused = counters.must_zero();
        let mut counted_before = self.memory.counted_before.clone();
        if !reused.is_empty() {
            let now = self.datapath.counters()?.rules;
            counted_before
                .extend(reused.into_iter().map(|n| (n, now.get(n as usize).copied().unwrap_or_default())));
        }
        let next = self.datapath.next_generation()?;
        let (trial, hold) = Trial::after(step, next, &self.memory, &self.plan);
        match hold {
            Hold::ForGood | Hold::Until(_) => counters.installed(),
            Hold::Alike => counters.replaced(),
        }
        let native_refused = self.memory.native_refused.clone();
        let memory = Memory {
            settings: settings.clone(),
            file: plan.settings(),
            counters,
            counted_before,
            native_refused,
            flows_forgotten: self.memory.flows_forgotten,
            traffic: self.memory.traffic.clone(),
            trial,
            changes: self.memory.changes.clone(),
            lost: self.memory.lost.clone(),
        };
        // All steps that may fail come before the one store that switches: after it, the new generation
        // judges.
        let generation = match self
            .prepare(&memory, &compiled)
            .and_then(|()| self.datapath.install_for(&compiled, hold))
        {
            Ok(generation) => generation,
            Err(error) => {
                if let Err(error) = remember(&mut self.datapath, &self.memory) {
                    tracing::warn!("the next start may use other settings: {error:#}");
                }
                return Err(error);
            }
        };
        self.memory = memory;
        self.adopt(plan);
        self.note_fit(&compiled, machine);
        self.targets.clone_from(&input.targets);
        // A rollback must still let in the managers of before.
        if !self.memory.trial.runs()
            && let Err(error) = self.datapath.prune_management(&compiled.management)
        {
            tracing::warn!("earlier management sources still get in: {error:#}");
        }
        self.locator = Some(Arc::new(Locator::new(&input, compiled, |rows| plan.catalogue.services(rows))));
        Ok(generation)
    }

    /// Takes over a plan that judges from here on.
    fn adopt(&mut self, plan: &Arc<Plan>) {
        if !Arc::ptr_eq(&self.plan, plan) {
            self.services = Arc::new(Services::of(&plan.catalogue));
            self.plan = Arc::clone(plan);
        }
    }

    fn prepare(&mut self, memory: &Memory, compiled: &Compiled) -> Result<()> {
        remember(&mut self.datapath, memory)?;
        self.datapath.add_management(&compiled.management)
    }

    /// Notes the interfaces with counters: the guarded ones, and the members of bonds, which run the native
    /// program for the bond.
    fn follow_traffic(&mut self) -> Result<bool> {
        let interfaces = self.datapath.status()?.interfaces;
        let is_native = |number: &u32| {
            interfaces.iter().any(|attached| attached.ifindex == *number && attached.mode == Mode::Native)
        };
        let members = interfaces::members()?.into_iter().filter(|(bond, _)| is_native(bond));
        // An interface that has gone meanwhile has no name.
        let members = members.filter_map(|(_, number)| Some((interfaces::name(number)?, number)));
        let guarded = interfaces.iter().map(|attached| (attached.interface.clone(), attached.ifindex));
        let counted: BTreeMap<String, u32> = guarded.chain(members).collect();
        let cells = self.datapath.counters()?.interfaces;
        let counted = counted.iter().map(|(name, number)| (&**name, *number));
        Ok(self.memory.traffic.follow(counted, &cells))
    }

    fn attach(&mut self, plan: &Plan) -> Result<()> {
        let wanted = attach_modes(plan);
        let mut refused = self.memory.native_refused.clone();
        for attached in self.datapath.attach_all(&wanted)? {
            let Attached { interface, mode, replaced, native_refused, .. } = attached;
            // A takeover does not retry native mode: the earlier agent stored the reason.
            if !replaced || mode == Mode::Native {
                refused.remove(&interface);
            }
            match native_refused {
                Some(why) => {
                    tracing::warn!(
                        interface, %mode, why,
                        "attached to {interface} in {mode} mode: the driver refused native mode: {why}"
                    );
                    refused.insert(interface, why);
                }
                None if replaced => {
                    tracing::info!(interface, %mode, "took over {interface} in {mode} mode from an earlier agent");
                }
                None => {
                    tracing::info!(interface, %mode, "attached to {interface} in {mode} mode");
                }
            }
        }
        let refused_others = refused != self.memory.native_refused;
        self.memory.native_refused = refused;
        let moved = self.follow_traffic()?;
        if (refused_others || moved)
            && let Err(error) = remember(&mut self.datapath, &self.memory)
        {
            tracing::warn!("cannot store the interface counters for the next agent: {error:#}");
        }
        Ok(())
    }
}

/// True if a plan names an interface.
fn names(plan: &Plan, interface: &str) -> bool {
    plan.config.interfaces.iter().any(|named| *named.name == *interface)
}

/// The interfaces of a plan, and how to attach to each.
fn attach_modes(plan: &Plan) -> Vec<(&str, Attach)> {
    plan.config.interfaces.iter().map(|interface| (&*interface.name, interface.attach)).collect()
}

/// What holds of the run time under a plan, with a word on roles that the plan's catalogue no longer knows.
fn under(settings: &Settings, file: &Settings, plan: &Plan) -> Settings {
    for target in settings.unknown_under(file, plan) {
        tracing::warn!(
            target,
            "the catalogue no longer has the switched roles of the target {target}: using those of the file"
        );
    }
    settings.under(file, plan)
}

/// Stores the state that outlives the agent.
fn remember(datapath: &mut Datapath, memory: &Memory) -> Result<()> {
    datapath.store_state(&memory::encode(memory)?)
}

/// Ends a start before the wire is touched. If nothing was enforced before, leaves nothing behind.
fn given_up(datapath: Datapath, error: anyhow::Error) -> anyhow::Error {
    match datapath.stored_state() {
        Ok(StoredState::Nothing) if !datapath.judged_before() => removed(datapath, error),
        Ok(_) | Err(_) => error,
    }
}

/// Removes the traces of a failed start.
fn removed(datapath: Datapath, error: anyhow::Error) -> anyhow::Error {
    let left = match datapath.remove() {
        Ok(detached) if detached.failed.is_empty() => return error,
        Ok(detached) => detached.failed.join("; "),
        Err(left) => format!("{left:#}"),
    };
    error.context(format!("and cannot clean up after the failed start: {left}"))
}
