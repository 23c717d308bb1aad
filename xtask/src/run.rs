//! `cargo xtask run`: the agent, built and started.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::build::{self, Profile};
use crate::{process, toolchain};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
    /// The arguments of `lyncwall`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds, then becomes the agent; comes back only when that fails.
///
/// # Errors
/// A [`process::Failure`] of the step that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let built = build::build(&options.toolchain, Profile::Debug, &[])?;
    let mut agent = built.program("lyncwall");
    process::become_command("lyncwall", agent.args(&options.arguments), "")
}
