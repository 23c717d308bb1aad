//! The block-list: edited while packets are judged by it, one element at a time.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::Ebpf;
use lyncwall_common::abi::{BlockRecord, Until, map};

use super::control::Control;
use super::prefixes::PrefixMaps;
use crate::net::Prefix;
use crate::policy::block_records;

/// The block-list belongs to no generation.
const SET: u32 = 0;

/// The maps, and what they hold.
pub(super) struct BlockList {
    maps: PrefixMaps<BlockRecord>,
    held: BTreeMap<Prefix, BlockRecord>,
}

impl BlockList {
    /// Takes the maps with what an earlier agent left in them.
    pub(super) fn take(ebpf: &mut Ebpf, control: &Control) -> Result<Self> {
        let maps = PrefixMaps::take(ebpf, [map::BLOCKED_V4, map::BLOCKED_V6])?;
        let held: BTreeMap<_, _> =
            maps.entries()?.into_iter().map(|(_, prefix, record)| (prefix, record)).collect();
        // That agent may have been killed between the two.
        control.set_blocking(!held.is_empty());
        Ok(Self { maps, held })
    }

    /// The prefixes, each with its own end.
    pub(super) fn list(&self) -> BTreeMap<Prefix, Until> {
        self.held.iter().map(|(prefix, record)| (*prefix, record.own)).collect()
    }

    /// Makes the list this one. A source that is blocked before and after is so all the time. Where a map cannot be
    /// written, the list is what it was.
    pub(super) fn replace(&mut self, control: &Control, list: &BTreeMap<Prefix, Until>) -> Result<()> {
        let before = self.held.clone();
        let wanted = block_records(list);
        if !wanted.is_empty() {
            control.set_blocking(true);
        }
        let written = self.write(&wanted);
        if written.is_err()
            && let Err(error) = self.write(&before)
        {
            tracing::warn!("the block-list is neither what it was nor what it was to be: {error:#}");
        }
        control.set_blocking(!self.held.is_empty());
        written
    }

    /// What blocks more comes first, what blocks less after that.
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
