//! `cargo xtask build`: the BPF object, then the userspace crates with the object inside the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::install::host_cargo;
use crate::process::{self, Failure};
use crate::toolchain::Place;
use crate::{toolchain, workspace};

/// The variable by which the agent's build script gets the object, and the tests find it.
pub(crate) const OBJECT_VARIABLE: &str = "LYNCWALL_BPF_OBJECT";

/// The variable by which the tests, the demo and the benchmark find the agent.
pub(crate) const AGENT_VARIABLE: &str = "LYNCWALL_BIN";

/// How to build.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Optimise the userspace crates too, not only the BPF object
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    toolchain: toolchain::Selection,
}

/// Builds.
///
/// # Errors
/// A [`Failure`] of the step that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let built = build(&options.toolchain, Profile::from_release(options.release), &[])?;
    println!("{}", built.agent().display());
    Ok(())
}

/// The profile of the userspace crates.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    /// Quick to build.
    Debug,
    /// Quick to run.
    Release,
}

impl Profile {
    fn from_release(release: bool) -> Self {
        if release { Self::Release } else { Self::Debug }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

/// What [`build`] made.
#[derive(Debug)]
pub(crate) struct Built {
    object: PathBuf,
    programs: PathBuf,
}

impl Built {
    /// What the tests start, with this object.
    ///
    /// # Errors
    /// When the target folder cannot be named.
    pub(crate) fn debug(object: PathBuf) -> Result<Self> {
        Ok(Self { object, programs: workspace::target_dir()?.join(Profile::Debug.folder()) })
    }

    /// The agent.
    pub(crate) fn agent(&self) -> PathBuf {
        self.path(AGENT)
    }

    /// The BPF object that the agent has inside.
    pub(crate) fn object(&self) -> &Path {
        &self.object
    }

    /// Where one of the built programs lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// One of the built programs, with the variables that the test programs read.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        self.export_to(&mut command);
        command
    }

    /// Sets the variables that the test programs read.
    pub(crate) fn export_to(&self, command: &mut Command) {
        command.env(OBJECT_VARIABLE, &self.object).env(AGENT_VARIABLE, self.agent());
    }
}

/// The agent.
const AGENT: &str = "lyncwall";

/// A small integration test of the agent. As soon as one test is asked for, cargo resolves features for tests; and it builds the
/// agent itself for it.
pub(crate) const A_TEST: &str = "openapi";

/// Builds the BPF object, the agent with the object inside, and `more` programs.
///
/// # Errors
/// A [`Failure`] of the step that failed.
pub(crate) fn build(options: &toolchain::Selection, profile: Profile, more: &[&str]) -> Result<Built> {
    let object = object_of_workspace(options)?;
    let mut command = host("build")?;
    command.env(OBJECT_VARIABLE, &object);
    for program in [AGENT].iter().chain(more) {
        command.args(["--bin", program]);
    }
    match profile {
        // With the features that the tests have, so that both share what is built.
        Profile::Debug => command.args(["--test", A_TEST]),
        Profile::Release => command.arg("--release"),
    };
    process::run("build the agent", &mut command, "mend what the compiler says above")?;
    Ok(Built { object, programs: workspace::target_dir()?.join(profile.folder()) })
}

/// Builds the BPF object that becomes part of the agent.
///
/// # Errors
/// A [`Failure`] of the step that failed.
pub(crate) fn object_of_workspace(options: &toolchain::Selection) -> Result<PathBuf> {
    object(options, &Place::workspace()?, workspace::BPF_PROGRAM)
}

/// `cargo <subcommand>` over all userspace crates, with the cargo that runs this program.
///
/// All of them, whatever is wanted: cargo resolves features for the packages that a command names, and another
/// selection would build dependencies again.
///
/// # Errors
/// When the target folder cannot be named.
pub(crate) fn host(subcommand: &str) -> Result<Command> {
    let mut command = Command::new(host_cargo());
    command.args([subcommand, "--target-dir"]).arg(workspace::target_dir()?).current_dir(workspace::root());
    command.args(["--workspace", "--exclude", workspace::BPF_CRATE]);
    Ok(command)
}

/// Builds the object that the benchmark compares with.
///
/// # Errors
/// A [`Failure`] of the step that failed.
pub(crate) fn reference(options: &toolchain::Selection) -> Result<PathBuf> {
    object(options, &Place::workspace()?, workspace::REFERENCE_PROGRAM)
}

/// Builds a program of [`workspace::BPF_CRATE`] from the sources in `place`.
///
/// # Errors
/// A [`Failure`] of the step that failed.
pub(crate) fn object(options: &toolchain::Selection, place: &Place, program: &str) -> Result<PathBuf> {
    let toolchain = toolchain::provide(options.choice()?)?;
    process::run(
        &format!("build the BPF object {program}"),
        toolchain.cargo_at(place, "build").args(["--bin", program]),
        "mend what the compiler says above",
    )?;
    let object = toolchain.output(place).join(program);
    check(&object)?;
    Ok(object)
}

/// Refuses what the kernel could not load for a reason that the compiler does not see.
fn check(object: &Path) -> Result<()> {
    let bytes = fs::read(object).with_context(|| object.display().to_string())?;
    match defect(&bytes) {
        None => Ok(()),
        Some(defect) => Err(Failure::new(
            format!("{} {defect}", object.display()),
            "the linker must be bpf-linker with --btf; delete the folder `bpf-toolchain` under the target folder",
        )
        .into()),
    }
}

fn defect(elf: &[u8]) -> Option<&'static str> {
    // e_ident and e_machine of a little-endian ELF64 header; 247 is EM_BPF.
    if !elf.starts_with(b"\x7fELF\x02\x01") || elf.get(18..20) != Some(&247u16.to_le_bytes()) {
        return Some("is no BPF object");
    }
    let has_name = |name: &[u8]| elf.windows(name.len()).any(|window| window == name);
    if !has_name(b".BTF\0") {
        return Some("has no BTF");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bpf_object_with_btf_is_accepted() {
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 247;
        assert_eq!(defect(&elf), Some("has no BTF"));
        elf.extend_from_slice(b"\0xdp\0.BTF\0");
        assert_eq!(defect(&elf), None);
        elf[18] = 62;
        assert_eq!(defect(&elf), Some("is no BPF object"));
        assert_eq!(defect(b"#!/bin/sh"), Some("is no BPF object"));
    }
}
