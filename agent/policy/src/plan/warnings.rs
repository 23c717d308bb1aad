//! Warnings: settings that are allowed but may be a mistake.

use std::collections::BTreeMap;

use lyncwall_common::abi::PortTransport;

use super::{Plan, Settings};
use crate::catalogue::Resolved;
use crate::config::{Outbound, Target};
use crate::net::PortRange;

impl Plan {
    /// One sentence each, about the file, these settings and the rules of their roles.
    #[must_use]
    pub fn warnings(&self, settings: &Settings) -> Vec<String> {
        let mut warnings = self.config.warnings();
        warnings.extend(settings.warnings());
        for target in &self.config.targets {
            let roles = settings.roles_of(&target.name);
            if let Ok(resolved) = self.resolve(&target.name, roles) {
                warnings.extend(unbound(target, &resolved));
                warnings.extend(self.waiting(target, roles));
                warnings.extend(self.required(target, roles));
                warnings.extend(self.closed_calls(target, &resolved));
            }
        }
        warnings
    }

    /// Enabled optional rows that wait for their group.
    fn waiting(&self, target: &Target, roles: &[String]) -> Vec<String> {
        let keys: Vec<&str> = roles.iter().map(String::as_str).collect();
        let waiting = self.catalogue.waiting(&keys, self.config.reading, &self.choices(Some(target)));
        let warnings = waiting.into_iter().map(|(id, groups)| {
            let groups = groups.join(" or ");
            format!("target {}: the optional row {id} stays closed until {groups} has prefixes", target.name)
        });
        warnings.collect()
    }

    /// Calls of servers behind a zone with outbound limits that wait for their groups, by those groups.
    fn closed_calls(&self, target: &Target, resolved: &Resolved) -> Vec<String> {
        let zones = self.config.zones.iter().enumerate();
        let mut limited = zones.filter(|(_, zone)| zone.outbound == Outbound::Catalogue);
        if limited.all(|(number, _)| number == target.zone) {
            return Vec::new();
        }
        let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for closed in &resolved.closed_calls {
            for group in &closed.sources {
                let stretch = stretch(closed.transport, closed.first, closed.last);
                ports.entry(group).or_default().push(stretch);
            }
        }
        let warnings = ports.into_iter().map(|(group, ports)| {
            let ports = ports.join(", ");
            format!("target {}: its calls to {ports} stay closed: set [groups].{group}", target.name)
        });
        warnings.collect()
    }

    /// Ports that the catalogue cannot know.
    fn required(&self, target: &Target, roles: &[String]) -> Vec<String> {
        let required = roles.iter().filter_map(|key| self.catalogue.role(key)).filter_map(|role| {
            let required = role.required_override.as_ref()?;
            let given = target.overrides.iter().any(|own| own.row.name == required.id);
            (!given).then(|| {
                format!(
                    "target {}: {} stays closed: {}; set it, as `overrides = {{ \"{}\" = \"49152-57500\" }}`",
                    target.name, required.id, required.what, required.id
                )
            })
        });
        required.collect()
    }
}

/// Ports that are open to the world because their group has no prefixes, by group.
fn unbound(target: &Target, resolved: &Resolved) -> Vec<String> {
    let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for rule in &resolved.inbound {
        for group in &rule.unbound {
            ports.entry(group).or_default().push(stretch(rule.transport, rule.first, rule.last));
        }
    }
    let warnings = ports.into_iter().map(|(group, ports)| {
        let are = if ports.len() == 1 { "is" } else { "are" };
        format!("target {}: {} {are} open to the world: set [groups].{group}", target.name, ports.join(", "))
    });
    warnings.collect()
}

fn stretch(transport: PortTransport, first: u16, last: u16) -> String {
    format!("{} {}", transport.name(), PortRange::between(first, last))
}
