//! The commands, one file each: its options and what it does.

pub(crate) mod catalogue;
pub(crate) mod check;
pub(crate) mod detach;
pub(crate) mod events;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod watch;

use lyncwall::client::Client;

use crate::cli::{Cli, Command};
use crate::output::Output;

/// Runs one command to its end.
pub(crate) async fn run(cli: Cli, output: &Output) -> anyhow::Result<()> {
    let client = Client::new(&cli.socket);
    match cli.command {
        Command::Run(options) => run::run(&options, &cli.socket, &cli.pin_dir).await,
        Command::Status => status::run(&client, output).await,
        Command::Switch(options) => switch::run(options, &client, output).await,
        Command::Reload => switch::reload(&client, output).await,
        Command::Watch(options) => watch::run(&options, &client, output).await,
        Command::Events(options) => events::run(&options, &client, output).await,
        Command::Detach => detach::run(&client, &cli.pin_dir, output).await,
        Command::Check(options) => check::run(&options, output),
        Command::Roles(options) => roles::run(&options, output),
        Command::Show(options) => show::run(&options, output),
        Command::Catalogue(options) => catalogue::run(&options, output),
    }
}
