//! `lyncwall switch` and `lyncwall reload`.

use clap::Args;
use lyncwall::api::{PortChange, Switch, Switched};
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
}

pub(crate) async fn run(options: Options, client: &Client, output: &Output) -> anyhow::Result<()> {
    let switch = Switch { target: options.target, roles: options.roles };
    tell(&client.switch(&switch).await?, output)
}

pub(crate) async fn reload(client: &Client, output: &Output) -> anyhow::Result<()> {
    tell(&client.post("/v1/reload", &()).await?, output)
}

fn tell(switched: &Switched, output: &Output) -> anyhow::Result<()> {
    if output.json() {
        return output.value(switched);
    }
    let roles: Vec<String> = switched
        .targets
        .iter()
        .map(|target| {
            let roles = if target.roles.is_empty() { "no role".to_owned() } else { target.roles.join(", ") };
            format!("{}: {roles}", target.target)
        })
        .collect();
    let milliseconds = switched.micros as f64 / 1e3;
    output.line(&format!(
        "generation {} is live after {milliseconds:.1} ms, {}; {}",
        switched.generation,
        super::mode(switched.mode),
        roles.join("; ")
    ))?;
    for change in &switched.changes {
        output.line(&format!("  {change}"))?;
    }
    if switched.opened.is_empty() && switched.closed.is_empty() {
        output.line("the roles open the same ports as before")?;
    }
    output.section("Opened", &table(&switched.opened))?;
    output.section("Closed", &table(&switched.closed))?;
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
