//! `cargo xtask lint`: everything that must hold of the source without running it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build;
use crate::process::{self, Failure, say};
use crate::toolchain::linker::host_cargo;
use crate::toolchain::{self, Toolchain};
use crate::workspace;

mod documents;
mod source;

/// The only files that may hold unsafe code, as paths from the root of the workspace.
const UNSAFE_DOORS: &[&str] =
    &["agent/src/datapath/sys.rs", "common/src/bytes.rs", "ebpf/src/raw.rs", "tests/src/sys.rs"];

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
    for member in members()? {
        let manifest = workspace::root().join(&member).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        if !source::inherits_lints(&text) {
            without.push(format!("{member}/Cargo.toml"));
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

/// Unsafe code stays where it can be reviewed.
fn doors() -> Result<()> {
    say("check that unsafe code stays behind its doors");
    let root = workspace::root();
    let mut wrong = Vec::new();
    for file in
        members()?.iter().map(|member| rust_files(&root.join(member))).collect::<Result<Vec<_>>>()?.concat()
    {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        let lines = source::unsafe_lines(&text);
        let is_door = UNSAFE_DOORS.contains(&name.as_str());
        if is_door && lines.is_empty() {
            wrong.push(format!("{name}: a door without unsafe code"));
        } else if !is_door {
            wrong.extend(lines.iter().map(|line| format!("{name}:{line}: unsafe code")));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        wrong.join("\n"),
        format!(
            "move the code behind a door, or mend the list in xtask/src/lint.rs: {}",
            UNSAFE_DOORS.join(", ")
        ),
    )
    .into())
}

fn members() -> Result<Vec<String>> {
    let manifest = workspace::root().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
    let members = source::members(&text);
    anyhow::ensure!(!members.is_empty(), "{} lists no members", manifest.display());
    Ok(members)
}

/// All Rust files below `folder`, sorted.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = workspace::files(folder, |folder| !workspace::is_output(folder))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    Ok(files)
}
