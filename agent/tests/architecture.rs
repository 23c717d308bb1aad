//! ARCHITECTURE.md and the pages of docs/architecture say what the code says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lyncwall_common::abi::map;
use lyncwall_common::reason::Reason;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the agent is in the repository").to_owned()
}

/// The text of a document.
fn page(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of the tables in a text, as cells.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("| "));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands between backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// All Rust sources of the workspace, except what a build made.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder that can be read") {
        let path = entry.expect("a folder that can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).expect("a source that can be read");
        }
    }
    text
}

/// Advice that opens the box must say so: an administrator follows it to get a service started.
#[test]
fn advice_to_detach_says_that_it_opens_the_box() {
    let text = sources(&repository().join("agent"));
    let lines: Vec<&str> = text.lines().collect();
    let mut advice = 0;
    for (at, line) in lines.iter().enumerate() {
        // Not written out, so that this line is none.
        let said = line.contains(&["`lyncwall ", "detach`"].concat()) && !line.trim_start().starts_with("//");
        if said {
            advice += 1;
            let around = lines[at.saturating_sub(2)..lines.len().min(at + 3)].join("\n");
            assert!(around.contains("open"), "{around}");
        }
    }
    assert!(advice >= 5, "{advice}");
}

#[test]
fn the_verdict_table_has_every_reason_with_its_action() {
    let table = rows(&page("docs/architecture/verdict-table.md"));
    for reason in Reason::ALL {
        let row = table.iter().find(|row| row.len() == 3 && code(&row[2]).contains(&reason.name()));
        let row = row.unwrap_or_else(|| panic!("{reason} is in no row of the verdict table"));
        assert!(row[1].contains(reason.action().name()), "{reason} is {}: {row:?}", reason.action());
    }
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    for row in table.iter().skip(1) {
        for name in code(&row[2]) {
            assert!(known.contains(name), "{name} is no reason");
        }
    }
}

#[test]
fn every_map_of_the_program_is_listed() {
    let text = page("docs/architecture/maps.md");
    // The first table; others are about bits.
    let rows = rows(&text[..text.find("\n## ").expect("a heading below the table")]);
    let listed: BTreeSet<&str> = rows.iter().flat_map(|row| code(&row[0])).collect();
    let maps: BTreeSet<&str> = map::ALL.iter().map(|map| map.name).collect();
    assert_eq!(listed, maps);
    for map in map::ALL {
        let row = rows.iter().find(|row| code(&row[0]).contains(&map.name)).expect("a row");
        let says_not_pinned = row.iter().any(|cell| cell.to_lowercase().contains("not pinned"));
        assert_ne!(says_not_pinned, map.pinned, "{}", map.name);
    }
}

#[test]
fn the_tests_that_show_a_promise_exist() {
    let sources = sources(&repository());
    let text = page("docs/architecture/promises.md");
    let rows = rows(&text);
    let named: Vec<&str> = rows.iter().skip(1).flat_map(|row| code(&row[1])).collect();
    assert!(named.len() > 20, "{named:?}");
    for test in named {
        assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
    }
}

#[test]
fn only_the_printer_and_the_terminal_of_watch_write() {
    let folder = repository().join("agent/src");
    let mut writers = BTreeSet::new();
    let crates = ["api", "datapath", "policy"].map(|name| repository().join("agent").join(name).join("src"));
    let mut folders: Vec<PathBuf> = crates.into_iter().chain([folder.clone()]).collect();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder that can be read") {
            let path = entry.expect("a folder that can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source that can be read");
            // Whether it is a terminal may be asked anywhere.
            let text = text.replace("io::stdout().is_terminal()", "");
            if ["io::stdout()", "println!(", "print!(", "io::stderr()"].iter().any(|way| text.contains(way)) {
                writers.insert(path.strip_prefix(&folder).unwrap_or(&path).display().to_string());
            }
        }
    }
    assert_eq!(
        writers.iter().map(String::as_str).collect::<Vec<_>>(),
        ["commands/watch/terminal.rs", "output.rs", "output/log.rs"]
    );
    for pure in ["model.rs", "model/rows.rs", "screen.rs", "keys.rs"] {
        let text =
            fs::read_to_string(folder.join("commands/watch").join(pure)).expect("a source that can be read");
        for way in ["std::io", "std::fs", "tokio", "Client"] {
            assert!(!text.contains(way), "{pure} does I/O: {way}");
        }
    }
}

/// Everything between backticks that looks like a path of the repository.
#[test]
fn the_files_of_the_code_map_exist() {
    let mut pages = vec!["ARCHITECTURE.md".to_owned(), "docs/development.md".to_owned()];
    for entry in fs::read_dir(repository().join("docs/architecture")).expect("the folder of pages") {
        let name = entry.expect("a folder that can be read").file_name().into_string().expect("UTF-8");
        pages.push(format!("docs/architecture/{name}"));
    }
    let folders = ["agent/", "common/", "config/", "docs/", "ebpf/", "tests/", "xtask/"];
    let mut missing = Vec::new();
    let mut seen = 0;
    for name in pages {
        let text = page(&name);
        let paths =
            code(&text).into_iter().filter(|code| folders.iter().any(|folder| code.starts_with(folder)));
        for path in paths {
            seen += 1;
            if !repository().join(path).exists() {
                missing.push(format!("{name}: there is no {path}"));
            }
        }
    }
    assert!(seen > 40, "{seen} paths");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// The dependencies in the manifest of a crate, by name; those of its tests do not count.
fn dependencies(folder: &str) -> Vec<String> {
    let manifest = page(&format!("{folder}/Cargo.toml"));
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let names = lines.take_while(|line| !line.starts_with('[')).filter_map(|line| {
        let name = line.split(['.', ' ', '=']).next()?;
        (!name.is_empty() && !name.starts_with('#')).then(|| name.to_owned())
    });
    names.collect()
}

#[test]
fn each_crate_depends_on_those_of_ours_that_the_table_names() {
    let folder = |name: &str| match name {
        "lyncwall" => "agent".to_owned(),
        "lyncwall-api" | "lyncwall-datapath" | "lyncwall-policy" => name.replace("lyncwall-", "agent/"),
        name => name.trim_start_matches("lyncwall-").to_owned(),
    };
    let text = page("ARCHITECTURE.md");
    let table = rows(&text[text.find("| crate | uses |").expect("the table of crates")..]);
    let table: Vec<_> = table.iter().skip(1).take_while(|row| row.len() == 2).collect();
    let crates: BTreeSet<&str> = table.iter().flat_map(|row| code(&row[0])).collect();
    assert_eq!(crates.len(), 8, "{crates:?}");
    for row in table {
        let [name] = code(&row[0])[..] else { panic!("{row:?}") };
        let ours = dependencies(name).into_iter().filter(|name| name.starts_with("lyncwall"));
        let ours: BTreeSet<String> = ours.map(|name| folder(&name)).collect();
        let said: BTreeSet<String> = match row[1].split_once("all of them but") {
            Some((_, but)) => {
                let without = [&code(but)[..], &[name, "xtask"]].concat();
                crates.iter().filter(|name| !without.contains(name)).map(|&name| name.to_owned()).collect()
            }
            None => {
                code(row[1].split(';').next().unwrap_or_default()).into_iter().map(str::to_owned).collect()
            }
        };
        assert_eq!(ours, said, "{name}");
    }
}

#[test]
fn policy_needs_no_kernel_and_no_runtime() {
    let policy = dependencies("agent/policy");
    assert!(policy.contains(&"lyncwall-common".to_owned()), "{policy:?}");
    for name in ["aya", "axum", "clap", "hyper", "nix", "rtnetlink", "tokio", "tracing", "utoipa"] {
        assert!(!policy.contains(&name.to_owned()), "{name}");
    }
}
