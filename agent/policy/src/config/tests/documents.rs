//! The configurations that are shown to users are good ones.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::read;
use crate::plan::Plan;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate is in the repository")
}

/// All files under `folder` with the extension `extension`; none where the folder is not there.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("a folder that can be read").path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_sample_is_a_good_configuration() {
    let samples: Vec<PathBuf> = files(&repository().join("config"), "toml")
        .into_iter()
        .filter(|path| !path.ends_with("config/lync-2013.toml"))
        .collect();
    assert!(samples.len() >= 4, "the sample and the examples: {samples:?}");
    for path in samples {
        let plan = Plan::read(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(plan.config.management.is_some(), "{} shows a box without management", path.display());
    }
}

/// Blocks that start with a comment `# not a configuration` are other files.
#[test]
fn every_toml_block_of_the_documents_is_a_good_configuration() {
    let mut documents = files(&repository().join("docs"), "md");
    documents.extend(["README.md", "ARCHITECTURE.md"].map(|name| repository().join(name)));
    for path in documents.iter().filter(|path| path.exists()) {
        let text = fs::read_to_string(path).expect("a document that can be read");
        for (line, block) in toml_blocks(&text) {
            if let Err(problems) = Plan::parse(&block, path) {
                panic!("the block at {}:{line} is a bad configuration:\n{problems}", path.display());
            }
        }
    }
}

/// The ```` ```toml ```` blocks, with the line that each starts on.
fn toml_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, text) in (1..).zip(text.lines()) {
        match &mut open {
            None if text.trim() == "```toml" => open = Some((line, String::new())),
            None => {}
            Some(_) if text.trim() == "```" => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(text);
                block.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a ```toml block is not closed");
    blocks.retain(|(_, block)| !block.starts_with("# not a configuration"));
    blocks
}

#[test]
fn toml_blocks_are_found() {
    let text = "a\n```toml\nb = 1\n```\n```sh\nc\n```\n```toml\n# not a configuration\n```\n";
    assert_eq!(toml_blocks(text), [(2, "b = 1\n".to_owned())]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_with_a_fix() {
    let missing = read(&repository().join("config/no-such-file.toml")).expect_err("there is no such file");
    let text = missing.to_string();
    assert!(text.contains("config/no-such-file.toml: ") && text.contains("--config FILE"), "{text}");
    let folder = read(&repository().join("config")).expect_err("a folder is no file").to_string();
    assert!(folder.contains("name a file in it"), "{folder}");
}

#[test]
fn a_file_that_is_not_utf8_names_the_place() {
    let path = std::env::temp_dir().join(format!("lyncwall-config-{}.toml", std::process::id()));
    fs::write(&path, b"mode = \"audit\"\nname = \"\xff\"\n").expect("a temporary file");
    let found = read(&path);
    fs::remove_file(&path).expect("the file was written");
    let text = found.expect_err("0xFF is not UTF-8").to_string();
    assert!(text.contains(".toml:2:9: the file is not UTF-8 text"), "{text}");
}
