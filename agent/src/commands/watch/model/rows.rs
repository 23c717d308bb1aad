//! The lists: columns, rows, and the details of a row.

use std::cmp::Ordering;

use lyncwall_api::{Event, Explanation, RuleCount};
use lyncwall_common::reason::Reason;
use ratatui::layout::Constraint;

use super::{Detail, Model, Pane, Sampled, action, port_key, reason_key, rule_key, rule_name, rule_ports};
use crate::commands::{events, explain};

/// A column of a list.
pub(in super::super) struct Column {
    /// Its heading.
    pub(in super::super) name: &'static str,
    /// The width.
    pub(in super::super) width: Constraint,
}

const fn column(name: &'static str, width: u16) -> Column {
    Column { name, width: Constraint::Length(width) }
}

/// A column that takes its share of the remaining width.
const fn wide(name: &'static str, part: u16) -> Column {
    Column { name, width: Constraint::Fill(part) }
}

/// The columns of a list; they fit 80 characters.
pub(super) fn columns(pane: Pane) -> &'static [Column] {
    match pane {
        Pane::Reasons => {
            const {
                &[
                    column("REASON", 18),
                    column("ACTION", 10),
                    column("PACKETS", 11),
                    column("/S", 8),
                    wide("MEANING", 1),
                ]
            }
        }
        Pane::Rules => {
            const {
                &[
                    wide("TARGET", 2),
                    wide("ROLES", 3),
                    column("PORTS", 15),
                    wide("SERVICE", 4),
                    column("PACKETS", 11),
                    column("/S", 8),
                ]
            }
        }
        Pane::Ports => {
            const {
                &[
                    column("PORT", 9),
                    column("DROPPED", 11),
                    column("/S", 8),
                    wide("REASONS", 1),
                    wide("SERVICE", 1),
                ]
            }
        }
        Pane::Sources => {
            const {
                &[
                    wide("SOURCE", 5),
                    column("SEEN", 8),
                    column("LAST", 9),
                    column("PORTS", 5),
                    wide("REASONS", 4),
                ]
            }
        }
        Pane::Drops => {
            const { &[column("TIME", 8), column("ACTION", 10), column("REASON", 14), wide("PACKET", 1)] }
        }
    }
}

/// The subject of a row.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Subject {
    /// A reason and an action.
    Reason(String, String),
    /// A rule, by its key.
    Rule(String),
    /// A destination port, as `tcp 3389`.
    Port(String),
    /// A source address.
    Source(String),
    /// A drop, by its number.
    Drop(u64),
}

/// The value of a cell.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Value {
    /// Words.
    Text(String),
    /// A number of packets.
    Number(u64),
    /// Packets a second; `None` before the second sample.
    Rate(Option<f64>),
    /// Seconds since 1970 (UTC).
    Time(f64),
}

impl Value {
    /// The text on the screen.
    pub(in super::super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Rate(None) => "-".to_owned(),
            Self::Rate(Some(rate)) => rate_text(*rate),
            Self::Time(time) => events::clock(*time).split('.').next().unwrap_or_default().to_owned(),
        }
    }

    /// Whether the cell is aligned right.
    pub(in super::super) fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Rate(_))
    }

    /// Sorts words from A to Z, everything else from the greatest to the least.
    pub(super) fn in_order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Number(one), Self::Number(other)) => other.cmp(one),
            (Self::Rate(one), Self::Rate(other)) => other.unwrap_or(0.0).total_cmp(&one.unwrap_or(0.0)),
            (Self::Time(one), Self::Time(other)) => other.total_cmp(one),
            _ => Ordering::Equal,
        }
    }
}

/// Packets a second. A rate below one must not look like none.
pub(in super::super) fn rate_text(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// A row of a list.
#[derive(Debug, Clone)]
pub(in super::super) struct Row {
    /// The subject.
    pub(in super::super) subject: Subject,
    /// One value for each column.
    pub(in super::super) values: Vec<Value>,
}

impl Row {
    /// The text that a filter searches.
    pub(super) fn text(&self) -> String {
        self.values.iter().map(Value::text).collect::<Vec<_>>().join(" ")
    }
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

impl Model {
    pub(super) fn reason_rows(&self) -> Vec<Row> {
        let audit = self.audit_of_the_rest();
        let reasons = self.counters.iter().flat_map(|counters| &counters.reasons);
        reasons
            .map(|count| Row {
                subject: Subject::Reason(count.reason.clone(), count.action.clone()),
                values: vec![
                    text(&count.reason),
                    text(action(&count.reason, &count.action, audit)),
                    Value::Number(count.packets),
                    Value::Rate(self.rate(&reason_key(&count.reason, &count.action))),
                    text(meaning(&count.reason)),
                ],
            })
            .collect()
    }

    pub(super) fn rule_rows(&self) -> Vec<Row> {
        self.rules()
            .map(|rule| Row {
                subject: Subject::Rule(rule_key(rule)),
                values: vec![
                    text(rule.target.as_deref().unwrap_or("allow")),
                    text(rule.allow.clone().unwrap_or_else(|| rule.roles.join(" "))),
                    text(rule_ports(rule)),
                    text(&rule.service),
                    Value::Number(rule.packets),
                    Value::Rate(self.rate(&rule_key(rule))),
                ],
            })
            .collect()
    }

    fn rules(&self) -> impl Iterator<Item = &RuleCount> {
        self.counters.iter().flat_map(|counters| &counters.rules)
    }

    /// Ports with drops, and ports that only the sample has: audit mode drops nothing.
    pub(super) fn port_rows(&self) -> Vec<Row> {
        let counted = self.counters.iter().flat_map(|counters| &counters.ports);
        let mut rows: Vec<Row> = counted
            .map(|count| {
                let port = format!("{} {}", count.transport, count.port);
                self.port_row(port, count.packets, count.service.clone())
            })
            .collect();
        let more = self.ports.keys().filter(|port| !self.counts.0.contains_key(&port_key(port)));
        rows.extend(more.map(|port| {
            let event =
                self.drops.iter().rev().find(|(_, event)| super::port_of(event).as_ref() == Some(port));
            self.port_row(
                port.clone(),
                0,
                event.and_then(|(_, event)| event.service.clone()).unwrap_or_default(),
            )
        }));
        rows
    }

    fn port_row(&self, port: String, dropped: u64, service: String) -> Row {
        let reasons = self.ports.get(&port).map(Sampled::reasons).unwrap_or_default();
        let rate = Value::Rate(self.rate(&port_key(&port)));
        let values = vec![text(&port), Value::Number(dropped), rate, text(reasons), text(service)];
        Row { subject: Subject::Port(port), values }
    }

    pub(super) fn source_rows(&self) -> Vec<Row> {
        self.sources
            .iter()
            .map(|(source, sampled)| Row {
                subject: Subject::Source(source.clone()),
                values: vec![
                    text(source),
                    Value::Number(sampled.packets),
                    Value::Time(sampled.last),
                    Value::Number(sampled.ports.len() as u64),
                    text(sampled.reasons()),
                ],
            })
            .collect()
    }

    pub(super) fn drop_rows(&self) -> Vec<Row> {
        self.drops
            .iter()
            .rev()
            .map(|(number, event)| Row {
                subject: Subject::Drop(*number),
                values: vec![
                    Value::Time(event.time),
                    text(events::action(event)),
                    text(&event.reason),
                    text(events::packet(event)),
                ],
            })
            .collect()
    }

    /// The drop with this number, if it is still in the list.
    pub(super) fn dropped_as(&self, number: u64) -> Option<&Event> {
        self.drops.iter().find(|(known, _)| *known == number).map(|(_, event)| event)
    }

    /// Takes the explanation of a drop, if the user still looks at that drop.
    pub(super) fn explained(&mut self, drop: u64, answer: Result<Option<Explanation>, String>) {
        let event = self.dropped_as(drop).cloned();
        let (Some(detail), Some(event), Some(opened)) = (&mut self.detail, event, self.opened) else {
            return;
        };
        if opened != drop {
            return;
        }
        match answer {
            Ok(Some(explanation)) => {
                detail.lines = vec![
                    line(
                        "time",
                        format!(
                            "{}, {} for {}",
                            events::clock(event.time),
                            events::action(&event),
                            event.reason
                        ),
                    ),
                    line("packet", format!("{}, {} bytes", events::summary(&event), event.length)),
                ];
                let facts = explain::facts(&explanation).into_iter();
                detail
                    .lines
                    .extend(facts.map(|(name, fact)| {
                        line(if name == "verdict" { "verdict now" } else { name }, fact)
                    }));
            }
            Ok(None) => {}
            Err(why) => detail.lines.push(line("verdict now", why)),
        }
    }

    /// The details of a row's subject; for a drop, the event alone until the explanation arrives.
    pub(super) fn explanation(&self, subject: &Subject) -> Detail {
        match subject {
            Subject::Reason(reason, action) => self.about_reason(reason, action),
            Subject::Rule(key) => self.about_rule(key),
            Subject::Port(port) => {
                let sampled = self.ports.get(port);
                self.about_sampled(format!("Drops at {port}"), sampled, |event| {
                    super::port_of(event).as_ref() == Some(port)
                })
            }
            Subject::Source(source) => {
                let sampled = self.sources.get(source);
                let title = format!("Drops of {source} (sampled)");
                self.about_sampled(title, sampled, |event| event.source.as_ref() == Some(source))
            }
            Subject::Drop(number) => match self.dropped_as(*number) {
                Some(event) => about_drop(event),
                None => Detail { title: "This drop has left the list".to_owned(), lines: Vec::new() },
            },
        }
    }

    fn about_reason(&self, reason: &str, done: &str) -> Detail {
        let key = reason_key(reason, done);
        let packets = self.counts.0.get(&key).copied().unwrap_or_default();
        let lines = vec![
            line("action", action(reason, done, self.audit_of_the_rest())),
            line("means", meaning(reason)),
            line("packets", packets.to_string()),
            line("a second", Value::Rate(self.rate(&key)).text()),
        ];
        Detail { title: format!("Reason {reason}"), lines }
    }

    fn about_rule(&self, key: &str) -> Detail {
        let Some(rule) = self.rules().find(|rule| rule_key(rule) == key) else {
            return Detail { title: "This rule no longer exists".to_owned(), lines: Vec::new() };
        };
        let mut lines = vec![
            line("roles", rule.roles.join(" ")),
            line("service", &rule.service),
            line("rows", rule.rows.join(" ")),
            line("packets", rule.packets.to_string()),
            line("a second", Value::Rate(self.rate(key)).text()),
            line("counted since", rule.since.clone().unwrap_or_default()),
            line("last packet", rule.last_used.clone().unwrap_or_else(|| "none since".to_owned())),
        ];
        lines.retain(|(_, value)| !value.is_empty());
        if let Some(row) = rule.rows.first() {
            lines.push(line("printed", format!("lyncwall catalogue {row}")));
        }
        Detail { title: format!("Rule {}", rule_name(rule)), lines }
    }

    fn about_sampled(&self, title: String, sampled: Option<&Sampled>, is: impl Fn(&Event) -> bool) -> Detail {
        let mut lines = Vec::new();
        if let Some(sampled) = sampled {
            lines.push(line("sampled", sampled.packets.to_string()));
            lines.push(line("reasons", sampled.reasons()));
            if sampled.ports.len() > 1 {
                lines.push(line("ports", super::most(&sampled.ports)));
            }
            lines.push(line("last", events::clock(sampled.last)));
        }
        let latest = self.drops.iter().rev().filter(|(_, event)| is(event)).take(5);
        lines.extend(latest.map(|(_, event)| {
            line(events::action(event), format!("{} {}", event.reason, events::packet(event)))
        }));
        Detail { title, lines }
    }
}

fn line(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// The meaning of a reason, in a sentence.
fn meaning(reason: &str) -> &'static str {
    Reason::ALL.iter().find(|known| known.name() == reason).map_or("", |known| known.meaning())
}

/// All fields of a drop.
fn about_drop(event: &Event) -> Detail {
    let number = |number: Option<u16>| number.map(|number| number.to_string()).unwrap_or_default();
    let vlan: Vec<String> = event.vlan.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        line("time", events::clock(event.time)),
        line("action", events::action(event)),
        line("reason", &event.reason),
        line("means", meaning(&event.reason)),
        line("interface", &event.interface),
        line("vlan", vlan.join(" ")),
        line("EtherType", event.ether_type.clone().unwrap_or_default()),
        line("source", event.source.clone().unwrap_or_default()),
        line("source port", number(event.source_port)),
        line("destination", event.destination.clone().unwrap_or_default()),
        line("protocol", event.protocol.clone().unwrap_or_default()),
        line("port", number(event.destination_port)),
        line("service", event.service.clone().unwrap_or_default()),
        line("TCP flags", event.tcp_flags.clone().unwrap_or_default()),
        line("ICMP", event.icmp.map(|[kind, code]| format!("type {kind} code {code}")).unwrap_or_default()),
        line("length", format!("{} bytes", event.length)),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    Detail { title: format!("Drop: {}", event.reason), lines }
}
