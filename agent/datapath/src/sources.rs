//! Sets of source prefixes, shared by generations with equal sources.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use lyncwall_common::abi::{SLOTS, SourceRecord, map};

use super::prefixes::PrefixMaps;
use lyncwall_policy::net::Prefix;

/// The content of one set.
type Set = BTreeMap<Prefix, SourceRecord>;

/// The sets, as many as there are slots.
pub(super) struct SourceSets {
    maps: PrefixMaps<SourceRecord>,
    /// The content in the kernel.
    held: [Set; SLOTS as usize],
}

impl SourceSets {
    /// Takes the maps, and reads the sets: the kernel's content counts, whichever agent wrote it.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let maps = PrefixMaps::<SourceRecord>::take(ebpf, [map::SOURCES_V4, map::SOURCES_V6])?;
        let mut held: [Set; SLOTS as usize] = Default::default();
        for (set, prefix, record) in maps.entries()? {
            let set = held.get_mut(set as usize).with_context(|| format!("{prefix} is in the set {set}"))?;
            set.insert(prefix, record);
        }
        Ok(Self { maps, held })
    }

    /// The number of a set with exactly these sources. Reuses a set that has them; else changes a set that is
    /// not in `used`, writing only differences. Calls `after_write` with the map after each write; an error
    /// from it stops the change.
    pub(super) fn provide(
        &mut self,
        used: &[u32],
        wanted: &[(Prefix, SourceRecord)],
        after_write: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<u32> {
        let wanted: Set = wanted.iter().copied().collect();
        let mut numbered = (0..).zip(&self.held);
        if let Some((set, _)) = numbered.find(|(_, held)| **held == wanted) {
            return Ok(set);
        }
        let set = (0..SLOTS).find(|set| !used.contains(set)).context("no set of sources is free")?;
        self.fill(set, &wanted, after_write)?;
        Ok(set)
    }

    fn fill(
        &mut self,
        set: u32,
        wanted: &Set,
        after_write: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        let held = &mut self.held[set as usize];
        let gone: Vec<Prefix> = held.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        for prefix in gone {
            self.maps.remove(set, prefix)?;
            held.remove(&prefix);
            after_write(self.maps.name(prefix))?;
        }
        for (prefix, record) in wanted {
            if held.get(prefix) != Some(record) {
                self.maps.insert(set, *prefix, *record)?;
                held.insert(*prefix, *record);
                after_write(self.maps.name(*prefix))?;
            }
        }
        Ok(())
    }
}
