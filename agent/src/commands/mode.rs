//! `lyncwall mode`.

use clap::Args;
use lyncwall::api::{Mode, SetMode};
use lyncwall::client::Client;

use super::switch::{How, tell};
use crate::output::Output;
use crate::values;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What becomes of packets that no rule lets in: until it is set again, or until the file says another mode than now.
    #[arg(value_parser = values::mode())]
    mode: Mode,
    /// For one target only; without it for the whole box and all of its targets.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    #[command(flatten)]
    how: How,
}

pub(crate) async fn run(options: Options, client: &Client, output: &Output) -> anyhow::Result<()> {
    let Options { mode, target, how } = options;
    let wanted = SetMode { target, mode, confirm: how.time, existing: how.existing };
    tell(&client.post("/v1/mode", &wanted).await?, output)
}
