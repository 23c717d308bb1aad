//! Where things lie.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::say;

/// The crate that holds the BPF programs; plain `cargo` commands over the workspace leave it out.
pub(crate) const BPF_CRATE: &str = "lyncwall-ebpf";

/// The program of [`BPF_CRATE`] that becomes part of the agent.
pub(crate) const BPF_PROGRAM: &str = "lyncwall-ebpf";

/// The program of [`BPF_CRATE`] that the benchmark compares with.
pub(crate) const REFERENCE_PROGRAM: &str = "lyncwall-reference";

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The folder of build output, `target` unless `CARGO_TARGET_DIR` names another; absolute.
///
/// Every cargo command gets it as `--target-dir`, so a folder set in a cargo configuration file does not
/// come between the build and the tasks that look for what it made.
///
/// # Errors
/// When the current folder cannot be read.
pub(crate) fn target_dir() -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => std::path::absolute(dir).context("CARGO_TARGET_DIR"),
        None => Ok(root().join("target")),
    }
}

/// What the tasks fetch; kept between runs, and made again after it is deleted.
pub(crate) fn fetched_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("bpf-toolchain"))
}

/// All files below `folder`, sorted, but for what lies in folders that `enter` says no to. Symbolic links are neither.
///
/// # Errors
/// When a folder cannot be read.
pub(crate) fn files(folder: &Path, enter: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry.with_context(|| folder.display().to_string())?;
            let path = entry.path();
            let kind = entry.file_type().with_context(|| path.display().to_string())?;
            if kind.is_file() {
                files.push(path);
            } else if kind.is_dir() && enter(&path) {
                folders.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// True for a folder of build output, here or left by somebody else.
pub(crate) fn is_output(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == "target")
}

/// Keeps a second `cargo xtask` out of the same folder until the file is closed; `what` the other does, for people.
///
/// # Errors
/// When the file cannot be made or locked.
pub(crate) fn lock(path: &Path, what: &str) -> Result<File> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        say(&format!("waiting for another cargo xtask that {what}"));
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(file)
}
