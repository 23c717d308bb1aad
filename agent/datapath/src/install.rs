//! Generations: written into a slot that judges nothing, then made live by one word.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use lyncwall_common::abi::{
    AllowTable, Features, Generation, Live, MAX_POLICIES, NO_COUNTER, NO_POLICY, PolicyTable, PortTransport,
    SLOTS, TargetTable, VlanTable, ZONES, map, policy_index, vlans_index,
};

use super::control::Control;
use super::load::take;
use super::sources::SourceSets;
use super::sys;
use lyncwall_policy::compile::Compiled;

/// The live generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveGeneration {
    /// Its slot.
    pub slot: u32,
    /// Its number; 0 before the first generation, which drops everything but management.
    pub number: u64,
    /// True if it drops nothing.
    pub audit: bool,
    /// True if it enforces everything: no target and no other packet is only audited.
    pub enforces: bool,
    /// Jiffies after which the program rolls back to the previous generation; 0 for never.
    pub deadline: u64,
}

/// How long a generation holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Until the next one.
    ForGood,
    /// Until this deadline in jiffies, after which the current generation is live again.
    Until(u64),
    /// As long as the one that it replaces: with its deadline and its fallback.
    Alike,
}

/// The generation-scoped maps.
pub(super) struct Generations {
    generations: Array<MapData, Generation>,
    targets: Array<MapData, TargetTable>,
    vlans: Array<MapData, VlanTable>,
    policies: Array<MapData, PolicyTable>,
    allow: Array<MapData, AllowTable>,
    sources: SourceSets,
    slots: [Slot; SLOTS as usize],
}

/// The state of a slot.
struct Slot {
    /// True if no packet can still be judged by it, once it is not live.
    quiet: bool,
}

impl Generations {
    /// Takes the maps, and reads their slots: the kernel's content counts, whichever agent wrote it.
    ///
    /// For maps of another agent (`adopted`), the time of the last switch is unknown.
    pub(super) fn take(ebpf: &mut Ebpf, adopted: bool) -> Result<Self> {
        Ok(Self {
            generations: take(ebpf, map::GENERATIONS)?,
            targets: take(ebpf, map::TARGETS)?,
            vlans: take(ebpf, map::VLANS)?,
            policies: take(ebpf, map::POLICIES)?,
            allow: take(ebpf, map::ALLOW)?,
            sources: SourceSets::take(ebpf)?,
            slots: std::array::from_fn(|_| Slot { quiet: !adopted }),
        })
    }

    /// The live generation at `now`, in jiffies.
    pub(super) fn live(&self, control: &Control, now: u64) -> Result<LiveGeneration> {
        let live = control.live();
        let (slot, features) = live.judging(|| now);
        Ok(LiveGeneration {
            slot,
            number: self.generation(slot)?.number,
            audit: features.has(Features::AUDIT),
            enforces: !features.has(Features::AUDIT) && !features.has(Features::MODES),
            deadline: live.deadline(),
        })
    }

    /// The number that the next generation gets.
    pub(super) fn next_number(&self) -> Result<u64> {
        let mut number = 0;
        for slot in 0..SLOTS {
            number = number.max(self.generation(slot)?.number + 1);
        }
        Ok(number)
    }

    /// Writes a free slot and makes it live. Calls `after_write` with the map after each write; an error from
    /// it stops the installation.
    pub(super) fn install(
        &mut self,
        control: &Control,
        compiled: &Compiled,
        hold: Hold,
        after_write: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<u64> {
        check(compiled)?;
        let slot = self.free_slot(control)?;
        let number = self.next_number()?;
        self.fill(slot, number, compiled, after_write)
            .with_context(|| format!("installing generation {number}; the previous one stays live"))?;
        control.set_answering(slot, compiled.generation.answers != 0);
        let live = control.live();
        let features = compiled.features;
        let word = match hold {
            Hold::ForGood => Live::new(slot, features),
            Hold::Until(deadline) => {
                let (before, before_features) = live.judging(|| 0);
                Live::with_fallback(slot, features, before, before_features, deadline)
            }
            // Without a deadline there is nothing to roll back to.
            Hold::Alike if live.deadline() == 0 => Live::new(slot, features),
            Hold::Alike => {
                let (before, before_features) = live.judging(|| u64::MAX);
                Live::with_fallback(slot, features, before, before_features, live.deadline())
            }
        };
        self.store(control, word);
        Ok(number)
    }

    /// Removes the deadline, so that the waiting generation holds for good.
    pub(super) fn confirm(&mut self, control: &Control) {
        let (slot, features) = control.live().judging(|| 0);
        self.store(control, Live::new(slot, features));
    }

    /// Makes the previous generation permanent, as if the deadline had passed. Does nothing without a
    /// deadline.
    pub(super) fn go_back(&mut self, control: &Control) {
        let (slot, features) = control.live().judging(|| u64::MAX);
        self.store(control, Live::new(slot, features));
    }

    /// Stores the live word. Packets under way may still read the retired slots.
    fn store(&mut self, control: &Control, word: Live) {
        let live = control.live();
        for slot in [live.slot(), live.fallback()] {
            if let Some(slot) = self.slots.get_mut(slot as usize) {
                slot.quiet = false;
            }
        }
        control.set_live(word);
    }

    /// Waits until no packet is judged by a retired slot.
    pub(super) fn retire(&mut self, control: &Control) {
        let live = control.live();
        let used = |slot: usize| slot == live.slot() as usize || slot == live.fallback() as usize;
        if (0..self.slots.len()).all(|slot| used(slot) || self.slots[slot].quiet) {
            return;
        }
        if let Err(error) = sys::wait_for_running_programs() {
            // The kernel has no such barrier with tickless CPUs (nohz_full). A program runs for microseconds,
            // so a second is long enough.
            tracing::debug!(%error, "no membarrier: waiting a second for running programs");
            thread::sleep(Duration::from_secs(1));
        }
        for (number, slot) in self.slots.iter_mut().enumerate() {
            slot.quiet = !used(number);
        }
        for slot in (0..SLOTS).filter(|slot| !used(*slot as usize)) {
            control.set_answering(slot, false);
        }
    }

    /// A slot that is not live, now or after a deadline.
    fn free_slot(&mut self, control: &Control) -> Result<u32> {
        let live = control.live();
        let free = |slot: &u32| *slot != live.slot() && *slot != live.fallback();
        if !(0..SLOTS).filter(free).any(|slot| self.slots[slot as usize].quiet) {
            self.retire(control);
        }
        (0..SLOTS).filter(free).find(|slot| self.slots[*slot as usize].quiet).context("no slot is free")
    }

    fn fill(
        &mut self,
        slot: u32,
        number: u64,
        compiled: &Compiled,
        after_write: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        if let Some(targets) = &compiled.targets {
            self.targets.set(slot, targets.as_ref(), 0).with_context(|| writing(map::TARGETS, slot))?;
            after_write(map::TARGETS)?;
        }
        for (number, table) in (0..).zip(&compiled.vlans) {
            let index = vlans_index(slot, number);
            self.vlans.set(index, table.as_ref(), 0).with_context(|| writing(map::VLANS, slot))?;
            after_write(map::VLANS)?;
        }
        // Policies of an earlier generation beyond these numbers stay: nothing refers to them.
        for (policy, tables) in (0..).zip(&compiled.policies) {
            for (transport, table) in PortTransport::ALL.into_iter().zip(tables) {
                let index = policy_index(slot, policy, transport);
                self.policies.set(index, table.as_ref(), 0).with_context(|| writing(map::POLICIES, slot))?;
                after_write(map::POLICIES)?;
            }
        }
        if let Some(allow) = &compiled.allow {
            self.allow.set(slot, allow.as_ref(), 0).with_context(|| writing(map::ALLOW, slot))?;
            after_write(map::ALLOW)?;
        }
        let mut used = Vec::new();
        for other in (0..SLOTS).filter(|other| *other != slot) {
            used.push(self.generation(other)?.sources);
        }
        let sources = self.sources.provide(&used, &compiled.sources, after_write)?;
        let generation = Generation { number, sources, ..compiled.generation };
        self.generations.set(slot, generation, 0).with_context(|| writing(map::GENERATIONS, slot))?;
        after_write(map::GENERATIONS)
    }

    fn generation(&self, slot: u32) -> Result<Generation> {
        self.generations
            .get(&slot, 0)
            .with_context(|| format!("reading slot {slot} of the map {}", map::GENERATIONS))
    }
}

fn writing(map: &'static str, slot: u32) -> String {
    format!("writing slot {slot} of the map {map}")
}

/// Checks what the program relies on. Only the targets refer to policies, so this check also keeps stale
/// policies of a reused slot out of reach.
fn check(compiled: &Compiled) -> Result<()> {
    let features = compiled.features;
    let policies = compiled.policies.len();
    ensure!(policies <= MAX_POLICIES as usize, "{policies} policies, but at most {MAX_POLICIES} fit");
    ensure!(
        features.has(Features::TARGETS) == compiled.targets.is_some(),
        "the feature bit and the table of targets contradict each other"
    );
    ensure!(
        features.has(Features::ALLOW) == compiled.allow.is_some(),
        "the feature bit and the table of allow rules contradict each other"
    );
    if let Some(allow) = &compiled.allow {
        let rules = allow.classes.iter().fold(0, |all, class| all | class);
        let uncounted =
            (0..64).zip(&allow.counters).any(|(n, counter)| rules >> n & 1 != 0 && *counter == NO_COUNTER);
        ensure!(!uncounted, "an allow rule has no counter: the program would ignore it");
    }
    let grouped =
        compiled.policies.iter().flatten().flat_map(|table| &table.classes).any(|class| class.groups != 0);
    ensure!(
        features.has(Features::GROUPS) == grouped,
        "the feature bit and the groups of the open ports contradict each other"
    );
    ensure!(
        features.has(Features::MODES) == (compiled.generation.audit != 0),
        "the feature bit and the modes of the policies contradict each other"
    );
    let interfaces = compiled.generation.interfaces;
    ensure!(
        interfaces.iter().all(|interface| usize::from(interface.vlans) <= compiled.vlans.len())
            && interfaces.iter().all(|interface| usize::from(interface.zone) < ZONES),
        "an interface has an unknown zone or VLAN table"
    );
    ensure!(
        features.has(Features::ZONES)
            || interfaces.iter().all(|interface| interface.zone == 0 && interface.vlans == 0),
        "the feature bit and the zones of the interfaces contradict each other"
    );
    let known = |policy: u32| policy == NO_POLICY || (policy as usize) < policies;
    match &compiled.targets {
        None => ensure!(policies > 0, "policy 0 is for every destination, but there is no policy"),
        Some(targets) => ensure!(
            targets
                .entries
                .iter()
                .flat_map(|entry| entry.zones)
                .chain(targets.zones.iter().flat_map(|zone| [zone.others, zone.groups]))
                .all(|code| known(code.target().policy)),
            "a target has a policy beyond the last of {policies}"
        ),
    }
    Ok(())
}
