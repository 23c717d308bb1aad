//! Filters for packets.

use std::net::IpAddr;
use std::sync::Arc;

use lyncwall_common::abi::ReasonSet;
use lyncwall_common::reason::{Action, Reason};

use lyncwall_api::{Event, Wanted};
use lyncwall_policy::locate::Locator;
use lyncwall_policy::net::{PortRange, Prefix};
use lyncwall_policy::problem::{Problem, Problems, did_you_mean};

/// The most entries in a list: each is compared with every event.
const MOST: usize = 64;
/// The most bytes in an entry: each unknown one is compared with all known names.
const LONGEST: usize = 160;
/// The most names to list after an unknown one.
const LISTED: usize = 20;

/// The names that a filter may use.
pub struct FilterScope {
    /// The guarded interfaces, each with the interfaces of its events: the members of a bond.
    pub interfaces: Vec<(String, Vec<String>)>,
    /// The targets and rules; `None` before the first generation.
    pub locator: Option<Arc<Locator>>,
}

/// A filter. All lists must match; one entry is enough for a list. An empty list matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    reasons: Vec<Reason>,
    from: Vec<Prefix>,
    ports: Vec<(Option<String>, PortRange)>,
    rules: Vec<String>,
    targets: Vec<String>,
    interfaces: Vec<String>,
}

impl Filter {
    /// The filter of a request.
    ///
    /// # Errors
    /// Lists of more than 64 entries; else all entries that cannot be parsed, and unknown targets, rules and
    /// interfaces: a stream for them would stay silent.
    pub fn of(wanted: &Wanted, there: &FilterScope) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let Wanted { reason, from, port, rule, target, interface } = wanted;
        for text in [reason, from, port, rule, target, interface] {
            if list(text.as_deref()).count() > MOST {
                problems.push(Problem::new(
                    format!("a filter lists more than {MOST} entries of a kind"),
                    "list fewer, or leave the filter out",
                ));
            }
            if list(text.as_deref()).any(|entry| entry.len() > LONGEST) {
                problems.push(Problem::new(
                    format!("an entry of a filter is longer than {LONGEST} bytes"),
                    "no name is that long",
                ));
            }
        }
        problems.or(())?;
        let mut problems = Problems::default();
        let mut wrong = |text: &str, what: &str, fix: &str| {
            problems.push(Problem::new(format!("`{text}` is not {what}"), fix));
        };
        let mut filter = Self::default();
        let drops = Reason::ALL.iter().filter(|reason| reason.action() == Action::Drop);
        let reasons: Vec<String> = drops.map(|reason| reason.name().to_owned()).collect();
        for name in list(reason.as_deref()) {
            match Reason::ALL.iter().find(|reason| reason.name() == name) {
                Some(reason) if reason.action() == Action::Pass => {
                    wrong(name, "a reason of a drop", "packets with this reason pass: they are counted only");
                }
                Some(reason) => filter.reasons.push(*reason),
                None => wrong(name, "reason", &suggestion(name, "reason", &reasons)),
            }
        }
        for text in list(from.as_deref()) {
            match text.parse() {
                Ok(prefix) => filter.from.push(prefix),
                Err(error) => {
                    wrong(text, "an address or prefix", &format!("{error}; write it as 192.0.2.0/24"));
                }
            }
        }
        for text in list(port.as_deref()) {
            let (transport, range) = match text.split_once('/') {
                Some((transport, range)) => (Some(transport.to_ascii_lowercase()), range),
                None => (None, text),
            };
            let known = transport.as_deref().is_none_or(|name| matches!(name, "tcp" | "udp"));
            match range.parse() {
                Ok(range) if known => filter.ports.push((transport, range)),
                Ok(_) | Err(_) => wrong(text, "a port", "write it as 5061, tcp/5061 or 49152-65535"),
            }
        }
        let split = |text: &Option<String>| list(text.as_deref()).map(str::to_owned).collect();
        filter.rules = split(rule);
        filter.targets = split(target);
        filter.interfaces = split(interface);
        filter.look_up(there, &mut problems);
        for (bond, members) in &there.interfaces {
            if filter.interfaces.contains(bond) {
                filter.interfaces.extend(members.iter().cloned());
            }
        }
        problems.or(filter)
    }

    /// Reports unknown names.
    fn look_up(&self, there: &FilterScope, problems: &mut Problems) {
        let mut unknown = |what: &str, name: &str, known: &[String]| {
            problems.push(Problem::new(format!("unknown {what} `{name}`"), suggestion(name, what, known)));
        };
        let interfaces: Vec<String> = there
            .interfaces
            .iter()
            .flat_map(|(name, members)| [name].into_iter().chain(members))
            .cloned()
            .collect();
        for name in self.interfaces.iter().filter(|name| !interfaces.contains(name)) {
            unknown("guarded interface", name, &interfaces);
        }
        let Some(locator) = &there.locator else { return };
        let targets: Vec<String> = locator.targets().map(str::to_owned).collect();
        for name in self.targets.iter().filter(|name| !targets.contains(name)) {
            unknown("target", name, &targets);
        }
        let rules: Vec<String> = locator.rules().collect();
        for name in self.rules.iter().filter(|name| !rules.iter().any(|rule| is_rule(rule, name))) {
            unknown("open rule", name, &rules);
        }
    }

    /// The selected reasons.
    #[must_use]
    pub fn reasons(&self) -> ReasonSet {
        if self.reasons.is_empty() { ReasonSet::ALL } else { self.reasons.iter().copied().collect() }
    }

    /// True if only reasons are selected that the program never reports: multicast is noise on most links.
    #[must_use]
    pub fn is_of_what_is_not_reported(&self) -> bool {
        !self.reasons.is_empty() && self.reasons.iter().all(|reason| *reason == Reason::Multicast)
    }

    /// True if the event matches.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let one_of = |list: &[String], value: Option<&str>| {
            list.is_empty() || value.is_some_and(|value| list.iter().any(|wanted| wanted == value))
        };
        (self.reasons.is_empty() || self.reasons.iter().any(|reason| reason.name() == event.reason))
            && one_of(&self.targets, event.target.as_deref())
            && one_of(&self.interfaces, Some(&event.interface))
            && self.wants_rule(event)
            && self.wants_port(event)
            && self.wants_source(event)
    }

    /// A rule is named by its target, transport and ports, or by the last two.
    fn wants_rule(&self, event: &Event) -> bool {
        let Some(rule) = &event.rule else { return self.rules.is_empty() };
        self.rules.is_empty() || self.rules.iter().any(|wanted| is_rule(rule, wanted))
    }

    fn wants_port(&self, event: &Event) -> bool {
        self.ports.is_empty()
            || event.destination_port.is_some_and(|port| {
                self.ports.iter().any(|(transport, range)| {
                    range.contains(port)
                        && transport.as_ref().is_none_or(|name| event.protocol.as_ref() == Some(name))
                })
            })
    }

    fn wants_source(&self, event: &Event) -> bool {
        let source = || event.source.as_deref()?.parse::<IpAddr>().ok();
        self.from.is_empty()
            || source().is_some_and(|source| self.from.iter().any(|prefix| prefix.contains(source)))
    }
}

/// True if this is the rule, or a rule for any target.
fn is_rule(rule: &str, wanted: &str) -> bool {
    rule == wanted || rule.split_once(' ').is_some_and(|(_, alone)| alone == wanted)
}

/// The entries between commas.
fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

/// A suggestion for an unknown name.
fn suggestion(name: &str, what: &str, known: &[String]) -> String {
    did_you_mean(name, known.iter().map(String::as_str), || match known {
        [] => format!("there is no {what}"),
        _ => {
            let listed: Vec<&str> = known.iter().take(LISTED).map(String::as_str).collect();
            let more = if known.len() > LISTED { ", and more" } else { "" };
            format!("known: {}{more}", listed.join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Filter, FilterScope, MOST};
    use lyncwall_api::{Event, Wanted};

    fn event() -> Event {
        serde_json::from_str(
            "{\"time\": 1.0, \"action\": \"drop\", \"reason\": \"source\", \"interface\": \"eth0\", \
              \"target\": \"pool\", \"rule\": \"pool tcp 5061\", \"source\": \"203.0.113.9\", \
              \"destination\": \"192.0.2.1\", \"protocol\": \"tcp\", \"source_port\": 4000, \
              \"destination_port\": 5061, \"length\": 60}",
        )
        .expect("an event")
    }

    fn there() -> FilterScope {
        let bond = ("bond0".to_owned(), vec!["eth0".to_owned()]);
        FilterScope { interfaces: vec![bond, ("eth1".to_owned(), Vec::new())], locator: None }
    }

    fn filter(set: impl FnOnce(&mut Wanted)) -> Filter {
        let mut wanted = Wanted::default();
        set(&mut wanted);
        Filter::of(&wanted, &there()).expect("a filter")
    }

    #[test]
    fn all_that_is_said_must_hold() {
        let some = |text: &str| Some(text.to_owned());
        assert!(filter(|_| {}).wants(&event()));
        assert!(filter(|w| w.reason = some("closed, source")).wants(&event()));
        assert!(!filter(|w| w.reason = some("closed")).wants(&event()));
        assert!(filter(|w| w.from = some("203.0.113.0/24")).wants(&event()));
        assert!(!filter(|w| w.from = some("203.0.113.0/29,2001:db8::/32")).wants(&event()));
        for (port, wanted) in [("5061", true), ("tcp/5000-6000", true), ("udp/5061", false), ("443", false)] {
            assert_eq!(filter(|w| w.port = some(port)).wants(&event()), wanted, "{port}");
        }
        for (rule, wanted) in [("pool tcp 5061", true), ("tcp 5061", true), ("other tcp 5061", false)] {
            assert_eq!(filter(|w| w.rule = some(rule)).wants(&event()), wanted, "{rule}");
        }
        let pool = |w: &mut Wanted, interface| (w.target, w.interface) = (some("pool"), some(interface));
        assert!(filter(|w| pool(w, "eth0")).wants(&event()));
        assert!(filter(|w| pool(w, "bond0")).wants(&event()), "eth0 is a member");
        assert!(!filter(|w| pool(w, "eth1")).wants(&event()));
    }

    #[test]
    fn all_mistakes_are_told_together() {
        let some = |text: &str| Some(text.to_owned());
        let wanted = Wanted {
            reason: some("clsed,allowed"),
            from: some("203.0.113.9/24"),
            port: some("sctp/5061"),
            interface: some("eth1,eth7"),
            ..Wanted::default()
        };
        let problems = Filter::of(&wanted, &there()).expect_err("five mistakes");
        assert_eq!(problems.iter().count(), 5, "{problems}");
        for part in [
            "did you mean `closed`",
            "`allowed` is not a reason of a drop",
            "unknown guarded interface `eth7`",
        ] {
            assert!(problems.to_string().contains(part), "{part}: {problems}");
        }
        // Long lists would cost each event, and their mistakes each reader.
        for (entries, good) in [(MOST, true), (MOST + 1, false)] {
            let wanted = Wanted { from: Some(vec!["::1"; entries].join(",")), ..Wanted::default() };
            assert_eq!(Filter::of(&wanted, &there()).is_ok(), good, "{entries}");
        }
        let long = Wanted { rule: Some("a".repeat(1000)), ..Wanted::default() };
        assert!(Filter::of(&long, &there()).expect_err("a long name").to_string().contains("longer than"));
    }
}
