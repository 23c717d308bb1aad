//! Changes that hold only where somebody confirms them: the program goes back by itself, and the agent follows.

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

/// What comes back where nobody confirms, as the next agent must know it. The configuration is in the [`Store`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// The generation that waits. Where the live word has no deadline, it tells whether that one was confirmed.
    generation: u64,
    /// True where a file is tried: its text is in the [`Store`].
    reload: bool,
    pub(super) settings: Settings,
    file: Settings,
}

impl Waiting {
    /// What `generation` has to leave beside itself, of a `reload` or of settings.
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

/// What an agent goes on with.
pub(super) struct Resumed {
    pub(super) plan: Plan,
    /// True where `plan` is not what the file says.
    pub(super) replaced: bool,
    /// The configuration to go back to, where a change waits for its confirmation still.
    pub(super) before: Option<Plan>,
    /// The configuration that was tried, where the program has gone back from it.
    pub(super) left: Option<Plan>,
}

/// Finds out whether a change that an earlier agent made waits still, was confirmed or went back, and makes `memory`
/// agree with what judges. `plan` is what the file says.
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
                tracing::warn!(seconds = time.as_secs(), "a change waits to be confirmed");
                let before = store.plan(&plan).unwrap_or_else(|| plan.clone());
                // What waits goes on as it is, whatever the file says by now.
                let tried = if waiting.reload { store.tried_plan(&plan) } else { Some(before.clone()) };
                let tried = tried.unwrap_or_else(|| plan.clone());
                let replaced = tried.text != plan.text;
                memory.waiting = Some(waiting);
                return Ok(Resumed { plan: tried, replaced, before: Some(before), left });
            }
            // Confirmed, and the agent ended before it could write that down.
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
                tracing::warn!("the last change was not confirmed: what was before holds");
            }
        }
    }
    match store.before(&plan) {
        Some(before) => {
            tracing::warn!(
                file = %plan.file.display(),
                "the file was tried and not confirmed, or refused: what was before it holds until a reload"
            );
            Ok(Resumed { plan: before, replaced: true, before: None, left })
        }
        None => Ok(Resumed { plan, replaced: false, before: None, left }),
    }
}

impl Firewall {
    /// How long a change waits still to be confirmed; `None` where none does.
    ///
    /// # Errors
    /// Where the kernel's clock cannot be read.
    pub fn time_left(&self) -> Result<Option<Duration>> {
        match self.before {
            Some(_) => self.datapath.time_left(),
            None => Ok(None),
        }
    }

    /// Follows the program where it has gone back because nobody confirmed in time; true where it had. To be called
    /// before anything else is asked of a firewall.
    ///
    /// # Errors
    /// Where the kernel's clock cannot be read.
    pub fn follow_deadline(&mut self) -> Result<bool> {
        let passed = self.time_left()?.is_some_and(|left| left.is_zero());
        if passed {
            self.return_to_before();
            self.change_ended(ChangeResult::Reverted);
            tracing::warn!(
                generation = self.datapath.live()?.number,
                "nobody confirmed in time: what was before holds"
            );
        }
        Ok(passed)
    }

    /// Makes the change that waits hold for good.
    ///
    /// # Errors
    /// A [`Problem`] where none waits, or its time is over.
    pub fn confirm(&mut self) -> Result<api::Confirmed> {
        if self.time_left()?.is_none_or(|left| left.is_zero()) {
            return Err(Problem::new(
                "no change waits to be confirmed: none was made with --confirm, it was confirmed, or its time is over",
                "`lyncwall status` shows what holds",
            )
            .into());
        }
        self.datapath.confirm();
        self.before = None;
        // Settings that are confirmed say nothing about a file that was tried before.
        let taken = self.memory.waiting.take().is_some_and(|waiting| waiting.reload);
        // It holds from here on, so nothing is an error any more.
        let mut warnings = Vec::new();
        if let Err(error) = self.leave_before() {
            warnings.push(format!("what only the configuration before let in may still get in: {error:#}"));
        }
        self.memory.changes.ended(ChangeResult::Confirmed);
        warnings.extend(self.keep(taken));
        Ok(api::Confirmed {
            generation: self.datapath.live()?.number,
            targets: wire::targets(&self.memory.settings),
            warnings,
        })
    }

    /// Goes back to what was before the change that waits, at once.
    ///
    /// # Errors
    /// A [`Problem`] where none waits.
    pub fn rollback(&mut self) -> Result<api::Switched> {
        let start = Instant::now();
        if self.before.is_none() {
            return Err(Problem::new(
                "there is nothing to go back to: no change waits to be confirmed",
                "name the roles that are to hold: `lyncwall switch ROLE…`",
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
                format!("a change waits to be confirmed, for {} s still", left.as_secs()),
                "`lyncwall confirm` keeps it, `lyncwall rollback` goes back; then repeat this",
            )
            .into()),
        }
    }

    /// The hold of a change that is to be confirmed within this time, if any is given.
    pub(super) fn hold(&self, confirm: Option<Duration>) -> Result<Hold> {
        Ok(match confirm {
            None => Hold::ForGood,
            Some(time) => Hold::Until(self.datapath.deadline_in(time)?),
        })
    }

    /// Writes down what outlives a reboot. `taken` says that the file was read for it. What went wrong is returned as a
    /// warning: the policy holds all the same.
    pub(super) fn keep(&mut self, taken: bool) -> Option<String> {
        let kept = remember(&mut self.datapath, &self.memory)
            .and_then(|()| self.store.confirm(&self.plan, &self.memory, taken));
        let warning = kept.err().map(|error| format!("the next boot may bring other roles: {error:#}"));
        if let Some(warning) = &warning {
            tracing::warn!("{warning}");
        }
        warning
    }

    /// Makes sure that what is tried is not taken for good by a start in between. Returns what was tried before that.
    pub(super) fn about_to_try(&mut self, plan: &Plan) -> Result<Option<String>> {
        let before = self.store.tried().map(str::to_owned);
        self.store.try_out(&self.plan, &self.memory, Some(plan.text.clone())).map_err(|error| {
            Problem::new(
                format!("what holds now cannot be written down, so nothing could go back to it: {error:#}"),
                "name another directory by --state-dir, or reload without --confirm",
            )
        })?;
        Ok(before)
    }

    /// Undoes [`Firewall::about_to_try`], as nothing was tried.
    pub(super) fn not_tried(&mut self, before: Option<String>) {
        if let Err(error) = self.store.try_out(&self.plan, &self.memory, before) {
            tracing::warn!("the next start may not take the file: {error:#}");
        }
    }

    /// The standing management sessions that a change shuts out: TCP to a port of `[management]`, before or after it.
    ///
    /// # Errors
    /// Where the kernel does not list its sockets.
    pub(super) fn sessions_shut_out(&self, plan: &Plan, comparison: &Comparison) -> Result<Vec<Connection>> {
        let management: Vec<_> =
            [&self.plan, plan].into_iter().filter_map(|plan| plan.config.management.as_ref()).collect();
        let ports = || management.iter().flat_map(|management| &management.tcp);
        let mut sessions = connections::sessions().context("looking for management sessions")?;
        sessions.retain(|session| ports().any(|ports| ports.contains(session.local.port())));
        self.shut_out_of(plan, comparison, sessions)
    }

    /// Refuses a change that shuts such a session out.
    ///
    /// # Errors
    /// [`Problems`] that name the sessions.
    pub(super) fn shuts_nobody_out(&self, plan: &Plan, comparison: &Comparison) -> Result<(), Error> {
        let mut problems = Problems::default();
        for Connection { local, remote, .. } in self.sessions_shut_out(plan, comparison)? {
            problems.push(Problem::new(
                format!("the management session from {remote} to {local} would be shut out"),
                "keep its source and port in [management]; or add `--confirm 60s`, and confirm by another session",
            ));
        }
        Ok(problems.or(())?)
    }

    /// The same as warnings, of a change that is made all the same.
    pub(super) fn shuts_out(&self, plan: &Plan, comparison: &Comparison) -> Vec<String> {
        match self.sessions_shut_out(plan, comparison) {
            Ok(sessions) => sessions
                .iter()
                .map(|Connection { local, remote, .. }| {
                    format!("the management session from {remote} to {local} is not let in any more")
                })
                .collect(),
            Err(error) => vec![format!("{error:#}")],
        }
    }

    /// Lets what was before hold for good, in the kernel and here. Returns what the targets opened until now.
    fn return_to_before(&mut self) -> Vec<TargetInput> {
        self.datapath.go_back();
        // The kernel judges by it from here on, whatever happens.
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
            tracing::warn!("what was tried is not cleared away: {error:#}");
        }
        if let Some(tried) = tried {
            self.follow_zones(&tried);
        }
        opened
    }

    /// The same policy once more, for a machine that may have changed meanwhile, and without what was tried.
    fn build_again(&mut self) -> Result<()> {
        let (plan, settings) = (self.plan.clone(), self.memory.settings.clone());
        remember(&mut self.datapath, &self.memory)?;
        let machine = host::look_again(&plan.config)?;
        self.targets = plan.input(&settings, &machine)?.targets;
        self.install(&plan, &settings, &machine)?;
        self.detach_others(&plan)?;
        // One that was made again while the other configuration held is not guarded yet.
        self.machine_changed()
    }

    /// Ends what only the configuration before asked for.
    fn leave_before(&mut self) -> Result<()> {
        let plan = self.plan.clone();
        let machine = host::look_again(&plan.config)?;
        let input = plan.input(&self.memory.settings, &machine)?;
        let compiled = compile(&input, &mut self.memory.counters.clone())?;
        self.datapath.prune_management(&compiled.management)?;
        self.detach_others(&plan)
    }
}

/// Refuses a time that is none, or too long.
pub(super) fn check(confirm: Option<Duration>) -> Result<(), Problem> {
    match confirm {
        Some(time) if time.is_zero() || time > LONGEST => Err(Problem::new(
            format!("{} s is no time to confirm a change in", time.as_secs()),
            "give --confirm a time from 1s to 24h, as 60s",
        )),
        Some(_) | None => Ok(()),
    }
}
