//! The rule of each counter in `RULE_HITS`. The assignment outlives generations and agents.

use std::collections::{BTreeSet, HashMap};

use lyncwall_common::abi::{COUNTER_BLOCK, PortTransport, RULE_BLOCKS};
use serde::{Deserialize, Serialize};

use crate::net::transport_name;

mod stored;

/// The number of counters.
pub const COUNTERS: usize = RULE_BLOCKS as usize * COUNTER_BLOCK;

/// The subject of a counter: the rule that lets the packets in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Identity {
    /// A rule of a role.
    Rule {
        /// The target's name.
        target: String,
        /// TCP or UDP.
        #[serde(with = "transport_name")]
        transport: PortTransport,
        /// The first port, host byte order.
        first: u16,
        /// The last port, host byte order.
        last: u16,
        /// The catalogue's rows behind it.
        rows: Vec<String>,
    },
    /// An `[[allow]]` rule.
    Allow {
        /// Its name.
        #[serde(rename = "allow")]
        name: String,
        /// A hash of its content: a changed rule starts at 0, and a long list of sources needs little room.
        definition: u64,
    },
}

/// Assigns counters to rules.
///
/// A rule keeps its counter as long as there is room. Each generation calls [`allocate`] once with all its
/// rules, then [`installed`] once it is live. Rules that went lose their counters, those that went first
/// before the others: when all counters are bound, or when the caller needs room ([`retire`]).
///
/// [`allocate`]: CounterBook::allocate
/// [`installed`]: CounterBook::installed
/// [`retire`]: CounterBook::retire
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "stored::Stored", try_from = "stored::Stored")]
pub struct CounterBook {
    /// By counter; no counter is reused while unused ones are left. `None` once its rule was retired.
    identities: Vec<Option<Identity>>,
    numbers: HashMap<Identity, u32>,
    /// The counters of the generation that was allocated last and is not installed yet.
    next: BTreeSet<u32>,
    live: BTreeSet<u32>,
    previous: BTreeSet<u32>,
    must_zero: BTreeSet<u32>,
    /// The counters of neither the live nor the previous generation, in the order in which they went.
    gone: Vec<u32>,
}

impl CounterBook {
    /// The counters of the rules of one generation, in their order. A known rule keeps its counter, a new one
    /// gets the lowest unused one. When none is unused, the rules that went first lose their counters, which
    /// [`must_zero`](Self::must_zero) lists. If these do not suffice, rules of the previous generation lose
    /// theirs, then rules of the live one that the new one does not have: a counter is no reason to refuse a
    /// generation.
    ///
    /// `None` if the generation alone has more rules than there are counters; the book is unchanged then.
    pub fn allocate(&mut self, identities: &[Identity]) -> Option<Vec<u32>> {
        let known: BTreeSet<u32> =
            identities.iter().filter_map(|identity| self.numbers.get(identity).copied()).collect();
        let new: BTreeSet<&Identity> =
            identities.iter().filter(|identity| !self.numbers.contains_key(identity)).collect();
        let unused = COUNTERS - self.identities.len();
        let needed = new.len().saturating_sub(unused);
        let previous = self.previous.difference(&self.live);
        let reused: Vec<u32> = self
            .gone
            .iter()
            .chain(previous)
            .chain(&self.live)
            .filter(|number| !known.contains(number))
            .take(needed)
            .copied()
            .collect();
        if reused.len() < needed {
            return None;
        }

        let mut reused = reused.into_iter();
        self.next.clear();
        for identity in identities {
            let number = match self.numbers.get(identity) {
                Some(number) => *number,
                None => self.bind(identity.clone(), &mut reused)?,
            };
            self.next.insert(number);
        }
        identities.iter().map(|identity| self.numbers.get(identity).copied()).collect()
    }

    /// The generation that was allocated last is live now.
    pub fn installed(&mut self) {
        self.previous = std::mem::replace(&mut self.live, std::mem::take(&mut self.next));
        self.must_zero.clear();
        self.follow();
    }

    /// The generation that was allocated last replaces the live one, and the fallback stays the generation
    /// before both.
    pub fn replaced(&mut self) {
        self.live = std::mem::take(&mut self.next);
        self.must_zero.clear();
        self.follow();
    }

    /// The previous generation is live again.
    pub fn rolled_back(&mut self) {
        std::mem::swap(&mut self.live, &mut self.previous);
    }

    /// Forgets up to `count` rules that went, those that went first, so that the book needs less room.
    /// Returns their counters; none if every rule of the book is in use.
    pub fn retire(&mut self, count: usize) -> Vec<u32> {
        let mut retired = Vec::new();
        for number in &self.gone {
            if retired.len() == count {
                break;
            }
            if let Some(identity) = self.identities.get_mut(*number as usize).and_then(Option::take) {
                self.numbers.remove(&identity);
                retired.push(*number);
            }
        }
        retired
    }

    /// True if no rule was ever counted, as far as the book knows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// Counters to set to 0 before the generation that was allocated last is installed: they belonged to
    /// other rules.
    #[must_use]
    pub fn must_zero(&self) -> Vec<u32> {
        self.must_zero.iter().copied().collect()
    }

    /// The subject of a counter; `None` if it has none.
    #[must_use]
    pub fn label(&self, counter: u32) -> Option<&Identity> {
        self.identities.get(counter as usize)?.as_ref()
    }

    /// All counters with a subject, in ascending order.
    pub fn labels(&self) -> impl Iterator<Item = (u32, &Identity)> {
        (0..).zip(&self.identities).filter_map(|(number, identity)| Some((number, identity.as_ref()?)))
    }

    /// The counters of the live generation, in ascending order.
    pub fn live(&self) -> impl Iterator<Item = u32> {
        self.live.iter().copied()
    }

    /// The lowest unused counter, else the next of `reused`.
    fn bind(&mut self, identity: Identity, reused: &mut impl Iterator<Item = u32>) -> Option<u32> {
        let number = if self.identities.len() < COUNTERS {
            self.identities.push(Some(identity.clone()));
            (self.identities.len() - 1) as u32
        } else {
            let number = reused.next()?;
            if let Some(before) = self.identities[number as usize].replace(identity.clone()) {
                self.numbers.remove(&before);
            }
            self.live.remove(&number);
            self.previous.remove(&number);
            self.must_zero.insert(number);
            number
        };
        self.numbers.insert(identity, number);
        Some(number)
    }

    /// Brings the list of counters that went up to date.
    fn follow(&mut self) {
        let used: BTreeSet<u32> = self.live.union(&self.previous).copied().collect();
        self.gone.retain(|number| !used.contains(number));
        let gone: BTreeSet<u32> = self.gone.iter().copied().collect();
        let all = 0..self.identities.len() as u32;
        self.gone.extend(all.filter(|number| !used.contains(number) && !gone.contains(number)));
    }
}

#[cfg(test)]
mod tests;
