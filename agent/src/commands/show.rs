//! `lyncwall show`.

use clap::Args;
use lyncwall_common::abi::PortTransport;
use lyncwall_policy::catalogue::{Catalogue, Choices, Open, Reading};
use lyncwall_policy::net::PortRange;

use super::catalogue::{RoleSource, RolesOption};
use crate::output::{Output, Table};
use crate::values;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The roles of one box.
    #[arg(required = true, value_name = "ROLE")]
    roles: Vec<String>,

    /// How to read the printed tables: `strict` honours directions and sources, `literal` opens every port
    /// from anywhere [default: as the configuration says, else strict]
    #[arg(long, value_parser = values::reading())]
    reading: Option<Reading>,

    #[command(flatten)]
    known: RolesOption,
}

pub(crate) fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let known = options.known.load(output)?;
    let catalogue = known.catalogue();
    let (said, choices) = match &known {
        RoleSource::Catalogue(_) => (Reading::default(), Choices::default()),
        RoleSource::Plan(plan) => (plan.config.reading, plan.choices(None)),
    };
    let reading = options.reading.unwrap_or(said);
    let roles: Vec<&str> = options.roles.iter().map(String::as_str).collect();
    let resolved = catalogue.resolve_with(&roles, reading, &choices)?;
    if output.json() {
        return output.value(&resolved);
    }
    output.line(&format!(
        "{}, {} reading of {}",
        roles.join(" + "),
        reading.as_str(),
        catalogue.edition()
    ))?;

    let mut table = Table::new(["PORTS", "", "FROM", "SERVICE", "ROWS"]);
    for rule in &resolved.inbound {
        let mut cells = stretch(rule.transport, rule.first, rule.last).to_vec();
        cells.extend([from(rule), catalogue.services(&rule.rows), rule.rows.join(" ")]);
        table.row(cells);
    }
    output.section("Opens", &table)?;

    let mut table = Table::new(["PORTS", "", "SERVICE", "ROWS"]);
    for rule in &resolved.outbound {
        let mut cells = stretch(rule.transport, rule.first, rule.last).to_vec();
        cells.extend([catalogue.services(&rule.rows), rule.rows.join(" ")]);
        table.row(cells);
    }
    output.section("Calls out to", &table)?;

    let mut table = Table::new(["PORTS", "", "ROWS", "WHY"]);
    for closed in &resolved.closed {
        let mut cells = stretch(closed.transport, closed.first, closed.last).to_vec();
        cells.extend([closed.rows.join(" "), closed.why.clone()]);
        table.row(cells);
    }
    output.section("Known, but closed", &table)?;
    overrides(catalogue, &roles, output)?;
    if choices.bound.is_none() && resolved.inbound.iter().any(|rule| !rule.sources.is_empty()) {
        output.warn("ports of a group without prefixes are open to the world: set [groups]");
    }
    Ok(())
}

/// Prints the overrides that a role needs because the catalogue cannot know the ports.
fn overrides(catalogue: &Catalogue, roles: &[&str], output: &Output) -> anyhow::Result<()> {
    for role in roles.iter().filter_map(|key| catalogue.role(key)) {
        if let Some(required) = &role.required_override {
            output.line("")?;
            output
                .line(&format!("Add for {} an override of {}: {}.", role.key, required.id, required.what))?;
        }
    }
    Ok(())
}

fn stretch(transport: PortTransport, first: u16, last: u16) -> [String; 2] {
    [PortRange::between(first, last).to_string(), transport.name().to_owned()]
}

fn from(rule: &Open) -> String {
    if rule.sources.is_empty() {
        "anywhere".to_owned()
    } else if rule.unbound.is_empty() {
        rule.sources.join(", ")
    } else {
        format!("anywhere: set [groups].{}", rule.unbound.join(", "))
    }
}
