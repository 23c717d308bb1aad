//! The commands, one file each: its options and what it does.

pub(crate) mod catalogue;
pub(crate) mod roles;
pub(crate) mod show;

use crate::cli::Command;
use crate::output::Output;

/// Runs one command to its end.
pub(crate) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Roles(options) => roles::run(&options, output),
        Command::Show(options) => show::run(&options, output),
        Command::Catalogue(options) => catalogue::run(&options, output),
    }
}
