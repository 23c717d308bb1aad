//! What is exposed to a monitoring system: OpenMetrics text, made of what the agent knows. No I/O, and no map is read here.
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

use crate::api::{Counters, RuleCount, Status};
use crate::config::Mode;
use crate::firewall::{ChangeKind, ChangeResult, Changes};

/// The type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the histogram of switches, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// What the firewall says of itself at one moment.
#[derive(Debug, Clone)]
pub struct Exposed {
    /// What is enforced.
    pub status: Status,
    /// Counts since the maps were made.
    pub counters: Counters,
    /// Changes since then.
    pub changes: Changes,
}

/// What the agent measures of itself, since it started.
#[derive(Debug)]
pub struct Figures {
    /// When it started.
    start: SystemTime,
    /// From the request to the live word, by [`ChangeKind::ALL`].
    switches: [Histogram; ChangeKind::ALL.len()],
    /// The most flows that were seen to be pushed out: the kernel's figure is a difference of two that are read one after
    /// the other, and a counter must not go back.
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
    /// Takes in how long a change took.
    pub fn switched(&self, kind: ChangeKind, time: Duration) {
        for (known, histogram) in ChangeKind::ALL.iter().zip(&self.switches) {
            if *known == kind {
                histogram.observe(time.as_secs_f64());
            }
        }
    }
}

/// All metrics as OpenMetrics text, in an order that does not change.
///
/// # Errors
/// Never, as a string takes all text; the encoder does not know.
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

/// All that is exposed.
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
            "Packets judged, by reason and by what became of them; in audit mode what would have been dropped passes",
            by_reason(counters)
                .into_iter()
                .map(|(reason, action, n)| (vec![("reason", reason), ("action", action)], n)),
        )?;
        let rules: Vec<RuleLabels<'_>> = counters.rules.iter().map(RuleLabels::of).collect();
        families.counter(
            "lyncwall_rule_packets",
            "Packets that a rule of a role, or an allow rule, let in",
            rules.iter().map(|rule| (rule.labels(), rule.packets)),
        )
    }

    fn flows(&self, families: &mut Families<'_>) -> fmt::Result {
        let flows = &self.exposed.status.flows;
        families.gauge(
            "lyncwall_flow_table_entries",
            "Tracked flows, those among them that have timed out",
            by_family(flows.v4, flows.v6),
        )?;
        families.gauge(
            "lyncwall_flow_table_size",
            "Flows that there is room for",
            by_family(flows.size, flows.size),
        )?;
        families.counter("lyncwall_flows_added", "Flows that were added", one(flows.added))?;
        families.counter(
            "lyncwall_flows_evicted",
            "Flows that new ones pushed out, those longest silent first",
            one(self.evicted),
        )?;
        families.counter("lyncwall_flows_lost", "Flows that could not be added", one(flows.lost))
    }

    fn losses(&self, families: &mut Families<'_>) -> fmt::Result {
        let counters = &self.exposed.counters;
        families.counter(
            "lyncwall_events_lost",
            "Drops that got no event, because of the rate limit or a full buffer",
            one(counters.events_lost),
        )?;
        families.counter(
            "lyncwall_fragments_lost",
            "Fragment verdicts that could not be remembered",
            one(counters.fragments_lost),
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
            "Changes that were asked for, by what became of them; one to be confirmed is counted again when that is decided",
            counts,
        )?;
        let mut family = families.family(
            "lyncwall_switch_duration",
            "From the request of a change to its last write, since the agent started",
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
        families.gauge("lyncwall_generation", "The generation that judges", one(status.generation))?;
        families.gauge(
            "lyncwall_change_waiting",
            "1 while a change waits to be confirmed",
            one(u64::from(status.waiting.is_some())),
        )?;
        let interfaces = status.interfaces.iter();
        families.gauge(
            "lyncwall_interface_guarded",
            "1 where the program is attached to an interface of the configuration, else 0",
            interfaces.map(|on| (vec![("interface", &*on.name)], u64::from(on.ifindex != 0))),
        )?;
        let modes = status.targets.iter().map(|target| (&*target.name, target.mode));
        families.gauge(
            "lyncwall_enforcing",
            "1 where packets are dropped, 0 where they are only judged: by target, and without one for all other packets",
            std::iter::once(("", status.mode))
                .chain(modes)
                .map(|(target, mode)| (vec![("target", target)], u64::from(mode == Mode::Enforce))),
        )?;
        let blocked = &status.blocked;
        families.gauge(
            "lyncwall_block_list_entries",
            "Prefixes on the block-list",
            by_family(blocked.v4, blocked.v6),
        )?;
        families.gauge(
            "lyncwall_block_list_size",
            "Prefixes that there is room for on the block-list",
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
            "When the agent started, since 1970",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        family.encode_gauge(&self.start)
    }
}

/// Every reason with the action that it has, zeroes too, so that the first packet shows as an increase; and what audit mode
/// let pass.
fn by_reason(counters: &Counters) -> Vec<(&str, &str, u64)> {
    let count = |reason: &str, action: &str| {
        let counts = counters.reasons.iter();
        counts.filter(|count| count.reason == reason && count.action == action).map(|count| count.packets).sum()
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

/// The families that are written, one after the other.
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
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
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
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}
