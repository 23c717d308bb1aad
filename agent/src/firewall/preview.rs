//! Previews of changes, and their effect on existing connections.

use anyhow::{Context as _, Result};

use super::Firewall;
use super::report::{port_change, port_changes};
use crate::wire;
use lyncwall_api as api;
use lyncwall_datapath::connections;
use lyncwall_datapath::host;
use lyncwall_policy::compare::{Comparison, Ways};
use lyncwall_policy::compile::Input;
use lyncwall_policy::config::Mode;
use lyncwall_policy::connection::{Connection, Listener, Protocol};
use lyncwall_policy::plan::{Machine, Plan, Settings};
use lyncwall_policy::problem::{Problem, Problems};

/// The most connections to list.
const LISTED: usize = 20;

impl Firewall {
    /// The effect of [`Firewall::switch`] to the roles, or of [`Firewall::set_mode`]. Changes nothing. For
    /// roles, the effect under enforcement, even in audit mode.
    ///
    /// # Errors
    /// [`Problems`] for an unknown target or role, and if the request has both or neither; an error if the
    /// kernel cannot list its sockets.
    pub fn preview(&self, wanted: &api::Preview) -> Result<api::Previewed> {
        let target = wanted.target.as_deref();
        let all = match (&wanted.roles, wanted.mode) {
            (Some(roles), None) => self.with_roles(target, roles, Problems::default())?,
            (None, Some(mode)) => self.with_mode(target, wire::asked_mode(mode), Problems::default())?,
            (None, None) | (Some(_), Some(_)) => {
                return Err(Problem::new("a preview needs roles or a mode", "name one of them").into());
            }
        };
        let machine = host::look_again(&self.plan.config)?;
        let [before, after] =
            [&self.memory.settings, &all].map(|settings| self.plan.input(settings, &machine));
        let [mut before, mut after] = [before?, after?];
        if wanted.mode.is_none() {
            [before, after] = [before, after].map(Input::enforced);
        }
        let (opened, closed) = port_changes(&self.plan, &before.targets, &after.targets);
        let ways = Ways { guarded: self.plan.legs(&machine), open: Vec::new() };
        let comparison = Comparison::new(before, after, &self.memory.counters, ways)?;
        let listeners = connections::listeners()?;
        let cut = self.shut_out(&self.plan, &comparison)?;
        let fill = self.datapath.flow_fill(self.plan.config.flows.times)?;
        let mut warnings = self.warnings(&self.plan, &all)?;
        warnings.extend(self.shuts_out(&self.plan, &comparison, None));
        if self.memory.trial.runs() {
            warnings.push(
                "a change waits for confirmation: confirm it or roll it back before another one".to_owned(),
            );
        }
        Ok(api::Previewed {
            mode: wire::mode(all.mode),
            targets: wire::targets(&all),
            opened,
            closed,
            unreached: unreached(&comparison, &listeners),
            unheard: comparison
                .unheard(&listeners)
                .iter()
                .map(|(target, transport, ports)| {
                    port_change(&self.plan, &comparison.after().targets, target, transport.name(), *ports)
                })
                .collect(),
            cut: api::Connections {
                count: cut.len() as u64,
                first: cut.iter().take(LISTED).filter_map(connection).collect(),
            },
            flows: u64::from(fill.v4) + u64::from(fill.v6),
            warnings,
        })
    }

    /// The live settings, with other roles for a target.
    ///
    /// # Errors
    /// `problems`, and mistakes in the target or the roles.
    pub(super) fn with_roles(
        &self,
        target: Option<&str>,
        roles: &[String],
        mut problems: Problems,
    ) -> Result<Settings, Problems> {
        let target = self.target(target).map_err(|problem| problems.push(problem)).unwrap_or_default();
        let keys: Vec<&str> = roles.iter().map(String::as_str).collect();
        for (_, message, fix) in self.plan.catalogue.check_roles(&keys) {
            problems.push(Problem::new(message, fix));
        }
        problems.or(())?;
        let mut settings = self.memory.settings.clone();
        settings.roles.insert(target, roles.to_vec());
        Ok(settings)
    }

    /// The live settings, with another mode for a target or the whole box.
    ///
    /// # Errors
    /// `problems`, and an unknown target.
    pub(super) fn with_mode(
        &self,
        target: Option<&str>,
        mode: Mode,
        mut problems: Problems,
    ) -> Result<Settings, Problems> {
        problems.extend(target.and_then(|target| self.target(Some(target)).err()));
        let mut settings = self.memory.settings.clone();
        settings.set_mode(target, mode);
        problems.or(settings)
    }

    /// The existing connections whose packets get in before a change but not after it.
    fn shut_out(&self, plan: &Plan, comparison: &Comparison) -> Result<Vec<Connection>> {
        let mut existing = connections::inbound().context("listing existing connections")?;
        // Without connection tracking, no other source knows the forwarded connections.
        existing.extend(self.datapath.forwarded(&host::own(&[])?, plan.config.flows.times)?);
        existing.sort_unstable();
        existing.dedup();
        self.shut_out_of(plan, comparison, existing)
    }

    /// The cut ones among these connections.
    pub(super) fn shut_out_of(
        &self,
        plan: &Plan,
        comparison: &Comparison,
        existing: Vec<Connection>,
    ) -> Result<Vec<Connection>> {
        let config = &plan.config;
        self.datapath.without_flow(comparison.shut_out(existing), config.flows.times, config.zones.len())
    }

    /// A change to `plan` with `settings`, as it affects existing connections.
    ///
    /// # Errors
    /// [`Problems`] if it cannot be compiled.
    pub(super) fn standing_in_the_way(
        &self,
        plan: &Plan,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<Comparison> {
        let after = plan.input(settings, machine)?;
        let guarded: Vec<u32> =
            self.datapath.status()?.interfaces.iter().map(|attached| attached.ifindex).collect();
        let ways = Ways {
            guarded: plan.legs(&machine.only(|ifindex| guarded.contains(&ifindex))),
            open: plan.legs(&machine.only(|ifindex| !guarded.contains(&ifindex))),
        };
        let before = if ways.guarded.is_empty() {
            // The settings from before are not needed here, and at a start this plan may no longer know them.
            after.clone()
        } else {
            // The interfaces of the earlier configuration have other positions in its list.
            self.plan.input(&self.memory.settings, &host::look_again(&self.plan.config)?)?
        };
        Ok(Comparison::new(before, after, &self.memory.counters, ways)?)
    }

    /// What a new agent changes on a guarded box: `None` if nothing, and if nobody knows the earlier
    /// configuration.
    pub(super) fn since_the_earlier_agent(
        &self,
        plan: &Plan,
        settings: &Settings,
        machine: &Machine,
    ) -> Option<(Plan, Comparison)> {
        let before = self.store.plan(plan)?;
        if before.text == plan.text && *settings == self.memory.settings {
            return None;
        }
        let compared = || -> Result<Comparison> {
            let of = host::look_again(&before.config)?;
            let [was, is] = [before.input(&self.memory.settings, &of)?, plan.input(settings, machine)?];
            let ways = Ways { guarded: plan.legs(machine), open: Vec::new() };
            Ok(Comparison::new(was, is, &self.memory.counters, ways)?)
        };
        match compared() {
            Ok(comparison) => Some((before, comparison)),
            Err(error) => {
                tracing::warn!("cannot tell which management sessions this start cuts: {error:#}");
                None
            }
        }
    }

    /// Before the new generation judges: adds flows for the TCP connections that it would cut. For UDP, the
    /// program adds a flow only if the port is closed: see [`Firewall::drain_the_rest`].
    pub(super) fn drain(&self, plan: &Plan, comparison: &Comparison) -> Result<Vec<Connection>> {
        let found = self.shut_out(plan, comparison)?;
        let tcp: Vec<Connection> =
            found.iter().filter(|found| found.protocol == Protocol::Tcp).copied().collect();
        self.datapath.open_flows(&tcp, &comparison.legs())?;
        Ok(found)
    }

    /// After the new generation judges: adds flows for UDP, and for connections that began during the first
    /// list. Returns their number.
    pub(super) fn drain_the_rest(
        &self,
        plan: &Plan,
        comparison: &Comparison,
        found: &[Connection],
    ) -> Result<u64> {
        let udp: Vec<Connection> =
            found.iter().filter(|found| found.protocol == Protocol::Udp).copied().collect();
        self.datapath.open_flows(&udp, &comparison.legs())?;
        let more = self.shut_out(plan, comparison)?;
        self.datapath.open_flows(&more, &comparison.legs())?;
        Ok(more.len() as u64)
    }

    /// The number of connections that a change has cut. Call it after the change, which does not wait for it.
    pub(super) fn count_cut(&self, plan: &Plan, comparison: &Comparison) -> Result<u64> {
        Ok(self.shut_out(plan, comparison)?.len() as u64)
    }
}

/// The sockets with their processes.
fn unreached(comparison: &Comparison, listeners: &[Listener]) -> Vec<api::Listener> {
    let mut found: Vec<(String, Listener)> = comparison
        .unreached(listeners)
        .into_iter()
        .map(|(target, listener)| (target.to_owned(), listener.clone()))
        .collect();
    connections::name_processes(found.iter_mut().map(|(_, listener)| listener));
    let report = |(target, listener): (String, Listener)| api::Listener {
        still: comparison.still_reached(&target, &listener),
        target,
        transport: listener.transport.name().to_owned(),
        address: listener.address.to_string(),
        port: listener.port,
        process: listener.process,
    };
    found.into_iter().map(report).collect()
}

fn connection(connection: &Connection) -> Option<api::Connection> {
    Some(api::Connection {
        transport: connection.protocol.transport()?.name().to_owned(),
        remote: connection.remote.to_string(),
        local: connection.local.to_string(),
    })
}
