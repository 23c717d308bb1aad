//! The pinned maps without their agent: what they enforce, and the one change that needs no compilation.

use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use lyncwall_common::abi::{
    ABI_VERSION, BlockRecord, CpuRecord, Features, Generation, Live, SourceV4, SourceV6, map,
};
use lyncwall_common::reason::{Action, Reason};

use super::Datapath;
use super::links::{self, Attached};
use super::pins::{self, PinDir};
use super::state::StateMap;
use super::sys::ControlPage;

/// What the kernel enforces below a pin directory, read without an agent.
#[derive(Debug, Clone)]
pub struct Unattended {
    /// Interfaces of this network namespace with the program.
    pub interfaces: Vec<Attached>,
    /// The process that holds the pins, if one does.
    pub holder: Option<i32>,
    /// The version of the maps; `None` if they have none.
    pub version: Option<u32>,
    /// What the maps say; `None` if they are of another version than this program knows.
    pub rules: Option<UnattendedRules>,
}

/// What the maps say.
#[derive(Debug, Clone)]
pub struct UnattendedRules {
    /// The number of the live generation, or of the generation on trial.
    pub generation: u64,
    /// True if all packets but those of blocked sources pass.
    pub audit: bool,
    /// True if the live word has a deadline, passed or not, after which another generation judges.
    pub on_trial: bool,
    /// The agent's own state, as [`Datapath::store_state`] stored it.
    pub state: Option<Vec<u8>>,
    /// Packets passed since the maps were created.
    pub passed: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets dropped because of the block-list.
    pub dropped_blocked: u64,
    /// Entries of the block-list, IPv4 and IPv6, including those that have expired.
    pub blocked: [u32; 2],
}

impl Unattended {
    /// Reads the pins below `pin_dir`; `None` without any map. Changes nothing and takes no lock.
    ///
    /// # Errors
    /// If a pin cannot be read.
    pub fn look(pin_dir: &Path) -> Result<Option<Self>> {
        let Some(pins) = PinDir::unlocked(pin_dir)? else { return Ok(None) };
        let pinned = pins.maps()?;
        if pinned.is_empty() {
            return Ok(None);
        }
        let version = pins.version(&pinned)?;
        Ok(Some(Self {
            interfaces: links::attached(&pins.links_dir())?,
            holder: pins::holder(pin_dir)?,
            version,
            rules: if version == Some(ABI_VERSION) { Some(rules(pin_dir)?) } else { None },
        }))
    }
}

fn rules(pins: &Path) -> Result<UnattendedRules> {
    let control = MapData::from_pin(pins.join(map::CONTROL))
        .with_context(|| format!("opening the map {}", map::CONTROL))?;
    let page = ControlPage::map(control.fd()).with_context(|| format!("mapping {}", map::CONTROL))?;
    let live = Live(page.live.load(Ordering::Acquire));
    let (slot, features) = live.judging(|| 0);
    let generations: Array<MapData, Generation> = open(pins, map::GENERATIONS)?;
    let generation =
        generations.get(&slot, 0).with_context(|| format!("reading the map {}", map::GENERATIONS))?;
    let state = StateMap::new(open(pins, map::STATE)?)?;
    let cpus: PerCpuArray<MapData, CpuRecord> = open(pins, map::CPU)?;
    let cpus = cpus.get(&0, 0).with_context(|| format!("reading the map {}", map::CPU))?;
    let sum = |reason: Reason, action: Action| {
        let counts = cpus.iter().map(|cpu| cpu.reasons[reason as usize][action as usize]);
        counts.fold(0u64, u64::wrapping_add)
    };
    let total = |action| Reason::ALL.iter().map(|reason| sum(*reason, action)).sum();
    let v4: LpmTrie<MapData, SourceV4, BlockRecord> = open(pins, map::BLOCKED_V4)?;
    let v6: LpmTrie<MapData, SourceV6, BlockRecord> = open(pins, map::BLOCKED_V6)?;
    Ok(UnattendedRules {
        generation: generation.number,
        audit: features.has(Features::AUDIT),
        on_trial: live.deadline() != 0,
        state: state.load()?.map(|(_, blob)| blob).filter(|blob| !blob.is_empty()),
        passed: total(Action::Pass),
        dropped: total(Action::Drop),
        dropped_blocked: sum(Reason::Blocked, Action::Drop),
        blocked: [v4.keys().count() as u32, v6.keys().count() as u32],
    })
}

/// Opens a pinned map.
fn open<M: TryFrom<Map, Error = MapError>>(pins: &Path, name: &'static str) -> Result<M> {
    let pinned = MapData::from_pin(pins.join(name)).with_context(|| format!("opening the map {name}"))?;
    let typed = Map::from_map_data(pinned).and_then(M::try_from);
    typed.with_context(|| format!("the map {name} has an unexpected type"))
}

impl Datapath {
    /// Puts the live generation, and the one to fall back to, into audit mode: all packets but those of
    /// blocked sources pass. Until the next generation.
    pub fn audit(&mut self) {
        self.control.set_live(self.control.live().auditing());
    }
}
