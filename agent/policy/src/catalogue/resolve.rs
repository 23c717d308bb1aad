//! Turns the rows of some roles into rules that do not overlap.

use std::collections::{BTreeMap, BTreeSet};

use lyncwall_common::abi::PortTransport;
use serde::{Deserialize, Serialize};

use super::Ruling;
use crate::media_ranges::is_media_range;
use crate::net::{PortRange, transport_name};

/// How the printed tables are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Honours the printed directions and sources.
    #[default]
    Strict,
    /// Opens the ports of every printed row inbound, from anywhere.
    Literal,
}

impl Reading {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Literal => "literal",
        }
    }
}

/// The ports that a set of roles opens, calls and keeps closed. Each list is sorted by transport (TCP first) and port,
/// and port, and no two rules of one list share a (transport, port).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The requested roles.
    pub roles: Vec<String>,
    /// The reading.
    pub reading: Reading,
    /// The open ports.
    pub inbound: Vec<Open>,
    /// The ports of peers that the box calls.
    pub outbound: Vec<Open>,
    /// Known ports that stay closed. Another row may open a port of this list, which is then in `inbound`
    /// too.
    pub closed: Vec<Closed>,
    /// Calls of the catalogue to groups that have no prefixes: a zone with outbound limits does not let them out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub closed_calls: Vec<Closed>,
}

/// A range of open ports with one set of rows: a [`Rule`](crate::compile::Rule) before the groups without
/// prefixes are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    /// TCP or UDP.
    #[serde(with = "transport_name")]
    pub transport: PortTransport,
    /// The lowest port, in host byte order.
    pub first: u16,
    /// The highest port, included.
    pub last: u16,
    /// The named sources, sorted by name; empty for anybody.
    pub sources: Vec<String>,
    /// The sources that have no prefixes, so that the rule is open to anybody. Empty if the caller does not
    /// know which groups are bound.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unbound: Vec<String>,
    /// The ids of all rows with these ports, in catalogue order.
    pub rows: Vec<String>,
}

impl Open {
    /// The groups that may use it; empty for anybody.
    pub fn scope(&self) -> &[String] {
        if self.unbound.is_empty() { &self.sources } else { &[] }
    }
}

/// Ports that stay closed, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Closed {
    /// TCP or UDP.
    #[serde(with = "transport_name")]
    pub transport: PortTransport,
    /// The lowest port, in host byte order.
    pub first: u16,
    /// The highest port, included.
    pub last: u16,
    /// The named sources that an opening would serve, sorted by name; empty for anybody.
    pub sources: Vec<String>,
    /// The ids of all rows with these ports, in catalogue order.
    pub rows: Vec<String>,
    /// The reason, for users.
    pub why: String,
}

/// One range of one row in the entry of a role in one reading.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) transport: PortTransport,
    pub(super) ports: PortRange,
    /// The row's index in the catalogue.
    pub(super) row: usize,
    pub(super) terms: Terms,
}

impl Entry {
    /// A copy without its source groups.
    pub(super) fn open_to_all(self) -> Self {
        Self { terms: Terms { groups: Vec::new(), more: Vec::new(), ..self.terms }, ..self }
    }

    /// True for a port that a row names, with sources of its own, and not as one of a range of thousands.
    fn rules_its_ports(&self) -> bool {
        !self.terms.groups.is_empty() && !is_media_range(self.ports)
    }
}

/// The choices of a configuration for a target.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// The groups with prefixes; `None` if the caller does not know them: then every group counts as bound.
    pub bound: Option<BTreeSet<String>>,
    /// Ports that replace those of a row, by its id.
    pub overrides: BTreeMap<String, Vec<PortRange>>,
    /// The ids of the enabled optional rows.
    pub optional: BTreeSet<String>,
}

impl Choices {
    /// Splits an entry, changed by these choices, into one part for each range of its ports. An override of
    /// any of `ids` replaces the ports.
    fn applied(&self, entry: &Entry, ids: &[&str]) -> Vec<Entry> {
        let own = ids.iter().find_map(|id| self.overrides.get(*id));
        let ports = own.map_or(std::slice::from_ref(&entry.ports), Vec::as_slice);
        let terms = self.terms(&entry.terms, own.is_some());
        ports.iter().map(|&ports| Entry { ports, terms: terms.clone(), ..entry.clone() }).collect()
    }

    /// The terms under these choices. `overridden` says that an override gives the ports.
    fn terms(&self, terms: &Terms, overridden: bool) -> Terms {
        if terms.ruling == Ruling::Outbound {
            return self.call(terms);
        }
        if overridden && terms.enabled_by_override {
            return Terms { ruling: Ruling::Inbound, groups: self.with_more(terms), ..terms.clone() };
        }
        let enabled = self.optional.contains(&terms.id);
        let waits = match terms.ruling {
            Ruling::NeedsGroup => true,
            Ruling::Optional => enabled && !terms.groups.is_empty(),
            Ruling::Inbound | Ruling::Outbound => false,
        };
        if !waits {
            let ruling =
                if enabled && terms.ruling == Ruling::Optional { Ruling::Inbound } else { terms.ruling };
            return Terms { ruling, groups: self.with_more(terms), ..terms.clone() };
        }
        // A row for groups alone opens to the bound ones only.
        let is_bound = |group: &&String| self.bound.as_ref().is_some_and(|bound| bound.contains(*group));
        let bound: Vec<String> = terms.groups.iter().chain(&terms.more).filter(is_bound).cloned().collect();
        if bound.is_empty() {
            return Terms { ruling: Ruling::NeedsGroup, ..terms.clone() };
        }
        Terms { ruling: Ruling::Inbound, groups: bound, ..terms.clone() }
    }

    /// The groups of a row, with those that join them only where they have prefixes.
    fn with_more(&self, terms: &Terms) -> Vec<String> {
        let joins = |group: &&String| self.bound.as_ref().is_none_or(|bound| bound.contains(*group));
        // A row for anybody needs nobody else.
        let more = terms.more.iter().filter(joins).filter(|_| !terms.groups.is_empty());
        terms.groups.iter().chain(more).cloned().collect()
    }

    /// A call goes to those of its groups that have prefixes, and nowhere while none has. A call without groups
    /// goes anywhere.
    fn call(&self, terms: &Terms) -> Terms {
        let Some(bound) = self.bound.as_ref().filter(|_| terms.only_to_bound) else { return terms.clone() };
        let to: Vec<String> = terms.groups.iter().filter(|group| bound.contains(*group)).cloned().collect();
        if to.is_empty() {
            return Terms { ruling: Ruling::NeedsGroup, ..terms.clone() };
        }
        Terms { groups: to, ..terms.clone() }
    }

    /// True for an enabled option that waits for its group.
    pub(super) fn waits(&self, entry: &Entry) -> bool {
        entry.terms.ruling == Ruling::Optional && self.terms(&entry.terms, false).ruling == Ruling::NeedsGroup
    }

    /// The groups of the entry that have no prefixes.
    fn unbound(&self, groups: &[String]) -> Vec<String> {
        let Some(bound) = &self.bound else { return Vec::new() };
        groups.iter().filter(|group| !bound.contains(*group)).cloned().collect()
    }
}

impl Terms {
    /// The reason for being closed, for users.
    fn why_closed(&self) -> String {
        let named = self.groups.iter().map(|group| format!("`{group}`")).collect::<Vec<_>>().join(" and ");
        let noun = if self.groups.len() == 1 { "group" } else { "groups" };
        let (id, why) = (&self.id, &self.why);
        match self.ruling {
            Ruling::Inbound | Ruling::Outbound => String::new(),
            Ruling::NeedsGroup if self.only_to_bound => {
                format!("calls the {noun} {named}, closed while unbound: {why}")
            }
            Ruling::NeedsGroup => format!("only for the {noun} {named}, closed while unbound: {why}"),
            Ruling::Optional if self.groups.is_empty() => format!("optional (`{id}`) and off: {why}"),
            Ruling::Optional => format!("optional (`{id}`) and off, only for the {noun} {named}: {why}"),
        }
    }
}

/// The ruling on an entry. The default opens it from anywhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    /// The id that enables and overrides it; an override may use the id of its row too.
    pub(super) id: String,
    pub(super) ruling: Ruling,
    /// Empty for anybody.
    pub(super) groups: Vec<String>,
    /// Groups that join the others where they have prefixes. Without prefixes, they open nothing to anybody.
    pub(super) more: Vec<String>,
    /// True for a call that goes to those of its groups that have prefixes, and to nobody else.
    pub(super) only_to_bound: bool,
    /// True for an option that an override of its ports enables as well.
    pub(super) enabled_by_override: bool,
    /// Why it is not simply open; empty if it is.
    pub(super) why: String,
    /// The role whose presence removes the entry.
    pub(super) unless: Option<String>,
}

pub(super) fn resolve<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    roles: &[&str],
    reading: Reading,
    choices: &Choices,
    id: impl Fn(usize) -> String,
) -> Resolved {
    let (mut inbound, mut outbound, mut closed, mut uncalled) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let entries: Vec<&Entry> = entries.collect();
    // Some rows open a port here and are called elsewhere, as on a reverse proxy. An override of the row
    // replaces the port here; a call may have an id of its own.
    let listens: BTreeSet<usize> = entries
        .iter()
        .filter(|entry| entry.terms.ruling != Ruling::Outbound)
        .map(|entry| entry.row)
        .collect();
    let calls_too = |entry: &Entry| entry.terms.ruling == Ruling::Outbound && listens.contains(&entry.row);
    let entries: Vec<Entry> = entries
        .into_iter()
        .flat_map(|entry| {
            let (row, own) = (id(entry.row), entry.terms.id.as_str());
            match calls_too(entry) {
                true => choices.applied(entry, &[own]),
                false => choices.applied(entry, &[&row, own]),
            }
        })
        .collect();
    for entry in &entries {
        match entry.terms.ruling {
            Ruling::Inbound => inbound.push(entry),
            Ruling::Outbound => outbound.push(entry),
            Ruling::NeedsGroup if entry.terms.only_to_bound => uncalled.push(entry),
            Ruling::NeedsGroup | Ruling::Optional => closed.push(entry),
        }
    }
    let ids = |rows: BTreeSet<usize>| rows.into_iter().map(&id).collect();
    let rule = |(Span { transport, first, last }, cover): (Span, Cover<'_>)| Open {
        transport,
        first,
        last,
        unbound: choices.unbound(&cover.sources()),
        sources: cover.sources(),
        rows: ids(cover.rows),
    };
    let shut = |(Span { transport, first, last }, cover): (Span, Cover<'_>)| Closed {
        transport,
        first,
        last,
        sources: cover.sources(),
        why: cover.whys.iter().cloned().collect::<Vec<_>>().join("; "),
        rows: ids(cover.rows),
    };
    // The literal reading opens each row as printed.
    let narrowest = reading == Reading::Strict;
    Resolved {
        roles: roles.iter().map(ToString::to_string).collect(),
        reading,
        inbound: cut(&inbound, narrowest).into_iter().map(rule).collect(),
        outbound: cut(&outbound, false).into_iter().map(rule).collect(),
        closed: cut(&closed, false).into_iter().map(shut).collect(),
        closed_calls: cut(&uncalled, false).into_iter().map(shut).collect(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    transport: PortTransport,
    first: u16,
    last: u16,
}

/// The merged entries of one stretch of ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Cover<'a> {
    rows: BTreeSet<usize>,
    groups: BTreeSet<&'a str>,
    anybody: bool,
    whys: BTreeSet<String>,
}

impl<'a> Cover<'a> {
    fn of(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut cover = Self::default();
        for entry in entries {
            cover.rows.insert(entry.row);
            cover.groups.extend(entry.terms.groups.iter().map(String::as_str));
            cover.anybody |= entry.terms.groups.is_empty();
            let why = entry.terms.why_closed();
            if !why.is_empty() {
                cover.whys.insert(why);
            }
        }
        if cover.anybody {
            cover.groups.clear();
        }
        cover
    }

    fn sources(&self) -> Vec<String> {
        self.groups.iter().map(ToString::to_string).collect()
    }
}

/// Cuts overlapping entries at their ends, so that each stretch has one cover, and joins equal neighbours. With
/// `narrowest`, a port that a row rules by itself is no part of the wide ranges over it: no media program can
/// take the port of a server, and the range is open to more sources.
fn cut<'a>(entries: &[&'a Entry], narrowest: bool) -> Vec<(Span, Cover<'a>)> {
    let mut by_transport: BTreeMap<PortTransport, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        by_transport.entry(entry.transport).or_default().push(entry);
    }
    let mut pieces: Vec<(Span, Cover<'_>)> = Vec::new();
    for (transport, entries) in by_transport {
        // Every port at which the set of entries may change; one past 65535 fits a u32.
        let edges: BTreeSet<u32> = entries
            .iter()
            .flat_map(|entry| [u32::from(entry.ports.first()), u32::from(entry.ports.last()) + 1])
            .collect();
        for (&from, &until) in edges.iter().zip(edges.iter().skip(1)) {
            let holds = |entry: &&&Entry| {
                u32::from(entry.ports.first()) <= from && from <= u32::from(entry.ports.last())
            };
            let ruled = narrowest && entries.iter().filter(holds).any(|entry| entry.rules_its_ports());
            let counts = |entry: &&&Entry| holds(entry) && !(ruled && is_media_range(entry.ports));
            let cover = Cover::of(entries.iter().filter(counts).copied());
            let (Ok(first), Ok(last)) = (u16::try_from(from), u16::try_from(until - 1)) else { continue };
            if cover.rows.is_empty() {
                continue;
            }
            match pieces.last_mut() {
                Some((before, same))
                    if *same == cover
                        && before.transport == transport
                        && u32::from(before.last) + 1 == from =>
                {
                    before.last = last;
                }
                _ => pieces.push((Span { transport, first, last }, cover)),
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        // A few low, middle and high ports, so that ends often meet and overlap.
        let port = prop_oneof![1u16..12, 4999u16..5010, 65525u16..=65535];
        let transport = prop_oneof![Just(PortTransport::Tcp), Just(PortTransport::Udp)];
        let groups = proptest::sample::subsequence(vec!["edge", "servers"], 0..=2);
        let entry = (transport, port.clone(), port, groups).prop_map(|(transport, a, b, groups)| {
            let ports = PortRange::between(a.min(b), a.max(b));
            let groups = groups.into_iter().map(str::to_owned).collect();
            (transport, ports, Terms { groups, ..Terms::default() })
        });
        vec(entry, 0..12).prop_map(|entries| {
            let numbered = entries.into_iter().enumerate();
            numbered.map(|(row, (transport, ports, terms))| Entry { transport, ports, row, terms }).collect()
        })
    }

    fn naive(entries: &[Entry], transport: PortTransport, port: u16) -> Option<(Vec<String>, Vec<String>)> {
        let over = |entry: &&Entry| {
            entry.transport == transport && (entry.ports.first()..=entry.ports.last()).contains(&port)
        };
        let mut holding: Vec<&Entry> = entries.iter().filter(over).collect();
        let wide = |entry: &Entry| entry.ports.last() - entry.ports.first() >= 99;
        if holding.iter().any(|entry| !wide(entry) && !entry.terms.groups.is_empty()) {
            holding.retain(|entry| !wide(entry));
        }
        let mut groups: Vec<String> = holding.iter().flat_map(|entry| entry.terms.groups.clone()).collect();
        groups.sort();
        groups.dedup();
        if holding.iter().any(|entry| entry.terms.groups.is_empty()) {
            groups.clear();
        }
        let rows: Vec<String> = holding.iter().map(|entry| entry.row.to_string()).collect();
        (!rows.is_empty()).then_some((groups, rows))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn every_port_says_what_the_narrowest_entries_over_it_say(entries in entries()) {
            let rules = resolve(entries.iter(), &[], Reading::Strict, &Choices::default(), |row| row.to_string()).inbound;
            for transport in [PortTransport::Tcp, PortTransport::Udp] {
                for port in 0..=u16::MAX {
                    let holding: Vec<_> = rules
                        .iter()
                        .filter(|rule| rule.transport == transport && (rule.first..=rule.last).contains(&port))
                        .map(|rule| (rule.sources.clone(), rule.rows.clone()))
                        .collect();
                    prop_assert!(holding.len() <= 1, "{transport:?} {port} has {} rules", holding.len());
                    prop_assert_eq!(holding.into_iter().next(), naive(&entries, transport, port));
                }
            }
        }

        #[test]
        fn rules_are_sorted_and_as_few_as_can_be(entries in entries()) {
            let rules = resolve(entries.iter(), &[], Reading::Strict, &Choices::default(), |row| row.to_string()).inbound;
            for pair in rules.windows(2) {
                let [a, b] = pair else { continue };
                prop_assert!((a.transport, a.last) < (b.transport, b.first));
                let meet = a.transport == b.transport && u32::from(a.last) + 1 == u32::from(b.first);
                prop_assert!(!(meet && a.sources == b.sources && a.rows == b.rows), "{a:?} and {b:?} are one");
            }
        }
    }
}
