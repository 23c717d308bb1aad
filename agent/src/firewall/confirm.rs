//! Changes on trial: without a confirmation the program rolls back by itself, and the agent follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::report::port_changes;
use super::{ChangeResult, Firewall, Memory, remember};
use crate::api;
use crate::datapath::connections;
use crate::datapath::host;
use crate::datapath::{Datapath, Hold};
use crate::plan::{Plan, Settings};
use crate::policy::{Comparison, TargetInput, compile};
use crate::problem::{Error, Problem, Problems};
use crate::services::Services;
use crate::wire;
use lyncwall_policy::connection::Connection;

use super::store::Store;

/// The longest time to wait for a confirmation.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The state to roll back to, as the next agent must know it. The configuration is in the [`Store`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// The waiting generation. It tells whether a live word without a deadline was confirmed.
    generation: u64,
    /// True for a file on trial: its text is in the [`Store`].
    reload: bool,
    pub(super) settings: Settings,
    file: Settings,
}

impl Waiting {
    /// The state to store beside `generation`, for a `reload` or for settings.
    pub(super) fn under(hold: Hold, memory: &Memory, generation: u64, reload: bool) -> Option<Self> {
        match hold {
            Hold::ForGood => None,
            Hold::Until(_) => Some(Self {
                generation,
                reload,
                settings: memory.settings.clone(),
                file: memory.file.clone(),
            }),
            Hold::Alike => memory.waiting.clone().map(|waiting| Self { generation, ..waiting }),
        }
    }
}

/// The state that an agent starts from.
pub(super) struct Resumed {
    pub(super) plan: Plan,
    /// True if `plan` differs from the file.
    pub(super) replaced: bool,
    /// The configuration to roll back to, if a change still waits for confirmation.
    pub(super) before: Option<Plan>,
    /// The configuration on trial, if the program rolled back from it.
    pub(super) left: Option<Plan>,
}

/// Finds out whether an earlier agent's change still waits, was confirmed or was rolled back, and brings
/// `memory` in line with the live policy. `plan` is from the file.
pub(super) fn resume(
    datapath: &mut Datapath,
    memory: &mut Memory,
    plan: Plan,
    store: &Store,
) -> Result<Resumed> {
    let mut left = None;
    if let Some(waiting) = memory.waiting.take() {
        match datapath.time_left()? {
            Some(time) if !time.is_zero() => {
                tracing::warn!(seconds = time.as_secs(), "a change waits for confirmation");
                let before = store.plan(&plan).unwrap_or_else(|| plan.clone());
                // A waiting change continues unaltered, whatever the file says by now.
                let tried = if waiting.reload { store.tried_plan(&plan) } else { Some(before.clone()) };
                let tried = tried.unwrap_or_else(|| plan.clone());
                let replaced = tried.text != plan.text;
                memory.waiting = Some(waiting);
                return Ok(Resumed { plan: tried, replaced, before: Some(before), left });
            }
            // Confirmed, but the agent ended before it could store that.
            None if datapath.live()?.number == waiting.generation => {
                memory.changes.ended(ChangeResult::Confirmed);
                if waiting.reload && store.tried() == Some(&plan.text) {
                    return Ok(Resumed { plan, replaced: false, before: None, left });
                }
            }
            Some(_) | None => {
                datapath.go_back();
                left = if waiting.reload { store.tried_plan(&plan) } else { None };
                memory.settings = waiting.settings;
                memory.file = waiting.file;
                memory.counters.rolled_back();
                memory.changes.ended(ChangeResult::Reverted);
                tracing::warn!("the last change was not confirmed: rolled back");
            }
        }
    }
    match store.before(&plan) {
        Some(before) => {
            tracing::warn!(
                file = %plan.file.display(),
                "the file was refused or not confirmed: the earlier configuration holds until a reload"
            );
            Ok(Resumed { plan: before, replaced: true, before: None, left })
        }
        None => Ok(Resumed { plan, replaced: false, before: None, left }),
    }
}

impl Firewall {
    /// How long a change still waits for confirmation; `None` without one.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn time_left(&self) -> Result<Option<Duration>> {
        match self.before {
            Some(_) => self.datapath.time_left(),
            None => Ok(None),
        }
    }

    /// Follows the program if it rolled back for lack of a confirmation; true if it did. Call it before any
    /// other request to a firewall.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn follow_deadline(&mut self) -> Result<bool> {
        let passed = self.time_left()?.is_some_and(|left| left.is_zero());
        if passed {
            self.return_to_before();
            self.change_ended(ChangeResult::Reverted);
            tracing::warn!(
                generation = self.datapath.live()?.number,
                "nobody confirmed in time: rolled back"
            );
        }
        Ok(passed)
    }

    /// Makes the waiting change hold for good.
    ///
    /// # Errors
    /// A [`Problem`] if no change waits, or its time is over.
    pub fn confirm(&mut self) -> Result<api::Confirmed> {
        if self.time_left()?.is_none_or(|left| left.is_zero()) {
            return Err(Problem::new(
                "no change waits for confirmation: none was made with --confirm, or it is confirmed, or its time is over",
                "`lyncwall status` shows the live rules",
            )
            .into());
        }
        self.datapath.confirm();
        self.before = None;
        // Confirmed settings say nothing about an earlier file on trial.
        let taken = self.memory.waiting.take().is_some_and(|waiting| waiting.reload);
        // The change holds from here on, so later failures are warnings.
        let mut warnings = Vec::new();
        if let Err(error) = self.leave_before() {
            warnings.push(format!("sources of the earlier configuration may still get in: {error:#}"));
        }
        self.memory.changes.ended(ChangeResult::Confirmed);
        warnings.extend(self.keep(taken));
        Ok(api::Confirmed {
            generation: self.datapath.live()?.number,
            targets: wire::targets(&self.memory.settings),
            warnings,
        })
    }

    /// Rolls the waiting change back now.
    ///
    /// # Errors
    /// A [`Problem`] if no change waits.
    pub fn rollback(&mut self) -> Result<api::Switched> {
        let start = Instant::now();
        if self.before.is_none() {
            return Err(Problem::new(
                "nothing to roll back: no change waits for confirmation",
                "to change the roles, use `lyncwall switch ROLE…`",
            )
            .into());
        }
        let (tried, tried_settings) = (self.plan.clone(), self.memory.settings.clone());
        let before = self.return_to_before();
        self.change_ended(ChangeResult::RolledBack);
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (plan, settings) = (self.plan.clone(), &self.memory.settings);
        let (opened, closed) = port_changes(&plan, &before, &self.targets);
        Ok(api::Switched {
            generation: self.datapath.live()?.number,
            mode: wire::mode(settings.mode),
            targets: wire::targets(settings),
            changes: [plan.differences(&tried), settings.mode_changes(&tried_settings)].concat(),
            opened,
            closed,
            micros,
            confirm: None,
            settled: None,
            warnings: self.warnings(&plan, settings)?,
        })
    }

    /// Refuses a change while another one waits.
    pub(super) fn nothing_waits(&self) -> Result<()> {
        match self.time_left()? {
            None => Ok(()),
            Some(left) => Err(Problem::new(
                format!("another change waits for confirmation, for {} s more", left.as_secs()),
                "run `lyncwall confirm` or `lyncwall rollback`, then repeat this",
            )
            .into()),
        }
    }

    /// The hold of a change with this time to confirm, if any.
    pub(super) fn hold(&self, confirm: Option<Duration>) -> Result<Hold> {
        Ok(match confirm {
            None => Hold::ForGood,
            Some(time) => Hold::Until(self.datapath.deadline_in(time)?),
        })
    }

    /// Stores the state that survives a reboot. `taken` is true if the change read the file. Returns a
    /// failure as a warning: the policy holds in any case.
    pub(super) fn keep(&mut self, taken: bool) -> Option<String> {
        let kept = remember(&mut self.datapath, &self.memory)
            .and_then(|()| self.store.confirm(&self.plan, &self.memory, taken));
        let warning = kept.err().map(|error| format!("the next boot may restore other roles: {error:#}"));
        if let Some(warning) = &warning {
            tracing::warn!("{warning}");
        }
        warning
    }

    /// Makes sure that a restart during the trial does not make the trial permanent. Returns the earlier text
    /// on trial.
    pub(super) fn about_to_try(&mut self, plan: &Plan) -> Result<Option<String>> {
        let before = self.store.tried().map(str::to_owned);
        self.store.try_out(&self.plan, &self.memory, Some(plan.text.clone())).map_err(|error| {
            Problem::new(
                format!("cannot store the current configuration to roll back to: {error:#}"),
                "name another directory with --state-dir, or reload without --confirm",
            )
        })?;
        Ok(before)
    }

    /// Undoes [`Firewall::about_to_try`] after a change that failed.
    pub(super) fn not_tried(&mut self, before: Option<String>) {
        if let Err(error) = self.store.try_out(&self.plan, &self.memory, before) {
            tracing::warn!("the next start may ignore the file: {error:#}");
        }
    }

    /// The management sessions that a change cuts: TCP to a port of `[management]`, before or after it.
    ///
    /// # Errors
    /// If the kernel cannot list its sockets.
    pub(super) fn sessions_shut_out(&self, plan: &Plan, comparison: &Comparison) -> Result<Vec<Connection>> {
        let management: Vec<_> =
            [&self.plan, plan].into_iter().filter_map(|plan| plan.config.management.as_ref()).collect();
        let ports = || management.iter().flat_map(|management| &management.tcp);
        let mut sessions = connections::sessions().context("looking for management sessions")?;
        sessions.retain(|session| ports().any(|ports| ports.contains(session.local.port())));
        self.shut_out_of(plan, comparison, sessions)
    }

    /// Refuses a change that cuts such a session.
    ///
    /// # Errors
    /// [`Problems`] that name the sessions.
    pub(super) fn shuts_nobody_out(&self, plan: &Plan, comparison: &Comparison) -> Result<(), Error> {
        let mut problems = Problems::default();
        for Connection { local, remote, .. } in self.sessions_shut_out(plan, comparison)? {
            problems.push(Problem::new(
                format!("the change would cut the management session from {remote} to {local}"),
                "keep its source and port in [management]; or add `--confirm 60s`, and confirm in another session",
            ));
        }
        Ok(problems.or(())?)
    }

    /// Those sessions as warnings, for a change that is made anyway.
    pub(super) fn shuts_out(&self, plan: &Plan, comparison: &Comparison) -> Vec<String> {
        match self.sessions_shut_out(plan, comparison) {
            Ok(sessions) => sessions
                .iter()
                .map(|Connection { local, remote, .. }| {
                    format!("the change cuts the management session from {remote} to {local}")
                })
                .collect(),
            Err(error) => vec![format!("{error:#}")],
        }
    }

    /// Makes the earlier state permanent again, in the kernel and here. Returns the open ports of the targets
    /// until now.
    fn return_to_before(&mut self) -> Vec<TargetInput> {
        self.datapath.go_back();
        // The kernel judges by the earlier state from here on, whatever happens.
        let tried = self.before.take().map(|plan| {
            self.services = Arc::new(Services::of(&plan.catalogue));
            std::mem::replace(&mut self.plan, plan)
        });
        if let Some(waiting) = self.memory.waiting.take() {
            self.memory.settings = waiting.settings;
            self.memory.file = waiting.file;
            self.memory.counters.rolled_back();
        }
        let opened = std::mem::take(&mut self.targets);
        if let Err(error) = self.build_again() {
            tracing::warn!("cannot clean up after the rollback: {error:#}");
        }
        if let Some(tried) = tried {
            self.follow_zones(&tried);
        }
        opened
    }

    /// Installs the earlier policy anew, for a machine that may have changed meanwhile, and without the
    /// trial.
    fn build_again(&mut self) -> Result<()> {
        let (plan, settings) = (self.plan.clone(), self.memory.settings.clone());
        remember(&mut self.datapath, &self.memory)?;
        let machine = host::look_again(&plan.config)?;
        self.targets = plan.input(&settings, &machine)?.targets;
        self.install(&plan, &settings, &machine)?;
        self.detach_others(&plan)?;
        // An interface that was created during the trial is not guarded yet.
        self.machine_changed()
    }

    /// Removes what only the earlier configuration needed.
    fn leave_before(&mut self) -> Result<()> {
        let plan = self.plan.clone();
        let machine = host::look_again(&plan.config)?;
        let input = plan.input(&self.memory.settings, &machine)?;
        let compiled = compile(&input, &mut self.memory.counters.clone())?;
        self.datapath.prune_management(&compiled.management)?;
        self.detach_others(&plan)
    }
}

/// Refuses a time of zero, or too long a one.
pub(super) fn check(confirm: Option<Duration>) -> Result<(), Problem> {
    match confirm {
        Some(time) if time.is_zero() || time > LONGEST => Err(Problem::new(
            format!("{} s is not a valid time to confirm in", time.as_secs()),
            "set --confirm to 1s to 24h, as 60s",
        )),
        Some(_) | None => Ok(()),
    }
}
