//! `lyncwall show`.

use clap::Args;
use lyncwall::catalogue::{Catalogue, Ports, Reading, Transport};

use super::catalogue::CatalogueOption;
use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The roles of the box; several make one box.
    #[arg(required = true, value_name = "ROLE")]
    roles: Vec<String>,

    /// How to read the printed tables: `strict` honours directions and sources, `literal` opens every printed
    /// port from anywhere.
    #[arg(long, value_enum, default_value = "strict")]
    reading: Reading,

    #[command(flatten)]
    catalogue: CatalogueOption,
}

pub(crate) fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let catalogue = options.catalogue.load()?;
    let roles: Vec<&str> = options.roles.iter().map(String::as_str).collect();
    let resolved = catalogue.resolve(&roles, options.reading)?;
    if output.json() {
        return output.value(&resolved);
    }
    output.line(&format!(
        "{}, {} reading of {}",
        roles.join(" + "),
        options.reading.as_str(),
        catalogue.edition()
    ))?;

    let mut table = Table::new(["PORTS", "", "FROM", "SERVICE", "ROWS"]);
    for rule in &resolved.inbound {
        let mut cells = stretch(rule.transport, rule.first, rule.last).to_vec();
        cells.extend([from(&rule.sources), catalogue.services(&rule.rows), rule.rows.join(" ")]);
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
    output.section("Known, but stays closed", &table)?;
    overrides(&catalogue, &roles, output)?;
    if resolved.inbound.iter().any(|rule| !rule.sources.is_empty()) {
        output.warn("this version has no source groups: the agent opens all of these ports to everybody");
    }
    Ok(())
}

/// Says what the catalogue cannot know.
fn overrides(catalogue: &Catalogue, roles: &[&str], output: &Output) -> anyhow::Result<()> {
    for role in roles.iter().filter_map(|key| catalogue.role(key)) {
        if let Some(missing) = &role.required_override {
            output.line("")?;
            output.line(&format!("To be added for {}: {missing}.", role.key))?;
        }
    }
    Ok(())
}

fn stretch(transport: Transport, first: u16, last: u16) -> [String; 2] {
    [Ports { first, last }.to_string(), transport.as_str().to_owned()]
}

fn from(sources: &[String]) -> String {
    if sources.is_empty() { "anywhere".to_owned() } else { sources.join(", ") }
}
