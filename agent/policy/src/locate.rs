//! Locates a packet in a generation: its zone, its target, and the rule of its port.

use std::collections::HashMap;

use lyncwall_common::abi::{NO_POLICY, NO_ZONE, NetPort, PortTransport};
use lyncwall_common::fields::{IpAt, addresses};
use lyncwall_common::judging::Judging;
use lyncwall_common::packet::Packet;
use lyncwall_common::parse::{Headers, parse};
use lyncwall_common::tables::Rules as _;
use lyncwall_common::{target, zone};

use crate::compile::{Compiled, Input, Rule, TargetInput, owners};
use crate::judge::HostTables;
use crate::net::PortRange;

/// A generation, with its names.
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

/// The location of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Located {
    /// The zone of its arrival; `None` if the interface has none.
    pub zone: Option<String>,
    /// Its target, or `ZONE (outbound)` for a call out of a zone with outbound limits.
    pub target: Option<String>,
    /// The rule that opens its port, to any source.
    pub rule: Option<Rule>,
    /// The service of that rule's rows; empty for none.
    pub service: String,
    /// The groups of its source; of its destination, for a call out of a zone with outbound limits.
    pub groups: Vec<String>,
    /// True if its port is one of management and its destination may be this box.
    pub management_port: bool,
    /// True if its source is one of management.
    pub management_source: bool,
}

impl Located {
    /// The rule that opens the port, to any source: target, transport and ports.
    #[must_use]
    pub fn rule_name(&self) -> Option<String> {
        Some(rule_name(self.target.as_ref()?, self.rule.as_ref()?))
    }
}

impl Locator {
    /// The generation of `input`. `service` names the service of some rows.
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

    /// The names of targets and of outbound limits, as in [`Located::target`].
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.owners.iter().map(|owner| &*owner.name)
    }

    /// The names of the rules, as in [`Located::rule_name`].
    pub fn rules(&self) -> impl Iterator<Item = String> {
        self.owners.iter().flat_map(|owner| owner.inbound.iter().map(|rule| rule_name(&owner.name, rule)))
    }

    /// The location of a packet from the interface with this number; `None` if it is not IP.
    pub fn locate<P: Packet>(&self, ifindex: u32, packet: P) -> Option<Located> {
        let mut headers = Headers::UNREAD;
        // A packet that cannot be judged is located as far as it can be parsed.
        let _kind = parse(packet, &mut headers);
        headers.family?;
        let tables = HostTables::new(&self.compiled, ifindex);
        let judging = Judging { slot: 0, features: tables.features };
        let zone = zone::of(packet, &tables, judging);
        let place = IpAt::of(&headers).in_zone(zone);
        let (source, destination) = addresses(packet, place)?;
        let target = target::of(packet, &tables, place, judging);
        let owner = (target.policy != NO_POLICY).then(|| self.owners.get(target.policy as usize)).flatten();
        let port = headers.ports.map(|transport| (transport, headers.destination_port));
        let rule = owner.zip(port).and_then(|(owner, (transport, port))| rule_at(owner, transport, port));
        // A host behind a zone is in the groups of the zone; a called destination is in those of its address
        // only.
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
