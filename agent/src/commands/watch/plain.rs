//! Prints the counters as text or as lines of JSON, for a pipe or a plain terminal.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use lyncwall_api::Mode;
use lyncwall_api::client::Client;
use lyncwall_api::{BlockList, Counters, Flows, Interface, RuleCount, Status, TargetState, Waiting};
use lyncwall_policy::text::counted;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Options;
use super::model::rule_name;
use crate::output::{Output, Table};

/// One update as JSON: the counters, and the changing parts of the status.
#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC.
    time: String,
    /// Those of `/v1/counters`, with `interfaces` as `interface_counts`.
    #[serde(flatten)]
    counters: Map<String, Value>,
    /// All packets of this update's counters.
    passed: u64,
    dropped: u64,
    mode: Mode,
    targets: Vec<TargetState>,
    waiting: &'a Option<Waiting>,
    interfaces: &'a [Interface],
    flows: &'a Flows,
    blocked: &'a BlockList,
}

/// Prints updates. If the agent ends after the first one, waits for the next agent.
pub(super) async fn run(options: &Options, client: &Client, output: &Output) -> anyhow::Result<()> {
    let mut before: Option<(Instant, Rates)> = None;
    let mut looks = 0;
    let mut gone = false;
    loop {
        let looked = super::look(client).await;
        let now = Instant::now();
        match looked {
            Ok((status, counters)) => {
                gone = false;
                let rates = Rates::of(&counters);
                if output.json() {
                    output.object(&Line::of(&status, &counters)?)?;
                } else {
                    if looks > 0 {
                        output.clear()?;
                    }
                    let last = before.as_ref().map(|(then, rates)| (now.duration_since(*then), rates));
                    show((&status, &counters), &rates, last, options.ports, output)?;
                }
                looks += 1;
                before = Some((now, rates));
            }
            Err(error) if looks == 0 => return Err(error),
            Err(error) if !gone => {
                gone = true;
                output.warn(&format!(
                    "the agent does not answer; waiting. Its rules hold unless detached (see `lyncwall doctor`): {error:#}"
                ));
            }
            Err(_) => {}
        }
        if options.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(options.interval)).await;
    }
}

impl<'a> Line<'a> {
    fn of(status: &'a Status, counters: &Counters) -> serde_json::Result<Self> {
        let target = |target: &lyncwall_api::Target| TargetState {
            target: target.name.clone(),
            roles: target.roles.clone(),
            mode: target.mode,
        };
        let mut counts: Map<String, Value> = serde_json::from_value(serde_json::to_value(counters)?)?;
        // The interfaces of the status have that name.
        if let Some(interfaces) = counts.remove("interfaces") {
            counts.insert("interface_counts".to_owned(), interfaces);
        }
        Ok(Self {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            counters: counts,
            passed: total(counters, "pass"),
            dropped: total(counters, "drop"),
            mode: status.mode,
            targets: status.targets.iter().map(target).collect(),
            waiting: &status.waiting,
            interfaces: &status.interfaces,
            flows: &status.flows,
            blocked: &status.blocked,
        })
    }
}

/// The sum of all packets with an action.
fn total(counters: &Counters, action: &str) -> u64 {
    counters.reasons.iter().filter(|count| count.action == action).map(|count| count.packets).sum()
}

/// All counts by key.
struct Rates(HashMap<String, u64>);

impl Rates {
    fn of(counters: &Counters) -> Self {
        let reasons = counters
            .reasons
            .iter()
            .map(|count| (format!("{} {}", count.reason, count.action), count.packets));
        let rules = counters.rules.iter().map(|rule| (rule_name(rule), rule.packets));
        let ports = counters
            .ports
            .iter()
            .map(|count| (format!("drop {} {}", count.transport, count.port), count.packets));
        Self(reasons.chain(rules).chain(ports).collect())
    }

    /// Packets a second since the last update.
    fn rate(&self, key: &str, last: Option<(Duration, &Self)>) -> String {
        let Some((elapsed, before)) = last else { return String::new() };
        let now = self.0.get(key).copied().unwrap_or_default();
        let then = before.0.get(key).copied().unwrap_or_default();
        // A smaller value means that the maps are new and count from 0.
        format!("{:.0}/s", now.checked_sub(then).unwrap_or(now) as f64 / elapsed.as_secs_f64())
    }
}

fn show(
    (status, counters): (&Status, &Counters),
    rates: &Rates,
    last: Option<(Duration, &Rates)>,
    ports: usize,
    output: &Output,
) -> anyhow::Result<()> {
    let modes = status.targets.iter().map(|target| (&*target.name, target.mode));
    output.line(&format!(
        "generation {}, {}; {} passed, {} dropped since the first start after a boot or a detach",
        counters.generation,
        crate::commands::mode(status.mode, modes),
        total(counters, "pass"),
        total(counters, "drop"),
    ))?;

    let mut table = Table::new(["reason", "action", "packets", ""]);
    for count in &counters.reasons {
        let rate = rates.rate(&format!("{} {}", count.reason, count.action), last);
        table.row([count.reason.clone(), count.action.clone(), count.packets.to_string(), rate]);
    }
    output.section("By reason", &table)?;

    let mut rules: Vec<&RuleCount> = counters.rules.iter().collect();
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.packets));
    let mut table = Table::new(["rule", "service", "packets", ""]);
    for rule in rules.iter().filter(|rule| rule.packets > 0) {
        table.row([
            rule_name(rule),
            rule.service.clone(),
            rule.packets.to_string(),
            rates.rate(&rule_name(rule), last),
        ]);
    }
    output.section("By rule", &table)?;
    let unused = rules.iter().filter(|rule| rule.packets == 0 && rule.last_used.is_none()).count();
    if unused > 0 {
        output
            .line(&format!("  rules without a packet yet: {unused}; `lyncwall unused` lists their rows"))?;
    }

    let mut dropped: Vec<_> = counters.ports.iter().collect();
    dropped.sort_by_key(|count| std::cmp::Reverse(count.packets));
    let mut table = Table::new(["port", "service", "dropped", ""]);
    for count in dropped.iter().take(ports) {
        let port = format!("{} {}", count.transport, count.port);
        let rate = rates.rate(&format!("drop {port}"), last);
        table.row([port, count.service.clone(), count.packets.to_string(), rate]);
    }
    output.section("By dropped port", &table)?;
    if dropped.len() > ports {
        let more = counted(dropped.len() - ports, "more port", "more ports");
        output.line(&format!("  and {more}"))?;
    }
    if counters.events_lost > 0 {
        let drops = counted(counters.events_lost, "drop", "drops");
        output.line(&format!("{drops} had no event, because of the rate limit"))?;
    }
    Ok(())
}
