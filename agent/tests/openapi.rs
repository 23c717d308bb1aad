//! `docs/openapi.json` is the document that the agent serves.

use std::fs;
use std::path::Path;

/// Set to anything, it has the test write the document in the place of comparing it.
const WRITE: &str = "LYNCWALL_WRITE_OPENAPI";

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
