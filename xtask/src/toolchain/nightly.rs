//! The usual aya way: a nightly Rust by rustup, `core` built from its `rust-src`, and a `bpf-linker` that loads
//! the nightly's own LLVM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Toolchain;
use super::linker::{self, Build};
use super::version::Version;
use crate::process::{self, Failure, capture, say};
use crate::{environment, workspace};

/// The nightly that the project is built with. aya-ebpf 0.2 builds with it; aya 0.15 needs a later one.
pub(crate) const PIN: &str = "nightly-2026-05-20";

/// The date of the pinned nightly's last commit, the day before its name. Older compilers are not taken.
const PIN_COMMIT_DATE: &str = "2026-05-19";

/// The release of `bpf-linker` that can load the LLVM of a nightly, and the majors that it knows.
const LINKER: &str = "0.10.4";
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 20..=22;

/// An installed nightly.
#[derive(Debug)]
pub(crate) struct Candidate {
    name: String,
    sysroot: PathBuf,
    version: Version,
}

impl Candidate {
    /// The name, the version and what is missing, for people.
    pub(crate) fn describe(&self) -> String {
        let source = if self.has_source() { "with rust-src" } else { "without rust-src" };
        let fit = if self.is_new_enough() { "" } else { ", too old" };
        let Version { release, commit_date, llvm } = &self.version;
        format!("{}: {release} of {commit_date}, LLVM {llvm}, {source}{fit}", self.name)
    }

    /// True where this compiler and this source can build the object.
    pub(crate) fn is_usable(&self) -> bool {
        self.has_source() && self.is_new_enough()
    }

    fn has_source(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
    }

    fn is_new_enough(&self) -> bool {
        is_new_enough(&self.version)
    }

    fn is_pin(&self) -> bool {
        self.version.commit_date == PIN_COMMIT_DATE
    }

    fn libraries(&self) -> PathBuf {
        self.sysroot.join("lib")
    }

    fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin/rustc")
    }

    fn toolchain(&self, linker: PathBuf) -> Toolchain {
        Toolchain {
            name: format!("{} ({}, LLVM {})", self.name, self.version.release, self.version.llvm),
            folder: "nightly",
            cargo: self.sysroot.join("bin/cargo"),
            programs: self.sysroot.join("bin"),
            libraries: self.libraries(),
            linker,
            build_std: true,
        }
    }

    /// A linker that needs no fetching.
    fn ready_linker(&self) -> Result<Option<PathBuf>> {
        if let Some(linker) = linker::fitting_on_path(&self.rustc(), &self.libraries())? {
            return Ok(Some(linker));
        }
        match linker_build(self.version.llvm) {
            Some(build) => build.ready(),
            None => Ok(None),
        }
    }

    /// Adds what is missing.
    fn provide(&self) -> Result<Toolchain> {
        if !self.has_source() {
            process::run(
                &format!("add rust-src to {}", self.name),
                rustup().args(["component", "add", "rust-src", "--toolchain", &self.name]),
                "",
            )?;
        }
        if let Some(linker) = self.ready_linker()? {
            return Ok(self.toolchain(linker));
        }
        let build = linker_build(self.version.llvm).ok_or_else(|| {
            Failure::new(
                format!("bpf-linker {LINKER} knows no LLVM {}, which {} has", self.version.llvm, self.name),
                "put a bpf-linker with that LLVM on PATH",
            )
        })?;
        // It loads LLVM when it runs, from the nightly's folder.
        Ok(self.toolchain(build.provide(None)?))
    }
}

/// A nightly and a linker that are complete on this machine.
///
/// # Errors
/// When the target folder cannot be read or written.
pub(crate) fn ready() -> Result<Option<Toolchain>> {
    for candidate in installed()?.into_iter().filter(Candidate::is_usable) {
        if let Some(linker) = candidate.ready_linker()? {
            return Ok(Some(candidate.toolchain(linker)));
        }
    }
    Ok(None)
}

/// Completes the installed pin, else fetches the pin, else completes an installed nightly that is newer.
///
/// # Errors
/// A [`Failure`] that says why none of them works.
pub(crate) fn provide() -> Result<Toolchain> {
    require_rustup()?;
    let (pins, others): (Vec<_>, Vec<_>) =
        installed()?.into_iter().filter(Candidate::is_new_enough).partition(Candidate::is_pin);
    let mut reasons = Vec::new();
    let mut first_that_works = |candidates: &[Candidate]| {
        for candidate in candidates {
            match candidate.provide() {
                Ok(toolchain) => return Some(toolchain),
                Err(error) => reasons.push(format!("{}: {error:#}", candidate.name)),
            }
        }
        None
    };
    if let Some(toolchain) = first_that_works(&pins) {
        return Ok(toolchain);
    }
    match fetch() {
        Ok(pin) => {
            if let Some(toolchain) = first_that_works(&[pin]) {
                return Ok(toolchain);
            }
        }
        Err(error) => {
            say(&format!("{PIN} cannot be fetched, looking for another nightly"));
            if let Some(toolchain) = first_that_works(&others) {
                return Ok(toolchain);
            }
            reasons.push(format!("{error:#}"));
        }
    }
    Err(Failure::new(
        reasons.join("\n"),
        "`rustup toolchain install nightly --component rust-src`, or `--toolchain debian` on Debian 12",
    )
    .into())
}

/// The nightlies on this machine, the pinned one first.
///
/// # Errors
/// When the target folder cannot be read.
pub(crate) fn installed() -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    if let Some(own) = fetched()? {
        found.push(own);
    }
    let Ok(list) = capture(rustup().args(["toolchain", "list"])) else { return Ok(found) };
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| name.starts_with("nightly")) {
        let Ok(rustc) = capture(rustup().args(["which", "rustc", "--toolchain", name])) else { continue };
        let Some(sysroot) = Path::new(rustc.trim()).ancestors().nth(2) else { continue };
        found.extend(candidate(name, sysroot));
    }
    found.sort_by_key(|candidate| !candidate.is_pin());
    Ok(found)
}

/// Says that rustup is there.
///
/// # Errors
/// A [`Failure`] when it does not run.
pub(crate) fn require_rustup() -> Result<String> {
    let version = capture(rustup().arg("--version")).map_err(|_| {
        Failure::new(
            "rustup does not run",
            "install it from https://rustup.rs, or use `--toolchain debian` on Debian 12",
        )
    })?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

fn rustup() -> Command {
    let mut command = Command::new("rustup");
    environment::clean(&mut command);
    command
}

fn candidate(name: &str, sysroot: &Path) -> Option<Candidate> {
    let mut rustc = Command::new(sysroot.join("bin/rustc"));
    environment::clean(&mut rustc);
    environment::libraries_from(&mut rustc, &sysroot.join("lib"));
    let version = Version::of(&mut rustc).ok()?;
    Some(Candidate { name: name.to_owned(), sysroot: sysroot.to_path_buf(), version })
}

/// The pin that [`fetch`] brought, if it did.
fn fetched() -> Result<Option<Candidate>> {
    let toolchains = home()?.join("toolchains");
    let Ok(mut entries) = fs::read_dir(&toolchains) else { return Ok(None) };
    let Some(entry) = entries.next() else { return Ok(None) };
    let entry = entry.with_context(|| toolchains.display().to_string())?;
    Ok(candidate(PIN, &entry.path()))
}

/// Has rustup install the pin under the target folder: the user's own toolchains stay as they are.
fn fetch() -> Result<Candidate> {
    let home = home()?;
    let partial = home.with_extension("partial");
    // What an interrupted run left behind.
    for leftover in [&home, &partial] {
        if leftover.exists() {
            fs::remove_dir_all(leftover).with_context(|| leftover.display().to_string())?;
        }
    }
    process::run(
        &format!("fetch {PIN} into {}", home.display()),
        rustup()
            .args(["toolchain", "install", PIN, "--no-self-update", "--profile", "minimal"])
            .args(["--component", "rust-src", "--component", "clippy"])
            .env("RUSTUP_HOME", &partial),
        "",
    )?;
    fs::rename(&partial, &home).with_context(|| home.display().to_string())?;
    fetched()?.with_context(|| format!("rustup left no compiler in {}", home.display()))
}

fn home() -> Result<PathBuf> {
    Ok(workspace::fetched_dir()?.join(PIN))
}

fn is_new_enough(version: &Version) -> bool {
    // "unknown" stands where the compiler was not built from a git checkout.
    version.commit_date.starts_with("20") && version.commit_date.as_str() >= PIN_COMMIT_DATE
}

fn linker_build(llvm: u32) -> Option<Build> {
    LINKER_LLVM.contains(&llvm).then(|| Build {
        release: LINKER,
        feature: format!("rust-llvm-{llvm}"),
        variables: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(commit_date: &str) -> Version {
        Version { release: "1.97.0-nightly".to_owned(), commit_date: commit_date.to_owned(), llvm: 22 }
    }

    #[test]
    fn the_pin_and_what_follows_it_are_new_enough() {
        for date in [PIN_COMMIT_DATE, "2026-05-20", "2026-11-01", "2027-01-01"] {
            assert!(is_new_enough(&version(date)), "{date}");
        }
        for date in ["2026-05-18", "2025-12-31", "unknown"] {
            assert!(!is_new_enough(&version(date)), "{date}");
        }
    }

    #[test]
    fn the_pin_is_named_after_the_day_that_follows_its_last_commit() {
        assert!(PIN.strip_prefix("nightly-").expect("a dated nightly") > PIN_COMMIT_DATE);
    }

    #[test]
    fn the_llvm_of_the_compiler_picks_the_linker_feature() {
        assert_eq!(linker_build(22).expect("known").feature, "rust-llvm-22");
        assert_eq!(linker_build(20).expect("known").feature, "rust-llvm-20");
        assert_eq!(linker_build(23), None, "0.10.4 has no feature for it");
        assert_eq!(linker_build(19), None);
    }
}
