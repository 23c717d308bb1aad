//! The firewall as a whole: the configuration, the run-time settings, and the kernel side that enforces them.

mod blocked;
mod capture;
mod change;
mod change_counts;
mod confirm;
mod explain;
mod guard;
mod preview;
mod report;
mod store;
mod takeover;
mod traffic;
mod trial;
mod usage;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lyncwall_common::abi::{Generation, TargetTable};
use serde::{Deserialize, Serialize};

use crate::wire;
use lyncwall_datapath::host;
use lyncwall_datapath::host::interfaces;
use lyncwall_datapath::{Attach, Attached, Datapath, Detached, Events, Hold, LogLevel, Mode, ProgramLog};
use lyncwall_policy::compile::{Compiled, CounterBook, Input, TargetInput, compile};
use lyncwall_policy::config::{self, OnExit};
use lyncwall_policy::locate::Locator;
use lyncwall_policy::plan::{Machine, Plan, Settings};
use lyncwall_policy::problem::{Error, Problems};
use lyncwall_policy::services::Services;
use store::Origin;
use takeover::Takeover;
use traffic::Traffic;
use trial::{Resumed, Step, Trial};
use usage::Usage;

pub use change_counts::{ChangeCounts, ChangeKind, ChangeResult};
pub use store::Store;

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
    /// The addresses of the box at the last look.
    addresses: Vec<IpAddr>,
    /// Set while connections are picked up midway after an address came over.
    takeover: Option<Takeover>,
    /// The usage of rules.
    usage: Usage,
}

/// The tables that depend on the machine besides the configuration.
struct Fit {
    generation: Generation,
    targets: Option<Box<TargetTable>>,
}

impl Fit {
    fn of(compiled: &Compiled) -> Self {
        Self { generation: compiled.generation, targets: compiled.targets.clone() }
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
        store: Store,
        log: LogLevel,
        ready: impl FnOnce() -> Result<T>,
    ) -> Result<(Self, T)> {
        let looked = host::look(&plan.config);
        let (machine, ready, mut datapath) =
            match (looked, Datapath::open_with(object, pin_dir, plan.config.flows.size, log)) {
                (Ok(machine), Ok(datapath)) => match ready() {
                    Ok(ready) => (machine, ready, datapath),
                    Err(error) => return Err(given_up(datapath, error)),
                },
                (Err(error), Ok(datapath)) => return Err(given_up(datapath, error)),
                (Ok(_), Err(error)) => return Err(error),
                (Err(error), Err(more)) => return Err(Error::from(error).and(more.into()).into()),
            };
        let stored = datapath.load_state()?;
        let fresh = stored.is_none();
        let mut memory = match stored {
            Some(blob) => serde_json::from_slice(&blob)
                .context("reading what an earlier agent stored beside the maps")?,
            None => store.memory(),
        };
        let Resumed { plan, origin, left } = trial::resume(&mut datapath, &mut memory, plan, &store)?;
        let machine = match origin {
            Origin::File => machine,
            Origin::RunTime => host::look_again(&plan.config)?,
        };
        let services = Arc::new(Services::of(&plan.catalogue));
        let settings = under(&memory.settings, &memory.file, &plan);
        let targets = Vec::new();
        let mut usage = Usage::open(store.directory());
        if fresh {
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
            addresses: machine.addresses.clone(),
            takeover: None,
            usage,
        };
        let blocked = if fresh { firewall.block_again() } else { Ok(()) };
        match blocked.and_then(|()| firewall.enforce(&machine, &settings)) {
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
            Err(error) if fresh => Err(removed(firewall.datapath, error)),
            Err(error) => Err(error),
        }
    }

    fn enforce(&mut self, machine: &Machine, settings: &Settings) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        if self.datapath.status()?.interfaces.is_empty() {
            let comparison = self.standing_in_the_way(&plan, settings, machine)?;
            for warning in self.shuts_out(&plan, &comparison) {
                tracing::warn!("{warning}");
            }
            self.install(&plan, settings, machine)?;
            self.take_over(&plan, plan.config.flows.learn)?;
        } else {
            // The old policy judges until all interfaces accept the program.
            self.take_over(&plan, Duration::ZERO)?;
            self.install(&plan, settings, machine)?;
        }
        // Interfaces that a rollback would need stay guarded.
        let back = self.memory.trial.running().map(|(_, plan)| plan);
        let plans = [Some(&plan), back].into_iter().flatten();
        let keep: Vec<&str> =
            plans.flat_map(|plan| &plan.config.interfaces).map(|interface| &*interface.name).collect();
        for interface in self.datapath.detach_interfaces_except(&keep)? {
            tracing::info!(interface, "detached from {interface}: the configuration no longer names it");
        }
        Ok(())
    }

    /// Detaches from interfaces that the configuration does not name.
    fn detach_others(&mut self, plan: &Plan) -> Result<()> {
        let keep: Vec<&str> = plan.config.interfaces.iter().map(|interface| &*interface.name).collect();
        self.datapath.detach_interfaces_except(&keep)?;
        Ok(())
    }

    /// Follows a change of the machine. Attaches to configured interfaces that were created anew. If
    /// interface numbers, own addresses or forwarding changed the tables, installs them as a new generation.
    ///
    /// # Errors
    /// [`Problems`] if an interface refuses the program, or the machine does not fit the tables.
    pub fn machine_changed(&mut self) -> Result<()> {
        let machine = host::look_again(&self.plan.config)?;
        let attached: Vec<u32> =
            self.datapath.status()?.interfaces.iter().map(|attached| attached.ifindex).collect();
        let mut problems = Problems::default();
        let mut unexpected = None;
        for (interface, number) in self.plan.config.interfaces.clone().into_iter().zip(&machine.interfaces) {
            if *number == 0 || attached.contains(number) {
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
        let compiled = compile(&plan.input(&settings, &machine)?, &mut self.memory.counters.clone())?;
        if !self.fit.as_ref().is_some_and(|fit| fit.is_of(&compiled)) {
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

    /// Opens the box: takes the program off all interfaces and removes all maps. The next start restores the
    /// state that survives a reboot.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn remove(self) -> Result<Detached> {
        self.datapath.remove()
    }

    /// Opens the box and forgets the block-list.
    ///
    /// # Errors
    /// Those of [`Firewall::remove`].
    pub fn detach(mut self) -> Result<Detached> {
        self.note_usage();
        let directory = self.store.directory().to_owned();
        let detached = self.datapath.remove()?;
        // The box is open either way.
        if let Err(error) = Self::forget_blocked(&directory) {
            tracing::warn!("the next start will restore the block-list: {error:#}");
        }
        Ok(detached)
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
        self.fit = Some(Fit::of(&compiled));
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
    let blob = serde_json::to_vec(memory).context("encoding the state for the next agent")?;
    datapath.store_state(&blob)
}

/// Ends a start before the wire is touched. If nothing was enforced before, leaves nothing behind.
fn given_up(datapath: Datapath, error: anyhow::Error) -> anyhow::Error {
    match datapath.load_state() {
        Ok(None) => removed(datapath, error),
        Ok(Some(_)) | Err(_) => error,
    }
}

/// Removes the traces of a failed start.
fn removed(datapath: Datapath, error: anyhow::Error) -> anyhow::Error {
    match datapath.remove() {
        Ok(_) => error,
        Err(left) => error.context(format!("and cannot clean up after the failed start: {left:#}")),
    }
}
