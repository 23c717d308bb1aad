//! Counts changes and their results. The counts outlive the agent, like the packet counters.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Firewall, remember};
use lyncwall_api as api;
use lyncwall_policy::problem::Error;

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// The roles of a target.
    Switch,
    /// The mode of a target, or of the box.
    Mode,
    /// A reload of the file.
    Reload,
}

impl ChangeKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Switch, Self::Mode, Self::Reload];

    /// The word of the command.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Mode => "mode",
            Self::Reload => "reload",
        }
    }
}

/// The result of a change. A change with --confirm has a second result later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeResult {
    /// The change became live.
    Made,
    /// Refused for a mistake of the user.
    Refused,
    /// Failed unexpectedly.
    Failed,
    /// Confirmed in time.
    Confirmed,
    /// Rolled back on request.
    RolledBack,
    /// Rolled back after the time to confirm.
    Reverted,
}

impl ChangeResult {
    /// All results.
    pub const ALL: [Self; 6] =
        [Self::Made, Self::Refused, Self::Failed, Self::Confirmed, Self::RolledBack, Self::Reverted];

    /// The word in the metrics.
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

/// Changes since the maps were created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    counts: BTreeMap<ChangeKind, BTreeMap<ChangeResult, u64>>,
    /// The kind of the change that waits for confirmation.
    waiting: Option<ChangeKind>,
}

impl ChangeCounts {
    /// The counts by kind and result.
    #[must_use]
    pub fn of(&self, kind: ChangeKind, result: ChangeResult) -> u64 {
        self.counts.get(&kind).and_then(|results| results.get(&result)).copied().unwrap_or_default()
    }

    /// Counts one change.
    pub fn count(&mut self, kind: ChangeKind, result: ChangeResult) {
        *self.counts.entry(kind).or_default().entry(result).or_default() += 1;
    }

    /// Counts the result of the waiting change; nothing if an agent without these counts made it.
    pub(super) fn ended(&mut self, result: ChangeResult) {
        if let Some(kind) = self.waiting.take() {
            self.count(kind, result);
        }
    }
}

impl Firewall {
    /// Changes since the maps were created.
    #[must_use]
    pub fn changes(&self) -> ChangeCounts {
        self.memory.changes.clone()
    }

    /// Makes a change, and counts it. `waits` is true for a change with --confirm.
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

    /// Counts the result of the waiting change.
    pub(super) fn change_ended(&mut self, result: ChangeResult) {
        self.memory.changes.ended(result);
        self.remember_changes();
    }

    fn remember_changes(&mut self) {
        if let Err(error) = remember(&mut self.datapath, &self.memory) {
            tracing::warn!("cannot store the counts of changes for the next agent: {error:#}");
        }
    }
}
