//! `lyncwall check`.

use std::path::PathBuf;

use clap::Args;
use lyncwall_datapath::{exposure, host, listening};
use lyncwall_policy::plan::Plan;
use serde::Serialize;

use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    config: ConfigOption,
}

/// The configuration file that commands read by default.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/lyncwall/lyncwall.toml";

/// Which configuration to read.
#[derive(Debug, Args)]
pub(crate) struct ConfigOption {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
}

#[derive(Serialize)]
struct Checked {
    interfaces: Vec<String>,
    targets: Vec<Target>,
    groups: Vec<Group>,
    allow: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Group {
    name: String,
    prefixes: usize,
    /// The zone, for a group that is a zone instead of prefixes.
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

#[derive(Serialize)]
struct Target {
    name: String,
    roles: Vec<String>,
}

/// Warnings about groups in `[api]` that this box does not have; the file may be meant for another box.
fn groups(plan: &Plan) -> Vec<String> {
    host::unknown_groups(&plan.config.api).iter().map(ToString::to_string).collect()
}

pub(crate) fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let plan = Plan::read(&options.config.config)?;
    let settings = plan.settings();
    let checked = Checked {
        interfaces: plan.config.interfaces.iter().map(|interface| interface.name.to_string()).collect(),
        targets: settings
            .roles
            .iter()
            .map(|(name, roles)| Target { name: name.clone(), roles: roles.clone() })
            .collect(),
        groups: plan
            .config
            .groups
            .iter()
            .map(|group| Group {
                name: group.name.to_string(),
                prefixes: group.prefixes.len(),
                zone: group.zone.map(|zone| plan.config.zones[zone].name.clone()),
            })
            .collect(),
        allow: plan.config.allow.iter().map(|rule| rule.name.clone()).collect(),
        warnings: [
            plan.warnings(&settings),
            exposure::warnings(&plan, &settings),
            host::silent_interfaces(&plan.config),
            listening::warning(plan.config.management.as_ref()).into_iter().collect(),
            groups(&plan),
        ]
        .concat(),
    };
    if output.json() {
        return output.value(&checked);
    }
    output.line(&format!("{} has no mistakes", options.config.config.display()))?;
    let mut table = Table::plain();
    table.row(["interfaces".to_owned(), checked.interfaces.join(", ")]);
    for target in &checked.targets {
        let roles = if target.roles.is_empty() { "no role".to_owned() } else { target.roles.join(", ") };
        table.row([format!("target {}", target.name), roles]);
    }
    if !checked.groups.is_empty() {
        let group = |group: &Group| match (&group.zone, group.prefixes) {
            (Some(zone), _) => format!("{} (zone {zone})", group.name),
            (None, 1) => format!("{} (1 prefix)", group.name),
            (None, several) => format!("{} ({several} prefixes)", group.name),
        };
        table.row(["groups".to_owned(), checked.groups.iter().map(group).collect::<Vec<_>>().join(", ")]);
    }
    if !checked.allow.is_empty() {
        table.row(["allow rules".to_owned(), checked.allow.join(", ")]);
    }
    output.table(&table)?;
    for warning in &checked.warnings {
        output.warn(warning);
    }
    Ok(())
}
