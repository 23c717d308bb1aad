//! `lyncwall mode`.

use clap::Args;
use lyncwall_api::client::Client;
use lyncwall_api::{Mode, SetMode};

use super::switch::{How, tell};
use super::unattended::{self, Places};
use crate::output::Output;
use crate::values;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The new mode; holds until the next `lyncwall mode`, or until the file names another one.
    #[arg(value_parser = values::mode())]
    mode: Mode,
    /// Only for this target [default: the whole box with all targets]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    #[command(flatten)]
    how: How,
}

pub(crate) async fn run(
    options: Options,
    client: &Client,
    places: &Places,
    output: &Output,
) -> anyhow::Result<()> {
    let Options { mode, target, how } = options;
    let wanted = SetMode { target, mode, confirm: how.time, existing: how.existing };
    match client.post("/v1/mode", &wanted).await {
        Ok(switched) => tell(&switched, output),
        // Everything else needs a compiled policy, or somebody who ends a trial.
        Err(error) if mode == Mode::Audit && wanted.target.is_none() && wanted.confirm.is_none() => {
            unattended::audit(places.open(error)?, output)
        }
        Err(error) => Err(error),
    }
}
