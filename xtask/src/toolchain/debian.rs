//! Debian 12's packages, for machines where rustup serves nothing: its Rust for web browsers comes with `core`
//! for BPF, prebuilt. They are unpacked under the target folder; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Toolchain;
use super::linker::Build;
use super::version::Version;
use crate::apt::{self, Apt};
use crate::install::host_cargo;
use crate::process::{Failure, in_short, say};
use crate::{environment, workspace};

/// The release of `bpf-linker` for an LLVM of Debian's, and the majors that it knows.
const LINKER: &str = "0.13.0";
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// Packages whose name has no version in it.
const PACKAGES: [&str; 4] =
    ["rustc-web", "rust-web-clippy", "libstd-rust-web-dev", "libstd-rust-web-dev-bpf"];

/// What to do where Debian's packages cannot be used.
pub(crate) const WITHOUT_APT: &str = "use `--toolchain nightly`, which works on any distribution with rustup";

/// Libraries that the machine always has and that must be its own, as they belong to its loader.
const NEVER_UNPACKED: [&str; 4] = ["libc6", "libgcc-s1", "libstdc++6", "gcc-12-base"];

/// The unpacked packages with a linker, if they are there already.
///
/// # Errors
/// When the target folder cannot be read.
pub(crate) fn ready() -> Result<Option<Toolchain>> {
    let Some(unpacked) = Unpacked::find()? else { return Ok(None) };
    Ok(unpacked.linker_build()?.ready()?.map(|linker| unpacked.toolchain(linker)))
}

/// Fetches and unpacks the packages and builds the linker, as far as they are not there already.
///
/// # Errors
/// A [`Failure`] that says which step does not work.
pub(crate) fn provide() -> Result<Toolchain> {
    let unpacked = match Unpacked::find()? {
        Some(unpacked) => unpacked,
        None => fetch()?,
    };
    let linker = unpacked.linker_build()?.provide(Some(&unpacked.libraries))?;
    Ok(unpacked.toolchain(linker))
}

/// The version of Debian's Rust that the machine's package lists offer.
///
/// # Errors
/// A [`Failure`] where this is no Debian; when the target folder cannot be written.
pub(crate) fn offered() -> Result<Option<String>> {
    apt::require_programs(WITHOUT_APT)?;
    let apt = Apt::with_machine_lists(&workspace::fetched_dir()?.join("apt"))?;
    Ok(packages(&apt).ok().and_then(|_| apt.candidate("rustc-web")))
}

/// What was unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    usr: PathBuf,
    /// The folder of shared libraries, as `usr/lib/x86_64-linux-gnu`.
    libraries: PathBuf,
    version: Version,
}

impl Unpacked {
    /// The packages that an earlier run unpacked.
    ///
    /// # Errors
    /// When the folder is there and its compiler does not run.
    pub(crate) fn find() -> Result<Option<Self>> {
        let folder = folder()?;
        if !folder.exists() {
            return Ok(None);
        }
        let usr = folder.join("usr");
        let libraries = library_folder(&usr)?;
        let mut rustc = Command::new(usr.join("bin/rustc"));
        environment::clean(&mut rustc);
        environment::libraries_from(&mut rustc, &libraries);
        let version = Version::of(&mut rustc)
            .map_err(|error| Failure::new(format!("{error:#}"), format!("delete {}", folder.display())))?;
        Ok(Some(Self { usr, libraries, version }))
    }

    /// The compiler's version, for people.
    pub(crate) fn describe(&self) -> String {
        format!("rustc {}, LLVM {}", self.version.release, self.version.llvm)
    }

    fn linker_build(&self) -> Result<Build> {
        linker_build(self.version.llvm, &self.usr)
    }

    fn toolchain(&self, linker: PathBuf) -> Toolchain {
        Toolchain {
            name: format!("Debian's {}", self.describe()),
            folder: "debian",
            cargo: host_cargo().into(),
            programs: self.usr.join("bin"),
            libraries: self.libraries.clone(),
            linker,
            build_std: false,
        }
    }
}

fn fetch() -> Result<Unpacked> {
    apt::require_programs(WITHOUT_APT)?;
    let lists = workspace::fetched_dir()?.join("apt");
    let machine = Apt::with_machine_lists(&lists)?;
    let first = packages(&machine).and_then(|packages| unpack(&machine, &packages));
    if let Err(error) = first {
        // No lists on this machine, or lists so old that the archive no longer has what they name.
        say(&format!("apt's own lists do not serve: {}", in_short(&error)));
        let own = Apt::with_own_lists(&lists)?;
        let packages = packages(&own)?;
        unpack(&own, &packages)?;
    }
    Unpacked::find()?.context("what was unpacked is gone")
}

/// The names of all packages to fetch: some carry the version of Rust or of LLVM in their name.
fn packages(apt: &Apt) -> Result<Vec<String>> {
    let mut packages: Vec<String> = PACKAGES.iter().map(|&name| name.to_owned()).collect();
    for package in &packages {
        apt.candidate(package).ok_or_else(|| {
            Failure::new(
                format!("apt knows no package {package}"),
                "apt's sources must name the security suite of Debian 12 and be reachable; or use `--toolchain nightly`",
            )
        })?;
    }
    let library = named(&apt.depends("libstd-rust-web-dev")?, "libstd-rust-web-")?;
    let llvm = named(&apt.depends(&library)?, "libllvm")?;
    let major = llvm.trim_start_matches("libllvm");
    // A minimal Debian lacks some of the libraries that LLVM itself needs.
    let needed: Vec<String> = apt
        .closure(&llvm)?
        .into_iter()
        .filter(|name| *name != llvm && !NEVER_UNPACKED.contains(&name.as_str()))
        .collect();
    packages.extend(apt::not_installed(&needed)?);
    packages.push(format!("llvm-{major}-dev"));
    packages.push(llvm);
    packages.push(library);
    Ok(packages)
}

fn named(packages: &[String], prefix: &str) -> Result<String> {
    let found = packages.iter().find(|name| name.starts_with(prefix));
    found.cloned().ok_or_else(|| {
        Failure::new(
            format!("no package {prefix}… among {}", packages.join(" ")),
            "use `--toolchain nightly`",
        )
        .into()
    })
}

fn unpack(apt: &Apt, packages: &[String]) -> Result<()> {
    apt.unpack(packages, &folder()?, "the disk may be full: the unpacked packages take 1 GB")
}

fn folder() -> Result<PathBuf> {
    Ok(workspace::fetched_dir()?.join("debian"))
}

/// The one folder below `usr/lib` that is named after the machine's architecture.
fn library_folder(usr: &Path) -> Result<PathBuf> {
    let lib = usr.join("lib");
    for entry in fs::read_dir(&lib).with_context(|| lib.display().to_string())? {
        let path = entry.with_context(|| lib.display().to_string())?.path();
        if path.to_string_lossy().ends_with("-linux-gnu") {
            return Ok(path);
        }
    }
    Err(Failure::new(format!("no library folder in {}", lib.display()), "delete it and run this again")
        .into())
}

fn linker_build(llvm: u32, usr: &Path) -> Result<Build> {
    if !LINKER_LLVM.contains(&llvm) {
        return Err(Failure::new(
            format!("bpf-linker {LINKER} knows no LLVM {llvm}, which Debian's Rust has"),
            "use `--toolchain nightly`",
        )
        .into());
    }
    let prefix = usr.join(format!("lib/llvm-{llvm}"));
    Ok(Build {
        release: LINKER,
        feature: format!("llvm-{llvm}"),
        variables: vec![
            ("LLVM_PREFIX".to_owned(), prefix.clone()),
            (format!("LLVM_SYS_{llvm}1_PREFIX"), prefix),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_the_packages_picks_the_linker_feature_and_its_variables() {
        let build = linker_build(22, Path::new("/x/usr")).expect("known");
        assert_eq!(build.feature, "llvm-22");
        let names: Vec<&str> = build.variables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["LLVM_PREFIX", "LLVM_SYS_221_PREFIX"]);
        assert_eq!(build.variables[0].1, Path::new("/x/usr/lib/llvm-22"));
        assert!(linker_build(24, Path::new("/x")).is_err());
    }

    #[test]
    fn the_package_that_carries_the_version_is_found_by_its_prefix() {
        let depends = ["libc6".to_owned(), "libllvm22".to_owned()];
        assert_eq!(named(&depends, "libllvm").expect("it is there"), "libllvm22");
        assert!(named(&depends, "libstd").is_err());
    }
}
