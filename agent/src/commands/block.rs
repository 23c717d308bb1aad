//! `lyncwall block`, `lyncwall unblock` and `lyncwall blocked`.

use std::time::Duration;

use clap::Args;
use lyncwall_api::client::Client;
use lyncwall_api::{Block, BlockEdit, BlockList, Blocked, Unblock};
use lyncwall_policy::text::counted;

use super::switch::seconds;
use super::unattended::{Places, without_agent};
use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Addresses and prefixes, as 203.0.113.9 or 2001:db8:5::/48.
    #[arg(value_name = "PREFIX", required = true)]
    prefixes: Vec<String>,
    /// How long, from 1s to 365d, as `1h` or `30min` [default: for good]. A prefix that is blocked already
    /// gets the new time.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct UnblockOptions {
    /// Prefixes, as `lyncwall blocked` lists them.
    #[arg(value_name = "PREFIX", required = true)]
    prefixes: Vec<String>,
}

pub(crate) async fn block(
    options: Options,
    client: &Client,
    places: &Places,
    output: &Output,
) -> anyhow::Result<()> {
    let asked = Block { prefixes: options.prefixes, seconds: options.time };
    let edit = match client.post("/v1/block", &asked).await {
        Ok(edit) => edit,
        Err(error) => {
            let time = options.time.map(Duration::from_secs);
            without_agent(places.open(error)?.block(&asked.prefixes, time)?)
        }
    };
    tell(&edit, &format!("blocked {}", lasting(options.time)), output)
}

pub(crate) async fn unblock(
    options: UnblockOptions,
    client: &Client,
    places: &Places,
    output: &Output,
) -> anyhow::Result<()> {
    let asked = Unblock { prefixes: options.prefixes };
    let edit = match client.post("/v1/unblock", &asked).await {
        Ok(edit) => edit,
        Err(error) => without_agent(places.open(error)?.unblock(&asked.prefixes)?),
    };
    tell(&edit, "no longer blocked", output)
}

pub(crate) async fn list(client: &Client, output: &Output) -> anyhow::Result<()> {
    let blocked: Blocked = client.get("/v1/blocked").await?;
    if output.json() {
        return output.value(&blocked);
    }
    if blocked.prefixes.is_empty() {
        return output.line("no prefix is blocked");
    }
    let mut table = Table::new(["prefix", "blocked"]);
    for entry in &blocked.prefixes {
        table.row([entry.prefix.clone(), lasting(entry.seconds)]);
    }
    output.table(&table)?;
    output.line("")?;
    output.line(&summary(&blocked.list))
}

/// How many prefixes the block-list holds, and how many packets it dropped.
pub(super) fn summary(list: &BlockList) -> String {
    let BlockList { v4, v6, size, dropped } = list;
    let dropped = counted(*dropped, "packet", "packets");
    format!("{v4} IPv4, {v6} IPv6 (at most {size} each); {dropped} dropped")
}

fn lasting(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => format!("for {}", humantime::format_duration(Duration::from_secs(seconds))),
        None => "for good".to_owned(),
    }
}

fn tell(edit: &BlockEdit, what: &str, output: &Output) -> anyhow::Result<()> {
    if output.json() {
        return output.value(edit);
    }
    for prefix in &edit.prefixes {
        output.line(&format!("{prefix} is {what}"))?;
    }
    output.line(&format!("block-list: {}", summary(&edit.list)))?;
    for warning in &edit.warnings {
        output.warn(warning);
    }
    Ok(())
}
