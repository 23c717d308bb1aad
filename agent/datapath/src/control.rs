//! The page that the program reads first, with the live word and the management ports; and the management
//! sources.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::Map;
use lyncwall_common::abi::{Capture, Live, ReasonSet, map};

use super::prefixes::PrefixMaps;
use super::sys::ControlPage;
use lyncwall_policy::compile::ManagementTables;
use lyncwall_policy::net::Prefix;

/// Management sources belong to no generation.
const SET: u32 = 0;

/// The live-edited control page and management sources.
pub(super) struct Control {
    page: ControlPage,
    sources: PrefixMaps<u64>,
}

impl Control {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf.take_map(map::CONTROL);
        let map = map.with_context(|| format!("the BPF object has no map {}", map::CONTROL))?;
        let Map::Array(array) = &map else { bail!("the map {} is not an array", map::CONTROL) };
        let page = ControlPage::map(array.fd()).with_context(|| format!("mapping {}", map::CONTROL))?;
        Ok(Self { page, sources: PrefixMaps::take(ebpf, [map::MANAGEMENT_V4, map::MANAGEMENT_V6])? })
    }

    pub(super) fn live(&self) -> Live {
        Live(self.page.live.load(Ordering::Acquire))
    }

    /// The switch: a program that reads the new word sees all earlier writes. Keeps the flag of the
    /// block-list.
    pub(super) fn set_live(&self, live: Live) {
        let live = live.blocking(self.live().is_blocking());
        self.page.live.store(live.0, Ordering::Release);
    }

    /// Sets whether the program looks at the block-list.
    pub(super) fn set_blocking(&self, blocking: bool) {
        self.page.live.store(self.live().blocking(blocking).0, Ordering::Release);
    }

    /// Sets whether the generation in a slot answers packets at closed ports. The slot must judge nothing.
    pub(super) fn set_answering(&self, slot: u32, answers: bool) {
        if answers {
            self.page.answering.fetch_or(1 << slot, Ordering::Release);
        } else {
            self.page.answering.fetch_and(!(1 << slot), Ordering::Release);
        }
    }

    /// Sets whether the program hands out dropped packets, and for which reasons.
    pub(super) fn set_capture(&self, capture: Capture, reasons: ReasonSet) {
        self.page.captured.store(reasons.0, Ordering::Release);
        self.page.capture.store(capture.0, Ordering::Release);
    }

    /// Sets until when the program picks up TCP connections midway, in jiffies; 0 for never.
    pub(super) fn set_learning(&self, until: u64) {
        self.page.learning.store(until, Ordering::Release);
    }

    /// Counts flows that the agent freed.
    pub(super) fn add_freed(&self, flows: u64) {
        self.page.flows_freed.fetch_add(flows, Ordering::AcqRel);
    }

    /// Flows that agents freed since the maps were made.
    pub(super) fn freed(&self) -> u64 {
        self.page.flows_freed.load(Ordering::Acquire)
    }

    /// Adds these sources and ports. A failure removes none.
    pub(super) fn add_management(&mut self, tables: &ManagementTables) -> Result<()> {
        let current = self.management_sources()?;
        for prefix in tables.sources.iter().filter(|prefix| !current.contains(prefix)) {
            self.sources.insert(SET, *prefix, 1)?;
        }
        for (shared, byte) in
            self.page.management.iter().flatten().zip(tables.ports.iter().flat_map(|set| &set.0))
        {
            shared.fetch_or(*byte, Ordering::Release);
        }
        Ok(())
    }

    /// Removes all other sources and ports; these must be present already.
    pub(super) fn prune_management(&mut self, tables: &ManagementTables) -> Result<()> {
        for (shared, byte) in
            self.page.management.iter().flatten().zip(tables.ports.iter().flat_map(|set| &set.0))
        {
            shared.store(*byte, Ordering::Release);
        }
        let wanted: HashSet<_> = tables.sources.iter().copied().collect();
        for prefix in self.management_sources()?.difference(&wanted) {
            self.sources.remove(SET, *prefix)?;
        }
        Ok(())
    }

    fn management_sources(&self) -> Result<HashSet<Prefix>> {
        Ok(self.sources.entries()?.into_iter().map(|(_, prefix, _)| prefix).collect())
    }
}
