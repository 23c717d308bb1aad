//! What can be said on the command line.

use std::path::Path;

use clap::{Args, Parser, Subcommand};
use lyncwall::catalogue::{BUILT_IN, Catalogue};
use lyncwall::problem::Problems;

use crate::commands;

/// Host firewall for the Linux boxes in front of Microsoft Lync pools.
#[derive(Debug, Parser)]
#[command(name = "lyncwall", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the roles a box can have.
    Roles(commands::roles::Options),
    /// Show what a role, or several together, would open.
    Show(commands::show::Options),
    /// List the printed port rows, or show some in full.
    Catalogue(commands::catalogue::Options),
}

/// Which catalogue to read.
#[derive(Debug, Args)]
pub(crate) struct CatalogueOption {
    /// A built-in catalogue, or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = BUILT_IN)]
    catalogue: String,
}

impl CatalogueOption {
    /// Reads it; a relative file is taken from the working directory.
    pub(crate) fn load(&self) -> Result<Catalogue, Problems> {
        Catalogue::load(&self.catalogue, Path::new(""))
    }
}
