//! `lyncwall events`.

use clap::Args;
use lyncwall::api::Event;
use lyncwall::client::Client;

use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// End after so many events.
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
}

pub(crate) async fn run(options: &Options, client: &Client, output: &Output) -> anyhow::Result<()> {
    let mut lines = client.lines("/v1/events").await?;
    let mut seen = 0;
    while options.count.is_none_or(|count| seen < count) {
        let Some(line) = lines.next().await? else { break };
        seen += 1;
        if output.json() {
            output.line(&line)?;
            continue;
        }
        match serde_json::from_str(&line) {
            Ok(event) => output.line(&text(&event))?,
            // How many were lost because this client was slow.
            Err(_) => output.line(&line)?,
        }
    }
    Ok(())
}

/// One event as a line: what happened, why, who to whom, and what that would have been.
fn text(event: &Event) -> String {
    let action = action(event);
    let mut text = format!("{} {action:<4} {:<18} {:<8}", clock(event.time), event.reason, event.interface);
    for vlan in &event.vlan {
        text += &format!(" vlan {vlan}");
    }
    text += &format!(" {}", packet(event));
    if let Some(service) = &event.service {
        text += &format!("  {service}");
    }
    text
}

/// What became of it. In audit mode: "pass" would read as if a rule let it in.
pub(super) fn action(event: &Event) -> &str {
    if event.action == "pass" { "would-drop" } else { &event.action }
}

/// Who to whom, and what that would have been.
pub(super) fn packet(event: &Event) -> String {
    let end = |address: &Option<String>, port: Option<u16>| match (address, port) {
        (None, _) => "?".to_owned(),
        (Some(address), None) => address.clone(),
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
    };
    let mut text;
    if let Some(ether_type) = &event.ether_type {
        text = format!("EtherType {ether_type}");
    } else {
        text = format!(
            "{} {} > {}",
            event.protocol.as_deref().unwrap_or("ip"),
            end(&event.source, event.source_port),
            end(&event.destination, event.destination_port),
        );
    }
    if let Some(flags) = event.tcp_flags.as_deref().filter(|flags| !flags.is_empty()) {
        text += &format!(" {flags}");
    }
    if let Some([kind, code]) = event.icmp {
        text += &format!(" type {kind} code {code}");
    }
    text
}

/// The time of day in UTC.
pub(super) fn clock(time: f64) -> String {
    let milliseconds = (time * 1000.0) as u64;
    let (seconds, milliseconds) = (milliseconds / 1000 % 86_400, milliseconds % 1000);
    format!("{:02}:{:02}:{:02}.{milliseconds:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
