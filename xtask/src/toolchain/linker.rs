//! `bpf-linker`: it must read the bitcode that the compiler writes, so its LLVM must be as new.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::install::Tool;
use crate::process::{Failure, capture, say};
use crate::{environment, workspace};

/// A release of `bpf-linker` and the form of it that fits one LLVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    /// The release on the package registry.
    pub(crate) release: &'static str,
    /// The feature that picks the LLVM.
    pub(crate) feature: String,
    /// Variables that tell its build where the LLVM lies.
    pub(crate) variables: Vec<(String, PathBuf)>,
}

impl Build {
    fn tool(&self) -> Result<Tool<'_>> {
        let root = workspace::fetched_dir()?.join(format!("bpf-linker-{}-{}", self.release, self.feature));
        Ok(Tool { name: "bpf-linker", release: self.release, features: &self.feature, root })
    }

    /// The linker, if it was built before.
    ///
    /// # Errors
    /// When the target folder cannot be named.
    pub(crate) fn ready(&self) -> Result<Option<PathBuf>> {
        Ok(self.tool()?.ready())
    }

    /// Builds the linker, once. The work is LLVM's, which is optimised.
    ///
    /// `libraries` holds the LLVM that it is linked to, where it is linked to one.
    ///
    /// # Errors
    /// A [`Failure`] when `cargo install` fails.
    pub(crate) fn provide(&self, libraries: Option<&Path>) -> Result<PathBuf> {
        let more = |install: &mut Command| {
            install.envs(self.variables.iter().map(|(name, path)| (name, path)));
            if let Some(libraries) = libraries {
                environment::libraries_from(install, libraries);
            }
        };
        let fix = "it needs a C compiler (`apt-get install gcc libc6-dev`) and the package registry; a `bpf-linker` of \
                   your own on PATH is taken where its LLVM fits";
        self.tool()?.provide(more, fix)
    }
}

/// The first `bpf-linker` on PATH.
pub(crate) fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join("bpf-linker")).find(|program| program.is_file())
}

/// The `bpf-linker` on PATH, where it reads what this compiler writes; says why when it does not.
///
/// # Errors
/// When the target folder cannot be written.
pub(crate) fn fitting_on_path(rustc: &Path, libraries: &Path) -> Result<Option<PathBuf>> {
    let Some(linker) = on_path() else { return Ok(None) };
    match try_link(&linker, rustc, libraries) {
        Ok(()) => Ok(Some(linker)),
        Err(error) if error.is::<Failure>() => {
            say(&format!("{} does not fit this compiler: {error:#}", linker.display()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Has the linker read bitcode of the compiler: its `--version` does not say which LLVM it has.
fn try_link(linker: &Path, rustc: &Path, libraries: &Path) -> Result<()> {
    // References, a loop and arithmetic: an older LLVM stumbles over the attributes that they get.
    const SOURCE: &str = "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn probe(a: &mut [u32; 8], b: &u32) -> \
                          u32 {\n let mut s = 0u32;\n for x in a { *x = x.wrapping_add(*b); s ^= *x; }\n s\n}\n";
    let folder = workspace::fetched_dir()?.join("probe");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let source = folder.join("probe.rs");
    fs::write(&source, SOURCE).with_context(|| source.display().to_string())?;

    let mut compile = Command::new(rustc);
    compile
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "llvm-bc", "-O", "-C", "panic=abort"])
        .args(["-o", "probe.bc", "probe.rs"])
        .current_dir(&folder);
    let mut link = Command::new(linker);
    link.args(["--target=bpfel", "--export", "probe", "-o", "probe.o", "probe.bc"]).current_dir(&folder);
    for command in [&mut compile, &mut link] {
        environment::clean(command);
        if let Some(programs) = rustc.parent() {
            environment::programs_from(command, programs);
        }
        environment::libraries_from(command, libraries);
        capture(command)?;
    }
    Ok(())
}
