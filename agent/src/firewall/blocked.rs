//! The block-list: its commands, and the file that keeps it across reboots.

mod file;
mod times;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lyncwall_common::abi::MAX_BLOCKED;
use lyncwall_common::reason::Reason;

use super::{Firewall, durable};
use file::{Loaded, Stored};
use lyncwall_api as api;
use lyncwall_datapath::Counters;
use lyncwall_policy::net::Prefix;
use lyncwall_policy::problem::{Problem, Problems};
use lyncwall_policy::text::counted;
use times::{Clock, End};

/// The longest time to block for, besides for good.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const FILE: &str = "blocked.json";

/// A prefix, and how long it stays blocked; `None` for good.
pub(super) type Entry = (Prefix, Option<Duration>);

/// The ends of timed blocks, as far as they depend on the clock of the wall.
#[derive(Debug)]
pub(super) struct Ends {
    /// Blocks that were restored by a clock that nobody had set.
    restored: BTreeMap<Prefix, End>,
    /// The time of restoring them.
    read: Instant,
    /// The clocks at the last look.
    clock: Clock,
}

impl Default for Ends {
    fn default() -> Self {
        let clock = Clock::now();
        Self { restored: BTreeMap::new(), read: clock.steady, clock }
    }
}

impl Firewall {
    /// Blocks these prefixes for a time from a second to a year, or for good. A blocked prefix gets the new
    /// time.
    ///
    /// # Errors
    /// [`Problems`] for texts that are not prefixes, a prefix that blocks everybody, a full list, and a bad
    /// time. The list is unchanged then.
    pub fn block(&mut self, prefixes: &[String], time: Option<Duration>) -> Result<api::BlockEdit> {
        let read = to_block(&self.datapath.blocked()?, prefixes, time)?;
        let mut warnings = self.reached_by_management(&read);
        let added: Vec<Entry> = read.iter().map(|prefix| (*prefix, time)).collect();
        self.datapath.block(&added)?;
        self.forget_ends(&read);
        let now = self.datapath.blocked().context("the prefixes are blocked")?;
        warnings.extend(self.keep_blocked(&now));
        self.edited(&read, &now, warnings).context("the prefixes are blocked")
    }

    /// Takes these prefixes off the block-list.
    ///
    /// # Errors
    /// [`Problems`] for texts that are not prefixes, or prefixes that are not on the list. The list is
    /// unchanged then.
    pub fn unblock(&mut self, prefixes: &[String]) -> Result<api::BlockEdit> {
        let read = to_unblock(&self.datapath.blocked()?, prefixes)?;
        self.datapath.unblock(&read)?;
        self.forget_ends(&read);
        let left = self.datapath.blocked().context("the prefixes are unblocked")?;
        let mut warnings = left_blocked(&read, &left);
        warnings.extend(self.keep_blocked(&left));
        self.edited(&read, &left, warnings).context("the prefixes are unblocked")
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

    /// Works out the ends of timed blocks anew if the clock of the wall was set since the last call: those of
    /// blocks that were restored while nobody knew the time, and those in the file. Call it now and again.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn follow_clock(&mut self) -> Result<()> {
        let now = Clock::now();
        let before = std::mem::replace(&mut self.ends.clock, now);
        if !now.was_set_since(&before) {
            return Ok(());
        }
        let (mut lasting, mut over) = (Vec::new(), Vec::new());
        for (prefix, end) in &self.ends.restored {
            match end.left(&now, self.ends.read) {
                Some(left) => lasting.push((*prefix, Some(left))),
                None => over.push(*prefix),
            }
        }
        if !over.is_empty() {
            self.datapath.unblock(&over)?;
        }
        if !lasting.is_empty() {
            self.datapath.block(&lasting)?;
        }
        if now.synchronized {
            self.ends.restored.clear();
        }
        let list = self.datapath.blocked()?;
        if list.iter().any(|(_, left)| left.is_some()) || !over.is_empty() {
            tracing::info!(
                lasting = lasting.len(),
                over = over.len(),
                "the clock was set: worked out the ends of restored blocks anew"
            );
            self.keep_blocked(&list);
        }
        Ok(())
    }

    /// Deletes the list that the next boot would restore. Call it after opening the box for good.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub(super) fn forget_blocked(state_dir: &Path) -> Result<()> {
        durable::remove(&state_dir.join(FILE))
    }

    pub(super) fn block_list(&self, counters: &Counters) -> Result<api::BlockList> {
        Ok(summary(&self.datapath.blocked()?, counters))
    }

    /// Restores the block-list after a boot. Returns what of it is lost, one sentence each: a list that cannot
    /// be restored is no reason to leave the box open.
    pub(super) fn block_again(&mut self) -> Vec<String> {
        if self.store.ours().is_err() {
            return Vec::new();
        }
        let file = self.blocked_file();
        let Loaded { list, mut damage } = file::load(&file);
        let now = self.ends.clock;
        let lasting = list.iter().filter_map(|(prefix, end)| match end {
            Some(end) => Some((*prefix, Some(end.left(&now, self.ends.read)?))),
            None => Some((*prefix, None)),
        });
        let all: Vec<Entry> = lasting.collect();
        let fitting = those_that_fit(&all);
        if fitting.len() < all.len() {
            damage.push(format!(
                "{}: {} of {} prefixes do not fit (at most {MAX_BLOCKED} of a family do): the shortest ones are \
                 blocked",
                file.display(),
                all.len() - fitting.len(),
                all.len()
            ));
        }
        if !damage.is_empty() {
            durable::set_aside(&file);
        }
        if !fitting.is_empty() {
            match self.datapath.block(&fitting) {
                Ok(()) => {
                    let prefixes = counted(fitting.len(), "prefix", "prefixes");
                    tracing::info!(prefixes = fitting.len(), "restored the block-list: {prefixes}");
                }
                Err(error) => {
                    damage.push(format!("{}: cannot restore the block-list: {error:#}", file.display()));
                    return damage;
                }
            }
        }
        if !now.synchronized {
            let timed = |(prefix, end): (&Prefix, &Option<End>)| Some((*prefix, (*end)?));
            self.ends.restored = list.iter().filter_map(timed).collect();
        }
        if !damage.is_empty() {
            self.keep_blocked(&fitting);
        }
        damage
    }

    /// Writes the file anew if it has other prefixes than the kernel, which an earlier agent could not store.
    pub(super) fn keep_blocked_again(&mut self) -> Result<()> {
        if self.store.ours().is_err() {
            return Ok(());
        }
        let Loaded { list, damage } = file::load(&self.blocked_file());
        let held = self.datapath.blocked()?;
        if !damage.is_empty() || held.iter().any(|(prefix, _)| !list.contains_key(prefix)) {
            self.keep_blocked(&held);
        }
        Ok(())
    }

    fn blocked_file(&self) -> PathBuf {
        self.store.directory().join(FILE)
    }

    /// The user has decided anew about these.
    fn forget_ends(&mut self, prefixes: &[Prefix]) {
        for prefix in prefixes {
            self.ends.restored.remove(prefix);
        }
    }

    /// Writes the list to the file. The kernel enforces it in any case, so a failure is a warning.
    fn keep_blocked(&self, list: &[Entry]) -> Option<String> {
        let kept = self.store.ours().and_then(|()| file::save(&self.blocked_file(), &self.stored(list)));
        let warning =
            kept.err().map(|error| format!("the next boot may restore another block-list: {error:#}"));
        if let Some(warning) = &warning {
            tracing::warn!("{warning}");
        }
        warning
    }

    fn stored(&self, list: &[Entry]) -> Stored {
        let now = Clock::now();
        let end = |prefix: &Prefix, left: Duration| match self.ends.restored.get(prefix) {
            // Nobody knows the time yet: what was written once says more than what this clock makes of it.
            Some(end) => {
                let passed = now.steady.saturating_duration_since(self.ends.read);
                End { left: end.left.saturating_sub(passed), ..*end }
            }
            None => now.end_in(left),
        };
        list.iter().map(|(prefix, left)| (*prefix, left.map(|left| end(prefix, left)))).collect()
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

/// Writes the list to the file, for a command that changed it without an agent.
///
/// # Errors
/// If the file cannot be written, or another agent uses the directory.
pub(super) fn keep_without_agent(state_dir: &Path, list: &[Entry]) -> Result<()> {
    let locking = || format!("locking {}", state_dir.display());
    let Some(_lock) = durable::lock(state_dir).with_context(locking)? else {
        bail!("another lyncwall agent uses the state directory {}", state_dir.display());
    };
    let now = Clock::now();
    let end = |left: Duration| now.end_in(left);
    file::save(&state_dir.join(FILE), &list.iter().map(|(prefix, left)| (*prefix, left.map(end))).collect())
}

/// The prefixes that a request adds to `list`, or all its mistakes.
pub(super) fn to_block(
    list: &[Entry],
    prefixes: &[String],
    time: Option<Duration>,
) -> Result<Vec<Prefix>, Problems> {
    let mut problems = Problems::default();
    let read = read(prefixes, &mut problems);
    problems.extend(check_time(time).err());
    for prefix in &read {
        problems.extend(blocks_all(*prefix));
    }
    let new = read.iter().filter(|prefix| !is_in(prefix, list));
    problems.extend(does_not_fit(list.iter().map(|(prefix, _)| prefix).chain(new)));
    problems.or(read)
}

/// The prefixes that a request takes off `list`, or all its mistakes.
pub(super) fn to_unblock(list: &[Entry], prefixes: &[String]) -> Result<Vec<Prefix>, Problems> {
    let mut problems = Problems::default();
    let read = read(prefixes, &mut problems);
    for prefix in read.iter().filter(|prefix| !is_in(prefix, list)) {
        problems.push(not_blocked(*prefix, list));
    }
    problems.or(read)
}

/// Warnings about unblocked prefixes that the list still blocks.
pub(super) fn left_blocked(unblocked: &[Prefix], left: &[Entry]) -> Vec<String> {
    unblocked.iter().filter_map(|prefix| still_blocked(*prefix, left)).collect()
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

pub(super) fn summary(list: &[Entry], counters: &Counters) -> api::BlockList {
    let [v4, v6] = count(list.iter().map(|(prefix, _)| prefix));
    let dropped = counters.reasons.iter().filter(|(reason, ..)| *reason == Reason::Blocked);
    api::BlockList { v4, v6, size: MAX_BLOCKED, dropped: dropped.map(|(.., packets)| packets).sum() }
}

/// The entries that fit: all of them, or without those that another one makes needless, the shortest prefixes.
fn those_that_fit(all: &[Entry]) -> Vec<Entry> {
    let fits =
        |list: &[Entry]| count(list.iter().map(|(prefix, _)| prefix)).iter().all(|n| *n <= MAX_BLOCKED);
    if fits(all) {
        return all.to_vec();
    }
    // Sorted, a prefix comes before those inside it.
    let mut needed: Vec<Entry> = Vec::new();
    let mut around: Vec<Entry> = Vec::new();
    for entry @ (prefix, left) in all {
        while around.last().is_some_and(|(outer, _)| !outer.contains(prefix.addr())) {
            around.pop();
        }
        let lasts = |(_, outer): &Entry| outer.is_none_or(|outer| left.is_some_and(|left| left <= outer));
        if !around.iter().any(lasts) {
            needed.push(*entry);
        }
        around.push(*entry);
    }
    needed.sort_by_key(|(prefix, _)| prefix.length());
    let mut taken = [0; 2];
    needed.retain(|(prefix, _)| {
        let taken = &mut taken[usize::from(prefix.addr().is_ipv6())];
        *taken += 1;
        *taken <= MAX_BLOCKED
    });
    needed
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use lyncwall_common::abi::MAX_BLOCKED;

    use super::{Entry, holder, overlaps, still_blocked, those_that_fit};
    use lyncwall_policy::net::Prefix;

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
    fn of_too_many_prefixes_the_shortest_stay_and_needless_ones_go_first() {
        let entry = |bits: u32, length, left: Option<u64>| -> Entry {
            let prefix = Prefix::new(Ipv4Addr::from_bits(bits).into(), length).expect("masked");
            (prefix, left.map(Duration::from_secs))
        };
        let mut all: Vec<Entry> = (0..MAX_BLOCKED - 1).map(|n| entry(0x0a00_0000 + n, 32, None)).collect();
        all.push(entry(0xc000_0200, 24, Some(60)));
        assert_eq!(those_that_fit(&all), all);
        // One inside the last that does not outlive it, and one that does.
        all.push(entry(0xc000_0201, 32, Some(60)));
        let fitting = those_that_fit(&all);
        assert_eq!(fitting.len() as u32, MAX_BLOCKED);
        assert!(!fitting.contains(all.last().expect("entries")));
        all.push(entry(0xc000_0202, 32, None));
        let fitting = those_that_fit(&all);
        assert_eq!((fitting.len() as u32, fitting[0]), (MAX_BLOCKED, all[MAX_BLOCKED as usize - 1]));
    }
}
