//! `lyncwall detach`.

use std::path::Path;

use anyhow::bail;
use clap::Args;
use lyncwall::firewall::Firewall;
use lyncwall_api::client::{self, Client, Unheard};
use lyncwall_api::{Detach, Detached};
use lyncwall_datapath::Datapath;
use lyncwall_policy::text::counted;

use super::unattended::{self, BUSY};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Forget the roles and modes set at run time: the next start follows the file.
    #[arg(long)]
    forget: bool,
}

/// Opens the box: through the running agent, which then ends, or without an agent.
pub(crate) async fn run(
    options: &Options,
    client: &Client,
    pin_dir: &Path,
    state_dir: &Path,
    output: &Output,
) -> anyhow::Result<()> {
    let wanted = Detach { forget: options.forget };
    let answer = client.clone().waiting(BUSY).post("/v1/detach", &wanted).await;
    let unheard = answer.as_ref().err().and_then(Unheard::of);
    let detached: Detached = match answer.map_err(client::Error::from) {
        Ok(detached) => detached,
        // No agent answers, so this process removes the pins. A running agent with another socket holds the
        // lock.
        Err(client::Error::Refused(_)) => {
            let (detached, unheard) = unattended::detach(unheard, pin_dir, output)?;
            Firewall::detached_without_agent(detached, state_dir, unheard, options.forget)
        }
        // The agent may have died over the request: then nobody holds the pins any more.
        Err(client::Error::Failed(error)) => {
            if Datapath::holder(pin_dir)?.is_some() {
                return Err(error);
            }
            Firewall::detached_without_agent(Datapath::detach(pin_dir)?, state_dir, false, options.forget)
        }
    };
    // First what is, then what failed.
    if output.json() {
        output.value(&detached)?;
    } else {
        output.line(&result(&detached, pin_dir))?;
        for setting in &detached.kept {
            output.line(&format!("the next start restores what was set at run time: {setting}"))?;
        }
        if !detached.kept.is_empty() {
            output.say("to start by the file instead, run `lyncwall detach --forget`");
        }
        for pin in &detached.left {
            output.warn(&format!("left {pin} in place: lyncwall did not create it"));
        }
    }
    if !detached.failed.is_empty() {
        bail!("detach did not finish: {}", detached.failed.join("; "));
    }
    Ok(())
}

/// What is open now, and what is not.
fn result(detached: &Detached, pin_dir: &Path) -> String {
    let Detached { interfaces, guarded, maps, .. } = detached;
    if interfaces.is_empty() && guarded.is_empty() && *maps == 0 {
        return format!("nothing to detach: no program or map is pinned below {}", pin_dir.display());
    }
    let opened = if interfaces.is_empty() { "no interface".to_owned() } else { interfaces.join(", ") };
    if guarded.is_empty() {
        let maps = counted(*maps, "map", "maps");
        return format!("the box is open: detached from {opened}, removed {maps}");
    }
    format!("the box is NOT open: {} still guarded; detached from {opened}", guarded.join(", "))
}
