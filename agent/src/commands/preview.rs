//! `lyncwall preview`.

use clap::Args;
use lyncwall_api::client::Client;
use lyncwall_api::{Connections, Listener, Mode, Preview, Previewed};
use lyncwall_policy::text::counted;

use super::switch::{changes, connections, ports};
use crate::output::{Output, Table};
use crate::values;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target; needed if there are several, unless --mode is for the whole box.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// The roles to try.
    #[arg(value_name = "ROLE", required_unless_present_any = ["none", "mode"], conflicts_with = "mode")]
    roles: Vec<String>,
    /// Try no role: close all ports but those of management and allow rules.
    #[arg(long, conflicts_with_all = ["roles", "mode"])]
    none: bool,
    /// Try a mode instead of roles.
    #[arg(long, value_name = "MODE", value_parser = values::mode())]
    mode: Option<Mode>,
}

pub(crate) async fn run(options: Options, client: &Client, output: &Output) -> anyhow::Result<()> {
    let Options { target, roles, none: _, mode } = options;
    let roles = mode.is_none().then_some(roles);
    let previewed = client.preview(&Preview { target, roles, mode }).await?;
    if output.json() {
        return output.value(&previewed);
    }
    tell(&previewed, output)
}

fn tell(previewed: &Previewed, output: &Output) -> anyhow::Result<()> {
    output.line(&format!(
        "preview, nothing has changed: {}; {}",
        super::mode_of(previewed.mode, &previewed.targets),
        super::roles_of(&previewed.targets)
    ))?;
    if previewed.opened.is_empty() && previewed.closed.is_empty() {
        output.line("no port would open or close")?;
    }
    output.section("Opens", &changes(&previewed.opened))?;
    output.section("Closes", &changes(&previewed.closed))?;
    let (narrowed, unreachable): (Vec<&Listener>, Vec<&Listener>) =
        previewed.unreached.iter().partition(|listener| !listener.still.is_empty());
    output.section("Would become unreachable", &listeners(&unreachable))?;
    output.section("Would be reached by these rules only", &narrower(&narrowed))?;
    output.section("Would open, but nothing listens", &changes(&previewed.unheard))?;
    let Connections { count, first } = &previewed.cut;
    let title = format!("Would be cut (unless drained): {}", connections(*count));
    output.section(&title, &cut(*count, first))?;
    output.line("")?;
    if *count == 0 {
        output.line("no existing connection would be cut")?;
    }
    output.line(&format!("would continue: {} in the flow table", flows(previewed.flows)))?;
    for warning in &previewed.warnings {
        output.warn(warning);
    }
    Ok(())
}

fn flows(count: u64) -> String {
    counted(count, "flow", "flows")
}

fn listeners(listeners: &[&Listener]) -> Table {
    let mut table = Table::new(["target", "port", "bound to", "process"]);
    for listener in listeners {
        table.row(cells(listener));
    }
    table
}

/// Listeners that some rules still let packets to.
fn narrower(listeners: &[&Listener]) -> Table {
    let mut table = Table::new(["target", "port", "bound to", "process", "still reached by"]);
    for listener in listeners {
        let [target, port, address, process] = cells(listener);
        table.row([target, port, address, process, listener.still.join(", ")]);
    }
    table
}

fn cells(listener: &Listener) -> [String; 4] {
    [
        listener.target.clone(),
        ports(&listener.transport, listener.port, listener.port),
        listener.address.clone(),
        listener.process.clone().unwrap_or_default(),
    ]
}

fn cut(count: u64, first: &[lyncwall_api::Connection]) -> Table {
    let mut table = Table::new(["", "from", "to"]);
    for connection in first {
        table.row([connection.transport.clone(), connection.remote.clone(), connection.local.clone()]);
    }
    let more = count.saturating_sub(first.len() as u64);
    if more > 0 {
        table.row([format!("and {more} more")]);
    }
    table
}
