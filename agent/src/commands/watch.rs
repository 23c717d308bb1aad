//! `lyncwall watch`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Args;
use lyncwall::api::{Counters, RuleCount};
use lyncwall::client::Client;

use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// End after so many looks; 1 prints the counters once.
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
    /// Ports to show, those with the most drops first.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    ports: usize,
}

pub(crate) async fn run(options: &Options, client: &Client, output: &Output) -> anyhow::Result<()> {
    let mut before: Option<(Instant, Rates)> = None;
    let mut looks = 0;
    loop {
        let counters: Counters = client.get("/v1/counters").await?;
        let now = Instant::now();
        let rates = Rates::of(&counters);
        if output.json() {
            output.line(&serde_json::to_string(&counters)?)?;
        } else {
            if looks > 0 {
                output.clear()?;
            }
            let last = before.as_ref().map(|(then, rates)| (now.duration_since(*then), rates));
            show(&counters, &rates, last, options.ports, output)?;
        }
        looks += 1;
        if options.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
        before = Some((now, rates));
        tokio::time::sleep(Duration::from_secs(options.interval)).await;
    }
}

/// All counts by what they count.
struct Rates(HashMap<String, u64>);

impl Rates {
    fn of(counters: &Counters) -> Self {
        let reasons = counters
            .reasons
            .iter()
            .map(|count| (format!("{} {}", count.reason, count.action), count.packets));
        let rules = counters.rules.iter().map(|rule| (name(rule), rule.packets));
        let ports = counters
            .ports
            .iter()
            .map(|count| (format!("drop {} {}", count.transport, count.port), count.packets));
        Self(reasons.chain(rules).chain(ports).collect())
    }

    /// Packets a second since the last look.
    fn rate(&self, key: &str, last: Option<(Duration, &Self)>) -> String {
        let Some((elapsed, before)) = last else { return String::new() };
        let now = self.0.get(key).copied().unwrap_or_default();
        let then = before.0.get(key).copied().unwrap_or_default();
        format!("{:.0}/s", now.wrapping_sub(then) as f64 / elapsed.as_secs_f64())
    }
}

fn show(
    counters: &Counters,
    rates: &Rates,
    last: Option<(Duration, &Rates)>,
    ports: usize,
    output: &Output,
) -> anyhow::Result<()> {
    output.line(&format!(
        "generation {}, packets since the first start after a boot or a detach",
        counters.generation
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
            name(rule),
            rule.service.clone(),
            rule.packets.to_string(),
            rates.rate(&name(rule), last),
        ]);
    }
    output.section("By rule", &table)?;
    let unused = rules.iter().filter(|rule| rule.packets == 0).count();
    if unused > 0 {
        output.line(&format!("  rules that have let nothing in so far: {unused}"))?;
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
        output.line(&format!("  and {} more ports", dropped.len() - ports))?;
    }
    if counters.events_lost > 0 {
        output.line(&format!("{} drops had no event, because of the rate limit", counters.events_lost))?;
    }
    Ok(())
}

fn name(rule: &RuleCount) -> String {
    match (&rule.target, &rule.allow) {
        (_, Some(allow)) => format!("allow {allow}"),
        (Some(target), None) => {
            format!("{target} {} {}", rule.transport.as_deref().unwrap_or_default(), rule.ports)
        }
        (None, None) => rule.ports.clone(),
    }
}
