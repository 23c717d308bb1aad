//! Changes on request: roles, a mode, a file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::report::port_changes;
use super::store::Origin;
use super::trial::Step;
use super::{ChangeKind, Firewall, confirm, under};
use crate::wire;
use lyncwall_api::{self as api, Existing};
use lyncwall_datapath::host;
use lyncwall_policy::compare::Comparison;
use lyncwall_policy::config;
use lyncwall_policy::plan::{Machine, Plan, Settings};
use lyncwall_policy::problem::{Error, Problem, Problems};

/// A prepared change.
struct Change<'a> {
    plan: &'a Arc<Plan>,
    settings: &'a Settings,
    machine: &'a Machine,
    /// Its effect on existing connections.
    comparison: Comparison,
    /// Where its rules come from.
    origin: Origin,
    how: How,
}

/// How to make a change.
#[derive(Clone, Copy)]
struct How {
    /// The time of the request.
    start: Instant,
    /// The time to confirm it in.
    confirm: Option<Duration>,
    /// What to do with inbound connections to ports that close, if the request says it.
    existing: Option<Existing>,
}

impl Firewall {
    /// Gives a target other roles. `target` is needed if there are several. With a time to `confirm`, from a
    /// second to a day, the roles hold for good only if [`Firewall::confirm`] follows within it. `existing`
    /// decides about inbound connections to ports that close; without it they are cut, and sessions from a
    /// management source count as management sessions at any port.
    ///
    /// # Errors
    /// [`Problems`] for an unknown target or role, for a bad time, and while another change waits for
    /// confirmation; and if the change would cut an existing management session and needs no confirmation. The
    /// old policy stays live then.
    pub fn switch(
        &mut self,
        target: Option<&str>,
        roles: &[String],
        confirm: Option<Duration>,
        existing: Option<Existing>,
    ) -> Result<api::Switched> {
        self.counted(ChangeKind::Switch, confirm.is_some(), |firewall| {
            firewall.set(confirm, existing, |firewall, problems| firewall.with_roles(target, roles, problems))
        })
    }

    /// Gives a target another mode, or the whole box with all targets. `confirm` and `existing` work as for
    /// [`Firewall::switch`]; a port that audit mode lets in counts as open.
    ///
    /// # Errors
    /// As [`Firewall::switch`].
    pub fn set_mode(
        &mut self,
        target: Option<&str>,
        mode: config::Mode,
        confirm: Option<Duration>,
        existing: Option<Existing>,
    ) -> Result<api::Switched> {
        self.counted(ChangeKind::Mode, confirm.is_some(), |firewall| {
            firewall.set(confirm, existing, |firewall, problems| firewall.with_mode(target, mode, problems))
        })
    }

    /// Makes the `wanted` settings live under the current configuration; `problems` are those found so far.
    fn set(
        &mut self,
        confirm: Option<Duration>,
        existing: Option<Existing>,
        wanted: impl FnOnce(&Self, Problems) -> Result<Settings, Problems>,
    ) -> Result<api::Switched> {
        let how = How { start: Instant::now(), confirm, existing };
        self.nothing_waits()?;
        let mut problems = Problems::default();
        problems.extend(confirm::check(confirm).err());
        let settings = &wanted(self, problems)?;
        let plan = Arc::clone(&self.plan);
        let machine = &host::look_again(&plan.config)?;
        let comparison = self.standing_in_the_way(&plan, settings, machine)?;
        let shut_out = match how.confirm {
            Some(_) => self.shuts_out(&plan, &comparison, existing),
            None => self.shuts_nobody_out(&plan, &comparison, existing).map(|()| Vec::new())?,
        };
        let change = Change { plan: &plan, settings, machine, comparison, origin: Origin::RunTime, how };
        let mut switched = self.change(&change)?;
        switched.warnings.extend(shut_out);
        if how.confirm.is_none() {
            switched.warnings.extend(self.keep(Origin::RunTime));
        }
        Ok(switched)
    }

    /// Enforces the configuration file as it was `read` again. Run-time roles and modes stay, unless the file
    /// changes those of the target. `confirm` and `existing` work as for [`Firewall::switch`]; until the
    /// confirmation, the managers of both configurations get in. `ready` may refuse the plan before anything
    /// changes.
    ///
    /// The caller reads the file: a long one, or one with many mistakes, takes its time, and nobody should wait
    /// for the firewall meanwhile.
    ///
    /// # Errors
    /// [`Problems`] for a bad file, for one that would cut an existing management session and needs no
    /// confirmation, and as [`Firewall::switch`]; those of `ready`. The old policy stays live then.
    pub fn reload(
        &mut self,
        read: Result<Plan, Problems>,
        confirm: Option<Duration>,
        existing: Option<Existing>,
        ready: impl FnOnce(&Plan) -> Result<()>,
    ) -> Result<api::Switched> {
        self.counted(ChangeKind::Reload, confirm.is_some(), |firewall| {
            firewall.change_to(read, confirm, existing, ready)
        })
    }

    fn change_to(
        &mut self,
        read: Result<Plan, Problems>,
        confirm: Option<Duration>,
        existing: Option<Existing>,
        ready: impl FnOnce(&Plan) -> Result<()>,
    ) -> Result<api::Switched> {
        let how = How { start: Instant::now(), confirm, existing };
        self.nothing_waits()?;
        let plan = match (confirm::check(confirm), read) {
            (Ok(()), plan) => Arc::new(plan?),
            (Err(problem), plan) => {
                let mut problems = plan.err().unwrap_or_default();
                problems.push(problem);
                return Err(problems.into());
            }
        };
        let machine = host::look(&plan.config);
        let mut groups = Problems::default();
        groups.extend(host::unknown_groups(&plan.config.api));
        let machine = match (machine, groups.or(())) {
            (machine, Ok(())) => machine?,
            (Ok(_), Err(groups)) => return Err(groups.into()),
            (Err(error), Err(groups)) => return Err(Error::from(error).and(groups.into()).into()),
        };
        if let Some(time) = confirm {
            self.leaves_time_to_confirm(&plan, time)?;
        }
        ready(&plan)?;
        let settings = under(&self.memory.settings, &self.memory.file, &plan);
        // A first compilation before attaching, so that a bad file changes nothing.
        let comparison = self.standing_in_the_way(&plan, &settings, &machine)?;
        let tried_before = match confirm {
            Some(_) => self.about_to_try(&plan)?,
            None => {
                if let Err(refused) = self.shuts_nobody_out(&plan, &comparison, existing) {
                    // The next start must not use a refused file.
                    let refuses = matches!(refused, Error::Mistakes(_)) && plan.text != self.plan.text;
                    if refuses && let Err(error) = self.about_to_try(&plan) {
                        tracing::warn!("the next start may use the refused file: {error:#}");
                    }
                    return Err(refused.into());
                }
                None
            }
        };
        let shut_out =
            if confirm.is_some() { self.shuts_out(&plan, &comparison, existing) } else { Vec::new() };
        let before = Arc::clone(&self.plan);
        let (settings, machine) = (&settings, &machine);
        let change = Change { plan: &plan, settings, machine, comparison, origin: Origin::File, how };
        let mut switched = match self.attach_and_change(&change) {
            Ok(switched) => switched,
            Err(error) => {
                if confirm.is_some() {
                    self.not_tried(tried_before);
                }
                return Err(error);
            }
        };
        switched.warnings.extend(shut_out);
        if confirm.is_none() {
            if let Err(error) = self.detach_others(&plan) {
                let left = format!("interfaces of the earlier configuration are still guarded: {error:#}");
                switched.warnings.push(left);
            }
            switched.warnings.extend(self.keep(Origin::File));
        }
        self.follow_zones(&before);
        Ok(switched)
    }

    /// All or nothing: if the change fails, detaches from the interfaces that it attached to.
    fn attach_and_change(&mut self, change: &Change<'_>) -> Result<api::Switched> {
        let before: Vec<String> =
            self.datapath.status()?.interfaces.into_iter().map(|attached| attached.interface).collect();
        let attached = self.take_over(change.plan, change.plan.config.flows.learn);
        let changed = attached.map_err(anyhow::Error::from).and_then(|()| self.change(change));
        if changed.is_err() {
            let before: Vec<&str> = before.iter().map(String::as_str).collect();
            // The error of the change says more than that of its undoing.
            if let Err(error) = self.datapath.detach_interfaces_except(&before) {
                tracing::error!("interfaces of the configuration that was not taken are guarded: {error:#}");
            }
        }
        changed
    }

    pub(super) fn target(&self, wanted: Option<&str>) -> Result<String, Problem> {
        let names: Vec<&str> = self.plan.config.targets.iter().map(|target| &*target.name).collect();
        match (wanted, names.as_slice()) {
            (None, [only]) => Ok((*only).to_owned()),
            (None, _) => Err(Problem::new(
                "there are several targets",
                format!("name one with --target: {}", names.join(", ")),
            )),
            (Some(wanted), _) if names.contains(&wanted) => Ok(wanted.to_owned()),
            (Some(wanted), _) => Err(Problem::new(
                format!("unknown target {wanted}"),
                format!("name one of {}", names.join(", ")),
            )),
        }
    }

    /// Installs the change, and reports what it opened and closed.
    fn change(&mut self, change: &Change<'_>) -> Result<api::Switched> {
        let Change { plan, settings, machine, comparison, origin, how: How { start, confirm, existing } } =
            change;
        let existing = existing.unwrap_or_default();
        let step = match confirm {
            None => Step::Change,
            Some(time) => Step::Begin(self.datapath.deadline_in(*time)?, *origin),
        };
        let drained = match existing {
            Existing::Cut => Vec::new(),
            Existing::Drain => self.drain(plan, comparison)?,
        };
        let changes = [plan.differences(&self.plan), settings.mode_changes(&self.memory.settings)].concat();
        let before = std::mem::take(&mut self.targets);
        let generation = match self.install_for(step, plan, settings, machine) {
            Ok(generation) => generation,
            Err(error) => {
                self.targets = before;
                return Err(error);
            }
        };
        // The new policy judges from here on, so later failures are warnings.
        let settled = match existing {
            Existing::Cut => None,
            Existing::Drain => {
                let more = self.drain_the_rest(plan, comparison, &drained);
                self.keep_drained();
                Some(more)
            }
        };
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let settled = settled.unwrap_or_else(|| self.count_cut(plan, comparison));
        let mut warnings = self.warnings_after(plan, settings);
        let settled = match settled {
            Ok(more) => Some(api::Settled { existing, connections: drained.len() as u64 + more }),
            Err(error) => {
                warnings.push(format!("cannot tell what happened to existing connections: {error:#}"));
                None
            }
        };
        let (opened, closed) = port_changes(plan, &before, &self.targets);
        Ok(api::Switched {
            generation,
            mode: wire::mode(settings.mode),
            changes,
            targets: wire::targets(settings),
            opened,
            closed,
            micros,
            confirm: confirm.map(|time| time.as_secs()),
            settled,
            warnings,
            unguarded: Vec::new(),
        })
    }
}
