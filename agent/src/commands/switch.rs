//! `lyncwall switch` and `lyncwall reload`.

use clap::Args;
use lyncwall::api::{Existing, PortChange, Reload, Settled, Switch, Switched};
use lyncwall::client::Client;

use crate::output::{Output, Table};
use crate::values;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadOptions {
    #[command(flatten)]
    how: How,
}

/// Which roles a target is to have.
#[derive(Debug, Args)]
struct Wanted {
    /// The target; may be left out where there is one.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Its roles: until the next switch, or until the file gives the target other roles.
    #[arg(value_name = "ROLE", required_unless_present = "none")]
    roles: Vec<String>,
    /// No role: close all ports but those of management and of allow rules.
    #[arg(long, conflicts_with = "roles")]
    none: bool,
}

/// How the change is made.
#[derive(Debug, Args)]
pub(super) struct How {
    /// What becomes of connections that stand and come in at ports which close. `cut`: their packets are dropped.
    /// `drain`: they go on until they end, and only new ones are refused. What the box opened itself goes on either way.
    #[arg(long, value_name = "WHAT", value_parser = values::existing(), default_value = "cut")]
    pub(super) existing: Existing,
    /// Go back by itself, with or without the agent, unless `lyncwall confirm` follows within this time: from 1s to 24h,
    /// as `60s` or `5min`.
    #[arg(long = "confirm", value_name = "TIME", value_parser = seconds)]
    pub(super) time: Option<u64>,
}

/// Whole seconds; the agent says how many it takes.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.subsec_nanos() != 0 {
        return Err("only whole seconds can be given".to_owned());
    }
    Ok(time.as_secs())
}

pub(crate) async fn run(options: Options, client: &Client, output: &Output) -> anyhow::Result<()> {
    let Options { wanted, how } = options;
    let switch =
        Switch { target: wanted.target, roles: wanted.roles, confirm: how.time, existing: how.existing };
    tell(&client.switch(&switch).await?, output)
}

pub(crate) async fn reload(options: &ReloadOptions, client: &Client, output: &Output) -> anyhow::Result<()> {
    tell(
        &client
            .post("/v1/reload", &Reload { confirm: options.how.time, existing: options.how.existing })
            .await?,
        output,
    )
}

/// Prints what a change did.
pub(super) fn tell(switched: &Switched, output: &Output) -> anyhow::Result<()> {
    if output.json() {
        return output.value(switched);
    }
    let milliseconds = switched.micros as f64 / 1e3;
    output.line(&format!(
        "generation {} is live after {milliseconds:.1} ms, {}; {}",
        switched.generation,
        super::mode_of(switched.mode, &switched.targets),
        super::roles_of(&switched.targets)
    ))?;
    for change in &switched.changes {
        output.line(&format!("  {change}"))?;
    }
    if switched.opened.is_empty() && switched.closed.is_empty() {
        output.line("the roles open the same ports as before")?;
    }
    output.section("Opened", &changes(&switched.opened))?;
    output.section("Closed", &changes(&switched.closed))?;
    if let Some(Settled { existing, connections }) =
        switched.settled.filter(|settled| settled.connections > 0)
    {
        let what = match existing {
            Existing::Cut => "cut",
            Existing::Drain => "let go on until the end",
        };
        let count = self::connections(connections);
        output.line(&format!("\n{count} that came in at closed ports: {what}"))?;
    }
    if let Some(seconds) = switched.confirm {
        output.line(&format!("\nthis goes back in {seconds} s, unless `lyncwall confirm` keeps it"))?;
    }
    for warning in &switched.warnings {
        output.warn(warning);
    }
    Ok(())
}

/// Ports that were opened or closed.
pub(super) fn changes(changes: &[PortChange]) -> Table {
    let mut table = Table::new(["target", "ports", "service"]);
    for change in changes {
        let ports = ports(&change.transport, change.first, change.last);
        table.row([change.target.clone(), ports, change.service.clone()]);
    }
    table
}

/// As `1 connection`.
pub(super) fn connections(count: u64) -> String {
    format!("{count} connection{}", if count == 1 { "" } else { "s" })
}

/// As `tcp 443` or `udp 49152-57500`.
pub(super) fn ports(transport: &str, first: u16, last: u16) -> String {
    if first == last { format!("{transport} {first}") } else { format!("{transport} {first}-{last}") }
}
