//! The metrics as OpenMetrics text, from the agent's data. No I/O, and no access to maps.
//!
//! The number of series is bounded by the policy: by reason, rule, target and interface.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use lyncwall_common::reason::{Action, Reason};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::firewall::{ChangeCounts, ChangeKind, ChangeResult};
use lyncwall_api::{Counters, InterfaceCount, Mode, RuleCount, Status};

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the histogram of switches, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// The firewall's data at one moment.
#[derive(Debug, Clone)]
pub struct Exposed {
    /// The status.
    pub status: Status,
    /// The counters since the maps were created.
    pub counters: Counters,
    /// The changes since then.
    pub changes: ChangeCounts,
}

/// The agent's own measurements, since its start.
#[derive(Debug)]
pub struct Figures {
    /// The start of the agent.
    start: SystemTime,
    /// From the request to the live word, by [`ChangeKind::ALL`].
    switches: [Histogram; ChangeKind::ALL.len()],
    /// The greatest number of evicted flows seen: the kernel's figure is the difference of two that are read
    /// one after the other, and a counter must not decrease.
    evicted: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            start: SystemTime::now(),
            switches: std::array::from_fn(|_| Histogram::new(BUCKETS)),
            evicted: AtomicU64::new(0),
        }
    }
}

impl Figures {
    /// Adds the duration of a change.
    pub fn switched(&self, kind: ChangeKind, time: Duration) {
        for (known, histogram) in ChangeKind::ALL.iter().zip(&self.switches) {
            if *known == kind {
                histogram.observe(time.as_secs_f64());
            }
        }
    }
}

/// All metrics as OpenMetrics text, in a stable order.
///
/// # Errors
/// Never: a string accepts all text, but the encoder's type does not show that.
pub fn text(exposed: &Exposed, figures: &Figures) -> Result<String, fmt::Error> {
    let evicted = exposed.status.flows.evicted;
    let evicted = figures.evicted.fetch_max(evicted, Ordering::Relaxed).max(evicted);
    let start = figures.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot {
        exposed: exposed.clone(),
        evicted,
        start: start.as_secs_f64(),
        switches: figures.switches.clone(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// All metrics.
#[derive(Debug)]
struct Snapshot {
    exposed: Exposed,
    evicted: u64,
    /// Seconds since 1970.
    start: f64,
    switches: [Histogram; ChangeKind::ALL.len()],
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families { encoder };
        self.packets(&mut families)?;
        self.flows(&mut families)?;
        self.losses(&mut families)?;
        self.changes(&mut families)?;
        self.state(&mut families)?;
        self.agent(&mut families)
    }
}

/// The labels of one series.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Snapshot {
    fn packets(&self, families: &mut Families<'_>) -> fmt::Result {
        let counters = &self.exposed.counters;
        families.counter(
            "lyncwall_packets",
            "Packets judged, by reason and action; audit mode passes packets that enforcing would drop",
            by_reason(counters)
                .into_iter()
                .map(|(reason, action, n)| (vec![("reason", reason), ("action", action)], n)),
        )?;
        let rules: Vec<RuleLabels<'_>> = counters.rules.iter().map(RuleLabels::of).collect();
        families.counter(
            "lyncwall_rule_packets",
            "Packets that a rule of a role, or an allow rule, let in",
            rules.iter().map(|rule| (rule.labels(), rule.packets)),
        )?;
        let by_action = |on: &InterfaceCount| [("pass", on.passed), ("drop", on.dropped)];
        families.counter(
            "lyncwall_interface_packets",
            "Packets judged, by interface of arrival and action",
            counters.interfaces.iter().flat_map(|on| {
                by_action(on).map(|(action, n)| (vec![("interface", &*on.name), ("action", action)], n))
            }),
        )
    }

    fn flows(&self, families: &mut Families<'_>) -> fmt::Result {
        let flows = &self.exposed.status.flows;
        families.gauge(
            "lyncwall_flow_table_entries",
            "Tracked flows that live",
            by_family(flows.v4, flows.v6),
        )?;
        families.gauge(
            "lyncwall_flow_table_size",
            "Capacity for flows",
            by_family(flows.size, flows.size),
        )?;
        families.gauge(
            "lyncwall_flows_over",
            "Flows that are over and not freed yet",
            one(flows.over.into()),
        )?;
        families.counter("lyncwall_flows_added", "Flows added", one(flows.added))?;
        families.counter("lyncwall_flows_freed", "Flows that were over and were freed", one(flows.freed))?;
        families.counter(
            "lyncwall_flows_evicted",
            "Flows evicted by new ones, longest silent first",
            one(self.evicted),
        )?;
        families.counter("lyncwall_flows_lost", "Flows that could not be added", one(flows.lost))
    }

    fn losses(&self, families: &mut Families<'_>) -> fmt::Result {
        let counters = &self.exposed.counters;
        families.counter(
            "lyncwall_events_lost",
            "Drops without an event, because of the rate limit or a full buffer",
            one(counters.events_lost),
        )?;
        families.counter(
            "lyncwall_captures_lost",
            "Drops that a capture missed, because of the rate limit or a full buffer",
            one(counters.captures_lost),
        )?;
        families.counter(
            "lyncwall_fragments_lost",
            "Fragment verdicts that could not be stored",
            one(counters.fragments_lost),
        )?;
        families.counter(
            "lyncwall_answered",
            "Dropped packets that got an answer, by on-closed = \"reject\"",
            [("tcp", counters.answered.tcp), ("udp", counters.answered.udp)]
                .map(|(transport, packets)| (vec![("transport", transport)], packets))
                .into_iter(),
        )
    }

    fn changes(&self, families: &mut Families<'_>) -> fmt::Result {
        let changes = &self.exposed.changes;
        let counts = ChangeKind::ALL.into_iter().flat_map(|kind| {
            ChangeResult::ALL.into_iter().map(move |result| {
                (vec![("kind", kind.name()), ("result", result.name())], changes.of(kind, result))
            })
        });
        families.counter(
            "lyncwall_changes",
            "Requested changes, by result; a change with --confirm counts again when it is confirmed or rolled back",
            counts,
        )?;
        let mut family = families.family(
            "lyncwall_switch_duration",
            "Time from the request of a change to its last write, since the agent started",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (kind, histogram) in ChangeKind::ALL.iter().zip(&self.switches) {
            histogram.encode(family.encode_family(&[("kind", kind.name())])?)?;
        }
        Ok(())
    }

    fn state(&self, families: &mut Families<'_>) -> fmt::Result {
        let status = &self.exposed.status;
        families.gauge("lyncwall_generation", "The live generation", one(status.generation))?;
        families.gauge(
            "lyncwall_change_waiting",
            "1 while a change waits for confirmation",
            one(u64::from(status.waiting.is_some())),
        )?;
        let interfaces = status.interfaces.iter();
        families.gauge(
            "lyncwall_interface_guarded",
            "1 for a configured interface with the program, else 0",
            interfaces.map(|on| (vec![("interface", &*on.name)], u64::from(on.ifindex != 0))),
        )?;
        families.gauge(
            "lyncwall_own_addresses_left_out",
            "Own addresses, or prefixes of them, without room in the tables of a box that forwards",
            one(status.own_left_out),
        )?;
        families.gauge(
            "lyncwall_unguarded",
            "Interfaces that exist but whose packets nobody judges",
            one(status.unguarded.len() as u64),
        )?;
        families.counter(
            "lyncwall_mended",
            "Programs and pins that another tool took away and the agent put back, since it started",
            one(status.mended),
        )?;
        families.gauge(
            "lyncwall_failing",
            "What the agent cannot do besides enforcing, and tries again: metrics addresses, groups of [api]",
            one(status.failing.len() as u64),
        )?;
        let modes = status.targets.iter().map(|target| (&*target.name, target.mode));
        families.gauge(
            "lyncwall_enforcing",
            "1 if enforcing, 0 in audit mode: by target, and without a target for all other packets",
            std::iter::once(("", status.mode))
                .chain(modes)
                .map(|(target, mode)| (vec![("target", target)], u64::from(mode == Mode::Enforce))),
        )?;
        families.gauge(
            "lyncwall_state_lost",
            "Losses of stored state that nobody has acknowledged",
            one(status.lost.len() as u64),
        )?;
        let blocked = &status.blocked;
        families.gauge(
            "lyncwall_block_list_entries",
            "Prefixes on the block-list",
            by_family(blocked.v4, blocked.v6),
        )?;
        families.gauge(
            "lyncwall_block_list_size",
            "Capacity of the block-list in prefixes",
            by_family(blocked.size, blocked.size),
        )
    }

    fn agent(&self, families: &mut Families<'_>) -> fmt::Result {
        let status = &self.exposed.status;
        let mut family = families.family(
            "lyncwall_maps",
            "Memory of the program's maps",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        family.encode_gauge(&status.program.map_bytes)?;
        let mut family = families.family(
            "lyncwall_build",
            "The agent, the kernel and the program's hash",
            None,
            MetricType::Info,
        )?;
        family.encode_info(&vec![
            ("version", &*status.version),
            ("kernel", &*status.kernel.release),
            ("program", &*status.program.tag),
        ])?;
        let mut family = families.family(
            "process_start_time",
            "Start of the agent, since 1970",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        family.encode_gauge(&self.start)
    }
}

/// Every reason with its action, including zeros, so that the first packet shows as an increase; and the
/// packets that audit mode let pass.
fn by_reason(counters: &Counters) -> Vec<(&str, &str, u64)> {
    let count = |reason: &str, action: &str| {
        let counts = counters.reasons.iter();
        counts
            .filter(|count| count.reason == reason && count.action == action)
            .map(|count| count.packets)
            .sum()
    };
    let mut all = Vec::new();
    for reason in Reason::ALL {
        for action in Action::ALL {
            let (reason_name, action_name) = (reason.name(), action.name());
            let packets = count(reason_name, action_name);
            if packets != 0 || reason.action() == action {
                all.push((reason_name, action_name, packets));
            }
        }
    }
    all
}

/// The labels of a rule.
struct RuleLabels<'a> {
    rule: &'a RuleCount,
    roles: String,
    rows: String,
    packets: u64,
}

impl<'a> RuleLabels<'a> {
    fn of(rule: &'a RuleCount) -> Self {
        let rows = rule.allow.clone().unwrap_or_else(|| rule.rows.join(","));
        Self { rule, roles: rule.roles.join(","), rows, packets: rule.packets }
    }

    fn labels(&self) -> Labels<'_> {
        vec![
            ("target", self.rule.target.as_deref().unwrap_or_default()),
            ("role", &self.roles),
            ("service", &self.rule.service),
            ("transport", self.rule.transport.as_deref().unwrap_or_default()),
            ("ports", &self.rule.ports),
            ("rule", &self.rows),
        ]
    }
}

fn one<'a>(value: u64) -> impl Iterator<Item = (Labels<'a>, u64)> {
    std::iter::once((Vec::new(), value))
}

fn by_family<'a>(v4: u32, v6: u32) -> impl Iterator<Item = (Labels<'a>, u64)> {
    [("ipv4", v4), ("ipv6", v6)].into_iter().map(|(family, n)| (vec![("family", family)], n.into()))
}

/// The families, written one after the other.
struct Families<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl Families<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, unit, kind)
    }

    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
            } else {
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lyncwall_common::reason::Reason;
    use serde_json::json;

    use super::{Exposed, Figures, text};
    use crate::firewall::{ChangeCounts, ChangeKind, ChangeResult};

    fn exposed() -> Exposed {
        let status = json!({
            "version": "0.1.0", "pid": 1, "config": "a", "catalogue": "b", "reading": "strict", "mode": "enforce",
            "file_mode": "enforce", "on_exit": "keep", "generation": 7,
            "interfaces": [
                { "name": "eth0", "ifindex": 2, "mode": "native" },
                { "name": "eth1", "ifindex": 0, "mode": "UNGUARDED" },
            ],
            "targets": [{
                "name": "host", "address": ["host"], "roles": [], "file_roles": [], "mode": "audit",
                "file_mode": "enforce", "tcp": [], "udp": [],
            }],
            "allow": [], "management": null,
            "program": {
                "name": "ingress", "id": 1, "tag": "00ff", "verified_instructions": null, "load_ms": 1,
                "map_bytes": 4096,
            },
            "kernel": { "release": "6.1.0", "features": [] },
            "flows": { "v4": 3, "v6": 4, "over": 2, "size": 1024, "added": 27, "freed": 5, "evicted": 13, "lost": 0 },
            "blocked": { "v4": 1, "v6": 0, "size": 65536, "dropped": 0 },
            "passed": 0, "dropped": 0, "warnings": [],
        });
        let counters = json!({
            "generation": 7,
            "reasons": [
                { "reason": "closed", "action": "drop", "packets": 5 },
                { "reason": "closed", "action": "pass", "packets": 2 },
            ],
            "rules": [{
                "target": null, "allow": "a \"quoted\" \\ name\nof two lines", "transport": null, "ports": "",
                "service": "", "rows": [], "packets": 9,
            }],
            "ports": [], "events_lost": 0, "fragments_lost": 0,
        });
        Exposed {
            status: serde_json::from_value(status).expect("a status"),
            counters: serde_json::from_value(counters).expect("counters"),
            changes: ChangeCounts::default(),
        }
    }

    #[test]
    fn each_reason_is_there_before_its_first_packet_and_what_audit_passed_beside_what_was_dropped() {
        let text = text(&exposed(), &Figures::default()).expect("a text");
        for line in [
            "lyncwall_packets_total{reason=\"closed\",action=\"drop\"} 5",
            "lyncwall_packets_total{reason=\"closed\",action=\"pass\"} 2",
            "lyncwall_interface_guarded{interface=\"eth1\"} 0",
            "lyncwall_enforcing{target=\"host\"} 0",
            "lyncwall_enforcing{target=\"\"} 1",
            "lyncwall_build_info{version=\"0.1.0\",kernel=\"6.1.0\",program=\"00ff\"} 1",
            "# UNIT lyncwall_maps_bytes bytes",
        ] {
            assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
        }
        for reason in Reason::ALL {
            let series = format!("reason=\"{}\",action=\"{}\"", reason.name(), reason.action().name());
            assert_eq!(text.matches(&series).count(), 1, "{series}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn names_of_the_configuration_are_quoted() {
        let text = text(&exposed(), &Figures::default()).expect("a text");
        assert!(text.contains(r#"rule="a \"quoted\" \\ name\nof two lines"} 9"#), "{text}");
    }

    #[test]
    fn what_was_pushed_out_never_becomes_less() {
        let (figures, mut exposed) = (Figures::default(), exposed());
        let evicted = |exposed: &Exposed| {
            let text = text(exposed, &figures).expect("a text");
            let line = text.lines().find(|line| line.starts_with("lyncwall_flows_evicted_total "));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).expect("a number")
        };
        assert_eq!(evicted(&exposed), 13);
        exposed.status.flows.evicted = 11;
        assert_eq!(evicted(&exposed), 13);
        exposed.status.flows.evicted = 14;
        assert_eq!(evicted(&exposed), 14);
    }

    #[test]
    fn changes_are_counted_and_timed_by_their_kind() {
        let (figures, mut exposed) = (Figures::default(), exposed());
        figures.switched(ChangeKind::Mode, Duration::from_millis(3));
        exposed.changes.count(ChangeKind::Reload, ChangeResult::Refused);
        let text = text(&exposed, &figures).expect("a text");
        for line in [
            "lyncwall_changes_total{kind=\"reload\",result=\"refused\"} 1",
            "lyncwall_changes_total{kind=\"switch\",result=\"reverted\"} 0",
            "lyncwall_switch_duration_seconds_count{kind=\"mode\"} 1",
            "lyncwall_switch_duration_seconds_bucket{le=\"0.002\",kind=\"mode\"} 0",
            "lyncwall_switch_duration_seconds_bucket{le=\"0.005\",kind=\"mode\"} 1",
            "lyncwall_switch_duration_seconds_count{kind=\"switch\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
        }
    }
}
