//! `docs/openapi.json` is the document that the agent serves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Set to anything, it has the test write the document in the place of comparing it.
const WRITE: &str = "LYNCWALL_WRITE_OPENAPI";

#[test]
fn every_field_of_an_event_is_documented() {
    let document = serde_json::to_value(lyncwall::server::openapi()).expect("a document");
    let fields = document["components"]["schemas"]["Event"]["properties"].as_object().expect("an event");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md"));
    let text = text.expect("docs/events.md can be read");
    let rows =
        text.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let named: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(named, fields.keys().map(String::as_str).collect());
}

#[test]
fn the_openapi_document_in_the_repository_is_that_of_the_agent() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let served = lyncwall::server::openapi().to_pretty_json().expect("a document") + "\n";
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, &served).expect("docs/openapi.json can be written");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    // The whole of it would hide the command.
    assert!(
        kept == served,
        "docs/openapi.json is not what the agent serves: write it by `{WRITE}=1 cargo test -p lyncwall --test openapi`"
    );
}
