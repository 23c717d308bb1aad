//! Reports of a firewall: its status, its counters, the ports that a change opened and closed.

use std::collections::BTreeMap;

use anyhow::Result;
use lyncwall_common::reason::Action;

use super::Firewall;
use crate::wire;
use lyncwall_api as api;
use lyncwall_datapath::exposure;
use lyncwall_datapath::host;
use lyncwall_datapath::{Attached, Counters};
use lyncwall_policy::compile::{Identity, TargetInput};
use lyncwall_policy::config::{Address, Config};
use lyncwall_policy::net::{PortRange, Prefix};
use lyncwall_policy::open_ports::OpenPorts;
use lyncwall_policy::plan::{Plan, Settings};

impl Firewall {
    /// The status.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn status(&self) -> Result<api::Status> {
        let config = &self.plan.config;
        let status = self.datapath.status()?;
        let counters = self.datapath.counters()?;
        let total = |wanted: Action| {
            counters.reasons.iter().filter(|(_, action, _)| *action == wanted).map(|(.., n)| n).sum()
        };
        let open = OpenPorts::of(&self.targets);
        let (settings, file) = (&self.memory.settings, self.plan.settings());
        let ports =
            |target: &str, transport| open.get(target, transport).iter().map(PortRange::to_string).collect();
        let mut warnings = self.warnings(&self.plan, settings)?;
        warnings.extend(self.other_size()?);
        if !self.memory.trial.runs() && self.store.tried().is_some() {
            warnings.push(format!(
                "the last reload was refused or not confirmed: the live rules differ from {}",
                self.plan.file.display()
            ));
        }
        Ok(api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: self.plan.file.clone(),
            catalogue: self.plan.catalogue.edition().to_owned(),
            reading: wire::reading(config.reading),
            mode: wire::mode(settings.mode),
            file_mode: wire::mode(file.mode),
            on_exit: wire::on_exit(config.on_exit),
            generation: self.datapath.live()?.number,
            waiting: self.waiting()?,
            interfaces: interfaces(config, &status.interfaces, &self.memory.native_refused),
            targets: config
                .targets
                .iter()
                .map(|target| api::Target {
                    name: target.name.to_string(),
                    address: addresses(&target.address),
                    roles: settings.roles_of(&target.name).to_vec(),
                    file_roles: file.roles_of(&target.name).to_vec(),
                    mode: wire::mode(settings.mode_of(&target.name)),
                    file_mode: wire::mode(file.mode_of(&target.name)),
                    tcp: ports(&target.name, lyncwall_common::abi::PortTransport::Tcp),
                    udp: ports(&target.name, lyncwall_common::abi::PortTransport::Udp),
                    on_closed: target.on_closed.name().to_owned(),
                })
                .collect(),
            allow: config.allow.iter().map(ToString::to_string).collect(),
            management: config.management.as_ref().map(|management| api::Management {
                from: management.from.iter().map(Prefix::to_string).collect(),
                tcp: management.tcp.iter().map(PortRange::to_string).collect(),
                udp: management.udp.iter().map(PortRange::to_string).collect(),
            }),
            program: api::Program {
                name: status.program.to_owned(),
                id: status.id,
                tag: format!("{:016x}", status.tag),
                verified_instructions: status.verified_instructions,
                load_ms: u64::try_from(status.load_time.as_millis()).unwrap_or(u64::MAX),
                map_bytes: status.map_memory,
            },
            kernel: wire::kernel(&status.features),
            flows: self.flows(&counters)?,
            blocked: self.block_list(&counters)?,
            passed: total(Action::Pass),
            dropped: total(Action::Drop),
            warnings,
        })
    }

    /// Warns if the capacity of the flow tables differs from the file.
    fn other_size(&self) -> Result<Option<String>> {
        let (wanted, size) = (self.plan.config.flows.size, self.datapath.flow_fill()?.size);
        Ok((wanted != size).then(|| {
            format!(
                "flows.size is {wanted} in the file, but the tables hold {size}; to resize them, reboot, or use \
                 `lyncwall detach` and start again"
            )
        }))
    }

    fn flows(&self, counters: &Counters) -> Result<api::Flows> {
        let fill = self.datapath.flow_fill()?;
        let (added, there) = (counters.flows_added, u64::from(fill.v4 + fill.v6));
        let evicted = added.saturating_sub(there + self.memory.flows_forgotten);
        Ok(api::Flows {
            v4: fill.v4,
            v6: fill.v6,
            size: fill.size,
            added,
            evicted,
            lost: counters.flows_lost,
        })
    }

    /// The counters by reason, rule and port.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn counters(&mut self) -> Result<api::Counters> {
        let counters = self.datapath.counters()?;
        self.look_at(&counters.rules);
        let reasons =
            counters.reasons.iter().filter(|(.., packets)| *packets != 0).map(|(reason, action, packets)| {
                api::ReasonCount { reason: reason.to_string(), action: action.to_string(), packets: *packets }
            });
        let rules = self.memory.counters.live().filter_map(|counter| {
            let before = self.memory.counted_before.get(&counter).copied().unwrap_or_default();
            let packets =
                counters.rules.get(counter as usize).copied().unwrap_or_default().wrapping_sub(before);
            Some(self.rule(self.memory.counters.label(counter)?, packets))
        });
        let ports =
            self.datapath.port_drops()?.into_iter().map(|(transport, port, packets)| api::PortCount {
                transport: transport.name().to_owned(),
                port,
                service: self.services.at(transport, port).to_owned(),
                packets,
            });
        Ok(api::Counters {
            generation: self.datapath.live()?.number,
            reasons: reasons.collect(),
            rules: rules.collect(),
            ports: ports.collect(),
            interfaces: self
                .memory
                .traffic
                .read(&counters.interfaces)
                .into_iter()
                .map(|(name, [passed, dropped])| api::InterfaceCount {
                    shared: self.memory.traffic.shared(&name),
                    name,
                    passed,
                    dropped,
                })
                .collect(),
            captures_lost: counters.captures_lost,
            events_lost: counters.events_lost.iter().map(|(_, lost)| lost).sum(),
            fragments_lost: counters.fragments_lost,
            answered: api::Answered { tcp: counters.answered[0], udp: counters.answered[1] },
        })
    }

    /// The change that waits for confirmation.
    fn waiting(&self) -> Result<Option<api::Waiting>> {
        let (Some(left), Some((back, before))) = (self.time_left()?, self.memory.trial.running()) else {
            return Ok(None);
        };
        Ok(Some(api::Waiting {
            seconds: left.as_millis().div_ceil(1000) as u64,
            mode: wire::mode(back.settings.mode),
            targets: wire::targets(&back.settings),
            changes: [before.differences(&self.plan), back.settings.mode_changes(&self.memory.settings)]
                .concat(),
        }))
    }

    /// The warnings after a change. They cannot fail: the new rules judge already.
    pub(super) fn warnings_after(&self, plan: &Plan, settings: &Settings) -> Vec<String> {
        self.warnings(plan, settings)
            .unwrap_or_else(|error| vec![format!("cannot look for warnings: {error:#}")])
    }

    /// Warnings about the settings, and about their fit to this machine.
    pub(super) fn warnings(&self, plan: &Plan, settings: &Settings) -> Result<Vec<String>> {
        let machine = host::look_again(&plan.config)?;
        let mut warnings = plan.warnings(settings);
        warnings.extend(exposure::warnings(plan, settings));
        warnings.extend(host::silent_interfaces(&plan.config));
        for target in &plan.config.targets {
            let Address::List(addresses) = &target.address else { continue };
            let elsewhere: Vec<String> = addresses
                .iter()
                .filter(|address| plan.config.management.is_some() && !machine.addresses.contains(address))
                .map(ToString::to_string)
                .collect();
            if !elsewhere.is_empty() {
                warnings.push(format!(
                    "management cannot reach {} of target {}: not an address of this box now",
                    elsewhere.join(", "),
                    target.name
                ));
            }
        }
        Ok(warnings)
    }

    fn rule(&self, identity: &Identity, packets: u64) -> api::RuleCount {
        let (since, last_used) = self.usage.of(identity);
        match identity {
            Identity::Rule { target, transport, first, last, rows } => api::RuleCount {
                target: Some(target.clone()),
                allow: None,
                transport: Some(transport.name().to_owned()),
                ports: PortRange::between(*first, *last).to_string(),
                service: self.plan.catalogue.services(rows),
                rows: rows.clone(),
                roles: self.roles_with(target, rows),
                packets,
                since,
                last_used,
            },
            Identity::Allow { name, .. } => api::RuleCount {
                target: None,
                allow: Some(name.clone()),
                transport: None,
                ports: String::new(),
                service: String::new(),
                rows: Vec::new(),
                roles: Vec::new(),
                packets,
                since,
                last_used,
            },
        }
    }

    /// The roles of a target with one of these rows.
    fn roles_with(&self, target: &str, rows: &[String]) -> Vec<String> {
        let has_one = |key: &&String| {
            let role = self.plan.catalogue.role(key);
            role.is_some_and(|role| role.rows.iter().any(|row| rows.iter().any(|id| id == row.as_str())))
        };
        self.memory.settings.roles_of(target).iter().filter(has_one).cloned().collect()
    }
}

/// The guarded interfaces, and the configured ones that are missing or refuse the program.
fn interfaces(
    config: &Config,
    attached: &[Attached],
    refused: &BTreeMap<String, String>,
) -> Vec<api::Interface> {
    let missing = config
        .interfaces
        .iter()
        .filter(|interface| attached.iter().all(|attached| attached.interface != *interface.name))
        .map(|interface| api::Interface {
            name: interface.name.to_string(),
            ifindex: 0,
            mode: "UNGUARDED".to_owned(),
            native_refused: None,
        });
    let guarded = attached.iter().map(|attached| api::Interface {
        name: attached.interface.clone(),
        ifindex: attached.ifindex,
        mode: attached.mode.name().to_owned(),
        native_refused: refused.get(&attached.interface).cloned(),
    });
    guarded.chain(missing).collect()
}

fn addresses(address: &Address) -> Vec<String> {
    match address {
        Address::Host => vec!["host".to_owned()],
        Address::HostAnd(list) => {
            std::iter::once("host".to_owned()).chain(list.iter().map(ToString::to_string)).collect()
        }
        Address::List(list) => list.iter().map(ToString::to_string).collect(),
    }
}

/// The ports that are open in `after` but not in `before`, and the other way round.
pub(super) fn port_changes(
    plan: &Plan,
    before: &[TargetInput],
    after: &[TargetInput],
) -> (Vec<api::PortChange>, Vec<api::PortChange>) {
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for change in OpenPorts::of(before).changes(&OpenPorts::of(after)) {
        let port_changes = |targets: &[TargetInput], ports: &[PortRange]| -> Vec<api::PortChange> {
            ports
                .iter()
                .map(|ports| port_change(plan, targets, &change.target, &change.transport, *ports))
                .collect()
        };
        opened.extend(port_changes(after, &change.opened));
        closed.extend(port_changes(before, &change.closed));
    }
    (opened, closed)
}

/// Ports with the services of their rules in `targets`.
pub(super) fn port_change(
    plan: &Plan,
    targets: &[TargetInput],
    target: &str,
    transport: &str,
    ports: PortRange,
) -> api::PortChange {
    let rules = targets.iter().filter(|known| known.name == target).flat_map(|known| &known.inbound);
    let rows: Vec<String> = rules
        .filter(|rule| {
            rule.transport.name() == transport && rule.first <= ports.last() && rule.last >= ports.first()
        })
        .flat_map(|rule| rule.rows.iter().cloned())
        .collect();
    api::PortChange {
        target: target.to_owned(),
        transport: transport.to_owned(),
        first: ports.first(),
        last: ports.last(),
        service: plan.catalogue.services(&rows),
    }
}
