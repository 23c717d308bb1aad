//! The file of the block-list: one damaged entry costs one entry.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lyncwall_policy::net::Prefix;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LONGEST;
use super::times::End;
use crate::firewall::durable::{self, Content};

/// The stored block-list: each prefix with its end; `None` for good.
pub(super) type Stored = BTreeMap<Prefix, Option<End>>;

/// What the file has.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) list: Stored,
    /// What is wrong with it, one sentence each.
    pub(super) damage: Vec<String>,
}

/// The file, but for its checksum.
#[derive(Serialize)]
struct Written {
    prefixes: Vec<Entry>,
}

/// A prefix in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    prefix: String,
    /// Seconds since 1970 (UTC); `None` for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// The seconds that were left when this was written. Earlier versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    /// False if nobody had set the clock.
    #[serde(default = "set", skip_serializing_if = "Clone::clone")]
    clock_set: bool,
}

fn set() -> bool {
    true
}

/// Writes the list; removes the file of an empty one.
pub(super) fn save(file: &Path, list: &Stored) -> Result<()> {
    if list.is_empty() {
        return durable::remove(file);
    }
    // Rounded up, so that a block of one second is not lost at once.
    let seconds = |time: Duration| time.as_millis().div_ceil(1000) as u64;
    let prefixes = list.iter().map(|(prefix, end)| Entry {
        prefix: prefix.to_string(),
        until: end.map(|end| seconds(end.until)),
        left: end.map(|end| seconds(end.left)),
        clock_set: end.is_none_or(|end| end.trusted),
    });
    let text =
        serde_json::to_vec(&Written { prefixes: prefixes.collect() }).context("encoding the block-list")?;
    durable::write(file, &text).with_context(|| format!("writing {}", file.display()))
}

/// Reads the list. If the file is damaged, takes all its entries that can be read, and those of the copy: a
/// source stays blocked rather than getting in.
pub(super) fn load(file: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    let copy = durable::copy_of(file);
    match durable::content(file) {
        Content::Missing => match durable::content(&copy) {
            Content::Missing => {}
            Content::Intact(text) | Content::Damaged(text, _) => {
                loaded.damage.push(format!("{} is missing: took its copy", file.display()));
                loaded.take_all(&text, &copy);
            }
        },
        Content::Intact(text) if loaded.take_all(&text, file) => {}
        Content::Intact(text) => loaded.take_rest(&text, file, &copy, "it is not JSON"),
        Content::Damaged(text, why) => loaded.take_rest(&text, file, &copy, &why),
    }
    loaded
}

impl Loaded {
    /// Takes the entries of a text; false if it is none of a block-list.
    fn take_all(&mut self, text: &[u8], file: &Path) -> bool {
        let entries = match serde_json::from_slice(text) {
            // As earlier versions wrote it.
            Ok(Value::Array(entries)) => entries,
            Ok(Value::Object(mut object)) => match object.remove("prefixes") {
                Some(Value::Array(entries)) => entries,
                Some(_) | None => return false,
            },
            Ok(_) | Err(_) => return false,
        };
        let mut bad = Vec::new();
        for entry in entries {
            let text = entry.to_string();
            match serde_json::from_value(entry).map_err(Into::into).and_then(|entry| read(&entry)) {
                Ok((prefix, end)) => {
                    self.list.insert(prefix, end);
                }
                Err(error) => bad.push(format!("`{text}`: {error:#}")),
            }
        }
        if let Some(first) = bad.first() {
            self.damage.push(format!("{}: lost {} entries; the first is {first}", file.display(), bad.len()));
        }
        true
    }

    /// Takes everything that looks like an entry, from a damaged file and then from its copy.
    fn take_rest(&mut self, text: &[u8], file: &Path, copy: &Path, why: &str) {
        let of_file: Stored = entries_in(text).collect();
        let (of_copy, copied) = match durable::content(copy) {
            Content::Missing => (Stored::new(), "it has no copy".to_owned()),
            Content::Intact(text) => (entries_in(&text).collect(), "took the copy as well".to_owned()),
            Content::Damaged(text, why) => (entries_in(&text).collect(), format!("its copy: {why}")),
        };
        self.damage.push(format!(
            "{}: {why}; took the {} entries that can be read; {copied}, with {} entries",
            file.display(),
            of_file.len(),
            of_copy.len()
        ));
        self.list.extend(of_copy);
        self.list.extend(of_file);
    }
}

/// The entries in a text that need not be JSON as a whole: no entry contains another one.
fn entries_in(text: &[u8]) -> impl Iterator<Item = (Prefix, Option<End>)> {
    text.split(|byte| *byte == b'{').filter_map(|piece| {
        let end = piece.iter().position(|byte| *byte == b'}')?;
        let entry = [b"{", piece.get(..=end)?].concat();
        serde_json::from_slice(&entry).map_err(anyhow::Error::from).and_then(|entry| read(&entry)).ok()
    })
}

fn read(entry: &Entry) -> Result<(Prefix, Option<End>)> {
    let prefix: Prefix = entry.prefix.parse().with_context(|| format!("the prefix `{}`", entry.prefix))?;
    let end = entry.until.map(|until| End {
        until: Duration::from_secs(until),
        left: entry.left.map_or(LONGEST, Duration::from_secs).min(LONGEST),
        trusted: entry.clock_set,
    });
    Ok((prefix, end))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::{End, Loaded, Stored, load, save};

    #[test]
    fn one_bad_entry_loses_one_entry_and_damage_loses_none_that_can_be_read() {
        let directory = std::env::temp_dir().join(format!("lyncwall-blocked-{}", std::process::id()));
        let file = directory.join("blocked.json");
        let prefix = |text: &str| text.parse().expect("a prefix");
        let hour = Duration::from_secs(3600);
        let end = |trusted| Some(End { until: Duration::from_secs(1_800_000_000), left: hour, trusted });
        let list: Stored = [
            (prefix("192.0.2.0/24"), end(true)),
            (prefix("198.51.100.7"), end(false)),
            (prefix("2001:db8::1"), None),
        ]
        .into();
        assert!(load(&file).list.is_empty() && load(&file).damage.is_empty(), "no file is no list");
        save(&file, &list).expect("a file");
        let Loaded { list: loaded, damage } = load(&file);
        assert!(loaded == list && damage.is_empty(), "{damage:?}");

        // The file of an earlier version, with an entry that is none.
        fs::write(
            &file,
            r#"[{"prefix": "192.0.2.1/24"}, {"prefix": "203.0.113.9/32", "until": 5}, {"prefix": 7}]"#,
        )
        .expect("a file");
        let Loaded { list: loaded, damage } = load(&file);
        assert_eq!(loaded.keys().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.9/32"]);
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(damage[0].contains("lost 2 entries") && damage[0].contains("192.0.2.1/24"), "{damage:?}");

        // A byte of an entry, and the end of the file: the copy has what is lost.
        save(&file, &list).expect("a file");
        let whole = fs::read(&file).expect("the file");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x04;
            for damaged in [&damaged[..], &whole[..at]] {
                fs::write(&file, damaged).expect("damage");
                let Loaded { list: loaded, damage } = load(&file);
                let lost = list.keys().find(|prefix| !loaded.contains_key(prefix));
                assert_eq!(lost, None, "byte {at}: {damage:?}");
                assert!(!damage.is_empty() || (2..10).contains(&at), "byte {at}");
            }
        }
        // Without the copy, the other entries are left.
        fs::remove_file(crate::firewall::durable::copy_of(&file)).expect("it is there");
        let at = whole.windows(5).position(|window| window == b"198.5").expect("an entry");
        let mut damaged = whole.clone();
        damaged[at] = b'x';
        fs::write(&file, &damaged).expect("damage");
        let Loaded { list: loaded, damage } = load(&file);
        assert!(loaded.len() == 2 && damage.len() == 1, "{loaded:?} {damage:?}");

        save(&file, &list).expect("a file");
        save(&file, &Stored::new()).expect("no list");
        assert_eq!(fs::read_dir(&directory).expect("the directory").count(), 0, "nothing is left");
        fs::remove_dir_all(&directory).expect("no directory");
    }
}
