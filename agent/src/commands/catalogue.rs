//! `lyncwall catalogue`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use lyncwall_policy::catalogue::{BUILT_IN, Catalogue, Row};
use lyncwall_policy::net::PortRange;
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::{Problem, Problems};

use super::check::{DEFAULT_CONFIG, read};
use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rows to show in full, with their printed source; without any, lists all rows.
    #[arg(value_name = "ROW")]
    rows: Vec<String>,

    #[command(flatten)]
    catalogue: CatalogueOption,
}

/// Which catalogue to take roles from: that of a configuration, or a catalogue alone.
#[derive(Debug, Args)]
pub(crate) struct RolesOption {
    /// A built-in catalogue or a file, instead of that of the configuration.
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "config")]
    catalogue: Option<String>,

    /// The configuration with the catalogue, own roles and groups [default: /etc/lyncwall/lyncwall.toml if
    /// readable, else the built-in catalogue]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The source of the roles that a command knows.
pub(crate) enum RoleSource {
    /// A catalogue alone.
    Catalogue(Catalogue),
    /// A configuration with its catalogue and own roles.
    Plan(Box<Plan>),
}

impl RolesOption {
    /// Reads the source that the options name.
    pub(crate) fn load(&self, output: &Output) -> Result<RoleSource, Problems> {
        let default = Path::new(DEFAULT_CONFIG);
        match (&self.catalogue, &self.config) {
            (Some(name), _) => Ok(RoleSource::Catalogue(Catalogue::load(name, Path::new(""))?)),
            (None, Some(file)) => Ok(RoleSource::Plan(Box::new(read(file)?))),
            // A user without access to the configuration may still look at roles.
            (None, None) if std::fs::File::open(default).is_err() => {
                Ok(RoleSource::Catalogue(Catalogue::load(BUILT_IN, Path::new(""))?))
            }
            (None, None) => match Plan::read(default) {
                Ok(plan) => Ok(RoleSource::Plan(Box::new(plan))),
                Err(_) => {
                    output.warn(&format!(
                        "{DEFAULT_CONFIG} has mistakes: ignoring its roles and groups; run `lyncwall check`"
                    ));
                    Ok(RoleSource::Catalogue(Catalogue::load(BUILT_IN, Path::new(""))?))
                }
            },
        }
    }
}

impl RoleSource {
    /// The catalogue, with the own roles of the configuration.
    pub(crate) fn catalogue(&self) -> &Catalogue {
        match self {
            Self::Catalogue(catalogue) => catalogue,
            Self::Plan(plan) => &plan.catalogue,
        }
    }
}

/// Which catalogue to read.
#[derive(Debug, Args)]
pub(crate) struct CatalogueOption {
    /// A built-in catalogue or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = BUILT_IN)]
    catalogue: String,
}

impl CatalogueOption {
    /// Reads the catalogue; a relative path starts at the working directory.
    pub(crate) fn load(&self) -> Result<Catalogue, Problems> {
        Catalogue::load(&self.catalogue, Path::new(""))
    }
}

pub(crate) fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let catalogue = options.catalogue.load()?;
    let chosen = choose(&catalogue, &options.rows)?;
    if output.json() {
        return output.value(&chosen);
    }
    if options.rows.is_empty() {
        let mut table = Table::new(["ROW", "PORTS", "", "DIRECTION", "PROTOCOL", "ROLE", "SERVICE"]);
        for row in chosen {
            table.row([
                row.id.to_string(),
                ports(&row.ports),
                row.transport.as_str().to_owned(),
                row.direction.as_str().to_owned(),
                row.application.clone(),
                short(&row.role),
                row.service.clone().unwrap_or_default(),
            ]);
        }
        return output.table(&table);
    }
    for row in chosen {
        output.section(row.id.as_str(), &details(&catalogue, row))?;
    }
    Ok(())
}

/// Cuts a role's list after the first entry: the row of the phones prints eight models as its role.
fn short(role: &str) -> String {
    match role.split_once("; ") {
        Some((first, _)) => format!("{first}; …"),
        None => role.to_owned(),
    }
}

fn choose<'a>(catalogue: &'a Catalogue, ids: &[String]) -> Result<Vec<&'a Row>, Problems> {
    if ids.is_empty() {
        return Ok(catalogue.rows().iter().collect());
    }
    let mut problems = Problems::default();
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        match catalogue.row(id) {
            Some(row) => rows.push(row),
            None => problems
                .push(Problem::new(format!("unknown row `{id}`"), "`lyncwall catalogue` lists all rows")),
        }
    }
    problems.or(rows)
}

fn details(catalogue: &Catalogue, row: &Row) -> Table {
    let strict = &row.strict;
    let mut ruling = strict.ruling.as_str().to_owned();
    if let Some(narrower) = &strict.ports {
        ruling += &format!(", port {}", ports(narrower));
    }
    if let Some(port) = strict.from_port {
        ruling += &format!(" from port {port}");
    }
    if !strict.groups.is_empty() {
        ruling += &format!(", from {}", strict.groups.join(" and "));
    }
    if !strict.more.is_empty() {
        ruling += &format!(", and from {} where it has prefixes", strict.more.join(" and "));
    }
    if !strict.why.is_empty() {
        ruling += &format!(": {}", strict.why);
    }
    let facts = [
        ("ports", format!("{} {}", ports(&row.ports), row.transport.as_str())),
        ("protocol", row.application.clone()),
        ("role", row.role.clone()),
        ("service", row.service.clone().unwrap_or_default()),
        ("direction", row.direction.as_str().to_owned()),
        ("source", row.source.clone().unwrap_or_default()),
        ("destination", row.destination.clone().unwrap_or_default()),
        ("optional", if row.optional { "as printed".to_owned() } else { String::new() }),
        ("strict", ruling),
        ("note", row.note.clone()),
        ("table", row.printed.place()),
    ];
    let mut table = Table::plain();
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        table.row([name.to_owned(), value]);
    }
    for (key, line) in &row.printed.lines {
        let document = catalogue.documents().get(key);
        let named =
            document.map_or(key.clone(), |document| format!("{} ({})", document.title, document.language));
        table.row(["printed".to_owned(), format!("{named}, line {line}")]);
    }
    let titles = |pages: &[String]| {
        let titles = pages.iter().filter_map(|page| catalogue.title(page));
        titles.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for title in titles(row.printed.page.as_slice()) {
        table.row(["printed".to_owned(), title]);
    }
    for title in titles(&strict.pages) {
        table.row(["ruled by".to_owned(), title]);
    }
    table
}

fn ports(ranges: &[PortRange]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
