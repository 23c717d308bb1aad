//! `lyncwall confirm` and `lyncwall rollback`.

use lyncwall_api::Confirmed;
use lyncwall_api::client::Client;

use super::switch;
use crate::output::Output;

pub(crate) async fn run(client: &Client, output: &Output) -> anyhow::Result<()> {
    let confirmed: Confirmed = client.post("/v1/confirm", &()).await?;
    if output.json() {
        return output.value(&confirmed);
    }
    let roles = super::roles_of(&confirmed.targets);
    output.line(&format!("confirmed generation {}; {roles}", confirmed.generation))?;
    for warning in &confirmed.warnings {
        output.warn(warning);
    }
    Ok(())
}

pub(crate) async fn rollback(client: &Client, output: &Output) -> anyhow::Result<()> {
    switch::tell(&client.post("/v1/rollback", &()).await?, output)
}
