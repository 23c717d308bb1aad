//! Where a packet belongs in a generation: its zone, its target, and what is said there of its port.

use std::collections::HashMap;

use lyncwall_common::abi::{NO_POLICY, NO_ZONE, NetPort, PortTransport};
use lyncwall_common::decide::{self, Judging, Rules as _};
use lyncwall_common::fields::{Place, addresses};
use lyncwall_common::packet::Packet;
use lyncwall_common::parse::{Headers, parse};
use lyncwall_common::zone;

use crate::compile::{Compiled, Input, Rule, TargetInput, owners};
use crate::judge::HostTables;
use crate::net::PortRange;

/// A generation, with the names of what is in it.
pub struct Locator {
    compiled: Compiled,
    zones: Vec<String>,
    /// By policy.
    owners: Vec<TargetInput>,
    /// By the rows of a rule.
    services: HashMap<Vec<String>, String>,
    /// By bit.
    groups: Vec<String>,
}

/// Where a packet belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Located {
    /// The zone that it came in by; `None` where the interface is in none.
    pub zone: Option<String>,
    /// The target that it goes to, or `ZONE (outbound)` where the zone says what may be called.
    pub target: Option<String>,
    /// What is open there at its port, to somebody.
    pub rule: Option<Rule>,
    /// The service of that rule's rows; empty where there is none.
    pub service: String,
    /// The groups that its source is in; its destination, where the zone says what may be called.
    pub groups: Vec<String>,
    /// True where its port is one of management and its destination may be this box.
    pub management_port: bool,
    /// True where its source is one of management.
    pub management_source: bool,
}

impl Located {
    /// The rule that is open at the port, to somebody: its target, transport and ports.
    #[must_use]
    pub fn rule_name(&self) -> Option<String> {
        Some(rule_name(self.target.as_ref()?, self.rule.as_ref()?))
    }
}

impl Locator {
    /// Of what `input` was compiled to. `service` names what some rows of the catalogue serve.
    #[must_use]
    pub fn new(input: &Input, compiled: Compiled, service: impl Fn(&[String]) -> String) -> Self {
        let owners = owners(input);
        let rules = owners.iter().flat_map(|owner| &owner.inbound);
        Self {
            compiled,
            services: rules.map(|rule| (rule.rows.clone(), service(&rule.rows))).collect(),
            zones: input.zones.iter().map(|zone| zone.name.clone()).collect(),
            owners,
            groups: input.groups.iter().map(|group| group.name.clone()).collect(),
        }
    }

    /// The names of its targets, and of what zones may call, as [`Located::target`] has them.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.owners.iter().map(|owner| &*owner.name)
    }

    /// The names of its rules, as [`Located::rule_name`] has them.
    pub fn rules(&self) -> impl Iterator<Item = String> {
        self.owners.iter().flat_map(|owner| owner.inbound.iter().map(|rule| rule_name(&owner.name, rule)))
    }

    /// Where a packet belongs that came in by the interface of this number; `None` where it is not IP.
    pub fn locate<P: Packet>(&self, ifindex: u32, packet: P) -> Option<Located> {
        let mut headers = Headers::UNREAD;
        // What cannot be judged is located as far as it can be read.
        let _kind = parse(packet, &mut headers);
        headers.family?;
        let tables = HostTables::new(&self.compiled, ifindex);
        let judging = Judging { slot: 0, features: tables.features };
        let zone = zone::of(packet, &tables, judging);
        let place = Place::of(&headers).in_zone(zone);
        let (source, destination) = addresses(packet, place)?;
        let target = decide::target(packet, &tables, place, judging);
        let owner = (target.policy != NO_POLICY).then(|| self.owners.get(target.policy as usize)).flatten();
        let port = headers.ports.map(|transport| (transport, headers.destination_port));
        let rule = owner.zip(port).and_then(|(owner, (transport, port))| rule_at(owner, transport, port));
        // Whoever calls from behind a zone is in its groups; what is called is in those of its address alone.
        let groups = match target.outbound {
            true => tables.groups(0, NO_ZONE, destination),
            false => tables.groups(0, zone, source),
        };
        let name_of = |bit: &usize| groups >> bit & 1 != 0;
        Some(Located {
            zone: self.zones.get(zone as usize).cloned(),
            target: owner.map(|owner| owner.name.clone()),
            rule: rule.cloned(),
            service: rule.and_then(|rule| self.services.get(&rule.rows)).cloned().unwrap_or_default(),
            groups: (0..self.groups.len().min(32))
                .filter(name_of)
                .map(|bit| self.groups[bit].clone())
                .collect(),
            management_port: target.host
                && port.is_some_and(|(transport, port)| tables.management_port(transport, port)),
            management_source: tables.management_source(source),
        })
    }
}

fn rule_name(target: &str, rule: &Rule) -> String {
    let ports = PortRange::between(rule.first, rule.last);
    format!("{target} {} {ports}", rule.transport.name())
}

fn rule_at(owner: &TargetInput, transport: PortTransport, port: NetPort) -> Option<&Rule> {
    let port = port.number();
    owner.inbound.iter().find(|rule| rule.transport == transport && (rule.first..=rule.last).contains(&port))
}
