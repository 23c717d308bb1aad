//! `lyncwall top` and `lyncwall unused`: rules and rows with much traffic, and rows without any.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use clap::Args;
use lyncwall_api::client::Client;
use lyncwall_api::{Counters, RuleCount, Status};
use lyncwall_policy::catalogue::{BUILT_IN, Catalogue};
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::Problem;
use serde::Serialize;

use super::switch::seconds;
use super::watch::rule_name;
use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct TopOptions {
    /// Only the rules of this target.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// The number of rules to list.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Count for this time, at least 1s, and sort by packets a second.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    over: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct UnusedOptions {
    /// Only the rows of this target.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Include rows whose last packet is older than this, as `30d`.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds, default_value = "7d")]
    time: u64,
}

/// A rule with its rate.
#[derive(Debug, Serialize)]
struct Busy<'a> {
    #[serde(flatten)]
    rule: &'a RuleCount,
    /// Packets a second; `None` without `--over`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
}

pub(crate) async fn top(options: &TopOptions, client: &Client, output: &Output) -> Result<()> {
    let begin = Instant::now();
    let before: Counters = client.get("/v1/counters").await?;
    known(options.target.as_deref(), &before, client).await?;
    let counters = match options.over {
        Some(time) => {
            tokio::time::sleep_until((begin + Duration::from_secs(time)).into()).await;
            &client.get("/v1/counters").await?
        }
        None => &before,
    };
    let elapsed = begin.elapsed().as_secs_f64();
    let rate = |rule: &RuleCount| {
        options.over?;
        let same = |known: &&RuleCount| {
            (&known.target, &known.allow, &known.transport, &known.ports, &known.rows)
                == (&rule.target, &rule.allow, &rule.transport, &rule.ports, &rule.rows)
        };
        let then = before.rules.iter().find(same).map_or(0, |known| known.packets);
        Some(rule.packets.saturating_sub(then) as f64 / elapsed)
    };
    let rules = of_target(counters, options.target.as_deref());
    let mut busy: Vec<Busy<'_>> = rules.map(|rule| Busy { rule, rate: rate(rule) }).collect();
    busy.retain(|busy| busy.rule.packets > 0);
    busy.sort_by(|one, other| {
        let rates = other.rate.unwrap_or_default().total_cmp(&one.rate.unwrap_or_default());
        rates.then(other.rule.packets.cmp(&one.rule.packets))
    });
    busy.truncate(options.count as usize);
    if output.json() {
        return output.value(&busy);
    }
    if busy.is_empty() {
        return output.line("no rule has let a packet in yet");
    }
    let now = SystemTime::now();
    let mut table = Table::new(["rule", "roles", "service", "packets", "", "last"]);
    for Busy { rule, rate } in busy {
        table.row([
            rule_name(rule),
            rule.roles.join(" "),
            rule.service.clone(),
            rule.packets.to_string(),
            rate.map(|rate| format!("{rate:.1}/s")).unwrap_or_default(),
            rule.last_used.as_deref().map(|time| ago(time, now)).unwrap_or_default(),
        ]);
    }
    output.table(&table)
}

/// The usage of a row of the catalogue, or of an `[[allow]]` rule, in a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Usage {
    /// `None` for an `[[allow]]` rule.
    target: Option<String>,
    /// The id of the row, or the name of the `[[allow]]` rule.
    row: String,
    /// The live roles with this row.
    roles: Vec<String>,
    /// As `tcp 443`.
    ports: Vec<String>,
    /// The printed source: protocol, name, table and row.
    printed: String,
    /// Since when the counters cover all of its rules: RFC 3339, UTC.
    since: Option<String>,
    /// The time of the last packet; `None` if no rule let one in since then.
    last_used: Option<String>,
}

/// The answer of `unused --json`.
#[derive(Debug, Serialize)]
struct Unused {
    /// Rows without a packet since counting began; longest counted first.
    never: Vec<Usage>,
    /// Rows without a packet for the time of `--for`; longest silent first.
    silent: Vec<Usage>,
}

pub(crate) async fn unused(options: &UnusedOptions, client: &Client, output: &Output) -> Result<()> {
    let counters: Counters = client.get("/v1/counters").await?;
    let status = known(options.target.as_deref(), &counters, client).await?;
    let rows = usages(of_target(&counters, options.target.as_deref()), &catalogue(&status)?);
    let now = SystemTime::now();
    let unused = Unused::of(rows, now, Duration::from_secs(options.time));
    if output.json() {
        return output.value(&unused);
    }
    if unused.never.is_empty() && unused.silent.is_empty() {
        return output.line("all rows of the live roles have carried packets");
    }
    let table = |rows: &[Usage], heading, time: fn(&Usage) -> Option<&str>| {
        let mut table = Table::new(["target", "row", "roles", "ports", "printed", heading]);
        for usage in rows {
            table.row([
                usage.target.clone().unwrap_or_else(|| "allow".to_owned()),
                usage.row.clone(),
                usage.roles.join(" "),
                usage.ports.join(", "),
                usage.printed.clone(),
                time(usage).map(|time| ago(time, now)).unwrap_or_default(),
            ]);
        }
        table
    };
    let never = table(&unused.never, "no packet since", |usage| usage.since.as_deref());
    output.section("Never used", &never)?;
    let silent = table(&unused.silent, "last packet", |usage| usage.last_used.as_deref());
    output.section("Silent", &silent)?;
    output.line("")?;
    output.line(
        "A hint, not a proof: wait for a backup, a failover, the end of a quarter. To close a row, remove its role with \
         `lyncwall switch`, its id from `optional`, or its [[allow]] rule from the file; to narrow it, give the \
         target other ports for it with `overrides = { \"ROW\" = PORT }`.",
    )
}

impl Unused {
    fn of(rows: Vec<Usage>, now: SystemTime, time: Duration) -> Self {
        let (mut never, mut silent) = (Vec::new(), Vec::new());
        for usage in rows {
            match usage.last_used.as_deref() {
                None => never.push(usage),
                Some(last) if age(last, now).is_some_and(|age| age >= time) => silent.push(usage),
                Some(_) => {}
            }
        }
        // RFC 3339 times in UTC sort as text.
        never.sort_by(|one, other| one.since.cmp(&other.since));
        silent.sort_by(|one, other| one.last_used.cmp(&other.last_used));
        Self { never, silent }
    }
}

/// The status, if the target exists, or a zone has rules for outbound calls under that name.
async fn known(target: Option<&str>, counters: &Counters, client: &Client) -> Result<Status> {
    let status: Status = client.get("/v1/status").await?;
    let targets = status.targets.iter().map(|known| &*known.name);
    let names: BTreeSet<&str> =
        targets.chain(counters.rules.iter().filter_map(|rule| rule.target.as_deref())).collect();
    match target {
        Some(wanted) if !names.contains(wanted) => {
            let names: Vec<&str> = names.into_iter().collect();
            let problem =
                Problem::new(format!("unknown target {wanted}"), format!("name one of {}", names.join(", ")));
            Err(problem.into())
        }
        Some(_) | None => Ok(status),
    }
}

fn of_target<'a>(counters: &'a Counters, target: Option<&str>) -> impl Iterator<Item = &'a RuleCount> {
    counters.rules.iter().filter(move |rule| target.is_none() || rule.target.as_deref() == target)
}

/// The catalogue with the own roles of the configuration; the built-in catalogue if the file cannot be read.
fn catalogue(status: &Status) -> Result<Catalogue> {
    match Plan::read(&status.config) {
        Ok(plan) => Ok(plan.catalogue),
        Err(_) => Ok(Catalogue::load(BUILT_IN, Path::new(""))?),
    }
}

/// The usage of each row in each target. A rule counts for all of its rows: where two rows print one port, a
/// packet may belong to either.
fn usages<'a>(rules: impl Iterator<Item = &'a RuleCount>, catalogue: &Catalogue) -> Vec<Usage> {
    let mut usages: BTreeMap<(Option<String>, String), Usage> = BTreeMap::new();
    for rule in rules {
        let allow = rule.allow.iter().cloned();
        for row in rule.rows.iter().cloned().chain(allow) {
            let known = catalogue.row(&row).filter(|_| rule.allow.is_none());
            let has = |role: &&String| {
                let role = catalogue.role(role);
                role.is_none_or(|role| role.rows.iter().any(|known| known.as_str() == row))
            };
            let printed = known.map(|row| {
                let number = row.printed.row.map(|number| format!(" {number}")).unwrap_or_default();
                format!("{} {}: {}{number}", row.application, row.name(), row.printed.table)
            });
            let usage = usages.entry((rule.target.clone(), row.clone())).or_insert_with(|| Usage {
                target: rule.target.clone(),
                row: row.clone(),
                roles: rule.roles.iter().filter(has).cloned().collect(),
                ports: Vec::new(),
                printed: printed.unwrap_or_default().trim().to_owned(),
                since: None,
                last_used: None,
            });
            if let Some(transport) = &rule.transport {
                usage.ports.push(format!("{transport} {}", rule.ports));
            }
            usage.since = usage.since.take().max(rule.since.clone());
            usage.last_used = usage.last_used.take().max(rule.last_used.clone());
        }
    }
    usages.into_values().collect()
}

/// How long ago `time` was; `None` if it cannot be parsed.
fn age(time: &str, now: SystemTime) -> Option<Duration> {
    Some(now.duration_since(humantime::parse_rfc3339(time).ok()?).unwrap_or_default())
}

/// How long ago `time` was, in the greatest unit.
fn ago(time: &str, now: SystemTime) -> String {
    let Some(age) = age(time, now) else { return time.to_owned() };
    let minutes = age.as_secs() / 60;
    let past = |number: u64, unit: &str| format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" });
    match minutes {
        0 => "less than a minute ago".to_owned(),
        1..60 => past(minutes, "minute"),
        60..1440 => past(minutes / 60, "hour"),
        _ => past(minutes / 1440, "day"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use lyncwall_api::RuleCount;
    use lyncwall_policy::catalogue::{BUILT_IN, Catalogue};

    use super::{Unused, ago, usages};

    fn at(days: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(86_400 * days)
    }

    fn rule(ports: &str, rows: &[&str], since: u64, last: Option<u64>) -> RuleCount {
        let time = |days| humantime::format_rfc3339_seconds(at(days)).to_string();
        RuleCount {
            target: Some("host".to_owned()),
            allow: None,
            transport: Some("tcp".to_owned()),
            ports: ports.to_owned(),
            service: String::new(),
            rows: rows.iter().map(ToString::to_string).collect(),
            roles: vec!["director".to_owned()],
            packets: 0,
            since: Some(time(since)),
            last_used: last.map(time),
        }
    }

    #[test]
    fn a_row_is_unused_where_none_of_its_rules_carried_anything() {
        let catalogue = Catalogue::load(BUILT_IN, Path::new("")).expect("the built-in catalogue");
        let rules = [
            rule("443", &["director.01"], 1, None),
            rule("80", &["director.01", "director.02"], 5, Some(20)),
            rule("5061", &["director.03"], 9, None),
            rule("5070", &["director.03"], 7, None),
            rule("444", &["director.04"], 2, None),
            rule("8080", &["director.05"], 1, Some(99)),
        ];
        let rows_of = |time| {
            let rows = usages(rules.iter(), &catalogue);
            let Unused { never, silent } = Unused::of(rows, at(100), time);
            [never, silent].map(|rows| rows.into_iter().map(|usage| usage.row).collect::<Vec<_>>())
        };
        assert_eq!(
            rows_of(Duration::from_secs(7 * 86_400)),
            [vec!["director.04", "director.03"], vec!["director.01", "director.02"]]
        );
        assert_eq!(rows_of(Duration::from_secs(80 * 86_400 + 1))[1], [""; 0]);
        let rows = usages(rules.iter(), &catalogue);
        let row = rows.iter().find(|usage| usage.row == "director.03").expect("the row");
        assert_eq!(row.ports, ["tcp 5061", "tcp 5070"]);
        assert_eq!(row.since.as_deref(), Some("1970-01-10T00:00:00Z"), "none of both since the younger one");
        assert!(!row.printed.is_empty());
    }

    #[test]
    fn times_are_told_by_their_greatest_unit() {
        let times = [
            ("1970-01-01T00:00:01Z", "1 day ago"),
            ("1970-01-01T23:58:00Z", "2 minutes ago"),
            ("1970-01-01T01:00:00Z", "23 hours ago"),
            ("1970-01-02T00:00:00Z", "less than a minute ago"),
            ("1970-01-02T00:00:59Z", "less than a minute ago"),
            ("soon", "soon"),
        ];
        for (time, expected) in times {
            let now = UNIX_EPOCH + Duration::from_secs(86_401);
            assert_eq!(ago(time, now), expected, "{time}");
        }
        assert_eq!(ago("1970-01-01T00:00:00Z", at(12)), "12 days ago");
    }
}
