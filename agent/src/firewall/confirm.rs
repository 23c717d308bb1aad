//! Changes on trial: without a confirmation the program rolls back by itself, and the agent follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::report::port_changes;
use super::store::Origin;
use super::{ChangeResult, Firewall, remember};
use crate::wire;
use lyncwall_api as api;
use lyncwall_datapath::host;
use lyncwall_policy::compile::{TargetInput, compile};
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::Problem;

/// The longest time to wait for a confirmation.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Firewall {
    /// How long a change still waits for confirmation; `None` without one.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn time_left(&self) -> Result<Option<Duration>> {
        if self.memory.trial.runs() { self.datapath.time_left() } else { Ok(None) }
    }

    /// Follows the program if it rolled back for lack of a confirmation; true if it did. Call it before any
    /// other request to a firewall.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn follow_deadline(&mut self) -> Result<bool> {
        let passed = self.time_left()?.is_some_and(|left| left.is_zero());
        if passed {
            self.go_back();
            self.change_ended(ChangeResult::Reverted);
            let generation = self.datapath.live().ok().map(|live| live.number);
            let roles = roles_of(&self.target_states());
            let number = generation.map(|number| format!(" to generation {number}")).unwrap_or_default();
            tracing::warn!(generation, "nobody confirmed in time: rolled back{number}; {roles}");
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
        let generation = self.datapath.live()?.number;
        self.datapath.confirm();
        let origin = self.memory.trial.confirm();
        // The change holds from here on, so later failures are warnings.
        let mut warnings = Vec::new();
        if let Err(error) = self.leave_before() {
            warnings.push(format!("sources of the earlier configuration may still get in: {error:#}"));
        }
        self.memory.changes.ended(ChangeResult::Confirmed);
        warnings.extend(self.keep(origin));
        Ok(api::Confirmed { generation, targets: wire::targets(&self.memory.settings), warnings })
    }

    /// Rolls the waiting change back now.
    ///
    /// # Errors
    /// A [`Problem`] if no change waits.
    pub fn rollback(&mut self) -> Result<api::Switched> {
        let start = Instant::now();
        if !self.memory.trial.runs() {
            return Err(Problem::new(
                "nothing to roll back: no change waits for confirmation",
                "to change the roles, use `lyncwall switch ROLE…`",
            )
            .into());
        }
        let (tried, tried_settings) = (Arc::clone(&self.plan), self.memory.settings.clone());
        let before = self.go_back();
        self.change_ended(ChangeResult::RolledBack);
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (plan, settings) = (&self.plan, &self.memory.settings);
        let (opened, closed) = port_changes(plan, &before, &self.targets);
        Ok(api::Switched {
            generation: self
                .datapath
                .live()
                .context("rolled back, but cannot read the live generation")?
                .number,
            mode: wire::mode(settings.mode),
            targets: wire::targets(settings),
            changes: [plan.differences(&tried), settings.mode_changes(&tried_settings)].concat(),
            opened,
            closed,
            micros,
            confirm: None,
            settled: None,
            warnings: self.warnings_after(plan, settings),
            unguarded: Vec::new(),
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

    /// Stores the live rules as the state that survives a reboot. Returns a failure as a warning: the policy
    /// holds in any case.
    pub(super) fn keep(&mut self, origin: Origin) -> Option<String> {
        let kept = remember(&mut self.datapath, &self.memory)
            .and_then(|()| self.store.confirm(&self.plan, &self.memory, origin));
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

    /// Makes the earlier state permanent again, in the kernel and here. Returns the open ports of the targets
    /// until now.
    fn go_back(&mut self) -> Vec<TargetInput> {
        self.datapath.go_back();
        // The kernel judges by the earlier state from here on, whatever happens.
        let tried = Arc::clone(&self.plan);
        if let Some(plan) = self.memory.roll_back() {
            self.adopt(&plan);
        }
        let opened = std::mem::take(&mut self.targets);
        if let Err(error) = self.build_again() {
            tracing::warn!("cannot clean up after the rollback: {error:#}");
        }
        self.follow_zones(&tried);
        opened
    }

    /// Installs the earlier policy anew, for a machine that may have changed meanwhile, and without the
    /// trial.
    fn build_again(&mut self) -> Result<()> {
        let (plan, settings) = (Arc::clone(&self.plan), self.memory.settings.clone());
        // The kernel has rolled back whatever can be stored, and so must everything below.
        if let Err(error) = remember(&mut self.datapath, &self.memory) {
            tracing::warn!("the next start may use other settings: {error:#}");
        }
        let machine = host::look_again(&plan.config)?;
        // The tables noted last are those of the trial.
        self.fit = None;
        self.targets = plan.input(&settings, &machine)?.targets;
        self.install(&plan, &settings, &machine)?;
        self.detach_others(&plan)?;
        // An interface that was created during the trial is not guarded yet.
        self.machine_changed()
    }

    /// Removes what only the earlier configuration needed.
    fn leave_before(&mut self) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let machine = host::look_again(&plan.config)?;
        let input = plan.input(&self.memory.settings, &machine)?;
        let compiled = compile(&input, &mut self.memory.counters.clone())?;
        self.datapath.prune_management(&compiled.management)?;
        self.detach_others(&plan)
    }
}

/// The roles of each target, as `host: edge`.
fn roles_of(targets: &[api::TargetState]) -> String {
    let one = |state: &api::TargetState| {
        let roles = if state.roles.is_empty() { "no role".to_owned() } else { state.roles.join(", ") };
        format!("{}: {roles}", state.target)
    };
    targets.iter().map(one).collect::<Vec<_>>().join("; ")
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
