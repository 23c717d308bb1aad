//! The firewall as a whole: what the file says, what holds at run time, and the kernel side that enforces it.

mod blocked;
mod capture;
mod change;
mod change_counts;
mod confirm;
mod explain;
mod failover;
mod preview;
mod report;
mod store;
mod takeover;
mod traffic;
mod usage;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lyncwall_common::abi::{Generation, TargetTable};
use serde::{Deserialize, Serialize};

use crate::config::{self, OnExit};
use crate::datapath::host;
use crate::datapath::host::interfaces;
use crate::datapath::{Attach, Attached, Datapath, Detached, Events, Hold, LogLevel, Mode, ProgramLog};
use crate::plan::{Machine, Plan, Settings};
use crate::policy::{Compiled, CounterBook, Input, Locator, TargetInput, compile};
use crate::problem::{Error, Problems};
use crate::services::Services;
use confirm::{Waiting, resume};
use failover::Takeover;
use traffic::Traffic;
use usage::Usage;

pub use change_counts::{ChangeCounts, ChangeKind, ChangeResult};
pub use store::Store;

/// A firewall that enforces.
pub struct Firewall {
    plan: Plan,
    services: Arc<Services>,
    datapath: Datapath,
    memory: Memory,
    /// What the targets open, as compiled last.
    targets: Vec<TargetInput>,
    /// What outlives a reboot.
    store: Store,
    /// The configuration to go back to, while a change waits to be confirmed.
    before: Option<Plan>,
    /// What was installed last and depends on the machine.
    fit: Option<Fit>,
    /// The same with its names, to tell of packets.
    locator: Option<Arc<Locator>>,
    /// The addresses that the box had when it was looked at last.
    addresses: Vec<IpAddr>,
    /// While connections are picked up that came over with an address.
    takeover: Option<Takeover>,
    /// Which rules are used.
    usage: Usage,
}

/// The tables that depend on the machine, and not on the configuration alone.
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

/// What outlives the agent, beside the maps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Memory {
    /// What holds at run time.
    settings: Settings,
    /// What the file said when that was set: where the file has changed since, it wins.
    file: Settings,
    /// Which rule each counter counts for.
    counters: CounterBook,
    /// What a counter that was given to a new rule stood at.
    counted_before: BTreeMap<u32, u64>,
    /// Why a driver did not take the program, by the interfaces that are in generic mode for it.
    #[serde(default)]
    native_refused: BTreeMap<String, String>,
    /// Flows that were taken out of the tables again.
    #[serde(default)]
    flows_forgotten: u64,
    /// Which of the program's cells count for which interface.
    #[serde(default)]
    traffic: Traffic,
    /// What comes back where nobody confirms the settings above.
    #[serde(default)]
    waiting: Option<Waiting>,
    /// How many changes there were.
    #[serde(default)]
    changes: ChangeCounts,
}

impl Firewall {
    /// Loads the program, or adopts what an earlier agent left, and enforces `plan`. `ready` is called before the wire is
    /// touched, once nothing that can be seen beforehand stands in the way, and may stop the start there. `log` says which lines the
    /// program writes.
    ///
    /// # Errors
    /// [`Problems`] for what the user can mend. Nothing has changed on the wire then: an earlier agent's policy goes on
    /// being enforced, and a box that was open stays so. Those of `ready`, likewise.
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
        let confirm::Resumed { plan, replaced, before, left } =
            resume(&mut datapath, &mut memory, plan, &store)?;
        let machine = if replaced { host::look_again(&plan.config)? } else { machine };
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
            before,
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
                if firewall.before.is_none() {
                    firewall.keep(!replaced);
                }
                firewall.note_usage();
                Ok((firewall, ready))
            }
            Err(error) if fresh => Err(removed(firewall.datapath, error)),
            Err(error) => Err(error),
        }
    }

    fn enforce(&mut self, machine: &Machine, settings: &Settings) -> Result<()> {
        let plan = self.plan.clone();
        if self.datapath.status()?.interfaces.is_empty() {
            let comparison = self.standing_in_the_way(&plan, settings, machine)?;
            for warning in self.shuts_out(&plan, &comparison) {
                tracing::warn!("{warning}");
            }
            self.install(&plan, settings, machine)?;
            self.take_over(&plan, plan.config.flows.learn)?;
        } else {
            // The old policy judges until all interfaces are known to take the program.
            self.take_over(&plan, Duration::ZERO)?;
            self.install(&plan, settings, machine)?;
        }
        // What a change that waits may go back to stays guarded.
        let plans = [Some(&plan), self.before.as_ref()].into_iter().flatten();
        let keep: Vec<&str> =
            plans.flat_map(|plan| &plan.config.interfaces).map(|interface| &*interface.name).collect();
        for interface in self.datapath.detach_interfaces_except(&keep)? {
            tracing::info!(interface, "detached: the configuration no longer names it");
        }
        Ok(())
    }

    /// Detaches from interfaces that the configuration does not name.
    fn detach_others(&mut self, plan: &Plan) -> Result<()> {
        let keep: Vec<&str> = plan.config.interfaces.iter().map(|interface| &*interface.name).collect();
        self.datapath.detach_interfaces_except(&keep)?;
        Ok(())
    }

    /// Goes by the machine as it is now. Attaches to interfaces of the configuration that are there and not enforced on:
    /// they were destroyed and made again. Where the tables would be others, for the numbers of interfaces, the box's own
    /// addresses or forwarding, a new generation takes them over.
    ///
    /// # Errors
    /// [`Problems`] where an interface does not take the program, or the machine does not fit the tables.
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
            // One by one: that one refuses must leave no other open.
            let mut plan = self.plan.clone();
            plan.config.interfaces = vec![interface];
            match self.take_over(&plan, Duration::ZERO) {
                Ok(()) => {}
                Err(Error::Mistakes(found)) => problems.append(found),
                Err(Error::Unexpected(error)) => unexpected = Some(error),
            }
        }
        let (plan, settings) = (self.plan.clone(), self.memory.settings.clone());
        let compiled = compile(&plan.input(&settings, &machine)?, &mut self.memory.counters.clone())?;
        if !self.fit.as_ref().is_some_and(|fit| fit.is_of(&compiled)) {
            let generation = self.install(&plan, &settings, &machine)?;
            tracing::info!(generation, forwards = machine.forwards, "followed the machine");
            let noted = self
                .follow_traffic()
                .and_then(|moved| if moved { remember(&mut self.datapath, &self.memory) } else { Ok(()) });
            if let Err(error) = noted {
                tracing::warn!("packets by interface may be counted for another: {error:#}");
            }
        }
        self.take_connections_over(&machine)?;
        match unexpected {
            Some(error) => Err(error),
            None => Ok(problems.or(())?),
        }
    }

    /// Waits until the generation before has judged its last packet. For after a switch was answered.
    pub fn retire(&mut self) {
        self.datapath.retire();
    }

    /// The sampled drops; there is one reader.
    ///
    /// # Errors
    /// Where they have a reader already.
    pub fn events(&mut self) -> Result<Events> {
        self.datapath.events()
    }

    /// The lines that the programs write into the log; `None` where none were asked for.
    ///
    /// # Errors
    /// Where they cannot be waited for.
    pub fn program_log(&mut self) -> Result<Option<ProgramLog>> {
        self.datapath.program_log()
    }

    /// Services by port, as events are told with.
    #[must_use]
    pub fn services(&self) -> Arc<Services> {
        Arc::clone(&self.services)
    }

    /// The generation that was installed last, with its names; `None` before the first.
    #[must_use]
    pub fn locator(&self) -> Option<Arc<Locator>> {
        self.locator.clone()
    }

    /// The interfaces of the configuration that judges.
    #[must_use]
    pub fn guarded(&self) -> Vec<String> {
        self.plan.config.interfaces.iter().map(|interface| interface.name.to_string()).collect()
    }

    /// Who may use the agent's socket besides root, as the configuration that judges has it.
    #[must_use]
    pub fn api(&self) -> &config::Api {
        &self.plan.config.api
    }

    /// Where metrics are served by TCP, as that configuration has it.
    #[must_use]
    pub fn metrics(&self) -> &[config::Listen] {
        &self.plan.config.metrics
    }

    /// What the configuration says of the end of the agent.
    #[must_use]
    pub fn on_exit(&self) -> OnExit {
        self.plan.config.on_exit
    }

    /// Opens the box: takes the program off all interfaces and removes all maps. The next start takes what outlives a
    /// reboot.
    ///
    /// # Errors
    /// Where a pin cannot be removed.
    pub fn remove(self) -> Result<Detached> {
        self.datapath.remove()
    }

    /// The same, and forgets the block-list.
    ///
    /// # Errors
    /// As [`Firewall::remove`].
    pub fn detach(mut self) -> Result<Detached> {
        self.note_usage();
        let directory = self.store.directory().to_owned();
        let detached = self.datapath.remove()?;
        // The box is open either way.
        if let Err(error) = Self::forget_blocked(&directory) {
            tracing::warn!("the next start brings the block-list back: {error:#}");
        }
        Ok(detached)
    }

    /// Installs what holds already for a machine that has changed, or for a new agent: a change that waits to be
    /// confirmed goes on waiting.
    fn install(&mut self, plan: &Plan, settings: &Settings, machine: &Machine) -> Result<u64> {
        let hold = if self.before.is_some() { Hold::Alike } else { Hold::ForGood };
        self.install_for(plan, settings, machine, (hold, false))
    }

    /// Stores what is to outlive the agent; compiles, fills a generation and switches to it.
    fn install_for(
        &mut self,
        plan: &Plan,
        settings: &Settings,
        machine: &Machine,
        (hold, reload): (Hold, bool),
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
            waiting: Waiting::under(hold, &self.memory, self.datapath.next_generation()?, reload),
            changes: self.memory.changes.clone(),
        };
        // All that may fail comes before the one store that switches: after it, the new generation judges.
        let generation = match self
            .prepare(&memory, &compiled)
            .and_then(|()| self.datapath.install_for(&compiled, hold))
        {
            Ok(generation) => generation,
            Err(error) => {
                if let Err(error) = remember(&mut self.datapath, &self.memory) {
                    tracing::warn!("the next start may take other settings: {error:#}");
                }
                return Err(error);
            }
        };
        self.memory = memory;
        self.fit = Some(Fit::of(&compiled));
        self.targets.clone_from(&input.targets);
        // Who could manage the box before must be able to where the program goes back.
        if self.memory.waiting.is_none()
            && let Err(error) = self.datapath.prune_management(&compiled.management)
        {
            tracing::warn!("earlier management sources are still let in: {error:#}");
        }
        self.locator = Some(Arc::new(Locator::new(&input, compiled, |rows| plan.catalogue.services(rows))));
        Ok(generation)
    }

    fn prepare(&mut self, memory: &Memory, compiled: &Compiled) -> Result<()> {
        remember(&mut self.datapath, memory)?;
        self.datapath.add_management(&compiled.management)
    }

    /// Takes notice of the interfaces that packets are counted at: those that are guarded, and the members of bonds, which run a
    /// bond's native program in its place.
    fn follow_traffic(&mut self) -> Result<bool> {
        let interfaces = self.datapath.status()?.interfaces;
        let is_native = |number: &u32| {
            interfaces.iter().any(|attached| attached.ifindex == *number && attached.mode == Mode::Native)
        };
        let members = interfaces::members()?.into_iter().filter(|(bond, _)| is_native(bond));
        // One that has gone meanwhile has no name.
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
            // Who takes over does not try again, and knows from the agent before.
            if !replaced || mode == Mode::Native {
                refused.remove(&interface);
            }
            match native_refused {
                Some(why) => {
                    tracing::warn!(interface, %mode, why, "attached in generic mode: the driver refused");
                    refused.insert(interface, why);
                }
                None if replaced => {
                    tracing::info!(interface, %mode, "took over");
                }
                None => {
                    tracing::info!(interface, %mode, "attached");
                }
            }
        }
        let refused_others = refused != self.memory.native_refused;
        self.memory.native_refused = refused;
        let moved = self.follow_traffic()?;
        if (refused_others || moved)
            && let Err(error) = remember(&mut self.datapath, &self.memory)
        {
            tracing::warn!("the next agent may not know what this one saw of the interfaces: {error:#}");
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
        tracing::warn!(target, "the catalogue no longer knows the roles of the run time: the file's hold");
    }
    settings.under(file, plan)
}

/// Stores what outlives the agent.
fn remember(datapath: &mut Datapath, memory: &Memory) -> Result<()> {
    let blob = serde_json::to_vec(memory).context("writing down what outlives the agent")?;
    datapath.store_state(&blob)
}

/// Ends a start before the wire was touched. Where nothing was enforced before, nothing is to be left behind.
fn given_up(datapath: Datapath, error: anyhow::Error) -> anyhow::Error {
    match datapath.load_state() {
        Ok(None) => removed(datapath, error),
        Ok(Some(_)) | Err(_) => error,
    }
}

/// Takes away what a failed start made.
fn removed(datapath: Datapath, error: anyhow::Error) -> anyhow::Error {
    match datapath.remove() {
        Ok(_) => error,
        Err(left) => error.context(format!("and what the failed start made is left: {left:#}")),
    }
}
