//! `lyncwall check`.

use std::path::{Path, PathBuf};

use clap::Args;
use lyncwall_datapath::{exposure, host, listening};
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::{Problem, Problems};
use lyncwall_policy::text::counted;
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
    /// The configuration file; `-` is stdin, except for `run`.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
}

/// The file name that means stdin.
pub(crate) const STDIN: &str = "-";

/// Reads a configuration; `-` is stdin, and catalogues are relative to the working directory then.
///
/// # Errors
/// The mistakes of the file; a stdin that cannot be read is one.
pub(super) fn read(file: &Path) -> Result<Plan, Problems> {
    if file != Path::new(STDIN) {
        return Plan::read(file);
    }
    let text = std::io::read_to_string(std::io::stdin().lock()).map_err(|error| {
        Problem::new(format!("cannot read the configuration from stdin: {error}"), "send it as UTF-8 text")
    })?;
    Plan::parse(&text, Path::new("stdin"))
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

pub(crate) fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let plan = read(&options.config.config)?;
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
            host::doubts(&plan.config),
        ]
        .concat(),
    };
    if output.json() {
        return output.value(&checked);
    }
    output.line(&format!("{} has no mistakes", plan.file.display()))?;
    let mut table = Table::plain();
    table.row(["interfaces".to_owned(), checked.interfaces.join(", ")]);
    for target in &checked.targets {
        let roles = if target.roles.is_empty() { "no role".to_owned() } else { target.roles.join(", ") };
        table.row([format!("target {}", target.name), roles]);
    }
    if !checked.groups.is_empty() {
        let group = |group: &Group| match (&group.zone, group.prefixes) {
            (Some(zone), _) => format!("{} (zone {zone})", group.name),
            (None, count) => format!("{} ({})", group.name, counted(count, "prefix", "prefixes")),
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
