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
/// A rule keeps its counter as long as the book does not overflow. Each generation calls [`allocate`] once
/// with all its rules, then [`installed`] once it is live.
///
/// [`allocate`]: CounterBook::allocate
/// [`installed`]: CounterBook::installed
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "stored::Stored", try_from = "stored::Stored")]
pub struct CounterBook {
    /// By counter; no counter is reused while unused ones are left.
    identities: Vec<Identity>,
    numbers: HashMap<Identity, u32>,
    /// The counters of the generation that was allocated last and is not installed yet.
    next: BTreeSet<u32>,
    live: BTreeSet<u32>,
    previous: BTreeSet<u32>,
    must_zero: BTreeSet<u32>,
}

impl CounterBook {
    /// The counters of the rules of one generation, in their order. A known rule keeps its counter, a new one
    /// gets the lowest unused one. When none is unused, rules that are neither in the live generation nor in
    /// the previous one lose their counters, which [`must_zero`](Self::must_zero) lists.
    ///
    /// `None` if there are not enough; the book is unchanged then.
    pub fn allocate(&mut self, identities: &[Identity]) -> Option<Vec<u32>> {
        let known: BTreeSet<u32> =
            identities.iter().filter_map(|identity| self.numbers.get(identity).copied()).collect();
        let new: BTreeSet<&Identity> =
            identities.iter().filter(|identity| !self.numbers.contains_key(identity)).collect();
        let taken = |n: &u32| known.contains(n) || self.live.contains(n) || self.previous.contains(n);
        let unused = COUNTERS - self.identities.len();
        let reused: Vec<u32> = (0..self.identities.len() as u32)
            .filter(|n| !taken(n))
            .take(new.len().saturating_sub(unused))
            .collect();
        if unused + reused.len() < new.len() {
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
    }

    /// The generation that was allocated last replaces the live one, and the fallback stays the generation
    /// before both.
    pub fn replaced(&mut self) {
        self.live = std::mem::take(&mut self.next);
        self.must_zero.clear();
    }

    /// The previous generation is live again.
    pub fn rolled_back(&mut self) {
        std::mem::swap(&mut self.live, &mut self.previous);
    }

    /// Counters to set to 0 before the generation that was allocated last is installed: they belonged to
    /// other rules. No generation that may be live uses them.
    #[must_use]
    pub fn must_zero(&self) -> Vec<u32> {
        self.must_zero.iter().copied().collect()
    }

    /// The subject of a counter; `None` if it was never used.
    #[must_use]
    pub fn label(&self, counter: u32) -> Option<&Identity> {
        self.identities.get(counter as usize)
    }

    /// The counters of the live generation, in ascending order.
    pub fn live(&self) -> impl Iterator<Item = u32> {
        self.live.iter().copied()
    }

    /// The lowest unused counter, else the next of `reused`.
    fn bind(&mut self, identity: Identity, reused: &mut impl Iterator<Item = u32>) -> Option<u32> {
        let number = if self.identities.len() < COUNTERS {
            self.identities.push(identity.clone());
            (self.identities.len() - 1) as u32
        } else {
            let number = reused.next()?;
            let before = std::mem::replace(&mut self.identities[number as usize], identity.clone());
            self.numbers.remove(&before);
            self.must_zero.insert(number);
            number
        };
        self.numbers.insert(identity, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests;
