//! Reports of a firewall: its status, its counters, the ports that a change opened and closed.

use anyhow::Result;
use lyncwall_common::abi::{MAX_NUMBERS, MAX_TARGET_ADDRESSES};
use lyncwall_common::reason::Action;

use super::{Firewall, names};
use crate::wire;
use lyncwall_api as api;
use lyncwall_datapath::exposure;
use lyncwall_datapath::host::{self, interfaces};
use lyncwall_datapath::{Attached, Counters};
use lyncwall_policy::compile::{Identity, TargetInput};
use lyncwall_policy::config::{Address, Outbound, Unmatched, Zone};
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
        warnings.extend(self.other_size());
        let (unguarded, taken_away) = self.taken_away()?;
        warnings.extend(taken_away);
        warnings.extend(self.store.warning());
        if !self.memory.trial.runs() && self.store.tried().is_some() {
            warnings.push(format!(
                "the last reload was refused or not confirmed, and the live rules differ from {}: correct the file, then run \
                 `lyncwall reload --confirm 60s` and `lyncwall confirm`",
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
            interfaces: self.interfaces(&status.interfaces)?,
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
            own_left_out: self.own_left_out().len() as u64,
            passed: total(Action::Pass),
            dropped: total(Action::Drop),
            warnings,
            unguarded,
            mended: self.mended,
            failing: Vec::new(),
            lost: self.memory.lost.clone(),
        })
    }

    /// Warns if the capacity of the flow tables differs from the file.
    fn other_size(&self) -> Option<String> {
        let size = self.datapath.flow_size();
        let wanted = self.plan.config.flows.size.filter(|wanted| *wanted != size)?;
        Some(format!(
            "flows.size is {wanted} in the file, but the tables hold {size}; to resize them, reboot; or run \
             `lyncwall detach`, which opens the box, and start again"
        ))
    }

    fn flows(&self, counters: &Counters) -> Result<api::Flows> {
        let fill = self.datapath.flow_fill(self.plan.config.flows.times)?;
        let (added, there) =
            (counters.flows_added, u64::from(fill.v4) + u64::from(fill.v6) + u64::from(fill.over));
        let evicted = added.saturating_sub(there + fill.freed + self.memory.flows_forgotten);
        Ok(api::Flows {
            v4: fill.v4,
            v6: fill.v6,
            over: fill.over,
            size: fill.size,
            added,
            freed: fill.freed,
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
        let mut warnings = self.not_guarded(plan)?;
        warnings.extend(self.left_out_warnings());
        warnings.extend(plan.warnings(settings));
        warnings.extend(exposure::warnings(plan, settings));
        warnings.extend(host::silent_interfaces(&plan.config));
        for target in &plan.config.targets {
            let Address::List(addresses) = &target.address else { continue };
            let elsewhere: Vec<String> = addresses
                .iter()
                .filter(|address| plan.config.management.is_some() && !machine.own.contains(**address))
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

    /// The guarded interfaces, and the configured ones that are missing or refuse the program.
    fn interfaces(&self, attached: &[Attached]) -> Result<Vec<api::Interface>> {
        let known = interfaces::all()?;
        let unguarded = self
            .plan
            .config
            .interfaces
            .iter()
            .filter(|interface| attached.iter().all(|attached| attached.interface != *interface.name))
            .map(|interface| api::Interface {
                name: interface.name.to_string(),
                ifindex: 0,
                mode: "UNGUARDED".to_owned(),
                missing: known.iter().all(|(name, _)| *name != *interface.name),
                native_refused: None,
            });
        let guarded = attached.iter().map(|attached| api::Interface {
            name: attached.interface.clone(),
            ifindex: attached.ifindex,
            mode: attached.mode.name().to_owned(),
            missing: false,
            native_refused: self.memory.native_refused.get(&attached.interface).cloned(),
        });
        Ok(guarded.chain(unguarded).collect())
    }

    /// Interfaces of the plan that are not guarded, and those that stay guarded because one is missing; a sentence
    /// each.
    fn not_guarded(&self, plan: &Plan) -> Result<Vec<String>> {
        let known = interfaces::all()?;
        let attached = self.datapath.status()?.interfaces;
        let named = plan.config.interfaces.iter().map(|interface| &*interface.name);
        let open: Vec<&str> =
            named.filter(|name| attached.iter().all(|attached| attached.interface != *name)).collect();
        let (refusing, missing): (Vec<&str>, Vec<&str>) =
            open.into_iter().partition(|name| known.iter().any(|(known, _)| known == name));
        let there: Vec<&str> = known.iter().map(|(name, _)| &**name).filter(|name| *name != "lo").collect();
        let refuses = |name: &&str| {
            format!("interface {name} does not take the program: UNGUARDED; the log of the agent says why")
        };
        let is_missing = |name: &&str| {
            let there = there.join(", ");
            format!("interface {name} does not exist (this box has {there}): UNGUARDED until it appears")
        };
        let mut warnings: Vec<String> =
            refusing.iter().map(refuses).chain(missing.iter().map(is_missing)).collect();
        if !missing.is_empty() && !self.memory.trial.runs() {
            let missing = missing.join(", ");
            warnings.extend(attached.iter().filter(|kept| !names(plan, &kept.interface)).map(|kept| {
                format!(
                    "the file does not name interface {}, which stays guarded until {missing} appears: its name may \
                     be misspelt",
                    kept.interface
                )
            }));
        }
        Ok(warnings)
    }

    fn own_left_out(&self) -> &[Prefix] {
        self.fit.as_ref().map_or(&[], |fit| &fit.left_out.own)
    }

    /// Facts of the machine that the tables have no room for, one sentence each.
    pub(super) fn left_out_warnings(&self) -> Vec<String> {
        /// The most to list.
        const LISTED: usize = 3;
        let mut warnings = Vec::new();
        let own = self.own_left_out();
        if !own.is_empty() {
            let first: Vec<String> = own.iter().take(LISTED).map(Prefix::to_string).collect();
            let more = match own.len().saturating_sub(LISTED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let passes =
                |zone: &&Zone| zone.unmatched == Unmatched::Pass || zone.outbound == Outbound::Catalogue;
            let open: Vec<&str> =
                self.plan.config.zones.iter().filter(passes).map(|zone| &*zone.name).collect();
            let open = match open.as_slice() {
                [] => String::new(),
                open => {
                    format!("; LIMITED: what {} lets through to other hosts reaches them", open.join(", "))
                }
            };
            warnings.push(format!(
                "own addresses without room in the table of {MAX_TARGET_ADDRESSES}: {}{more}: lyncwall judges packets to \
                 them as packets to a host that no target lists{open}",
                first.join(", ")
            ));
        }
        let members = self.fit.as_ref().map_or(0, |fit| fit.left_out.members.len());
        if members > 0 {
            warnings.push(format!(
                "{members} members of bonds have no room in the table of {MAX_NUMBERS} interfaces: only management gets \
                 in by them in native mode on a box with zones"
            ));
        }
        warnings
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
