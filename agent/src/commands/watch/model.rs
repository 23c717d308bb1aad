//! The state of `watch`: turns samples of the agent's answers into totals, rates and rows. No I/O.

mod rows;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use lyncwall_api::Mode;
use lyncwall_api::{Counters, Event, Explain, Explanation, RuleCount, Status};
use lyncwall_common::reason::{Action, Reason};

use super::keys::Action as Key;
use crate::commands::events;
use crate::commands::explain::question;
pub(super) use rows::{Column, Row, Subject, Value};

/// The number of samples that a sparkline shows at most.
const HISTORY: usize = 512;
/// The number of drops in the list.
const DROPS: usize = 500;
/// The number of sources, and of ports per source, to track: a flood of forged sources must not fill memory.
const SOURCES: usize = 4096;

/// News from the agent.
pub(super) enum News {
    /// The agent answered.
    Look(Box<Status>, Box<Counters>),
    /// The agent did not answer, and why.
    Gone(String),
    /// A drop, or a would-drop.
    Drop(Box<Event>),
    /// The explanation of the drop with this number, or why there is none.
    Explained(u64, Box<Result<Option<Explanation>, String>>),
    /// The number of drops that came too fast to report.
    Lost(u64),
}

/// A list of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    /// Counts by reason.
    Reasons,
    /// Counts by rule.
    Rules,
    /// Drops by destination port.
    Ports,
    /// Sampled drops by source.
    Sources,
    /// Sampled drops.
    Drops,
}

impl Pane {
    /// All lists, in the order of their keys, from 1.
    pub(super) const ALL: [Self; 5] = [Self::Reasons, Self::Rules, Self::Ports, Self::Sources, Self::Drops];

    /// The name on the screen.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reasons => "Reasons",
            Self::Rules => "Rules",
            Self::Ports => "Ports",
            Self::Sources => "Sources",
            Self::Drops => "Drops",
        }
    }

    /// A note about the numbers of the list.
    pub(super) fn note(self) -> &'static str {
        match self {
            Self::Reasons | Self::Rules => "packets since the first start after a boot or a detach",
            Self::Ports => "packets dropped; reasons from a sample of them",
            Self::Sources => "from a sample of the drops since watch began",
            Self::Drops => "a sample, the latest first",
        }
    }
}

/// The order of a list.
#[derive(Debug, Clone, Copy)]
struct Order {
    column: usize,
    reverse: bool,
}

/// Details of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detail {
    /// The heading.
    pub(super) title: String,
    /// Facts: name and value.
    pub(super) lines: Vec<(String, String)>,
}

/// What the sample holds about a source or a port.
#[derive(Debug, Clone, Default)]
struct Sampled {
    packets: u64,
    last: f64,
    reasons: BTreeMap<String, u64>,
    /// Destination ports, as `tcp 3389`.
    ports: BTreeMap<String, u64>,
}

impl Sampled {
    fn add(&mut self, event: &Event) {
        self.packets += 1;
        self.last = event.time;
        let reason = match events::action(event) {
            WOULD_DROP => format!("{WOULD_DROP} {}", event.reason),
            _ => event.reason.clone(),
        };
        *self.reasons.entry(reason).or_default() += 1;
        if let Some(port) = port_of(event)
            && (self.ports.len() < 64 || self.ports.contains_key(&port))
        {
            *self.ports.entry(port).or_default() += 1;
        }
    }

    /// The reasons, most frequent first: `closed 12, source 1`.
    fn reasons(&self) -> String {
        most(&self.reasons)
    }
}

/// Names with their counts, greatest first.
fn most(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// The destination port of a drop.
fn port_of(event: &Event) -> Option<String> {
    Some(format!("{} {}", event.protocol.as_deref()?, event.destination_port?))
}

/// All counts of one sample, by key.
#[derive(Debug, Default)]
struct Counts(HashMap<String, u64>);

/// The state of `watch`, and what the screen shows of it.
pub(super) struct Model {
    pub(super) status: Option<Status>,
    counters: Option<Counters>,
    counts: Counts,
    before: Option<(Counts, f64)>,
    sampled_at: Option<Instant>,
    pub(super) passed: VecDeque<u64>,
    pub(super) dropped: VecDeque<u64>,
    drops: VecDeque<(u64, Event)>,
    last_number: u64,
    /// Drops since watch began that are missing from the sample: the program limits its reports per second.
    pub(super) untold: u64,
    lost: events::Untold,
    sources: HashMap<String, Sampled>,
    ports: HashMap<String, Sampled>,
    /// Why the agent does not answer.
    pub(super) gone: Option<String>,
    pub(super) pane: Pane,
    orders: [Order; Pane::ALL.len()],
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) paused: bool,
    selected: Option<Subject>,
    pub(super) detail: Option<Detail>,
    /// The drop that the user opened, until its explanation arrives.
    opened: Option<u64>,
    /// True until the explanation was requested.
    asked: Option<(u64, Explain)>,
    pub(super) help: bool,
}

impl Model {
    /// An empty model.
    pub(super) fn new() -> Self {
        let order = |column| Order { column, reverse: false };
        Self {
            status: None,
            counters: None,
            counts: Counts::default(),
            before: None,
            sampled_at: None,
            passed: VecDeque::new(),
            dropped: VecDeque::new(),
            drops: VecDeque::new(),
            last_number: 0,
            untold: 0,
            lost: events::Untold::default(),
            sources: HashMap::new(),
            ports: HashMap::new(),
            gone: None,
            pane: Pane::Reasons,
            orders: [order(2), order(4), order(1), order(1), order(0)],
            filter: String::new(),
            typing: false,
            paused: false,
            selected: None,
            detail: None,
            opened: None,
            asked: None,
            help: false,
        }
    }

    /// Adds news that came at `now`. A paused screen only notes whether the agent answers.
    pub(super) fn take(&mut self, news: News, now: Instant) {
        match news {
            News::Gone(why) => self.gone = Some(why),
            News::Look(status, counters) => {
                self.gone = None;
                if !self.paused {
                    self.look(*status, *counters, now);
                }
            }
            News::Drop(event) if !self.paused => self.drop(*event),
            News::Lost(lost) if !self.paused => self.untold += lost,
            News::Explained(drop, answer) => self.explained(drop, *answer),
            News::Drop(_) | News::Lost(_) => {}
        }
    }

    fn look(&mut self, status: Status, counters: Counters, now: Instant) {
        let counts = Counts::of(&counters);
        if let Some(then) = self.sampled_at {
            let elapsed = now.duration_since(then).as_secs_f64().max(0.001);
            self.before = Some((std::mem::take(&mut self.counts), elapsed));
        }
        (self.counts, self.sampled_at) = (counts, Some(now));
        self.untold += self.lost.since(&counters);
        (self.status, self.counters) = (Some(status), Some(counters));
        for (action, history) in [(Action::Pass, 0), (Action::Drop, 1)] {
            let Some(rate) = self.rate(&total_key(action)) else { continue };
            let history = if history == 0 { &mut self.passed } else { &mut self.dropped };
            history.push_back(rate.round() as u64);
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
    }

    /// The question to send to the agent, if any; returned once.
    pub(super) fn asks(&mut self) -> Option<(u64, Explain)> {
        self.asked.take()
    }

    fn drop(&mut self, event: Event) {
        if let Some(source) = &event.source {
            add(&mut self.sources, source, &event);
        }
        if let Some(port) = port_of(&event) {
            add(&mut self.ports, &port, &event);
        }
        self.last_number += 1;
        self.drops.push_back((self.last_number, event));
        if self.drops.len() > DROPS {
            self.drops.pop_front();
        }
    }

    /// The sum of all packets with an action, from the counters.
    pub(super) fn total(&self, action: Action) -> u64 {
        self.counts.0.get(&total_key(action)).copied().unwrap_or_default()
    }

    /// Packets that audit mode let in and enforcing would have dropped.
    pub(super) fn would_have_dropped(&self) -> u64 {
        let counters = self.counters.iter().flat_map(|counters| &counters.reasons);
        let audit = self.audit_of_the_rest();
        let would = counters.filter(|count| action(&count.reason, &count.action, audit) == WOULD_DROP);
        would.map(|count| count.packets).sum()
    }

    fn audit_of_the_rest(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.mode == Mode::Audit)
    }

    /// Packets a second between the last two samples; `None` before the second sample.
    pub(super) fn rate(&self, key: &str) -> Option<f64> {
        let (before, elapsed) = self.before.as_ref()?;
        let now = self.counts.0.get(key).copied().unwrap_or_default();
        let then = before.0.get(key).copied().unwrap_or_default();
        // A smaller value means that the maps are new and count from 0.
        Some(now.checked_sub(then).unwrap_or(now) as f64 / elapsed)
    }

    /// Packets a second of all packets with an action.
    pub(super) fn total_rate(&self, action: Action) -> Option<f64> {
        self.rate(&total_key(action))
    }

    /// The rows of the current list: filtered and sorted.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = match self.pane {
            Pane::Reasons => self.reason_rows(),
            Pane::Rules => self.rule_rows(),
            Pane::Ports => self.port_rows(),
            Pane::Sources => self.source_rows(),
            Pane::Drops => self.drop_rows(),
        };
        let wanted = self.filter.to_lowercase();
        rows.retain(|row| wanted.is_empty() || row.text().to_lowercase().contains(&wanted));
        let Order { column, reverse } = self.order();
        rows.sort_by(|one, other| {
            let order = one.values[column].in_order(&other.values[column]);
            if reverse { order.reverse() } else { order }
        });
        rows
    }

    /// The columns of the current list.
    pub(super) fn columns(&self) -> &'static [Column] {
        rows::columns(self.pane)
    }

    /// The sorted column, and whether the order is reversed.
    pub(super) fn sorted(&self) -> (usize, bool) {
        (self.order().column, self.order().reverse)
    }

    fn order(&self) -> Order {
        self.orders[self.pane as usize]
    }

    /// The index of the selected row; the first row if the selected one is gone.
    pub(super) fn selected(&self, rows: &[Row]) -> Option<usize> {
        let place = rows.iter().position(|row| Some(&row.subject) == self.selected.as_ref());
        place.or((!rows.is_empty()).then_some(0))
    }

    /// Handles a key that affects the model only.
    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Pane(number) => self.go(Pane::ALL[number]),
            Key::NextPane => self.go(Pane::ALL[(self.pane as usize + 1) % Pane::ALL.len()]),
            Key::PreviousPane => {
                self.go(Pane::ALL[(self.pane as usize + Pane::ALL.len() - 1) % Pane::ALL.len()]);
            }
            Key::Move(by) => self.step(by),
            Key::Sort => {
                let columns = self.columns().len();
                let order = &mut self.orders[self.pane as usize];
                *order = Order { column: (order.column + 1) % columns, reverse: false };
            }
            Key::Reverse => {
                let order = &mut self.orders[self.pane as usize];
                order.reverse = !order.reverse;
            }
            Key::Filter => {
                self.typing = true;
                (self.detail, self.help) = (None, false);
            }
            Key::Type(letter) => self.filter.push(letter),
            Key::Erase => {
                self.filter.pop();
            }
            Key::Enter if self.typing => self.typing = false,
            Key::Enter if self.detail.is_some() || self.help => (self.detail, self.help) = (None, false),
            Key::Enter => {
                let rows = self.rows();
                let subject = self.selected(&rows).map(|place| rows[place].subject.clone());
                self.detail = subject.as_ref().map(|subject| self.explanation(subject));
                self.opened = None;
                if let Some(Subject::Drop(number)) = subject
                    && let Some(event) = self.dropped_as(number)
                {
                    self.asked = event.protocol.is_some().then(|| (number, question(event)));
                    self.opened = Some(number);
                }
            }
            Key::Escape if self.detail.is_some() || self.help => (self.detail, self.help) = (None, false),
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            Key::Pause => self.paused = !self.paused,
            Key::Help => (self.detail, self.help) = (None, !self.help),
            Key::Quit | Key::Suspend | Key::Redraw => {}
        }
    }

    fn go(&mut self, pane: Pane) {
        (self.detail, self.help) = (None, false);
        if self.pane != pane {
            (self.pane, self.selected) = (pane, None);
        }
    }

    fn step(&mut self, by: isize) {
        let rows = self.rows();
        let Some(place) = self.selected(&rows) else { return };
        let place = place.saturating_add_signed(by).min(rows.len() - 1);
        self.selected = Some(rows[place].subject.clone());
    }
}

/// The sample of a source or a port; `None` if there is no room to track another one.
fn add(sampled: &mut HashMap<String, Sampled>, name: &str, event: &Event) {
    if sampled.len() < SOURCES || sampled.contains_key(name) {
        sampled.entry(name.to_owned()).or_default().add(event);
    }
}

/// The action of packets that audit mode lets in and enforcing drops.
const WOULD_DROP: &str = "would-drop";

/// The action for this reason. `audit` is the mode of packets without a target; a zone may let them pass too.
fn action(reason: &str, action: &str, audit: bool) -> &'static str {
    let known = Reason::ALL.iter().find(|known| known.name() == reason);
    match known.map(|known| (known, known.action())) {
        _ if action == Action::Drop.name() => Action::Drop.name(),
        Some((Reason::Unmatched, _)) if !audit => Action::Pass.name(),
        Some((_, Action::Drop)) => WOULD_DROP,
        _ => Action::Pass.name(),
    }
}

fn total_key(action: Action) -> String {
    format!("total {action}")
}

fn reason_key(reason: &str, action: &str) -> String {
    format!("reason {reason} {action}")
}

fn rule_key(rule: &RuleCount) -> String {
    format!("rule {} {}", rule_name(rule), rule.rows.join(" "))
}

fn port_key(port: &str) -> String {
    format!("port {port}")
}

/// The name of a rule: its target and ports, or the name of an `[[allow]]` rule.
pub(in crate::commands) fn rule_name(rule: &RuleCount) -> String {
    match (&rule.target, &rule.allow) {
        (_, Some(allow)) => format!("allow {allow}"),
        (Some(target), None) => format!("{target} {}", rule_ports(rule)),
        (None, None) => rule.ports.clone(),
    }
}

/// The ports of a rule, as `tcp 443`.
fn rule_ports(rule: &RuleCount) -> String {
    format!("{} {}", rule.transport.as_deref().unwrap_or_default(), rule.ports).trim().to_owned()
}

impl Counts {
    fn of(counters: &Counters) -> Self {
        let mut counts = HashMap::new();
        for count in &counters.reasons {
            *counts.entry(format!("total {}", count.action)).or_default() += count.packets;
            counts.insert(reason_key(&count.reason, &count.action), count.packets);
        }
        counts.extend(counters.rules.iter().map(|rule| (rule_key(rule), rule.packets)));
        let ports = counters.ports.iter();
        counts.extend(
            ports.map(|count| (port_key(&format!("{} {}", count.transport, count.port)), count.packets)),
        );
        Self(counts)
    }
}

#[cfg(test)]
pub(super) mod tests;
