//! `lyncwall ack`.

use lyncwall_api::Acknowledged;
use lyncwall_api::client::Client;

use crate::output::Output;

/// Makes `status` and the metrics stop reporting lost state.
pub(crate) async fn run(client: &Client, output: &Output) -> anyhow::Result<()> {
    let acknowledged: Acknowledged = client.post("/v1/acknowledge", &()).await?;
    if output.json() {
        return output.value(&acknowledged);
    }
    for lost in &acknowledged.lost {
        output.line(&format!("acknowledged: {lost}"))?;
    }
    if acknowledged.lost.is_empty() {
        output.line("nothing was lost")?;
    }
    Ok(())
}
