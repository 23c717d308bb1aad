//! `lyncwall show`: a role on one screen of 80 columns.

use std::collections::BTreeMap;

use clap::Args;
use lyncwall_common::abi::PortTransport;
use lyncwall_policy::catalogue::{Catalogue, Choices, Closed, Open, Reading, Resolved};
use lyncwall_policy::net::PortRange;

use super::catalogue::{RoleSource, RolesOption};
use crate::output::Output;
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

/// The columns of the screen.
const WIDTH: usize = 80;
/// The columns for ports, in a list of ports with their services.
const PORTS: usize = 18;

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
    opens(catalogue, &resolved, output)?;
    calls(&resolved, output)?;
    closed(&resolved, output)?;
    overrides(catalogue, &roles, output)?;
    unknown(catalogue, &roles, output)?;
    if choices.bound.is_none() && resolved.inbound.iter().any(|rule| !rule.sources.is_empty()) {
        output.warn("ports of a group without prefixes are open to the world: set [groups]");
    }
    Ok(())
}

/// Prints the open ports under their sources; ports of one service share a line.
fn opens(catalogue: &Catalogue, resolved: &Resolved, output: &Output) -> anyhow::Result<()> {
    let mut sources: Vec<(String, Vec<Line>)> = Vec::new();
    for rule in &resolved.inbound {
        let from = from(rule);
        let at = sources.iter().position(|(known, _)| *known == from).unwrap_or_else(|| {
            sources.push((from, Vec::new()));
            sources.len() - 1
        });
        let (lines, names) = (&mut sources[at].1, catalogue.names(&rule.rows));
        match lines.iter_mut().find(|line| line.transport == rule.transport && line.names == names) {
            Some(line) => line.add(rule),
            None => lines.push(Line::of(rule, names)),
        }
    }
    // What is open to anybody comes first.
    sources.sort_by_key(|(from, _)| !from.starts_with(ANYWHERE));
    for (from, lines) in sources {
        output.heading(&format!("Opens from {from}"))?;
        for line in lines {
            let (rows, services) = (short(&line.rows), catalogue.services(&line.rows));
            let room = WIDTH.saturating_sub(2 + PORTS.max(line.ports().len()) + 2 + 2 + rows.len());
            let (ports, services) = (line.ports(), cut(&services, room));
            output.line(format!("  {ports:PORTS$}  {services:room$}  {rows}").trim_end())?;
        }
    }
    Ok(())
}

/// The ports of one service that are open to one list of sources.
struct Line {
    transport: PortTransport,
    ranges: Vec<PortRange>,
    names: String,
    rows: Vec<String>,
}

impl Line {
    fn of(rule: &Open, names: String) -> Self {
        let mut line = Self { transport: rule.transport, ranges: Vec::new(), names, rows: Vec::new() };
        line.add(rule);
        line
    }

    fn add(&mut self, rule: &Open) {
        self.ranges.push(PortRange::between(rule.first, rule.last));
        self.rows
            .extend(rule.rows.iter().filter(|row| !self.rows.contains(row)).cloned().collect::<Vec<_>>());
    }

    fn ports(&self) -> String {
        format!("{} {}", listed(&self.ranges, ","), self.transport.name())
    }
}

/// Prints the calls by their destinations.
fn calls(resolved: &Resolved, output: &Output) -> anyhow::Result<()> {
    let anywhere = vec![ANYWHERE.to_owned()];
    let mut calls: BTreeMap<&str, Ports> = BTreeMap::new();
    for call in &resolved.outbound {
        let to = if call.scope().is_empty() { &anywhere } else { &call.sources };
        for group in to {
            calls.entry(group).or_default().add(call.transport, call.first, call.last);
        }
    }
    let mut waiting: BTreeMap<String, Ports> = BTreeMap::new();
    for Closed { transport, first, last, sources, .. } in &resolved.closed_calls {
        waiting.entry(sources.join(" or ")).or_default().add(*transport, *first, *last);
    }
    if !calls.is_empty() {
        output.heading("Calls, where a zone in front of it has outbound = \"catalogue\"")?;
        for (to, ports) in calls {
            output.wrapped(&format!("  {to:PORTS$}  "), &ports.text(), WIDTH)?;
        }
    }
    if !waiting.is_empty() {
        output.heading("Would call, if the group had prefixes")?;
        for (to, ports) in waiting {
            output.wrapped(&format!("  {to:PORTS$}  "), &ports.text(), WIDTH)?;
        }
    }
    Ok(())
}

/// Ports by transport.
#[derive(Default)]
struct Ports(BTreeMap<PortTransport, Vec<PortRange>>);

impl Ports {
    fn add(&mut self, transport: PortTransport, first: u16, last: u16) {
        self.0.entry(transport).or_default().push(PortRange::between(first, last));
    }

    fn text(&self) -> String {
        let transports = self.0.iter();
        let texts =
            transports.map(|(transport, ports)| format!("{} {}", transport.name(), listed(ports, " ")));
        texts.collect::<Vec<_>>().join(", ")
    }
}

/// Prints the ports that stay closed; those of one reason share a paragraph.
fn closed(resolved: &Resolved, output: &Output) -> anyhow::Result<()> {
    let mut reasons: Vec<(&str, Ports)> = Vec::new();
    for Closed { transport, first, last, why, .. } in &resolved.closed {
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, ports)) => ports.add(*transport, *first, *last),
            None => {
                let mut ports = Ports::default();
                ports.add(*transport, *first, *last);
                reasons.push((why, ports));
            }
        }
    }
    if !reasons.is_empty() {
        output.heading("Keeps closed")?;
    }
    for (why, ports) in reasons {
        output.wrapped(&format!("  {:PORTS$}  ", ports.text()), why, WIDTH)?;
    }
    Ok(())
}

/// Prints the overrides that a role needs because the catalogue cannot know the ports, and those that it offers.
fn overrides(catalogue: &Catalogue, roles: &[&str], output: &Output) -> anyhow::Result<()> {
    for role in roles.iter().filter_map(|key| catalogue.role(key)) {
        if let Some(required) = &role.required_override {
            let text = format!("Add for {} an override of {}: {}", role.key, required.id, required.what);
            output.wrapped("", &text, WIDTH)?;
        }
        for preset in &role.presets {
            let text = format!("Can be set: optional = [\"{}\"]: {}", preset.id, preset.what);
            output.wrapped("", &text, WIDTH)?;
        }
    }
    Ok(())
}

/// Prints what such a box needs and the catalogue does not cover, so that nobody takes a part for the whole.
fn unknown(catalogue: &Catalogue, roles: &[&str], output: &Output) -> anyhow::Result<()> {
    let known = roles.iter().filter_map(|key| catalogue.role(key));
    let mut not_covered: Vec<&str> = Vec::new();
    for text in known.flat_map(|role| &role.unknown) {
        if !not_covered.contains(&text.as_str()) {
            not_covered.push(text);
        }
    }
    let documents = catalogue.sources_of(roles);
    if documents == 0 && not_covered.is_empty() {
        return Ok(());
    }
    output.heading(&format!("Documents known for this box: {documents}; not covered:"))?;
    not_covered.iter().try_for_each(|text| output.wrapped("  - ", text, WIDTH))
}

const ANYWHERE: &str = "anywhere";

fn from(rule: &Open) -> String {
    if rule.sources.is_empty() {
        ANYWHERE.to_owned()
    } else if rule.unbound.is_empty() {
        rule.sources.join(", ")
    } else {
        format!("{ANYWHERE}: set [groups].{}", rule.unbound.join(", "))
    }
}

/// Ranges, joined where they meet.
fn listed(ranges: &[PortRange], separator: &str) -> String {
    let joined = lyncwall_policy::net::joined(ranges.to_vec());
    joined.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

/// The first row, and the number of others.
fn short(rows: &[String]) -> String {
    match rows {
        [] => String::new(),
        [only] => only.clone(),
        [first, others @ ..] => format!("{first} +{}", others.len()),
    }
}

/// The text, with an ellipsis if it is too long.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}
