//! Which rule each counter in `RULE_HITS` counts for. The binding outlives generations and agents.

use std::collections::{BTreeSet, HashMap};

use lyncwall_common::abi::{COUNTER_BLOCK, PortTransport, RULE_BLOCKS};
use serde::{Deserialize, Serialize};

use crate::net::transport_name;

mod stored;

/// How many counters there are.
pub const COUNTERS: usize = RULE_BLOCKS as usize * COUNTER_BLOCK;

/// What a counter counts: packets that this rule let in.
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
        /// The catalogue's rows that opened it.
        rows: Vec<String>,
    },
    /// An `[[allow]]` rule.
    Allow {
        /// Its name.
        #[serde(rename = "allow")]
        name: String,
        /// A hash of what it says, so that a rule that was changed starts at 0 and a long list of sources costs
        /// nothing to store.
        definition: u64,
    },
}

/// Binds counters to rules.
///
/// A rule keeps its counter for as long as the book does not overflow. Each generation calls [`allocate`] once
/// with all of its rules, then [`installed`] once it judges.
///
/// [`allocate`]: CounterBook::allocate
/// [`installed`]: CounterBook::installed
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "stored::Stored", try_from = "stored::Stored")]
pub struct CounterBook {
    /// By counter; as long as there are counters that were never used, none is used twice.
    identities: Vec<Identity>,
    numbers: HashMap<Identity, u32>,
    /// In use by the generation that was allocated last, and is not installed yet.
    next: BTreeSet<u32>,
    live: BTreeSet<u32>,
    previous: BTreeSet<u32>,
    must_zero: BTreeSet<u32>,
}

impl CounterBook {
    /// The counters of the rules of one generation, in their order. A known rule gets the counter that it had, a new
    /// one the lowest that was never used. When all have been used, rules that neither the live generation nor the
    /// one before it has lose theirs, and [`must_zero`](Self::must_zero) names the counters.
    ///
    /// `None` where there are not enough; the book is then as it was.
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

    /// The generation that was allocated last judges now.
    pub fn installed(&mut self) {
        self.previous = std::mem::replace(&mut self.live, std::mem::take(&mut self.next));
        self.must_zero.clear();
    }

    /// The generation that was allocated last judges instead of the live one, and what is gone back to stays the one
    /// before both.
    pub fn replaced(&mut self) {
        self.live = std::mem::take(&mut self.next);
        self.must_zero.clear();
    }

    /// The generation before the live one judges again.
    pub fn rolled_back(&mut self) {
        std::mem::swap(&mut self.live, &mut self.previous);
    }

    /// Counters to be set to 0 before the generation that was allocated last is installed: they counted for other
    /// rules. None of them is in use by a generation that may judge.
    #[must_use]
    pub fn must_zero(&self) -> Vec<u32> {
        self.must_zero.iter().copied().collect()
    }

    /// What a counter counts; `None` where it was never used.
    #[must_use]
    pub fn label(&self, counter: u32) -> Option<&Identity> {
        self.identities.get(counter as usize)
    }

    /// The counters of the live generation, in ascending order.
    pub fn live(&self) -> impl Iterator<Item = u32> {
        self.live.iter().copied()
    }

    /// The lowest counter that was never used, else the next of `reused`.
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
