//! The block-list: edited live, one element at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use aya::Ebpf;
use lyncwall_common::abi::{BlockRecord, Until, map};

use super::control::Control;
use super::prefixes::PrefixMaps;
use super::{Datapath, clock};
use lyncwall_policy::compile::{BlockChanges, block_changes};
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
        let edits =
            self.blocked.expired(now).chain(added.map(|(prefix, until)| (prefix, Some(until)))).collect();
        self.blocked.edit(&self.control, &edits)
    }

    /// Removes prefixes and expired entries from the block-list.
    ///
    /// # Errors
    /// As [`Datapath::block`].
    pub fn unblock(&mut self, prefixes: &[Prefix]) -> Result<()> {
        if self.blocked.held.is_empty() {
            return Ok(());
        }
        let now = clock::jiffies(&self.ebpf)?;
        let removed = prefixes.iter().map(|prefix| (*prefix, None));
        let edits = self.blocked.expired(now).chain(removed).collect();
        self.blocked.edit(&self.control, &edits)
    }

    /// The block-list in the order of its prefixes, each with its remaining time; `None` for good.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn blocked(&self) -> Result<Vec<(Prefix, Option<Duration>)>> {
        let list = &self.blocked.held;
        if list.is_empty() {
            return Ok(Vec::new());
        }
        let now = clock::jiffies(&self.ebpf)?;
        let lasting = list.iter().filter(|(_, record)| record.own.lasts(now));
        let left = |until: Until| (until != Until::FOR_GOOD).then(|| clock::left(now, until.0, self.hz));
        Ok(lasting.map(|(prefix, record)| (*prefix, left(record.own))).collect())
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

    /// The entries that have expired, as edits that remove them.
    fn expired(&self, now: u64) -> impl Iterator<Item = (Prefix, Option<Until>)> {
        let over = self.held.iter().filter(move |(_, record)| !record.own.lasts(now));
        over.map(|(prefix, _)| (*prefix, None))
    }

    /// Edits the list: prefixes get an end, or leave. A source in both the old and the new list stays blocked
    /// all the time. If a map cannot be written, restores the old list. Writes only what changes: a long list
    /// costs one more prefix nothing.
    fn edit(&mut self, control: &Control, edits: &BTreeMap<Prefix, Option<Until>>) -> Result<()> {
        let wanted = block_changes(&self.held, edits);
        let before = wanted.keys().map(|prefix| (*prefix, self.held.get(prefix).copied())).collect();
        if wanted.values().any(Option::is_some) {
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
    fn write(&mut self, wanted: &BlockChanges) -> Result<()> {
        let kept = || wanted.iter().filter_map(|(prefix, record)| Some((prefix, record.as_ref()?)));
        for (prefix, record) in kept() {
            let blocks_more =
                self.held.get(prefix).is_none_or(|held| held.until.or_later(record.until) == record.until);
            if blocks_more {
                self.insert(*prefix, *record)?;
            }
        }
        for (prefix, record) in kept() {
            self.insert(*prefix, *record)?;
        }
        for prefix in wanted.iter().filter(|(_, record)| record.is_none()).map(|(prefix, _)| prefix) {
            self.maps.remove(SET, *prefix)?;
            self.held.remove(prefix);
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
