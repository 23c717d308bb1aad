//! `bpf-linker`: it must read the bitcode that the compiler writes, so its LLVM must be as new.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{self, Failure, capture, say};
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
    fn root(&self) -> Result<PathBuf> {
        Ok(workspace::fetched_dir()?.join(format!("bpf-linker-{}-{}", self.release, self.feature)))
    }

    /// The linker, if it was built before.
    ///
    /// # Errors
    /// When the target folder cannot be named.
    pub(crate) fn ready(&self) -> Result<Option<PathBuf>> {
        // `cargo install` moves the finished program to its place in one step.
        let program = self.root()?.join("bin/bpf-linker");
        Ok(program.exists().then_some(program))
    }

    /// Builds the linker with the host's stable Rust, once.
    ///
    /// `libraries` holds the LLVM that it is linked to, where it is linked to one.
    ///
    /// # Errors
    /// A [`Failure`] when `cargo install` fails.
    pub(crate) fn provide(&self, libraries: Option<&Path>) -> Result<PathBuf> {
        if let Some(ready) = self.ready()? {
            return Ok(ready);
        }
        let root = self.root()?;
        let scratch = root.join("build");
        let mut install = Command::new(host_cargo());
        install
            .args(["install", "bpf-linker", "--locked", "--version", self.release])
            .args(["--no-default-features", "--features", &self.feature, "--root"])
            .arg(&root)
            .arg("--target-dir")
            .arg(&scratch)
            .current_dir(workspace::root());
        environment::clean(&mut install);
        if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
            install.env("RUSTUP_TOOLCHAIN", toolchain);
        }
        // The work is LLVM's, which is optimised: this part links as fast unoptimised and builds in a third of
        // the time.
        install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        install.envs(self.variables.iter().map(|(name, path)| (name, path)));
        if let Some(libraries) = libraries {
            environment::libraries_from(&mut install, libraries);
        }
        process::run(
            &format!("build bpf-linker {} with {} (up to a minute, once)", self.release, self.feature),
            &mut install,
            "it needs a C compiler (`apt-get install gcc libc6-dev`) and the package registry; a `bpf-linker` of \
             your own on PATH is taken where its LLVM fits",
        )?;
        fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
        self.ready()?.with_context(|| format!("cargo install left no bpf-linker in {}", root.display()))
    }
}

/// The cargo that runs this program, else the one on PATH.
pub(crate) fn host_cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
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
