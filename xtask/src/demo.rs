//! `cargo xtask demo`: the firewall at work between two network namespaces of its own.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::build::{self, Profile};
use crate::{process, toolchain};

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
    /// The arguments of the demo
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds, then becomes the demo; comes back only when that fails.
///
/// # Errors
/// A [`process::Failure`] without root, or of the step that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    process::require_root("demo")?;
    let built = build::build(&options.toolchain, Profile::Debug, &["demo"])?;
    process::become_command("the demo", built.program("demo").args(&options.arguments), "")
}
