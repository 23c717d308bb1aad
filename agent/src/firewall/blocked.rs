//! The block-list: its commands, and the file that keeps it across reboots.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use lyncwall_common::abi::MAX_BLOCKED;
use lyncwall_common::reason::Reason;
use serde::{Deserialize, Serialize};

use super::Firewall;
use super::store::replace;
use lyncwall_api as api;
use lyncwall_datapath::Counters;
use lyncwall_policy::net::Prefix;
use lyncwall_policy::problem::{Problem, Problems};
use lyncwall_policy::text::counted;

/// The longest time to block for, besides for good.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const FILE: &str = "blocked.json";

/// A prefix, and how long it stays blocked; `None` for good.
type Entry = (Prefix, Option<Duration>);

impl Firewall {
    /// Blocks these prefixes for a time from a second to a year, or for good. A blocked prefix gets the new
    /// time.
    ///
    /// # Errors
    /// [`Problems`] for texts that are not prefixes, a prefix that blocks everybody, a full list, and a bad
    /// time. The list is unchanged then.
    pub fn block(&mut self, prefixes: &[String], time: Option<Duration>) -> Result<api::BlockEdit> {
        let mut problems = Problems::default();
        let read = read(prefixes, &mut problems);
        problems.extend(check_time(time).err());
        for prefix in &read {
            problems.extend(blocks_all(*prefix));
        }
        let list = self.datapath.blocked()?;
        let new = read.iter().filter(|prefix| !is_in(prefix, &list));
        problems.extend(does_not_fit(list.iter().map(|(prefix, _)| prefix).chain(new)));
        problems.or(())?;
        let mut warnings = self.reached_by_management(&read);
        let added: Vec<Entry> = read.iter().map(|prefix| (*prefix, time)).collect();
        self.datapath.block(&added)?;
        let now = self.datapath.blocked()?;
        warnings.extend(self.keep_blocked(&now));
        self.edited(&read, &now, warnings)
    }

    /// Takes these prefixes off the block-list.
    ///
    /// # Errors
    /// [`Problems`] for texts that are not prefixes, or prefixes that are not on the list. The list is
    /// unchanged then.
    pub fn unblock(&mut self, prefixes: &[String]) -> Result<api::BlockEdit> {
        let mut problems = Problems::default();
        let read = read(prefixes, &mut problems);
        let list = self.datapath.blocked()?;
        for prefix in read.iter().filter(|prefix| !is_in(prefix, &list)) {
            problems.push(not_blocked(*prefix, &list));
        }
        problems.or(())?;
        self.datapath.unblock(&read)?;
        let left = self.datapath.blocked()?;
        let mut warnings: Vec<String> =
            read.iter().filter_map(|prefix| still_blocked(*prefix, &left)).collect();
        warnings.extend(self.keep_blocked(&left));
        self.edited(&read, &left, warnings)
    }

    /// The block-list, without expired entries.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn blocked(&self) -> Result<api::Blocked> {
        let list = self.datapath.blocked()?;
        let prefixes = list.iter().map(|(prefix, left)| api::BlockedPrefix {
            prefix: prefix.to_string(),
            seconds: left.map(|left| left.as_millis().div_ceil(1000) as u64),
        });
        let prefixes = prefixes.collect();
        Ok(api::Blocked { list: summary(&list, &self.datapath.counters()?), prefixes })
    }

    /// Removes expired entries. The program ignores them already: removal makes room, and saves packets the
    /// look-up in an otherwise empty list.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn forget_expired(&mut self) -> Result<()> {
        self.datapath.unblock(&[])
    }

    /// Deletes the list that the next boot would restore. Call it after opening the box for good.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn forget_blocked(state_dir: &Path) -> Result<()> {
        remove(&state_dir.join(FILE))
    }

    pub(super) fn block_list(&self, counters: &Counters) -> Result<api::BlockList> {
        Ok(summary(&self.datapath.blocked()?, counters))
    }

    /// Restores the block-list after a boot.
    pub(super) fn block_again(&mut self) -> Result<()> {
        let file = self.blocked_file();
        let list = load(&file, SystemTime::now()).unwrap_or_else(|error| {
            tracing::warn!("cannot restore the block-list from {}: {error:#}", file.display());
            Vec::new()
        });
        if list.is_empty() {
            return Ok(());
        }
        let prefixes = counted(list.len(), "prefix", "prefixes");
        tracing::info!(prefixes = list.len(), "restored the block-list: {prefixes}");
        self.datapath.block(&list)
    }

    fn blocked_file(&self) -> PathBuf {
        self.store.directory().join(FILE)
    }

    /// Writes the list to the file. The kernel enforces it in any case, so a failure is a warning.
    fn keep_blocked(&self, list: &[Entry]) -> Option<String> {
        let kept = save(&self.blocked_file(), list, SystemTime::now());
        let warning =
            kept.err().map(|error| format!("the next boot may restore another block-list: {error:#}"));
        if let Some(warning) = &warning {
            tracing::warn!("{warning}");
        }
        warning
    }

    fn reached_by_management(&self, prefixes: &[Prefix]) -> Vec<String> {
        let Some(management) = &self.plan.config.management else { return Vec::new() };
        let mut sources = management.from.clone();
        sources.sort_unstable();
        let warned = |prefix: &&Prefix| overlaps(**prefix, &sources);
        let warning = |prefix: &Prefix| {
            format!("{prefix} includes sources of [management]: their management access stays open")
        };
        prefixes.iter().filter(warned).map(warning).collect()
    }

    fn edited(&self, prefixes: &[Prefix], list: &[Entry], warnings: Vec<String>) -> Result<api::BlockEdit> {
        let list = summary(list, &self.datapath.counters()?);
        Ok(api::BlockEdit { list, prefixes: prefixes.iter().map(Prefix::to_string).collect(), warnings })
    }
}

/// Parses these prefixes.
fn read(texts: &[String], problems: &mut Problems) -> Vec<Prefix> {
    if texts.is_empty() {
        problems.push(Problem::new("no prefix given", "name one, as 203.0.113.9 or 2001:db8:5::/48"));
    }
    let (mut read, mut seen) = (Vec::new(), HashSet::new());
    for text in texts {
        match text.parse::<Prefix>() {
            Ok(prefix) if !seen.insert(prefix) => {}
            Ok(prefix) => read.push(prefix),
            Err(error) => problems.push(Problem::new(
                format!("`{text}`: {error}"),
                "write it as 203.0.113.9, 203.0.113.0/24 or 2001:db8:5::/48",
            )),
        }
    }
    read
}

fn check_time(time: Option<Duration>) -> Result<(), Problem> {
    match time {
        Some(time) if time.is_zero() || time > LONGEST => Err(Problem::new(
            format!("{} s is not a valid time to block for", time.as_secs()),
            "set --for to 1s to 365d, or leave it out to block for good",
        )),
        Some(_) | None => Ok(()),
    }
}

fn blocks_all(prefix: Prefix) -> Option<Problem> {
    (prefix.length() == 0).then(|| {
        Problem::new(
            format!("{prefix} would block everybody"),
            "name longer prefixes, or close all ports with `lyncwall switch --none`",
        )
    })
}

fn does_not_fit<'a>(list: impl Iterator<Item = &'a Prefix>) -> Option<Problem> {
    let [v4, v6] = count(list);
    let (family, count) = if v4 > MAX_BLOCKED { ("IPv4", v4) } else { ("IPv6", v6) };
    (count > MAX_BLOCKED).then(|| {
        Problem::new(
            format!("the block-list would have {count} {family} prefixes; it holds at most {MAX_BLOCKED}"),
            "block shorter prefixes that cover many of them, or unblock some first",
        )
    })
}

fn not_blocked(prefix: Prefix, list: &[Entry]) -> Problem {
    match holder(prefix, list) {
        Some(holder) => Problem::new(
            format!("{prefix} is not on the block-list; {holder}, which contains it, is"),
            format!("unblock {holder}, and block its other parts again"),
        ),
        None => Problem::new(
            format!("{prefix} is not on the block-list"),
            "write the prefix as `lyncwall blocked` shows it",
        ),
    }
}

fn still_blocked(prefix: Prefix, left: &[Entry]) -> Option<String> {
    if let Some(holder) = holder(prefix, left) {
        return Some(format!("{prefix} stays blocked: {holder} contains it"));
    }
    let after = left.partition_point(|(held, _)| *held <= prefix);
    let inside = left[after..].iter().take_while(|(held, _)| prefix.contains(held.addr())).count();
    match inside {
        0 => None,
        1 => Some(format!("1 entry within {prefix} stays blocked")),
        several => Some(format!("{several} entries within {prefix} stay blocked")),
    }
}

/// True if the list, which is in the order of its prefixes, has exactly this one.
fn is_in(prefix: &Prefix, list: &[Entry]) -> bool {
    list.binary_search_by(|(held, _)| held.cmp(prefix)).is_ok()
}

/// The longest prefix of the list that contains all of `prefix`.
fn holder(prefix: Prefix, list: &[Entry]) -> Option<Prefix> {
    Prefix::around(prefix.addr()).find(|around| around.length() < prefix.length() && is_in(around, list))
}

/// True if the prefix overlaps one of a sorted list.
fn overlaps(prefix: Prefix, sorted: &[Prefix]) -> bool {
    let inside = sorted.get(sorted.partition_point(|other| *other < prefix));
    let mut around = Prefix::around(prefix.addr()).filter(|around| around.length() < prefix.length());
    inside.is_some_and(|inside| prefix.contains(inside.addr()))
        || around.any(|around| sorted.binary_search(&around).is_ok())
}

fn count<'a>(list: impl Iterator<Item = &'a Prefix>) -> [u32; 2] {
    list.fold([0; 2], |mut count, prefix| {
        count[usize::from(prefix.addr().is_ipv6())] += 1;
        count
    })
}

fn summary(list: &[Entry], counters: &Counters) -> api::BlockList {
    let [v4, v6] = count(list.iter().map(|(prefix, _)| prefix));
    let dropped = counters.reasons.iter().filter(|(reason, ..)| *reason == Reason::Blocked);
    api::BlockList { v4, v6, size: MAX_BLOCKED, dropped: dropped.map(|(.., packets)| packets).sum() }
}

/// A prefix in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    prefix: String,
    /// Seconds since 1970 (UTC); `None` for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

fn save(file: &Path, list: &[Entry], now: SystemTime) -> Result<()> {
    if list.is_empty() {
        return remove(file);
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let written: Vec<Written> = list
        .iter()
        .map(|(prefix, left)| Written {
            prefix: prefix.to_string(),
            // Rounded up to the next second, so that a block of one second is not lost at once.
            until: left.map(|left| (now + left).as_millis().div_ceil(1000) as u64),
        })
        .collect();
    let text = serde_json::to_vec_pretty(&written).context("encoding the block-list")?;
    replace(file, &text).with_context(|| format!("writing {}", file.display()))
}

/// The entries that have not expired.
fn load(file: &Path, now: SystemTime) -> Result<Vec<Entry>> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut list = Vec::new();
    for Written { prefix, until } in serde_json::from_slice::<Vec<Written>>(&text)? {
        let left = until.map(|until| Duration::from_secs(until).saturating_sub(now));
        if left.is_none_or(|left| !left.is_zero()) {
            let prefix: Prefix = prefix.parse().with_context(|| format!("the prefix `{prefix}`"))?;
            // A clock that is not set yet would make the time longer than any user could have asked for.
            list.push((prefix, left.map(|left| left.min(LONGEST))));
        }
    }
    Ok(list)
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use lyncwall_policy::net::Prefix;

    use super::{holder, load, overlaps, save, still_blocked};

    #[test]
    fn neighbours_of_a_prefix_in_a_sorted_list_are_found() {
        let prefix = |text: &str| text.parse::<Prefix>().expect("a prefix");
        let texts =
            ["10.0.0.0/8", "10.0.0.0/16", "10.1.2.0/24", "192.0.2.7", "2001:db8::/32", "2001:db8::/48"];
        let sorted = texts.map(prefix);
        assert!(sorted.is_sorted());
        let list = sorted.map(|prefix| (prefix, None));
        for (text, holds, met) in [
            ("10.0.0.0/8", None, true),
            ("10.0.0.0/16", Some("10.0.0.0/8"), true),
            ("10.0.3.4", Some("10.0.0.0/16"), true),
            ("10.1.2.3", Some("10.1.2.0/24"), true),
            ("0.0.0.0/0", None, true),
            ("192.0.2.0/24", None, true),
            ("192.0.2.6", None, false),
            ("192.0.2.8", None, false),
            ("11.0.0.0/8", None, false),
            ("2001:db8::/33", Some("2001:db8::/32"), true),
            ("2001:db9::/32", None, false),
            ("::/0", None, true),
        ] {
            assert_eq!(holder(prefix(text), &list), holds.map(prefix), "{text}");
            assert_eq!(overlaps(prefix(text), &sorted), met, "{text}");
        }
        let left = |text: &str| still_blocked(prefix(text), &list);
        assert_eq!(left("192.0.2.0/24").as_deref(), Some("1 entry within 192.0.2.0/24 stays blocked"));
        assert_eq!(left("0.0.0.0/0").as_deref(), Some("4 entries within 0.0.0.0/0 stay blocked"));
        assert!(left("10.0.3.4").is_some_and(|said| said.contains("10.0.0.0/16 contains it")));
        assert_eq!(left("198.51.100.0/24"), None);
    }

    #[test]
    fn the_file_keeps_ends_by_the_clock_of_the_wall() {
        let directory = std::env::temp_dir().join(format!("lyncwall-blocked-{}", std::process::id()));
        let file = directory.join(super::FILE);
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let prefix = |text: &str| text.parse().expect("a prefix");
        let hour = Duration::from_secs(3600);
        let list = [(prefix("192.0.2.0/24"), Some(hour)), (prefix("2001:db8::1"), None)];

        assert!(load(&file, now).expect("no file is no list").is_empty());
        save(&file, &list, now).expect("a file");
        let later = now + Duration::from_secs(600);
        let expected = [(list[0].0, Some(Duration::from_secs(3000))), list[1]];
        assert_eq!(load(&file, later).expect("a list"), expected);
        assert_eq!(load(&file, now + hour).expect("a list"), [list[1]]);
        // Before 1971 by a clock that nobody has set.
        let unset = load(&file, UNIX_EPOCH).expect("a list");
        assert_eq!(unset, [(list[0].0, Some(super::LONGEST)), list[1]]);

        save(&file, &[], now).expect("no list");
        assert_eq!(std::fs::read_dir(&directory).expect("the directory").count(), 0, "nothing is left");
        std::fs::write(&file, "[{\"prefix\": \"192.0.2.1/24\"}]").expect("damage");
        assert!(load(&file, now).is_err());
        std::fs::remove_dir_all(&directory).expect("no directory");
    }
}
