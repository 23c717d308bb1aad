//! `lyncwall switch` and `lyncwall reload`.

use clap::Args;
use lyncwall::api::{PortChange, Reload, Switch, Switched};
use lyncwall::client::Client;

use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target to switch; may be left out where there is one.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// The roles that hold from now on: until the next switch, or until the file gives the target other roles.
    #[arg(value_name = "ROLE", required_unless_present = "none")]
    roles: Vec<String>,
    /// No role: close all ports but those of management and of allow rules.
    #[arg(long, conflicts_with = "roles")]
    none: bool,
    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadOptions {
    #[command(flatten)]
    confirm: Confirm,
}

/// Whether the change is to be confirmed.
#[derive(Debug, Args)]
struct Confirm {
    /// Go back by itself, with or without the agent, unless `lyncwall confirm` follows within this time: from 1s to 24h,
    /// as `60s` or `5min`.
    #[arg(long = "confirm", value_name = "TIME", value_parser = seconds)]
    time: Option<u64>,
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
    let switch = Switch { target: options.target, roles: options.roles, confirm: options.confirm.time };
    tell(&client.switch(&switch).await?, output)
}

pub(crate) async fn reload(options: &ReloadOptions, client: &Client, output: &Output) -> anyhow::Result<()> {
    tell(&client.post("/v1/reload", &Reload { confirm: options.confirm.time }).await?, output)
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
        super::mode(switched.mode),
        super::roles_of(&switched.targets)
    ))?;
    for change in &switched.changes {
        output.line(&format!("  {change}"))?;
    }
    if switched.opened.is_empty() && switched.closed.is_empty() {
        output.line("the roles open the same ports as before")?;
    }
    output.section("Opened", &table(&switched.opened))?;
    output.section("Closed", &table(&switched.closed))?;
    if let Some(seconds) = switched.confirm {
        output.line(&format!("\nthis goes back in {seconds} s, unless `lyncwall confirm` keeps it"))?;
    }
    for warning in &switched.warnings {
        output.warn(warning);
    }
    Ok(())
}

fn table(changes: &[PortChange]) -> Table {
    let mut table = Table::new(["target", "ports", "service"]);
    for change in changes {
        let ports = if change.first == change.last {
            change.first.to_string()
        } else {
            format!("{}-{}", change.first, change.last)
        };
        table.row([change.target.clone(), format!("{} {ports}", change.transport), change.service.clone()]);
    }
    table
}
