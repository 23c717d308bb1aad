//! Zones: the outbound calls of each, and its interfaces.

use std::collections::BTreeSet;

use lyncwall_common::abi::PortTransport;

use super::{Machine, Plan, Roles, added_and_removed};
use crate::catalogue::{Choices, Reading};
use crate::compile::{InterfaceInput, Rule, ZoneInput};
use crate::config::{Config, Interface, Outbound};
use crate::connection::Leg;
use crate::problem::Problems;

impl Plan {
    /// An outbound policy for each zone with an interface on this machine.
    #[must_use]
    pub fn legs(&self, machine: &Machine) -> Vec<Leg> {
        let there =
            || self.config.interfaces.iter().zip(&machine.interfaces).filter(|(_, ifindex)| **ifindex != 0);
        let leg = |zone: usize| {
            let whole = there().find(|(interface, _)| interface.zone == zone);
            let untagged = whole.map(|(_, &ifindex)| Leg { ifindex, vlan: 0 });
            untagged.or_else(|| {
                there().find_map(|(interface, &ifindex)| {
                    let (vlan, _) = interface.vlans.iter().find(|(_, number)| *number == zone)?;
                    Some(Leg { ifindex, vlan: *vlan })
                })
            })
        };
        match &*self.config.zones {
            [_] if machine.interfaces.iter().all(|ifindex| *ifindex == 0) => Vec::new(),
            [_] => vec![Leg::default()],
            zones => (0..zones.len()).filter_map(leg).collect(),
        }
    }

    /// True if an interface or a VLAN has moved to a zone with another number.
    #[must_use]
    pub fn moves_zones(&self, before: &Self) -> bool {
        let stays = |interface: &Interface| {
            let is_it = |other: &&Interface| other.name == interface.name;
            let other = before.config.interfaces.iter().find(is_it);
            other.is_some_and(|other| (other.zone, &other.vlans) == (interface.zone, &interface.vlans))
        };
        let several = self.config.zones.len() > 1 || before.config.zones.len() > 1;
        several && !self.config.interfaces.iter().all(stays)
    }

    /// The numbers of zones whose name has changed: their flows belong to another network.
    #[must_use]
    pub fn renamed_zones(&self, before: &Self) -> Vec<u16> {
        let both = self.config.zones.iter().zip(&before.config.zones);
        (0..).zip(both).filter(|(_, (now, then))| now.name != then.name).map(|(number, _)| number).collect()
    }

    /// The zones, with the outbound calls that these roles allow.
    pub(super) fn zones(&self, roles: &Roles) -> Result<Vec<ZoneInput>, Problems> {
        let zones = self.config.zones.iter().enumerate();
        zones
            .map(|(number, zone)| {
                let outbound = match zone.outbound {
                    Outbound::Unmatched => None,
                    Outbound::Catalogue => Some(self.called_from(number, roles)?),
                };
                Ok(ZoneInput { name: zone.name.clone(), unmatched: zone.unmatched, outbound })
            })
            .collect()
    }

    /// The groups at which roles would call a port from behind a zone, with prefixes or without.
    #[must_use]
    pub fn called_groups(
        &self,
        zone: usize,
        roles: &Roles,
        transport: PortTransport,
        port: u16,
    ) -> BTreeSet<String> {
        let mut groups = BTreeSet::new();
        for target in self.config.targets.iter().filter(|target| target.zone != zone) {
            let keys: Vec<&str> =
                roles.get(&*target.name).into_iter().flatten().map(String::as_str).collect();
            // Without the groups that have prefixes, a call has all its groups.
            let choices = Choices { bound: None, ..self.choices(Some(target)) };
            let Ok(resolved) = self.catalogue.resolve_with(&keys, Reading::Strict, &choices) else {
                continue;
            };
            let called = resolved
                .outbound
                .into_iter()
                .filter(|call| call.transport == transport && (call.first..=call.last).contains(&port));
            groups.extend(called.flat_map(|call| call.sources));
        }
        groups
    }

    /// The calls of roles of targets in other zones, whose servers are behind this zone. Uses the strict
    /// reading: the literal one knows no directions.
    fn called_from(&self, zone: usize, roles: &Roles) -> Result<Vec<Rule>, Problems> {
        let mut called = Vec::new();
        for target in self.config.targets.iter().filter(|target| target.zone != zone) {
            let keys: Vec<&str> =
                roles.get(&*target.name).into_iter().flatten().map(String::as_str).collect();
            let choices = self.choices(Some(target));
            let resolved = self.catalogue.resolve_with(&keys, Reading::Strict, &choices)?;
            called.extend(resolved.outbound.into_iter().map(Rule::from));
        }
        Ok(union(&called))
    }
}

/// Splits overlapping rules: rules that share ports become one with all rows and groups.
fn union(rules: &[Rule]) -> Vec<Rule> {
    let mut parts: Vec<Rule> = Vec::new();
    for transport in PortTransport::ALL {
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.transport == transport).collect();
        // Every port at which the set of rules may change; one past 65535 fits a u32.
        let edges: BTreeSet<u32> =
            rules.iter().flat_map(|rule| [u32::from(rule.first), u32::from(rule.last) + 1]).collect();
        for (&from, &until) in edges.iter().zip(edges.iter().skip(1)) {
            let (Ok(first), Ok(last)) = (u16::try_from(from), u16::try_from(until - 1)) else { continue };
            let holding: Vec<&&Rule> =
                rules.iter().filter(|rule| rule.first <= first && last <= rule.last).collect();
            if holding.is_empty() {
                continue;
            }
            let rows: BTreeSet<&String> = holding.iter().flat_map(|rule| &rule.rows).collect();
            let anybody = holding.iter().any(|rule| rule.groups.is_empty());
            let groups: BTreeSet<&String> =
                holding.iter().filter(|_| !anybody).flat_map(|rule| &rule.groups).collect();
            let part = Rule {
                transport,
                first,
                last,
                groups: groups.into_iter().cloned().collect(),
                rows: rows.into_iter().cloned().collect(),
            };
            match parts.last_mut() {
                Some(before) if goes_on(before, &part) => before.last = last,
                _ => parts.push(part),
            }
        }
    }
    parts
}

/// True if the second rule continues the first one with equal rows and groups.
fn goes_on(before: &Rule, part: &Rule) -> bool {
    u32::from(before.last) + 1 == u32::from(part.first)
        && (before.transport, &before.groups, &before.rows) == (part.transport, &part.groups, &part.rows)
}

/// The interfaces on a machine.
pub(super) fn interfaces(config: &Config, machine: &Machine) -> Vec<InterfaceInput> {
    let input = |(interface, &ifindex): (&Interface, &u32)| InterfaceInput {
        ifindex,
        members: machine
            .members
            .iter()
            .filter(|(bond, _)| *bond == ifindex)
            .map(|(_, member)| *member)
            .collect(),
        zone: interface.zone,
        vlans: interface.vlans.clone(),
        dhcp_client: interface.dhcp_client,
    };
    config.interfaces.iter().zip(&machine.interfaces).map(input).collect()
}

/// The differences in the zones, one sentence each.
pub(super) fn differences(old: &Config, new: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    match (&*old.zones, &*new.zones) {
        ([before], [after]) if before.unmatched != after.unmatched => {
            let text = format!("unmatched: {:?} to {:?}", before.unmatched, after.unmatched);
            differences.push(text.to_lowercase());
        }
        ([_], [_]) => {}
        _ => added_and_removed(&mut differences, "zone", &described(old), &described(new)),
    }
    differences
}

/// Describes each zone.
fn described(config: &Config) -> Vec<String> {
    let zone = |(number, zone): (usize, &crate::config::Zone)| {
        let whole = config.interfaces.iter().filter(|interface| interface.zone == number);
        let mut holds: Vec<String> = whole.map(|interface| interface.name.to_string()).collect();
        for interface in &config.interfaces {
            let vlans = interface.vlans.iter().filter(|(_, zone)| *zone == number);
            holds.extend(vlans.map(|(vlan, _)| format!("{} VLAN {vlan}", interface.name)));
        }
        let targets = config.targets.iter().filter(|target| target.zone == number);
        holds.extend(targets.map(|target| format!("target {}", target.name)));
        let policy = match zone.outbound {
            Outbound::Catalogue => "outbound catalogue".to_owned(),
            Outbound::Unmatched => format!("unmatched {:?}", zone.unmatched).to_lowercase(),
        };
        format!("{}: {policy}; {}", zone.name, holds.join(", "))
    };
    config.zones.iter().enumerate().map(zone).collect()
}

#[cfg(test)]
mod tests {
    use lyncwall_common::abi::PortTransport;

    use super::union;
    use crate::compile::Rule;

    fn rule(first: u16, last: u16, row: &str, groups: &[&str]) -> Rule {
        let groups = groups.iter().map(ToString::to_string).collect();
        Rule { transport: PortTransport::Tcp, first, last, groups, rows: vec![row.to_owned()] }
    }

    #[test]
    fn rules_of_several_targets_are_one_list_without_overlap() {
        let both = union(&[rule(10, 20, "a", &["x"]), rule(15, 65_535, "b", &["y"]), rule(18, 18, "c", &[])]);
        let joined: Vec<(u16, u16, String, String)> = both
            .iter()
            .map(|rule| (rule.first, rule.last, rule.rows.join(" "), rule.groups.join(" ")))
            .collect();
        let part = |first, last, rows: &str, groups: &str| (first, last, rows.to_owned(), groups.to_owned());
        assert_eq!(
            joined,
            [
                part(10, 14, "a", "x"),
                part(15, 17, "a b", "x y"),
                part(18, 18, "a b c", ""),
                part(19, 20, "a b", "x y"),
                part(21, 65_535, "b", "y"),
            ]
        );
        assert_eq!(union(&[rule(1, 5, "a", &[]), rule(6, 9, "a", &[])]), [rule(1, 9, "a", &[])]);
        assert!(union(&[]).is_empty());
    }
}
