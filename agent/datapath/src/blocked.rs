//! The block-list: edited live, one element at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use aya::Ebpf;
use lyncwall_common::abi::{BlockRecord, Until, map};

use super::control::Control;
use super::prefixes::PrefixMaps;
use super::{Datapath, clock};
use lyncwall_policy::compile::block_records;
use lyncwall_policy::net::Prefix;

impl Datapath {
    /// Blocks these prefixes, each for this long or for good, and removes expired entries. A blocked prefix
    /// gets the new time.
    ///
    /// # Errors
    /// If a map cannot be written or the kernel's clock cannot be read. The list is unchanged then.
    pub fn block(&mut self, prefixes: &[(Prefix, Option<Duration>)]) -> Result<()> {
        let now = clock::jiffies(&self.ebpf)?;
        let until = |time| clock::deadline(now, time, self.hz);
        let added = prefixes
            .iter()
            .map(|(prefix, time)| (*prefix, time.map_or(Until::FOR_GOOD, |time| Until(until(time)))));
        let mut list = self.blocked.list();
        list.retain(|_, until| until.lasts(now));
        list.extend(added);
        self.blocked.replace(&self.control, &list)
    }

    /// Removes prefixes and expired entries from the block-list.
    ///
    /// # Errors
    /// As [`Datapath::block`].
    pub fn unblock(&mut self, prefixes: &[Prefix]) -> Result<()> {
        if self.blocked.list().is_empty() {
            return Ok(());
        }
        let now = clock::jiffies(&self.ebpf)?;
        let mut list = self.blocked.list();
        list.retain(|prefix, until| until.lasts(now) && !prefixes.contains(prefix));
        self.blocked.replace(&self.control, &list)
    }

    /// The block-list in the order of its prefixes, each with its remaining time; `None` for good.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn blocked(&self) -> Result<Vec<(Prefix, Option<Duration>)>> {
        let list = self.blocked.list();
        if list.is_empty() {
            return Ok(Vec::new());
        }
        let now = clock::jiffies(&self.ebpf)?;
        let lasting = list.into_iter().filter(|(_, until)| until.lasts(now));
        let left = |until: Until| (until != Until::FOR_GOOD).then(|| clock::left(now, until.0, self.hz));
        Ok(lasting.map(|(prefix, until)| (prefix, left(until))).collect())
    }
}

/// The block-list belongs to no generation.
const SET: u32 = 0;

/// The maps, and a copy of their content.
pub(super) struct BlockList {
    maps: PrefixMaps<BlockRecord>,
    held: BTreeMap<Prefix, BlockRecord>,
}

impl BlockList {
    /// Takes the maps with the entries of an earlier agent.
    pub(super) fn take(ebpf: &mut Ebpf, control: &Control) -> Result<Self> {
        let maps = PrefixMaps::take(ebpf, [map::BLOCKED_V4, map::BLOCKED_V6])?;
        let held: BTreeMap<_, _> =
            maps.entries()?.into_iter().map(|(_, prefix, record)| (prefix, record)).collect();
        // The earlier agent may have been killed between two writes.
        control.set_blocking(!held.is_empty());
        Ok(Self { maps, held })
    }

    /// The prefixes, each with its own end.
    fn list(&self) -> BTreeMap<Prefix, Until> {
        self.held.iter().map(|(prefix, record)| (*prefix, record.own)).collect()
    }

    /// Replaces the list. A source in both the old and the new list stays blocked all the time. If a map
    /// cannot be written, restores the old list.
    fn replace(&mut self, control: &Control, list: &BTreeMap<Prefix, Until>) -> Result<()> {
        let before = self.held.clone();
        let wanted = block_records(list);
        if !wanted.is_empty() {
            control.set_blocking(true);
        }
        let written = self.write(&wanted);
        if written.is_err()
            && let Err(error) = self.write(&before)
        {
            tracing::warn!("the block-list is half changed: {error:#}");
        }
        control.set_blocking(!self.held.is_empty());
        written
    }

    /// Orders the writes: those that block more come first, those that block less after them.
    fn write(&mut self, wanted: &BTreeMap<Prefix, BlockRecord>) -> Result<()> {
        for (prefix, record) in wanted {
            let blocks_more =
                self.held.get(prefix).is_none_or(|held| held.until.or_later(record.until) == record.until);
            if blocks_more {
                self.insert(*prefix, *record)?;
            }
        }
        for (prefix, record) in wanted {
            self.insert(*prefix, *record)?;
        }
        let removed: Vec<Prefix> =
            self.held.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        for prefix in removed {
            self.maps.remove(SET, prefix)?;
            self.held.remove(&prefix);
        }
        Ok(())
    }

    fn insert(&mut self, prefix: Prefix, record: BlockRecord) -> Result<()> {
        if self.held.get(&prefix) != Some(&record) {
            self.maps.insert(SET, prefix, record)?;
            self.held.insert(prefix, record);
        }
        Ok(())
    }
}
