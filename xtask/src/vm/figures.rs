//! What a kernel's verifier and attach points had to say, as tables.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::guest::Hardware;
use super::output::Ended;
use crate::process::Failure;
use crate::workspace;

/// The page that keeps the tables, from the root of the workspace.
const PAGE: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- figures: begin, by `cargo xtask vm --table` -->\n";
const END: &str = "<!-- figures: end -->";

/// What the guest's program prints before its figures.
const LABEL: &str = "figures: ";

/// The figures of one kernel.
#[derive(Debug)]
pub(crate) struct Row {
    figures: Value,
}

/// The figures in the output of the program that measures, if they are there.
pub(crate) fn of(step: &Ended) -> Option<Row> {
    let line = step.lines.iter().find_map(|line| line.strip_prefix(LABEL))?;
    let figures: Value = serde_json::from_str(line).ok()?;
    figures.is_object().then_some(Row { figures })
}

/// Columns: heading, field, unit.
const COLUMNS: [(&str, &str, &str); 8] = [
    ("program", "program", ""),
    ("load", "load_ms", " ms"),
    ("verified instructions", "verified_instructions", ""),
    ("stack", "stack_bytes", " bytes"),
    ("XDP attached by", "xdp", ""),
    ("egress attached by", "egress", ""),
    ("test run names an interface", "test_run_interface", ""),
    ("ring buffer", "ring_buffer", ""),
];

/// The tables: figures, and devices where any kernel tells of them.
pub(crate) fn tables(rows: &[Row], hardware: Hardware) -> String {
    let mut text = format!("Measured with {}, one processor for each guest.\n\n", hardware.describe());
    let headings = ["kernel"].into_iter().chain(COLUMNS.map(|column| column.0));
    let cells = |row: &Row| {
        let figures = COLUMNS.iter().map(|(_, field, unit)| shown(&row.figures[field], unit));
        [shown(&row.figures["kernel"], "")].into_iter().chain(figures).collect::<Vec<_>>()
    };
    text.push_str(&table(&headings.collect::<Vec<_>>(), rows.iter().map(cells)));
    let mut devices: Vec<&str> = Vec::new();
    for name in rows.iter().filter_map(|row| row.figures["devices"].as_object()).flat_map(|map| map.keys()) {
        if !devices.contains(&name.as_str()) {
            devices.push(name);
        }
    }
    if !devices.is_empty() {
        text.push_str("\nThe mode in which the program is attached to each kind of interface:\n\n");
        let headings: Vec<&str> = ["kernel"].into_iter().chain(devices.iter().copied()).collect();
        let cells = |row: &Row| {
            // Why one is refused is too long for a table.
            let mode = |device: &&str| shown(&row.figures["devices"][device], "");
            let modes =
                devices.iter().map(|device| mode(device).split(':').next().unwrap_or_default().to_owned());
            [shown(&row.figures["kernel"], "")].into_iter().chain(modes).collect::<Vec<_>>()
        };
        text.push_str(&table(&headings, rows.iter().map(cells)));
    }
    text
}

/// Writes the tables where the page keeps them.
///
/// # Errors
/// A [`Failure`] where the page has no place for them.
pub(crate) fn keep(tables: &str) -> Result<()> {
    let page = workspace::root().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| PAGE)?;
    let text = replaced(&text, tables).ok_or_else(|| {
        Failure::new(
            format!("{PAGE} has no place for the tables"),
            format!("put `{}` and `{END}` into it", BEGIN.trim()),
        )
    })?;
    fs::write(&page, text).with_context(|| PAGE)
}

fn replaced(page: &str, tables: &str) -> Option<String> {
    let start = page.find(BEGIN)? + BEGIN.len();
    let end = start + page[start..].find(END)?;
    Some(format!("{}\n{tables}\n{}", &page[..start], &page[end..]))
}

fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&headings.iter().map(|&heading| heading.to_owned()).collect::<Vec<_>>());
    text.push_str(&format!("|{}\n", "---|".repeat(headings.len())));
    rows.for_each(|row| text.push_str(&line(&row)));
    text
}

/// A value for people; what was not told is `?`.
fn shown(value: &Value, unit: &str) -> String {
    match value {
        Value::Null => "?".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.replace('|', "/").replace('\n', " "),
        Value::Number(number) => format!("{number}{unit}"),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(line: &str) -> Option<Row> {
        let lines = vec!["noise".to_owned(), line.to_owned()];
        of(&Ended { name: "guest".to_owned(), status: 0, took: Duration::ZERO, lines })
    }

    #[test]
    fn figures_become_tables_and_what_is_missing_shows() {
        let old = row(
            r#"figures: {"kernel":"5.10.0-32","load_ms":12.3,"egress":"clsact","devices":{"vlan":"generic"}}"#,
        );
        let new = row(
            r#"figures: {"kernel":"7.2.13","ring_buffer":true,"more":[1],"devices":{"vlan":"native","gre":"refused: a|b"}}"#,
        );
        let text = tables(&[old.expect("figures"), new.expect("figures")], Hardware::Emulated);
        assert!(text.contains("| 5.10.0-32 | ? | 12.3 ms | ? | ? | ? | clsact | ? | ? |"), "{text}");
        assert!(text.contains("| 7.2.13 | ? | ? | ? | ? | ? | ? | ? | yes |"), "{text}");
        assert!(
            text.contains("| kernel | vlan | gre |\n|---|---|---|\n| 5.10.0-32 | generic | ? |"),
            "{text}"
        );
        assert!(text.contains("| 7.2.13 | native | refused |"), "{text}");
    }

    #[test]
    fn output_without_figures_has_none() {
        for line in ["figures: ", "figures: [1]", "figures {}", "load_ms 1"] {
            assert!(row(line).is_none(), "{line}");
        }
    }

    #[test]
    fn the_page_keeps_what_is_around_the_tables() {
        let page = format!("# Page\n\n{BEGIN}old\n{END}\n\nmore\n");
        let new = replaced(&page, "| a |\n").expect("it has a place");
        assert_eq!(new, format!("# Page\n\n{BEGIN}\n| a |\n\n{END}\n\nmore\n"));
        assert_eq!(replaced("# Page\n", ""), None);
    }
}
