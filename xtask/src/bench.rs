//! `cargo xtask bench`: what one packet costs.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::build::{self, Profile};
use crate::{process, toolchain};

/// The variable by which the benchmark finds the object that it compares with.
const REFERENCE_VARIABLE: &str = "LYNCWALL_REFERENCE_OBJECT";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
    /// The arguments of the benchmark
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds optimised, then becomes the benchmark; comes back only when that fails.
///
/// # Errors
/// A [`process::Failure`] without root, or of the step that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    process::require_root("bench")?;
    let reference = build::reference(&options.toolchain)?;
    let built = build::build(&options.toolchain, Profile::Release, &["bench"])?;
    let mut benchmark = built.program("bench");
    benchmark.env(REFERENCE_VARIABLE, reference).args(&options.arguments);
    process::become_command("the benchmark", &mut benchmark, "")
}
