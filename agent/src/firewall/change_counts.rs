//! How many changes were asked for, and what became of them. The counts outlive the agent as the packet counters do.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Firewall, remember};
use crate::api;
use crate::problem::Error;

/// What was asked to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// The roles of a target.
    Switch,
    /// The mode of a target, or of the box.
    Mode,
    /// The file was read again.
    Reload,
}

impl ChangeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Switch, Self::Mode, Self::Reload];

    /// As in the command that asks for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Mode => "mode",
            Self::Reload => "reload",
        }
    }
}

/// What became of a change. One that was made and was to be confirmed has a second result later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeResult {
    /// It came to judge.
    Made,
    /// The user's mistake stood in its way.
    Refused,
    /// Something unexpected stood in its way.
    Failed,
    /// It was to be confirmed, and was.
    Confirmed,
    /// It was to be confirmed, and somebody went back.
    RolledBack,
    /// It was to be confirmed, and nobody did in time.
    Reverted,
}

impl ChangeResult {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Made, Self::Refused, Self::Failed, Self::Confirmed, Self::RolledBack, Self::Reverted];

    /// As in the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Confirmed => "confirmed",
            Self::RolledBack => "rolled-back",
            Self::Reverted => "reverted",
        }
    }
}

/// Changes since the maps were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    counts: BTreeMap<ChangeKind, BTreeMap<ChangeResult, u64>>,
    /// What the change is that waits to be confirmed.
    waiting: Option<ChangeKind>,
}

impl ChangeCounts {
    /// How many there were.
    #[must_use]
    pub fn of(&self, kind: ChangeKind, result: ChangeResult) -> u64 {
        self.counts.get(&kind).and_then(|results| results.get(&result)).copied().unwrap_or_default()
    }

    /// Counts one.
    pub fn count(&mut self, kind: ChangeKind, result: ChangeResult) {
        *self.counts.entry(kind).or_default().entry(result).or_default() += 1;
    }

    /// Counts what became of the change that waited. Nothing where it was made by an agent that did not count.
    pub(super) fn ended(&mut self, result: ChangeResult) {
        if let Some(kind) = self.waiting.take() {
            self.count(kind, result);
        }
    }
}

impl Firewall {
    /// Changes since the maps were made.
    #[must_use]
    pub fn changes(&self) -> ChangeCounts {
        self.memory.changes.clone()
    }

    /// Makes a change, and counts it. `waits` says that it is to be confirmed.
    pub(super) fn counted(
        &mut self,
        kind: ChangeKind,
        waits: bool,
        change: impl FnOnce(&mut Self) -> Result<api::Switched>,
    ) -> Result<api::Switched> {
        let changed = change(self).map_err(Error::from);
        let result = match &changed {
            Ok(_) => {
                self.memory.changes.waiting = waits.then_some(kind);
                ChangeResult::Made
            }
            Err(Error::Mistakes(_)) => ChangeResult::Refused,
            Err(Error::Unexpected(_)) => ChangeResult::Failed,
        };
        self.memory.changes.count(kind, result);
        self.remember_changes();
        Ok(changed?)
    }

    /// Counts what became of the change that waited.
    pub(super) fn change_ended(&mut self, result: ChangeResult) {
        self.memory.changes.ended(result);
        self.remember_changes();
    }

    fn remember_changes(&mut self) {
        if let Err(error) = remember(&mut self.datapath, &self.memory) {
            tracing::warn!("the next agent may not know how many changes there were: {error:#}");
        }
    }
}
