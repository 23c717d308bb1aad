//! Programs from the package registry, built once and kept under the target folder.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{environment, process, workspace};

/// The cargo that runs this program, else the one on PATH.
pub(crate) fn host_cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A release of a program, and where it is installed.
#[derive(Debug)]
pub(crate) struct Tool<'a> {
    /// The name of the crate and of the program.
    pub(crate) name: &'a str,
    /// The release on the package registry.
    pub(crate) release: &'a str,
    /// Its features, without the default ones.
    pub(crate) features: &'a str,
    /// The folder that it gets for itself.
    pub(crate) root: PathBuf,
}

impl Tool<'_> {
    /// The program, if it was built before.
    pub(crate) fn ready(&self) -> Option<PathBuf> {
        // `cargo install` moves the finished program to its place in one step.
        let program = self.root.join("bin").join(self.name);
        program.exists().then_some(program)
    }

    /// Builds it with the host's stable Rust, once. `more` is what its build needs beside that.
    ///
    /// # Errors
    /// A [`process::Failure`] when `cargo install` fails.
    pub(crate) fn provide(&self, more: impl FnOnce(&mut Command), fix: &str) -> Result<PathBuf> {
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        let Self { name, release, features, root } = self;
        let scratch = root.join("build");
        let mut install = Command::new(host_cargo());
        install
            .args(["install", name, "--locked", "--version", release])
            .args(["--no-default-features", "--features", features, "--root"])
            .arg(root)
            .arg("--target-dir")
            .arg(&scratch)
            .current_dir(workspace::root());
        environment::clean(&mut install);
        if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
            install.env("RUSTUP_TOOLCHAIN", toolchain);
        }
        // None of them need be fast, and without optimisation they build in half the time or less.
        install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        more(&mut install);
        process::run(&format!("install {name} {release} (a minute or two, once)"), &mut install, fix)?;
        fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
        self.ready().with_context(|| format!("cargo install left no {name} in {}", root.display()))
    }
}
