//! `cargo xtask lint`: everything that must hold of the source without running it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build;
use crate::install::host_cargo;
use crate::process::{self, Failure, say};
use crate::toolchain::{self, Toolchain};
use crate::workspace;

mod documents;

/// The only files that may hold unsafe code, as paths from the root of the workspace. Each expects it as a whole.
const UNSAFE_DOORS: &[&str] =
    &["agent/datapath/src/sys.rs", "common/src/bytes.rs", "ebpf/src/raw.rs", "tests/src/sys.rs"];

/// The only files with items that name a symbol or a section, which counts as unsafe code. Each item expects it.
const UNSAFE_SYMBOLS: &[&str] = &[
    "ebpf/src/answer.rs",
    "ebpf/src/ctx.rs",
    "ebpf/src/log.rs",
    "ebpf/src/main.rs",
    "ebpf/src/maps/constants.rs",
    "ebpf/src/reference.rs",
    "ebpf/src/subprograms.rs",
];

/// How to lint.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
}

/// Runs every check, also after one has failed, so that one run shows all.
///
/// # Errors
/// A [`Failure`] that lists the checks that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let checks: [(&str, &dyn Fn() -> Result<()>); 7] = [
        ("lint inheritance", &inheritance),
        ("unsafe doors", &doors),
        ("formatting", &formatting),
        ("clippy on the userspace crates", &clippy),
        ("clippy on the BPF crate", &|| bpf(options)),
        ("documentation", &documentation),
        ("documents", &documents::check),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            if !error.is::<Failure>() {
                return Err(error.context(name));
            }
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("lint: {} checks passed", checks.len());
        return Ok(());
    }
    Err(Failure::new(format!("lint: failed: {}", failed.join(", ")), "").into())
}

fn formatting() -> Result<()> {
    let mut command = Command::new(host_cargo());
    command.args(["fmt", "--all", "--check"]).current_dir(workspace::root());
    process::run(
        "check the formatting",
        &mut command,
        "`cargo fmt --all`; `rustup component add rustfmt` if it is missing",
    )
}

fn clippy() -> Result<()> {
    process::run(
        "clippy on the userspace crates",
        build::host("clippy")?.args(["--all-targets", "--", "-D", "warnings"]),
        "mend what it says above; `rustup component add clippy` if it is missing",
    )
}

fn bpf(options: &Options) -> Result<()> {
    let toolchain: Toolchain = toolchain::provide(options.toolchain.choice()?)?;
    for program in [workspace::BPF_PROGRAM, workspace::REFERENCE_PROGRAM] {
        let mut command = match toolchain.clippy()? {
            Some(clippy) => clippy,
            None => {
                say(
                    "this BPF toolchain has no clippy: rustc checks the BPF crate with `-D warnings` instead",
                );
                toolchain.cargo("rustc")?
            }
        };
        process::run(
            &format!("lints of the BPF program {program}"),
            command.args(["--bin", program, "--", "-D", "warnings"]),
            "mend what the compiler says above",
        )?;
    }
    Ok(())
}

fn documentation() -> Result<()> {
    process::run(
        "build the documentation",
        build::host("doc")?
            .args(["--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
        "mend what rustdoc says above",
    )
}

/// Lints that the workspace declares hold only in the members that inherit them.
fn inheritance() -> Result<()> {
    say("check that every crate inherits the lints");
    let mut without = Vec::new();
    for folder in members()? {
        let manifest = folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        if !inherits_lints(&text).with_context(|| manifest.display().to_string())? {
            without.push(manifest.display().to_string());
        }
    }
    if without.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("no workspace lints in {}", without.join(", ")),
        "add `[lints]` with `workspace = true`",
    )
    .into())
}

/// True where a manifest says `workspace = true` under `[lints]`.
fn inherits_lints(manifest: &str) -> Result<bool> {
    let manifest: toml::Table = toml::from_str(manifest)?;
    let workspace = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    Ok(workspace.and_then(toml::Value::as_bool) == Some(true))
}

/// The compiler denies unsafe code but for files and items that expect it. Here those are counted.
fn doors() -> Result<()> {
    say("check that unsafe code stays behind its doors");
    let root = workspace::root();
    let (mut wrong, mut doors, mut symbols) = (Vec::new(), Vec::new(), Vec::new());
    for folder in members()? {
        for file in rust_files(&folder)? {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
            if expects_unsafe_code(&text, INNER) {
                doors.push(name);
            } else if expects_unsafe_code(&text, OUTER) {
                if text.contains("unsafe {") {
                    wrong.push(format!("{name}: an unsafe block outside a door"));
                }
                symbols.push(name);
            }
        }
    }
    wrong.extend(differences("a door of unsafe code", UNSAFE_DOORS, &doors));
    wrong.extend(differences("a file that names symbols or sections", UNSAFE_SYMBOLS, &symbols));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        wrong.join("\n"),
        format!(
            "move the code behind a door, or mend the lists in xtask/src/lint.rs; the doors are {}",
            UNSAFE_DOORS.join(", ")
        ),
    )
    .into())
}

/// How the attribute of a whole file begins, and that of an item.
const INNER: &str = "#![";
const OUTER: &str = "#[";

/// True where an attribute that begins like this changes the level of the lint against unsafe code.
fn expects_unsafe_code(text: &str, attribute: &str) -> bool {
    text.split(attribute).skip(1).any(|rest| {
        let attribute = rest.split(']').next().unwrap_or_default();
        let changes = ["expect(", "allow(", "warn("].iter().any(|level| attribute.starts_with(level));
        changes && attribute.contains("unsafe_code")
    })
}

/// What is in one of two lists of files only.
fn differences(what: &str, known: &[&str], found: &[String]) -> Vec<String> {
    let unknown = found.iter().filter(|file| !known.contains(&file.as_str()));
    let gone = known.iter().filter(|file| !found.iter().any(|found| found == *file));
    unknown
        .map(|file| format!("{file}: not in the list, and is {what}"))
        .chain(gone.map(|file| format!("{file}: in the list, and is not {what}")))
        .collect()
}

/// The folders of the workspace's members.
fn members() -> Result<Vec<PathBuf>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .cargo_path(host_cargo())
        .manifest_path(workspace::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("asking cargo for the members of the workspace")?;
    let packages = metadata.workspace_packages();
    anyhow::ensure!(!packages.is_empty(), "the workspace has no members");
    Ok(packages.iter().filter_map(|package| Some(package.manifest_path.parent()?.into())).collect())
}

/// All Rust files below `folder`, sorted, but for those of crates below it, which are members of their own.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = workspace::files(folder, |folder| {
        !workspace::is_output(folder) && !folder.join("Cargo.toml").exists()
    })?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lints_section_counts() {
        let inherits = |manifest| inherits_lints(manifest).expect("a manifest");
        assert!(inherits("[package]\nname = \"a\"\n\n[lints]\nworkspace = true # all\n"));
        assert!(inherits("lints.workspace = true\n"));
        assert!(!inherits("[lints.rust]\nunsafe_code = \"deny\"\n"));
        assert!(!inherits("[lints]\n# workspace = true\n"));
        assert!(!inherits("[dependencies]\nworkspace = true\n[lints]\n"));
    }

    #[test]
    fn files_and_items_that_expect_unsafe_code_are_found() {
        // Written in two parts, so that this file is not found itself.
        let file = ["#!", "[expect(unsafe_code, reason = \"a door\")]\n"].concat();
        let item = ["#", "[expect(\n    dead_code,\n    unsafe_code,\n)]\nstatic A: u8 = 0;"].concat();
        assert_eq!([INNER, OUTER].map(|kind| expects_unsafe_code(&file, kind)), [true, false]);
        assert_eq!([INNER, OUTER].map(|kind| expects_unsafe_code(&item, kind)), [false, true]);
        let neither = "#![deny(unsafe_code)]\n#[expect(dead_code)]\n// unsafe_code\nstatic A: u8 = 0;";
        assert_eq!([INNER, OUTER].map(|kind| expects_unsafe_code(neither, kind)), [false, false]);
    }

    #[test]
    fn a_file_too_many_and_a_file_too_few_are_named() {
        let found = ["a.rs".to_owned(), "c.rs".to_owned()];
        let differences = differences("a door", &["a.rs", "b.rs"], &found);
        assert_eq!(differences.len(), 2);
        assert!(differences[0].starts_with("c.rs:") && differences[1].starts_with("b.rs:"));
    }
}
