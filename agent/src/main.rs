//! The `lyncwall` command.

mod cli;
mod commands;
mod output;
mod values;

use std::process::ExitCode;

use clap::Parser;
use lyncwall_api::client::Client;

use crate::cli::{Cli, Command};
use crate::commands::unattended::Places;
use crate::commands::{
    ack, block, capture, catalogue, check, confirm, detach, doctor, events, explain, mode, preview, roles,
    show, status, switch, usage, watch,
};
use crate::output::{Output, log};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // The line could not be read, so neither could its options.
        Err(usage) => return output::usage(&usage, std::env::args_os().any(|word| word == "--json")),
    };
    let json = cli.json;
    let output = Output::new(json);
    match &cli.command {
        Command::Run(options) => log::start(&options.log),
        _ => log::start(&log::Options::STDERR),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(cli, &output)));
    output::exit(done, json)
}

/// Runs one command to its end.
async fn run(cli: Cli, output: &Output) -> anyhow::Result<()> {
    let plain = Client::new(&cli.socket);
    let client = plain.clone().warning(output::unguarded);
    let places = Places { pins: cli.pin_dir.clone(), state: cli.state_dir.clone() };
    match cli.command {
        Command::Run(options) => {
            commands::run::run(&options, &cli.socket, &cli.pin_dir, &cli.state_dir).await
        }
        Command::Status => status::run(&plain, &cli.pin_dir, output).await,
        Command::Preview(options) => preview::run(options, &client, output).await,
        Command::Switch(options) => switch::run(options, &client, output).await,
        Command::Mode(options) => mode::run(options, &client, &places, output).await,
        Command::Reload(options) => switch::reload(&options, &client, output).await,
        Command::Confirm => confirm::run(&client, output).await,
        Command::Rollback => confirm::rollback(&client, output).await,
        Command::Block(options) => block::block(options, &client, &places, output).await,
        Command::Unblock(options) => block::unblock(options, &client, &places, output).await,
        Command::Blocked => block::list(&client, output).await,
        Command::Capture(options) => capture::run(&options, &client, output).await,
        Command::Explain(options) => explain::run(options, &client, output).await,
        Command::Top(options) => usage::top(&options, &client, output).await,
        Command::Unused(options) => usage::unused(&options, &client, output).await,
        Command::Watch(options) => watch::run(&options, &plain, output).await,
        Command::Events(options) => events::run(&options, &client, output).await,
        Command::Detach(options) => {
            detach::run(&options, &client, &cli.pin_dir, &cli.state_dir, output).await
        }
        Command::Ack => ack::run(&client, output).await,
        Command::Check(options) => check::run(&options, output),
        Command::Doctor(options) => doctor::run(&options, &client, &cli.pin_dir, output).await,
        Command::Roles(options) => roles::run(&options, output),
        Command::Show(options) => show::run(&options, output),
        Command::Catalogue(options) => catalogue::run(&options, output),
    }
}
