//! `lyncwall explain`.

mod file;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lyncwall_api::client::Client;
use lyncwall_api::{Event, Explain, Explained, ExplainedGroup, ExplainedRow, Explanation, Status};
use lyncwall_policy::problem::Problem;
use lyncwall_policy::text::counted;
use serde::Serialize;

use super::events::{action, summary};
use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// As `tcp/5061`, `icmp/8` or `vrrp`, or a protocol number.
    #[arg(value_name = "PROTOCOL[/PORT]", required_unless_present = "packet")]
    what: Option<What>,
    /// The source address.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "packet")]
    from: Option<String>,
    /// The destination address.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "packet")]
    to: Option<String>,
    /// The source port [default: 40000]
    #[arg(long, value_name = "PORT")]
    source_port: Option<u16>,
    /// The TCP flags, as SYN,ACK [default: SYN]
    #[arg(long, value_name = "FLAGS")]
    tcp_flags: Option<String>,
    /// The interface of arrival [default: each guarded one].
    #[arg(long = "in", value_name = "INTERFACE")]
    interface: Option<String>,
    /// The VLAN tag; repeat it for nested tags, outer first.
    #[arg(long, value_name = "ID")]
    vlan: Vec<u16>,
    /// Explain the packets of this pcap or pcapng file; `-` is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["what", "from", "to", "source_port", "tcp_flags", "vlan"])]
    packet: Option<PathBuf>,
    /// End after this number of packets.
    #[arg(long, short = 'n', value_name = "NUMBER", requires = "packet", default_value_t = 1000)]
    count: usize,
}

/// A protocol, and the number after its slash.
#[derive(Debug, Clone)]
struct What {
    protocol: String,
    number: Option<u16>,
}

impl std::str::FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, number) = match text.split_once('/') {
            None => (text, None),
            Some((protocol, number)) => {
                let read =
                    number.parse().map_err(|_| format!("`{number}` is not a port; write `tcp/5061`"))?;
                (protocol, Some(read))
            }
        };
        Ok(Self { protocol: protocol.to_ascii_lowercase(), number })
    }
}

pub(crate) async fn run(options: Options, client: &Client, output: &Output) -> Result<()> {
    if let Some(path) = &options.packet {
        return packets(path, &options, client, output).await;
    }
    let explained: Explained = client.post("/v1/explain", &request(options)?).await?;
    if output.json() {
        return output.value(&explained);
    }
    for explanation in &explained.verdicts {
        show(explanation, output)?;
    }
    Ok(())
}

fn request(options: Options) -> Result<Explain, Problem> {
    let what = options.what.ok_or_else(|| {
        Problem::new("no packet to explain", "name one, as `tcp/5061 --from ADDRESS --to ADDRESS`")
    })?;
    let mut asked = Explain {
        interface: options.interface,
        from: options.from,
        to: options.to,
        source_port: options.source_port,
        tcp_flags: options.tcp_flags,
        vlan: options.vlan,
        ..Explain::default()
    };
    if what.protocol == "icmp" {
        let wrong = |_| Problem::new("an ICMP type is a number from 0 to 255", "write it as `icmp/8`");
        asked.icmp = what.number.map(u8::try_from).transpose().map_err(wrong)?.map(|kind| [kind, 0]);
    } else {
        asked.port = what.number;
    }
    asked.protocol = Some(what.protocol);
    Ok(asked)
}

/// The answer for one packet of a file.
#[derive(Serialize)]
struct Numbered {
    /// Counted from 1, like Wireshark.
    packet: usize,
    #[serde(flatten)]
    explained: Explained,
}

async fn packets(path: &std::path::Path, options: &Options, client: &Client, output: &Output) -> Result<()> {
    let status: Status = client.get("/v1/status").await?;
    let guarded = |name: &str| status.interfaces.iter().any(|known| known.ifindex != 0 && known.name == name);
    let packets = file::read(path, options.count)?;
    let full = packets.len() == options.count;
    for (number, packet) in (1..).zip(packets) {
        let named = packet.interface.filter(|name| guarded(name));
        let interface = options.interface.clone().or(named);
        let asked = Explain { interface, frame: Some(packet.hexadecimal), ..Explain::default() };
        let explained: Explained = client.post("/v1/explain", &asked).await?;
        if output.json() {
            output.object(&Numbered { packet: number, explained })?;
            continue;
        }
        for Explanation { event, meaning, judged, .. } in &explained.verdicts {
            let done = if event.action == *judged { judged } else { action(event) };
            output.line(&format!(
                "{number:>5}  {done:<4} {:<18} {}  {meaning}",
                event.reason,
                summary(event)
            ))?;
        }
    }
    if full {
        output.warn(&format!(
            "stopped after {}; use `-n` for more",
            counted(options.count, "packet", "packets")
        ));
    }
    Ok(())
}

/// Prints one verdict with all facts.
fn show(explanation: &Explanation, output: &Output) -> Result<()> {
    let mut table = Table::plain();
    for (name, text) in facts(explanation) {
        table.row([name.to_owned(), text]);
    }
    output.section(&summary(&explanation.event), &table)
}

/// All facts of a verdict but the packet itself, as name and value.
pub(crate) fn facts(explanation: &Explanation) -> Vec<(&'static str, String)> {
    let event = &explanation.event;
    let mut facts = Vec::new();
    let done = match (&*event.action, &*explanation.judged) {
        ("pass", "drop") => "passes in audit mode; enforcing would drop it",
        ("pass", _) => "passes",
        _ => "is dropped",
    };
    facts.push(("verdict", format!("{done}: {}. {}", event.reason, explanation.meaning)));
    let vlan: String = event.vlan.iter().map(|id| format!(", VLAN {id}")).collect();
    let zone = event.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
    facts.push(("comes in by", format!("{}{vlan}{zone}", event.interface)));
    let roles = explanation.roles.join(", ");
    match &event.target {
        Some(target) if roles.is_empty() => facts.push(("goes to", target.clone())),
        Some(target) => facts.push(("goes to", format!("{target}: {roles}"))),
        None if event.protocol.is_some() => facts.push(("goes to", "no target".to_owned())),
        None => {}
    }
    // The most important facts come first: a screen may be too short for all.
    facts.extend(explanation.notes.iter().map(|note| ("note", note.clone())));
    facts.extend(explanation.allow.iter().map(|name| ("rule", format!("[[allow]] {name}"))));
    if let Some(rule) = &explanation.rule {
        let groups: Vec<String> = rule.groups.iter().map(group).collect();
        let from = if groups.is_empty() { "anybody".to_owned() } else { groups.join(" and ") };
        facts.push(("rule", format!("{} {}, open to {from}", rule.transport, rule.ports)));
        rule.rows.iter().for_each(|row| printed("row", row, &mut facts));
    }
    explanation.elsewhere.iter().for_each(|row| printed("not opened", row, &mut facts));
    facts.push(("generation", explanation.generation.to_string()));
    facts
}

/// The question whose answer explains an event.
pub(crate) fn question(event: &Event) -> Explain {
    Explain {
        interface: Some(event.interface.clone()),
        frame: None,
        from: event.source.clone(),
        to: event.destination.clone(),
        protocol: event.protocol.clone(),
        port: event.destination_port,
        source_port: event.source_port,
        tcp_flags: event.tcp_flags.clone(),
        icmp: event.icmp,
        vlan: event.vlan.clone(),
    }
}

fn group(group: &ExplainedGroup) -> String {
    let holds = if group.holds.is_empty() { String::new() } else { format!(" ({})", group.holds) };
    let matches = if group.matches { "the packet's" } else { "not the packet's" };
    format!("{}{holds}, {matches}", group.name)
}

fn printed(name: &'static str, row: &ExplainedRow, facts: &mut Vec<(&'static str, String)>) {
    let why = row.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    facts.push((name, format!("{} {}{why}", row.id, row.service)));
    if row.printed.is_empty() {
        return;
    }
    facts.push(("printed", row.table.clone()));
    let titles: BTreeSet<&str> = row.printed.iter().map(|printed| &*printed.title).collect();
    for title in titles {
        let places = row.printed.iter().filter(|printed| printed.title == title);
        let lines: Vec<String> =
            places.map(|printed| format!("{} line {}", printed.language, printed.line)).collect();
        facts.push(("", format!("{title}: {}", lines.join(", "))));
    }
}
