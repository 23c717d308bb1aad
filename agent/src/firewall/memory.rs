//! The agent's state between two agents: how it is stored beside the maps, and what a start makes of what it
//! finds there. A start that finds damage goes on with what is left: the kernel enforces meanwhile, and an
//! agent that gives up helps nobody.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Memory, Store};
use lyncwall_datapath::{Datapath, LARGEST_STATE, StoredState};
use lyncwall_policy::compile::CounterBook;
use lyncwall_policy::config::Mode;
use lyncwall_policy::plan::Plan;

/// How many rules to retire at once when the state does not fit.
const RETIRED: usize = 1024;

/// What a start finds.
pub(super) struct Left {
    pub(super) memory: Memory,
    pub(super) maps: Maps,
}

/// The maps that a start finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maps {
    /// They are new, and nothing judges: only the state directory may hold a state.
    New,
    /// They are an earlier agent's, with its state.
    Adopted,
    /// They are an earlier agent's, and its state is lost.
    WithoutState,
}

/// Reads what an earlier agent left.
///
/// # Errors
/// If a map cannot be read.
pub(super) fn left(datapath: &Datapath, store: &mut Store, plan: &Plan) -> Result<Left> {
    let mut damage = store.take_damage();
    let (mut memory, maps) = match datapath.stored_state()? {
        StoredState::Nothing if !datapath.judged_before() => (store.memory(), Maps::New),
        StoredState::Held(blob) => match serde_json::from_slice(&blob) {
            Ok(memory) => (memory, Maps::Adopted),
            Err(error) => {
                let (memory, lost) = salvage(&blob, store);
                damage.push(format!("the state beside the maps: {error}; lost {}", lost.join(", ")));
                let settings = lost.contains(&"settings");
                (memory, if settings { Maps::WithoutState } else { Maps::Adopted })
            }
        },
        StoredState::Torn | StoredState::Nothing => {
            damage.push("the state beside the maps: both copies are damaged".to_owned());
            (store.memory(), Maps::WithoutState)
        }
    };
    if maps == Maps::WithoutState && store.is_empty() {
        let mut settings = plan.settings();
        if datapath.live()?.enforces && settings.one_mode() != Some(Mode::Enforce) {
            damage.push("the modes of the run time are lost: enforcing, as the kernel does".to_owned());
            settings.set_mode(None, Mode::Enforce);
        }
        memory.file = plan.settings();
        memory.settings = settings;
    }
    if maps != Maps::New && memory.counters.is_empty() {
        // Their rules are unknown, so they count from now on.
        let counted = (0..).zip(datapath.counters()?.rules).filter(|(_, packets)| *packets != 0);
        memory.counted_before = counted.collect();
    }
    for lost in damage {
        tracing::error!("lost: {lost}");
        if !memory.lost.contains(&lost) {
            memory.lost.push(lost);
        }
    }
    Ok(Left { memory, maps })
}

/// The state as stored beside the maps. If it does not fit, costs the counters of rules that went long ago,
/// and, if they do not suffice, those of all rules at the next start: no verdict depends on them.
///
/// # Errors
/// If the rest alone does not fit.
pub(super) fn encode(memory: &Memory) -> Result<Vec<u8>> {
    let encode =
        |memory: &Memory| serde_json::to_vec(memory).context("encoding the state for the next agent");
    let mut blob = encode(memory)?;
    if blob.len() <= LARGEST_STATE {
        return Ok(blob);
    }
    let mut smaller = memory.clone();
    while blob.len() > LARGEST_STATE {
        let retired = smaller.counters.retire(RETIRED);
        if retired.is_empty() {
            tracing::warn!("the rules take too much room: the next agent counts from 0");
            smaller.counters = CounterBook::default();
            smaller.counted_before = BTreeMap::new();
            return encode(&smaller);
        }
        for counter in retired {
            smaller.counted_before.remove(&counter);
        }
        blob = encode(&smaller)?;
    }
    Ok(blob)
}

/// The parts of a damaged state that can be read, and the names of the others.
fn salvage(blob: &[u8], store: &Store) -> (Memory, Vec<&'static str>) {
    let Ok(Value::Object(parts)) = serde_json::from_slice(blob) else {
        return (store.memory(), vec!["settings", "counters"]);
    };
    let mut parts = Parts { parts, lost: Vec::new() };
    let mut memory = Memory {
        settings: parts.needed("settings"),
        file: parts.needed("file"),
        counters: parts.needed("counters"),
        counted_before: parts.needed("counted_before"),
        native_refused: parts.take("native_refused"),
        flows_forgotten: parts.take("flows_forgotten"),
        traffic: parts.take("traffic"),
        trial: parts.take("waiting"),
        changes: parts.take("changes"),
        lost: parts.take("lost"),
    };
    let mut lost = parts.lost;
    if lost.iter().any(|key| ["settings", "file"].contains(key)) {
        lost.retain(|key| !["settings", "file"].contains(key));
        lost.insert(0, "settings");
        let stored = store.memory();
        (memory.settings, memory.file) = (stored.settings, stored.file);
        memory.lost.extend(stored.lost);
    }
    if lost.iter().any(|key| ["counters", "counted_before"].contains(key)) {
        memory.counters = CounterBook::default();
    }
    (memory, lost)
}

/// The keys of a stored state.
struct Parts {
    parts: Map<String, Value>,
    lost: Vec<&'static str>,
}

impl Parts {
    fn needed<T: DeserializeOwned + Default>(&mut self, key: &'static str) -> T {
        if !self.parts.contains_key(key) {
            self.lost.push(key);
        }
        self.take(key)
    }

    fn take<T: DeserializeOwned + Default>(&mut self, key: &'static str) -> T {
        let Some(value) = self.parts.remove(key) else { return T::default() };
        serde_json::from_value(value).unwrap_or_else(|_| {
            self.lost.push(key);
            T::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{encode, salvage};
    use crate::firewall::{Memory, Store};
    use lyncwall_datapath::LARGEST_STATE;
    use lyncwall_policy::compile::Identity;

    fn allow(reload: u64, n: u64) -> Identity {
        Identity::Allow { name: format!("{reload} {n} {}", "x".repeat(100)), definition: n }
    }

    #[test]
    fn a_state_that_does_not_fit_costs_old_counters_only() {
        let mut memory = Memory::default();
        for reload in 0..200 {
            let rules: Vec<Identity> = (0..64).map(|n| allow(reload, n)).collect();
            for counter in memory.counters.allocate(&rules).expect("room") {
                memory.counted_before.insert(counter, u64::MAX);
            }
            memory.counters.installed();
        }
        assert!(serde_json::to_vec(&memory).expect("plain data").len() > LARGEST_STATE);
        let blob = encode(&memory).expect("it fits");
        assert!(blob.len() <= LARGEST_STATE);
        let next: Memory = serde_json::from_slice(&blob).expect("a state");
        let labels = |memory: &Memory| -> Vec<Identity> {
            memory.counters.live().filter_map(|n| memory.counters.label(n).cloned()).collect()
        };
        assert_eq!((labels(&next).len(), labels(&next)), (64, labels(&memory)));
        assert!(next.counters.labels().count() > 4096, "as many as fit");
        assert!(next.counted_before.keys().all(|counter| next.counters.label(*counter).is_some()));

        // Rules in use that alone take more room.
        let huge: Vec<Identity> =
            (0..64).map(|n| Identity::Allow { name: "x".repeat(20_000 + n), definition: 0 }).collect();
        memory.counters.allocate(&huge).expect("room");
        memory.counters.installed();
        memory.settings.roles.insert("host".to_owned(), vec!["edge".to_owned()]);
        let next: Memory = serde_json::from_slice(&encode(&memory).expect("it fits")).expect("a state");
        assert_eq!((next.settings, next.counters.is_empty()), (memory.settings, true));
    }

    #[test]
    fn of_a_damaged_state_everything_is_taken_that_can_be_read() {
        let directory = std::env::temp_dir().join(format!("lyncwall-memory-{}", std::process::id()));
        let store = Store::open(&directory);
        let mut memory = Memory::default();
        memory.settings.roles.insert("host".to_owned(), vec!["edge".to_owned()]);
        memory.flows_forgotten = 7;
        let mut value = serde_json::to_value(&memory).expect("plain data");
        value["counters"]["live"] = 5.into();
        value["changes"] = "many".into();
        let (salvaged, lost) = salvage(value.to_string().as_bytes(), &store);
        assert_eq!(lost, ["counters", "changes"]);
        assert_eq!((&salvaged.settings, salvaged.flows_forgotten), (&memory.settings, 7));
        value["settings"] = "all".into();
        let (salvaged, lost) = salvage(value.to_string().as_bytes(), &store);
        assert_eq!(lost, ["settings", "counters", "changes"]);
        assert!(salvaged.settings.roles.is_empty() && salvaged.flows_forgotten == 7);
        assert_eq!(salvage(b"[]", &store).1, ["settings", "counters"]);
        std::fs::remove_dir_all(&directory).expect("no directory");
    }
}
