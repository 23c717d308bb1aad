//! Warnings: settings that are allowed but may be a mistake.

use std::collections::BTreeMap;

use super::{Plan, Settings};
use crate::catalogue::{Open, Resolved};
use crate::config::Target;
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
            ports.entry(group).or_default().push(stretch(rule));
        }
    }
    let warnings = ports.into_iter().map(|(group, ports)| {
        let are = if ports.len() == 1 { "is" } else { "are" };
        format!("target {}: {} {are} open to the world: set [groups].{group}", target.name, ports.join(", "))
    });
    warnings.collect()
}

fn stretch(rule: &Open) -> String {
    let transport = rule.transport.name();
    let ports = PortRange::between(rule.first, rule.last);
    format!("{transport} {ports}")
}
