//! `lyncwall events`.

use std::time::Duration;

use clap::Args;
use lyncwall_api::client::Client;
use lyncwall_api::{Counters, Event, Line, Wanted};
use lyncwall_policy::config::protocol_name;
use lyncwall_policy::text::counted;
use tokio::time::{Instant, MissedTickBehavior};

use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// End after this number of events.
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
    #[command(flatten)]
    filter: FilterOptions,
}

/// Filters. Each takes a list with commas and matches any of its items; all given filters must match.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterOptions {
    /// Only these reasons, as closed,source.
    #[arg(long, value_name = "REASONS")]
    reason: Option<String>,
    /// Only from these prefixes.
    #[arg(long, value_name = "PREFIXES")]
    from: Option<String>,
    /// Only to these ports, as 5061, tcp/5061 or 49152-65535.
    #[arg(long, value_name = "PORTS")]
    port: Option<String>,
    /// Only to ports of these rules, as "director tcp 5061".
    #[arg(long, value_name = "RULES")]
    rule: Option<String>,
    /// Only to these targets.
    #[arg(long, value_name = "TARGETS")]
    target: Option<String>,
    /// Only on these interfaces.
    #[arg(long = "in", value_name = "INTERFACES")]
    interface: Option<String>,
}

impl FilterOptions {
    pub(super) fn wanted(&self) -> Wanted {
        let Self { reason, from, port, rule, target, interface } = self.clone();
        Wanted { reason, from, port, rule, target, interface }
    }
}

/// The interval between two reports of drops without an event.
const LOOK: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: &Options, client: &Client, output: &Output) -> anyhow::Result<()> {
    let mut lines = client.lines(&client.query("/v1/events", &options.filter.wanted())?).await?;
    let mut untold = Untold::default();
    untold.tell(client, output).await;
    let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    while options.count.is_none_or(|count| seen < count) {
        let line = tokio::select! {
            line = lines.next() => line?,
            _ = look.tick() => {
                untold.tell(client, output).await;
                continue;
            }
        };
        let Some(line) = line else { return Ok(()) };
        seen += 1;
        if output.json() {
            output.json_line(&line)?;
            continue;
        }
        match serde_json::from_str(&line)? {
            Line::Event(event) => output.line(&text(&event))?,
            Line::Lost { lost } => {
                let lost = counted(lost, "event", "events");
                output.warn(&format!("lost {lost}, which came faster than lyncwall printed them"));
            }
        }
    }
    untold.tell(client, output).await;
    Ok(())
}

/// Counts drops that the program did not report as events.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// The value of the counter at the last look.
    before: Option<u64>,
}

impl Untold {
    /// The number of such drops since the last call; 0 for the first.
    pub(super) fn since(&mut self, counters: &Counters) -> u64 {
        let now = counters.events_lost;
        // A smaller value means that the maps are new and count from 0.
        self.before.replace(now).map_or(0, |before| now.checked_sub(before).unwrap_or(now))
    }

    /// Warns of drops without an event. An error is ignored: the next call asks again.
    async fn tell(&mut self, client: &Client, output: &Output) {
        let Ok(counters) = client.get::<Counters>("/v1/counters").await else { return };
        let more = self.since(&counters);
        if more > 0 {
            output.warn(&format!(
                "{} had no event (at most 100 a second per CPU and reason); the counters include them",
                counted(more, "drop", "drops")
            ));
        }
    }
}

/// One event as a line: action, reason, packet, and the service of its port.
fn text(event: &Event) -> String {
    let note = event.note.as_ref().map(|note| format!("  ({note})")).unwrap_or_default();
    format!(
        "{} {:<4} {:<18} {:<8} {}{note}",
        clock(event.time),
        action(event),
        event.reason,
        event.interface,
        summary(event)
    )
}

/// The action. "would-drop" in audit mode: "pass" would look as if a rule had let the packet in.
pub(super) fn action(event: &Event) -> &str {
    if event.action == "pass" { "would-drop" } else { &event.action }
}

/// VLANs, source and destination, and the service of the port.
pub(crate) fn summary(event: &Event) -> String {
    let tags: String = event.vlan.iter().map(|vlan| format!("vlan {vlan} ")).collect();
    let service = event.service.as_ref().map(|service| format!("  {service}")).unwrap_or_default();
    format!("{tags}{}{service}", packet(event))
}

/// Protocol, source and destination.
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
            event.protocol.as_deref().map_or("ip", named),
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

/// The name of a protocol that has only its number.
fn named(protocol: &str) -> &str {
    protocol.parse().ok().and_then(protocol_name).unwrap_or(protocol)
}

/// The time of day in UTC.
pub(super) fn clock(time: f64) -> String {
    let milliseconds = (time * 1000.0) as u64;
    let (seconds, milliseconds) = (milliseconds / 1000 % 86_400, milliseconds % 1000);
    format!("{:02}:{:02}:{:02}.{milliseconds:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_protocol_is_told_by_its_name_where_it_has_one() {
        let told = ["112", "47", "tcp", "200", "300", "icmp"].map(named);
        assert_eq!(told, ["vrrp", "gre", "tcp", "200", "300", "icmp"]);
    }
}
