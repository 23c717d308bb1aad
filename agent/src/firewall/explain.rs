//! Explains packets: the program's own verdict, and the parts of the plan behind it.

mod advice;
mod question;

use std::sync::Arc;

use anyhow::Result;
use lyncwall_common::reason::Reason;

use super::Firewall;
use crate::events::{self, EventNames, Observed};
use lyncwall_api as api;
use lyncwall_datapath::Explanation;
use lyncwall_policy::catalogue::Row;
use lyncwall_policy::compile::Identity;
use lyncwall_policy::config::Mode;
use lyncwall_policy::locate::Located;
use lyncwall_policy::net::PortRange;
use lyncwall_policy::problem::{Problem, Problems};
use lyncwall_policy::text::counted;
use question::frame_of;

/// The most prefixes of a group to list.
const LISTED: usize = 8;

/// A packet that arrives on an interface.
#[derive(Debug)]
pub struct Question {
    interface: String,
    /// The kernel's number of the interface.
    ifindex: u32,
    frame: Arc<[u8]>,
}

impl Firewall {
    /// The packet in question, on each interface that it may arrive on.
    ///
    /// # Errors
    /// [`Problems`] for a malformed packet, and for an interface that is not guarded.
    pub fn questions(&self, wanted: &api::Explain) -> Result<Vec<Question>> {
        let mut problems = Problems::default();
        let frame: Arc<[u8]> =
            frame_of(wanted).map_err(|found| problems.append(found)).unwrap_or_default().into();
        let interfaces = self.asked(wanted.interface.as_deref(), &mut problems)?;
        let questions = interfaces.into_iter().map(|(interface, ifindex)| Question {
            interface,
            ifindex,
            frame: Arc::clone(&frame),
        });
        Ok(problems.or(questions.collect())?)
    }

    /// The program's verdict on a packet, and its reasons. Leaves no trace in counters, events or flows.
    ///
    /// # Errors
    /// If the program cannot be loaded, or run.
    pub fn explain(&mut self, question: Question) -> Result<api::Explanation> {
        let Question { interface, ifindex, frame } = question;
        let generation = self.datapath.live()?.number;
        let verdict = self.datapath.explain(ifindex, &frame)?;
        let names = EventNames {
            interfaces: Arc::new([(ifindex, interface)].into()),
            services: self.services(),
            locator: self.locator(),
        };
        let observed = Observed {
            time: events::now(),
            ifindex,
            reason: Some(verdict.reason),
            action: verdict.action,
            bytes: &frame,
            length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        };
        let located = observed.locate(&names).unwrap_or_default();
        Ok(self.explanation(observed.describe(&names), verdict, &located, generation))
    }

    /// The interfaces in question.
    fn asked(&self, interface: Option<&str>, problems: &mut Problems) -> Result<Vec<(String, u32)>> {
        let attached = self.datapath.status()?.interfaces;
        let guarded = attached.iter().map(|attached| (attached.interface.clone(), attached.ifindex));
        let asked: Vec<_> =
            guarded.filter(|(name, _)| interface.is_none_or(|interface| interface == name)).collect();
        if asked.is_empty() {
            let names: Vec<&str> = attached.iter().map(|attached| &*attached.interface).collect();
            problems.push(match interface {
                Some(interface) => Problem::new(
                    format!("{interface} is not guarded: it lets everything in"),
                    format!("name one of {}", names.join(", ")),
                ),
                None => Problem::new("no interface is guarded", "`lyncwall status` shows why"),
            });
        }
        Ok(asked)
    }

    fn explanation(
        &self,
        event: api::Event,
        verdict: Explanation,
        located: &Located,
        generation: u64,
    ) -> api::Explanation {
        let settings = &self.memory.settings;
        let roles =
            located.target.as_deref().map(|target| settings.roles_of(target).to_vec()).unwrap_or_default();
        let allow = match verdict.counter.and_then(|counter| self.memory.counters.label(counter)) {
            Some(Identity::Allow { name, .. }) => Some(name.clone()),
            _ => None,
        };
        let rule = located.rule.as_ref().map(|rule| api::ExplainedRule {
            transport: rule.transport.name().to_owned(),
            ports: PortRange::between(rule.first, rule.last).to_string(),
            groups: rule.groups.iter().map(|name| self.group(name, located)).collect(),
            rows: self.rows(&rule.rows),
        });
        let (elsewhere, own_row) = match (verdict.reason, event.protocol.as_deref(), event.destination_port) {
            (Reason::Closed | Reason::NoFlow, Some(protocol), Some(port)) => {
                self.elsewhere(located.target.as_deref(), &roles, protocol, port)
            }
            _ => (Vec::new(), false),
        };
        let notes = self.notes(&event, verdict, located, own_row);
        api::Explanation {
            judged: verdict.judged.name().to_owned(),
            generation,
            meaning: verdict.reason.meaning().to_owned(),
            roles,
            rule,
            allow,
            elsewhere,
            notes,
            event,
        }
    }

    fn group(&self, name: &str, located: &Located) -> api::ExplainedGroup {
        let config = &self.plan.config;
        let group = config.groups.iter().find(|group| *group.name == *name);
        let holds = group.map_or_else(String::new, |group| {
            match group.zone.and_then(|zone| config.zones.get(zone)) {
                Some(zone) => format!("zone {}", zone.name),
                None if group.prefixes.len() > LISTED => counted(group.prefixes.len(), "prefix", "prefixes"),
                None => group.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            }
        });
        api::ExplainedGroup {
            name: name.to_owned(),
            matches: located.groups.iter().any(|group| group == name),
            holds,
        }
    }

    fn rows(&self, ids: &[String]) -> Vec<api::ExplainedRow> {
        ids.iter().filter_map(|id| self.plan.catalogue.row(id)).map(|row| self.row(row, None)).collect()
    }

    fn row(&self, row: &Row, why: Option<String>) -> api::ExplainedRow {
        let catalogue = &self.plan.catalogue;
        let printed = row.printed.lines.iter().map(|(key, line)| {
            let document = catalogue.documents().get(key);
            api::Printed {
                title: document.map_or(key, |document| &document.title).clone(),
                language: document.map(|document| document.language.clone()).unwrap_or_default(),
                line: *line,
            }
        });
        api::ExplainedRow {
            id: row.id.to_string(),
            service: catalogue.services(&[row.id.to_string()]),
            table: row.printed.place(),
            printed: printed.collect(),
            why,
        }
    }

    /// Rows with a port that is closed here: rows of the target's own roles with the reason (then true), else
    /// rows of other roles.
    fn elsewhere(
        &self,
        target: Option<&str>,
        roles: &[String],
        protocol: &str,
        port: u16,
    ) -> (Vec<api::ExplainedRow>, bool) {
        let own = self.plan.resolve(target.unwrap_or_default(), roles).unwrap_or_default();
        let mut rows = Vec::new();
        for closed in own.closed {
            if closed.transport.name() == protocol && (closed.first..=closed.last).contains(&port) {
                let known = closed.rows.iter().filter_map(|id| self.plan.catalogue.row(id));
                rows.extend(known.map(|row| self.row(row, Some(closed.why.clone()))));
            }
        }
        if !rows.is_empty() {
            return (rows, true);
        }
        let catalogue = &self.plan.catalogue;
        let named = catalogue.rows().iter().filter(|row| {
            row.transport.each().iter().any(|transport| transport.name() == protocol)
                && row.ports.iter().any(|ports| ports.first() == port && ports.last() == port)
        });
        let of_roles = |row: &Row| {
            let id = row.id.to_string();
            if own.outbound.iter().any(|called| called.rows.contains(&id)) {
                return Some("this target calls it, which opens nothing".to_owned());
            }
            let others = catalogue.roles().iter().filter(|role| !roles.contains(&role.key));
            let others = others.filter(|role| role.rows.contains(&row.id));
            let keys: Vec<&str> = others.map(|role| &*role.key).collect();
            (!keys.is_empty()).then(|| format!("a row of {}", keys.join(", ")))
        };
        (named.map(|row| self.row(row, of_roles(row))).collect(), false)
    }

    fn notes(
        &self,
        event: &api::Event,
        verdict: Explanation,
        located: &Located,
        own_row: bool,
    ) -> Vec<String> {
        let mut notes: Vec<String> = event.note.clone().into_iter().collect();
        if verdict.judged != verdict.action {
            let settings = &self.memory.settings;
            let mode = located.target.as_deref().map_or(settings.mode, |target| settings.mode_of(target));
            if mode == Mode::Audit {
                notes.push("audit mode lets it pass; enforcing would drop it".to_owned());
            }
        }
        if located.zone.is_none() && event.protocol.is_some() {
            notes.push("the interface was in no zone when the tables were filled".to_owned());
        }
        notes.extend(self.advice(event, verdict.reason, located, own_row));
        if self.memory.trial.runs() {
            notes.push("a change on trial judges until it is confirmed or rolled back".to_owned());
        }
        notes
    }
}
