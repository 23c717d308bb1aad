//! `lyncwall detach`.

use std::path::Path;

use lyncwall::firewall::Firewall;
use lyncwall_api::Detached;
use lyncwall_api::client::{self, Client};
use lyncwall_datapath::Datapath;
use lyncwall_policy::text::counted;

use crate::output::Output;

/// Opens the box: through the running agent, which then ends, or without an agent.
pub(crate) async fn run(
    client: &Client,
    pin_dir: &Path,
    state_dir: &Path,
    output: &Output,
) -> anyhow::Result<()> {
    let detached = match client.post("/v1/detach", &()).await.map_err(client::Error::from) {
        Ok(detached) => detached,
        // No agent runs, so this process removes the pins. A running agent with another socket holds the
        // lock.
        Err(client::Error::Refused(_)) => {
            let detached = Datapath::detach(pin_dir)?;
            Firewall::forget_blocked(state_dir)?;
            for pin in &detached.left {
                output.warn(&format!("left {pin} in place: lyncwall did not create it"));
            }
            Detached { interfaces: detached.interfaces, maps: detached.maps.len() }
        }
        Err(client::Error::Failed(error)) => return Err(error),
    };
    if output.json() {
        return output.value(&detached);
    }
    if detached.interfaces.is_empty() && detached.maps == 0 {
        return output
            .line(&format!("nothing to detach: no program or map is pinned below {}", pin_dir.display()));
    }
    let interfaces = if detached.interfaces.is_empty() {
        "no interface".to_owned()
    } else {
        detached.interfaces.join(", ")
    };
    let maps = counted(detached.maps, "map", "maps");
    output.line(&format!("the box is open: detached from {interfaces}, removed {maps}"))
}
