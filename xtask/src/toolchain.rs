//! The compiler and linker of the BPF object: found on the machine, else fetched into the target folder.
//!
//! Two routes lead there: a nightly Rust by rustup ([`nightly`]) and Debian's packages ([`debian`]).

use std::env;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::process::{Failure, in_short, say};
use crate::{environment, workspace};

pub(crate) mod debian;
pub(crate) mod linker;
pub(crate) mod nightly;
pub(crate) mod version;

/// Forces a route when `--toolchain` is not given; the values are the same.
const VARIABLE: &str = "LYNCWALL_BPF_TOOLCHAIN";

/// The target that the BPF object is built for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Which route to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// What is complete already, else nightly, else debian
    Auto,
    /// A nightly Rust by rustup
    Nightly,
    /// Debian's packages, unpacked under the target folder
    Debian,
}

/// The option that every task which builds the object has.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// The source of the BPF compiler; LYNCWALL_BPF_TOOLCHAIN sets it for all tasks
    #[arg(long, value_enum)]
    toolchain: Option<Choice>,
}

impl Selection {
    /// The route asked for: by the option, else by the variable, else [`Choice::Auto`].
    ///
    /// # Errors
    /// A [`Failure`] when the variable holds no route.
    pub(crate) fn choice(&self) -> Result<Choice> {
        if let Some(choice) = self.toolchain {
            return Ok(choice);
        }
        let Some(value) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
            return Ok(Choice::Auto);
        };
        let value = value.to_string_lossy();
        Choice::from_str(&value, false).map_err(|_| {
            Failure::new(
                format!("{VARIABLE}={value} names no toolchain"),
                "set it to auto, nightly or debian, or unset it",
            )
            .into()
        })
    }
}

/// Sources and where what is built of them goes.
#[derive(Debug)]
pub(crate) struct Place {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) sources: PathBuf,
    /// The folders of BPF build output are in this one.
    pub(crate) output: PathBuf,
}

impl Place {
    /// This workspace.
    ///
    /// # Errors
    /// When the target folder cannot be named.
    pub(crate) fn workspace() -> Result<Self> {
        Ok(Self { sources: workspace::root(), output: workspace::target_dir()?.join("bpf") })
    }
}

/// A compiler that has `core` for BPF, or builds it, with a linker that reads its bitcode.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// What to call it.
    name: String,
    /// Its own folder under the folders of BPF build output.
    folder: &'static str,
    cargo: PathBuf,
    /// The folder that holds `rustc`.
    programs: PathBuf,
    /// The folder that holds the compiler's LLVM.
    libraries: PathBuf,
    linker: PathBuf,
    /// True where `core` for BPF comes as source only.
    build_std: bool,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, linker {}", self.name, self.linker.display())
    }
}

impl Toolchain {
    /// `cargo <subcommand>` for the BPF crate, always optimised: unoptimised code does not pass the verifier.
    ///
    /// # Errors
    /// When the target folder cannot be named.
    pub(crate) fn cargo(&self, subcommand: &str) -> Result<Command> {
        Ok(self.cargo_at(&Place::workspace()?, subcommand))
    }

    /// The same for sources in another place.
    pub(crate) fn cargo_at(&self, place: &Place, subcommand: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command.arg(subcommand);
        self.complete(place, command)
    }

    /// `cargo clippy` for the BPF crate; `None` where the toolchain has no clippy.
    ///
    /// # Errors
    /// When the target folder cannot be named.
    pub(crate) fn clippy(&self) -> Result<Option<Command>> {
        let program = self.programs.join("cargo-clippy");
        if !program.exists() {
            return Ok(None);
        }
        let mut command = Command::new(program);
        command.arg("clippy");
        Ok(Some(self.complete(&Place::workspace()?, command)))
    }

    /// The folder where [`Toolchain::cargo_at`] puts the object.
    pub(crate) fn output(&self, place: &Place) -> PathBuf {
        self.target_dir(place).join(TARGET).join("release")
    }

    fn target_dir(&self, place: &Place) -> PathBuf {
        // Not shared with the host build nor between the routes: each would undo the other's work, and the
        // agent would not see that the object under the same path is another.
        place.output.join(self.folder)
    }

    fn complete(&self, place: &Place, mut command: Command) -> Command {
        command
            .args(["--package", workspace::BPF_CRATE, "--target", TARGET, "--release"])
            .arg("--target-dir")
            .arg(self.target_dir(place))
            .current_dir(&place.sources);
        if self.build_std {
            command.args(["-Z", "build-std=core"]);
        }
        environment::clean(&mut command);
        environment::programs_from(&mut command, &self.programs);
        environment::libraries_from(&mut command, &self.libraries);
        command
            .env("CARGO", &self.cargo)
            .env("RUSTC", self.programs.join("rustc"))
            // Debian's compiler is a release; aya-ebpf and the BPF target need unstable features.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .env("CARGO_ENCODED_RUSTFLAGS", "-Cdebuginfo=2\u{1f}-Clink-arg=--btf");
        command
    }
}

/// Finds the toolchain that `choice` asks for, or fetches it, and says which it is.
///
/// # Errors
/// A [`Failure`] with the reason of each route that was tried.
pub(crate) fn provide(choice: Choice) -> Result<Toolchain> {
    let fetched = workspace::fetched_dir()?;
    fs::create_dir_all(&fetched).with_context(|| fetched.display().to_string())?;
    let _lock = workspace::lock(&fetched.join("lock"), "provides the BPF toolchain")?;
    let toolchain = match choice {
        Choice::Nightly => match nightly::ready()? {
            Some(ready) => ready,
            None => nightly::provide()?,
        },
        Choice::Debian => match debian::ready()? {
            Some(ready) => ready,
            None => debian::provide()?,
        },
        Choice::Auto => automatic()?,
    };
    say(&format!("BPF toolchain: {toolchain}"));
    Ok(toolchain)
}

fn automatic() -> Result<Toolchain> {
    if let Some(ready) = nightly::ready()? {
        return Ok(ready);
    }
    if let Some(ready) = debian::ready()? {
        return Ok(ready);
    }
    let no_nightly = match nightly::provide() {
        Ok(toolchain) => return Ok(toolchain),
        Err(error) => error,
    };
    say(&format!("no nightly Rust, trying Debian's packages: {}", in_short(&no_nightly)));
    debian::provide().map_err(|no_debian| {
        Failure::new(
            format!("no BPF toolchain\nnightly: {no_nightly:#}\ndebian: {no_debian:#}"),
            "one of the two must work; `cargo xtask doctor` shows what each needs",
        )
        .into()
    })
}
