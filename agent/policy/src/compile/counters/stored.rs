//! A [`CounterBook`] in few bytes: each text once, everything else as numbers.

use std::collections::{BTreeSet, HashMap};

use lyncwall_common::abi::PortTransport;
use serde::{Deserialize, Serialize};

use super::{COUNTERS, CounterBook, Identity};

#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    texts: Vec<String>,
    counters: Vec<Entry>,
    next: Vec<u32>,
    live: Vec<u32>,
    previous: Vec<u32>,
    must_zero: Vec<u32>,
    /// Books of earlier versions do not have it: those counters went in an unknown order.
    #[serde(default)]
    gone: Vec<u32>,
}

/// Texts are positions in [`Stored::texts`].
#[derive(Serialize, Deserialize)]
enum Entry {
    /// Target, transport, first port, last port, rows.
    #[serde(rename = "r")]
    Rule(usize, u8, u16, u16, Vec<usize>),
    /// Name, definition.
    #[serde(rename = "a")]
    Allow(usize, u64),
    /// A rule that was retired.
    #[serde(rename = "n")]
    Nobody,
}

impl From<CounterBook> for Stored {
    fn from(book: CounterBook) -> Self {
        let mut texts = Vec::new();
        let mut numbers = HashMap::new();
        let mut number = |text: String| {
            *numbers.entry(text).or_insert_with_key(|text| {
                texts.push(text.clone());
                texts.len() - 1
            })
        };
        let counters = book
            .identities
            .into_iter()
            .map(|identity| match identity {
                None => Entry::Nobody,
                Some(Identity::Rule { target, transport, first, last, rows }) => {
                    let rows = rows.into_iter().map(&mut number).collect();
                    Entry::Rule(number(target), transport as u8, first, last, rows)
                }
                Some(Identity::Allow { name, definition }) => Entry::Allow(number(name), definition),
            })
            .collect();
        let list = |set: BTreeSet<u32>| set.into_iter().collect();
        Self {
            texts,
            counters,
            next: list(book.next),
            live: list(book.live),
            previous: list(book.previous),
            must_zero: list(book.must_zero),
            gone: book.gone,
        }
    }
}

impl TryFrom<Stored> for CounterBook {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        const BROKEN: &str = "the stored rule counters contradict themselves";
        if stored.counters.len() > COUNTERS {
            return Err(BROKEN);
        }
        let text = |n: usize| stored.texts.get(n).cloned().ok_or(BROKEN);
        let identities = stored
            .counters
            .iter()
            .map(|entry| {
                Ok::<_, Self::Error>(Some(match *entry {
                    Entry::Nobody => return Ok(None),
                    Entry::Rule(target, transport, first, last, ref rows) => Identity::Rule {
                        target: text(target)?,
                        transport: *PortTransport::ALL.get(usize::from(transport)).ok_or(BROKEN)?,
                        first,
                        last,
                        rows: rows.iter().map(|&row| text(row)).collect::<Result<_, Self::Error>>()?,
                    },
                    Entry::Allow(name, definition) => Identity::Allow { name: text(name)?, definition },
                }))
            })
            .collect::<Result<Vec<Option<Identity>>, Self::Error>>()?;
        let bound = (0..).zip(&identities).filter_map(|(n, identity)| Some((identity.clone()?, n)));
        let numbers: HashMap<Identity, u32> = bound.collect();
        let set = |list: Vec<u32>| {
            let known = list.iter().all(|&n| (n as usize) < identities.len());
            if known { Ok(list.into_iter().collect::<BTreeSet<u32>>()) } else { Err(BROKEN) }
        };
        let (next, live) = (set(stored.next)?, set(stored.live)?);
        let (previous, must_zero) = (set(stored.previous)?, set(stored.must_zero)?);
        let gone = stored.gone;
        if set(gone.clone())?.len() != gone.len() || numbers.len() != identities.iter().flatten().count() {
            return Err(BROKEN);
        }
        let mut book = Self { identities, numbers, next, live, previous, must_zero, gone };
        book.follow();
        Ok(book)
    }
}
