//! Since when each rule is counted, and when it last let a packet in: a hint at unused rules. A file in the
//! state directory keeps this, not a map: it may take 1 MiB, which must not make a switch fail, and it must
//! survive a reboot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Firewall, durable};
use lyncwall_policy::compile::Identity;

const FILE: &str = "usage.json";
/// The most rules that are no longer live to remember; the oldest are forgotten first.
const KEPT: usize = 4096;

/// The usage of all live rules, and of earlier ones.
#[derive(Debug)]
pub(super) struct Usage {
    file: PathBuf,
    rules: HashMap<Identity, Seen>,
    /// True if the file is out of date.
    unwritten: bool,
}

/// The usage of one rule. Times are seconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The time of the first look.
    since: u64,
    /// The last look that found more packets than the one before; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    /// The count at the last look.
    packets: u64,
    /// When the rule was last live.
    held: u64,
}

/// The file, but for its checksum.
#[derive(Debug, Serialize, Deserialize)]
struct Rules {
    rules: Vec<Written>,
}

/// A rule in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    rule: Identity,
    #[serde(flatten)]
    seen: Seen,
}

impl Usage {
    /// Reads the file in the state directory. An unreadable file is logged and counts as empty: no verdict
    /// depends on it.
    pub(super) fn open(directory: &Path) -> Self {
        let file = directory.join(FILE);
        let found = durable::read(&file, parse);
        if let Some(damage) = found.damage {
            tracing::warn!("the usage of rules: {damage}");
        }
        let rules = found.content.unwrap_or_default();
        Self { file, rules, unwritten: false }
    }

    /// Restarts the counts at 0: the maps are new.
    pub(super) fn begin_again(&mut self) {
        for seen in self.rules.values_mut() {
            seen.packets = 0;
        }
    }

    /// Notes all counters: rule, value, and whether the rule is live.
    pub(super) fn look<'a>(
        &mut self,
        now: SystemTime,
        counters: impl IntoIterator<Item = (&'a Identity, u64, bool)>,
    ) {
        let now = seconds(now);
        for (identity, packets, holds) in counters {
            let moved = |before: u64| packets != before && packets != 0;
            match self.rules.get_mut(identity) {
                Some(seen) => {
                    if moved(seen.packets) {
                        seen.last = Some(now);
                    }
                    self.unwritten |= seen.packets != packets;
                    seen.packets = packets;
                    if holds {
                        seen.held = now;
                    }
                }
                None if holds => {
                    let last = moved(0).then_some(now);
                    self.rules.insert(identity.clone(), Seen { since: now, last, packets, held: now });
                    self.unwritten = true;
                }
                None => {}
            }
        }
    }

    /// Since when a rule is counted, and when it last let a packet in.
    pub(super) fn of(&self, identity: &Identity) -> (Option<String>, Option<String>) {
        let Some(seen) = self.rules.get(identity) else { return (None, None) };
        (Some(rfc3339(seen.since)), seen.last.map(rfc3339))
    }

    /// Writes changes to the file.
    pub(super) fn write(&mut self) -> Result<()> {
        if !self.unwritten {
            return Ok(());
        }
        self.forget();
        let mut rules: Vec<(&Identity, &Seen)> = self.rules.iter().collect();
        rules.sort_by_key(|(identity, _)| *identity);
        let written: Vec<Written> =
            rules.into_iter().map(|(rule, seen)| Written { rule: rule.clone(), seen: *seen }).collect();
        let text = serde_json::to_vec(&Rules { rules: written }).context("encoding the usage of rules")?;
        durable::write(&self.file, &text).with_context(|| format!("writing {}", self.file.display()))?;
        self.unwritten = false;
        Ok(())
    }

    /// Forgets the oldest rules that are no longer live, if there are too many.
    fn forget(&mut self) {
        let newest = self.rules.values().map(|seen| seen.held).max().unwrap_or_default();
        let mut gone: Vec<u64> =
            self.rules.values().map(|seen| seen.held).filter(|held| *held < newest).collect();
        if gone.len() > KEPT {
            gone.sort_unstable();
            let oldest = gone[gone.len() - KEPT];
            self.rules.retain(|_, seen| seen.held >= oldest);
        }
    }
}

impl Firewall {
    /// Notes which rules let packets in since the last look, and stores that. Call it once a minute, after
    /// each change and before the end.
    pub fn note_usage(&mut self) {
        let noted = self.look_at_usage().and_then(|()| match self.store.ours() {
            Ok(()) => self.usage.write(),
            // `status` says it.
            Err(_) => Ok(()),
        });
        if let Err(error) = noted {
            tracing::warn!("cannot store the usage of rules: {error:#}");
        }
    }

    /// Notes the usage without writing.
    pub(super) fn look_at_usage(&mut self) -> Result<()> {
        let packets = self.datapath.counters()?.rules;
        self.look_at(&packets);
        Ok(())
    }

    /// Notes counters that were read already.
    pub(super) fn look_at(&mut self, packets: &[u64]) {
        let memory = &self.memory;
        let live: std::collections::BTreeSet<u32> = memory.counters.live().collect();
        let all = memory.counters.labels().map(|(counter, identity)| {
            let before = memory.counted_before.get(&counter).copied().unwrap_or_default();
            let now = packets.get(counter as usize).copied().unwrap_or_default();
            (identity, now.wrapping_sub(before), live.contains(&counter))
        });
        self.usage.look(SystemTime::now(), all);
    }
}

fn parse(text: &[u8]) -> Result<HashMap<Identity, Seen>> {
    // Earlier versions wrote the list alone.
    let written = match serde_json::from_slice::<Vec<Written>>(text) {
        Ok(written) => written,
        Err(_) => serde_json::from_slice::<Rules>(text)?.rules,
    };
    Ok(written.into_iter().map(|written| (written.rule, written.seen)).collect())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn rfc3339(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use lyncwall_common::abi::PortTransport;

    use super::Usage;
    use lyncwall_policy::compile::Identity;

    fn rule(port: u16) -> Identity {
        let (target, rows) = ("host".to_owned(), vec!["server.01".to_owned()]);
        Identity::Rule { target, transport: PortTransport::Tcp, first: port, last: port, rows }
    }

    fn at(minutes: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(60 * minutes)
    }

    /// Since when a rule is counted, and its last use, both in minutes since 1970.
    fn times_of(usage: &Usage, identity: &Identity) -> (Option<u64>, Option<u64>) {
        let minutes = |text: Option<String>| {
            let time = humantime::parse_rfc3339(&text?).expect("a time");
            Some(time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 60)
        };
        let (since, last) = usage.of(identity);
        (minutes(since), minutes(last))
    }

    #[test]
    fn a_rule_is_silent_since_its_counter_moved_last() {
        let directory = std::env::temp_dir().join(format!("lyncwall-usage-{}", std::process::id()));
        let (https, sip, gone) = (rule(443), rule(5061), rule(80));
        let allow = Identity::Allow { name: "vrrp".to_owned(), definition: u64::MAX };
        let mut usage = Usage::open(&directory);
        usage.look(at(1), [(&https, 0, true), (&sip, 7, true), (&allow, 0, true), (&gone, 3, false)]);
        assert_eq!(times_of(&usage, &https), (Some(1), None));
        assert_eq!(
            times_of(&usage, &sip),
            (Some(1), Some(1)),
            "it was counted for by an agent that kept no times"
        );
        assert_eq!(times_of(&usage, &gone), (None, None), "it does not hold");
        usage.look(at(2), [(&https, 1, true), (&sip, 7, true), (&allow, 0, true)]);
        usage.look(at(9), [(&https, 1, true), (&sip, 9, false), (&allow, 0, true)]);
        assert_eq!(times_of(&usage, &https), (Some(1), Some(2)));
        assert_eq!(times_of(&usage, &sip), (Some(1), Some(9)), "it went with packets that no look had seen");
        usage.write().expect("a file");

        // The next agent finds the same maps; after a boot they are new.
        let mut usage = Usage::open(&directory);
        usage.look(at(20), [(&https, 1, true), (&allow, 0, true)]);
        assert_eq!(times_of(&usage, &https), (Some(1), Some(2)));
        assert_eq!(times_of(&usage, &allow), (Some(1), None));
        usage.begin_again();
        usage.look(at(30), [(&https, 1, true), (&allow, 0, true)]);
        assert_eq!(times_of(&usage, &https), (Some(1), Some(30)), "the counter began again and moved");
        usage.begin_again();
        usage.look(at(40), [(&https, 0, true)]);
        assert_eq!(times_of(&usage, &https), (Some(1), Some(30)), "it began again and did not move");

        std::fs::write(directory.join(super::FILE), "{").expect("damage");
        assert_eq!(times_of(&Usage::open(&directory), &https), (Some(1), Some(2)), "the copy has it");
        super::durable::remove(&directory.join(super::FILE)).expect("both go");
        assert_eq!(times_of(&Usage::open(&directory), &https), (None, None));
        std::fs::remove_dir_all(&directory).expect("no directory");
    }

    #[test]
    fn of_rules_that_went_only_the_latest_are_remembered() {
        let directory = std::env::temp_dir().join(format!("lyncwall-usage-many-{}", std::process::id()));
        let mut usage = Usage::open(&directory);
        for port in 1..=6000 {
            usage.look(at(u64::from(port)), [(&rule(port), 0, true)]);
        }
        usage.write().expect("a file");
        let usage = Usage::open(&directory);
        let known: Vec<u16> = (1..=6000).filter(|port| usage.of(&rule(*port)).0.is_some()).collect();
        assert_eq!(known, (6000 - super::KEPT as u16..=6000).collect::<Vec<_>>());
        std::fs::remove_dir_all(&directory).expect("no directory");
    }
}
