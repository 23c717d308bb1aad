//! `lyncwall switch` and `lyncwall reload`.

use clap::Args;
use lyncwall_api::client::Client;
use lyncwall_api::{Existing, PortChange, Reload, Settled, Switch, Switched};
use lyncwall_policy::text::counted;

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

/// Which roles the target gets.
#[derive(Debug, Args)]
struct Wanted {
    /// The target; needed if there are several.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Its roles, until the next switch or other roles in the file.
    #[arg(value_name = "ROLE", required_unless_present = "none")]
    roles: Vec<String>,
    /// No role: close all ports but those of management and allow rules.
    #[arg(long, conflicts_with = "roles")]
    none: bool,
}

/// How to make the change.
#[derive(Debug, Args)]
pub(super) struct How {
    /// What to do with existing connections to ports that close [default: cut, but refuse to cut a session
    /// from a management source]
    #[arg(long, value_name = "WHAT", value_parser = values::existing())]
    pub(super) existing: Option<Existing>,
    /// Roll back after this time, from 1s to 24h, unless `lyncwall confirm` follows; needs no agent.
    #[arg(long = "confirm", value_name = "TIME", value_parser = seconds)]
    pub(super) time: Option<u64>,
}

/// Parses whole seconds; the agent checks the range.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    if text.parse::<u64>().is_ok() {
        return Err(format!("add a unit, as {text}s, {text}min or {text}h"));
    }
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.subsec_nanos() != 0 {
        return Err("use whole seconds".to_owned());
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
    for on in &switched.unguarded {
        output.line(&format!("UNGUARDED: nobody judges the packets of {}: {}", on.interface, on.why))?;
    }
    let live = if switched.unguarded.is_empty() { "live" } else { "written, but not in force everywhere," };
    output.line(&format!(
        "generation {} {live} in {milliseconds:.1} ms, {}; {}",
        switched.generation,
        super::mode_of(switched.mode, &switched.targets),
        super::roles_of(&switched.targets)
    ))?;
    for change in &switched.changes {
        output.line(&format!("  {change}"))?;
    }
    if switched.opened.is_empty() && switched.closed.is_empty() {
        output.line("no port opened or closed")?;
    }
    output.section("Opened", &changes(&switched.opened))?;
    output.section("Closed", &changes(&switched.closed))?;
    if let Some(Settled { existing, connections }) =
        switched.settled.filter(|settled| settled.connections > 0)
    {
        let what = match existing {
            Existing::Cut => "cut",
            Existing::Drain => "may continue until they end",
        };
        output.line("")?;
        output.line(&format!("{} to closed ports: {what}", self::connections(connections)))?;
    }
    if let Some(seconds) = switched.confirm {
        output.line("")?;
        output.line(&format!("rolls back in {seconds} s unless you run `lyncwall confirm`"))?;
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

/// Formats a count, as `1 connection`.
pub(super) fn connections(count: u64) -> String {
    counted(count, "connection", "connections")
}

/// Formats ports, as `tcp 443` or `udp 49152-57500`.
pub(super) fn ports(transport: &str, first: u16, last: u16) -> String {
    if first == last { format!("{transport} {first}") } else { format!("{transport} {first}-{last}") }
}
