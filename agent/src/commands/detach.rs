//! `lyncwall detach`.

use std::path::Path;

use lyncwall::api::Detached;
use lyncwall::client::{self, Client};
use lyncwall::datapath::Datapath;
use lyncwall::firewall::Firewall;

use crate::output::Output;

/// Opens the box: by the running agent, which ends then, or without one.
pub(crate) async fn run(
    client: &Client,
    pin_dir: &Path,
    state_dir: &Path,
    output: &Output,
) -> anyhow::Result<()> {
    let detached = match client.post("/v1/detach", &()).await.map_err(client::Error::from) {
        Ok(detached) => detached,
        // No agent: what it left is taken away here. A running agent with another socket holds the lock.
        Err(client::Error::Refused(_)) => {
            let detached = Datapath::detach(pin_dir)?;
            Firewall::forget_blocked(state_dir)?;
            for pin in &detached.left {
                output.warn(&format!("{pin} is not lyncwall's, and was left"));
            }
            Detached { interfaces: detached.interfaces, maps: detached.maps.len() }
        }
        Err(client::Error::Failed(error)) => return Err(error),
    };
    if output.json() {
        return output.value(&detached);
    }
    if detached.interfaces.is_empty() && detached.maps == 0 {
        return output.line(&format!("nothing was attached or pinned below {}", pin_dir.display()));
    }
    let interfaces =
        if detached.interfaces.is_empty() { "none".to_owned() } else { detached.interfaces.join(", ") };
    output.line(&format!("the box is open; interfaces: {interfaces}; {} maps removed", detached.maps))
}
