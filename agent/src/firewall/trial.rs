//! A change on trial, as a state machine: whether a trial runs, and the state that its end restores.
//!
//! The program keeps the deadline, in the live word. This state follows the word: it changes only after the
//! store that begins, confirms or ends a trial. It lies in the [`Memory`], so storing the memory stores it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::store::{Origin, Store};
use super::{ChangeResult, Memory};
use lyncwall_datapath::{Datapath, Hold};
use lyncwall_policy::plan::{Plan, Settings};

/// Whether a change is on trial.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Option<Record>", into = "Option<Record>")]
pub(super) enum Trial {
    /// The live rules hold for good.
    #[default]
    None,
    /// An earlier agent began a trial; [`resume`] finds out how it went.
    Left(Record),
    /// Without a confirmation, the program goes back at the deadline, to this configuration and the settings
    /// of the record.
    Running(Record, Arc<Plan>),
}

/// The stored part of a trial. The configurations are in the [`Store`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The generation on trial. It tells whether a live word without a deadline was confirmed.
    generation: u64,
    /// For a file on trial, the store has its text.
    #[serde(rename = "reload")]
    origin: Origin,
    /// The settings to restore.
    pub(super) settings: Settings,
    /// The settings of the file at that time.
    file: Settings,
}

/// The reason to install a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A change for good.
    Change,
    /// A change on trial until this deadline, in jiffies.
    Begin(u64, Origin),
    /// The live rules again, for a changed machine or a new agent. A running trial goes on.
    Again,
}

/// How the trial of an earlier agent went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs(Duration),
    Confirmed,
    RolledBack,
}

impl Trial {
    /// The record and the configuration to go back to, of a running trial.
    pub(super) fn running(&self) -> Option<(&Record, &Arc<Plan>)> {
        match self {
            Self::None | Self::Left(_) => None,
            Self::Running(record, plan) => Some((record, plan)),
        }
    }

    /// True while a change waits for confirmation.
    pub(super) fn runs(&self) -> bool {
        self.running().is_some()
    }

    /// The state once `generation` judges, and how the program holds that generation. A trial that begins
    /// goes back to `memory` and `plan`.
    pub(super) fn after(step: Step, generation: u64, memory: &Memory, plan: &Arc<Plan>) -> (Self, Hold) {
        match (step, memory.trial.running()) {
            (Step::Change, _) | (Step::Again, None) => (Self::None, Hold::ForGood),
            (Step::Begin(deadline, origin), _) => {
                let (settings, file) = (memory.settings.clone(), memory.file.clone());
                let record = Record { generation, origin, settings, file };
                (Self::Running(record, Arc::clone(plan)), Hold::Until(deadline))
            }
            (Step::Again, Some((record, back))) => {
                (Self::Running(Record { generation, ..record.clone() }, Arc::clone(back)), Hold::Alike)
            }
        }
    }

    /// Ends the trial in favour of the change. Returns the origin of the rules that hold for good now:
    /// confirmed settings do not confirm an earlier file on trial.
    pub(super) fn confirm(&mut self) -> Origin {
        Option::from(std::mem::take(self)).map_or(Origin::RunTime, |record: Record| record.origin)
    }
}

impl Memory {
    /// Ends the trial against the change. Returns the configuration to go back to.
    pub(super) fn roll_back(&mut self) -> Option<Arc<Plan>> {
        let Trial::Running(record, plan) = std::mem::take(&mut self.trial) else { return None };
        self.restore(record);
        Some(plan)
    }

    fn restore(&mut self, record: Record) {
        self.settings = record.settings;
        self.file = record.file;
        self.counters.rolled_back();
    }
}

impl Record {
    /// How the trial went, by the live word: the time left until its deadline, and the live generation.
    fn fate(&self, left: Option<Duration>, live: u64) -> Fate {
        match left {
            Some(left) if !left.is_zero() => Fate::Runs(left),
            // The earlier agent ended before it could store the confirmation.
            None if live == self.generation => Fate::Confirmed,
            Some(_) | None => Fate::RolledBack,
        }
    }
}

/// The state that an agent starts from.
pub(super) struct Resumed {
    pub(super) plan: Arc<Plan>,
    /// Whether `plan` is that of the file.
    pub(super) origin: Origin,
    /// The configuration on trial, if the program rolled back from it.
    pub(super) left: Option<Plan>,
}

/// Finds out how the trial of an earlier agent went, and brings `memory` in line with the live rules. `file` is
/// the plan of the file.
pub(super) fn resume(
    datapath: &mut Datapath,
    memory: &mut Memory,
    file: Plan,
    store: &Store,
) -> Result<Resumed> {
    let file = Arc::new(file);
    let mut left = None;
    if let Some(record) = Option::<Record>::from(std::mem::take(&mut memory.trial)) {
        match record.fate(datapath.time_left()?, datapath.live()?.number) {
            Fate::Runs(time) => {
                let seconds = time.as_secs();
                tracing::warn!(
                    seconds,
                    "a change from before this start waits: it rolls back in {seconds} s unless `lyncwall confirm` follows"
                );
                let back = store.plan(&file).map_or_else(|| Arc::clone(&file), Arc::new);
                // The change on trial continues unaltered, even if the file has changed since.
                let plan = match record.origin {
                    Origin::File => store.tried_plan(&file).map_or_else(|| Arc::clone(&file), Arc::new),
                    Origin::RunTime => Arc::clone(&back),
                };
                let origin = if plan.text == file.text { Origin::File } else { Origin::RunTime };
                memory.trial = Trial::Running(record, back);
                return Ok(Resumed { plan, origin, left });
            }
            Fate::Confirmed => {
                memory.changes.ended(ChangeResult::Confirmed);
                if record.origin == Origin::File && store.tried() == Some(&file.text) {
                    return Ok(Resumed { plan: file, origin: Origin::File, left });
                }
            }
            Fate::RolledBack => {
                datapath.go_back();
                left = match record.origin {
                    Origin::File => store.tried_plan(&file),
                    Origin::RunTime => None,
                };
                memory.restore(record);
                memory.changes.ended(ChangeResult::Reverted);
                tracing::warn!("the last change was not confirmed: rolled back");
            }
        }
    }
    let (plan, origin) = match store.before(&file) {
        Some(before) => {
            tracing::warn!(
                file = %file.file.display(),
                "{} was refused or not confirmed: the earlier configuration holds until `lyncwall reload` accepts the file",
                file.file.display()
            );
            (Arc::new(before), Origin::RunTime)
        }
        None => (file, Origin::File),
    };
    Ok(Resumed { plan, origin, left })
}

impl From<Option<Record>> for Trial {
    fn from(record: Option<Record>) -> Self {
        record.map_or(Self::None, Self::Left)
    }
}

impl From<Trial> for Option<Record> {
    fn from(trial: Trial) -> Self {
        match trial {
            Trial::None => None,
            Trial::Left(record) | Trial::Running(record, _) => Some(record),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Fate, Record, Step, Trial};
    use crate::firewall::Memory;
    use crate::firewall::store::Origin;
    use lyncwall_datapath::Hold;
    use lyncwall_policy::config::Mode;
    use lyncwall_policy::plan::Plan;

    const FILE: &str = "management = \"none\"\n[[interface]]\nname = \"eth0\"\n[[target]]\nroles = []\n";

    fn plan() -> Arc<Plan> {
        Arc::new(Plan::parse(FILE, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems}")))
    }

    /// A memory in enforce mode whose change to audit mode is on trial as generation 7; and its earlier plan.
    fn trial(origin: Origin) -> (Memory, Arc<Plan>) {
        let (mut memory, plan) = (Memory::default(), plan());
        memory.settings.mode = Mode::Enforce;
        let (trial, hold) = Trial::after(Step::Begin(99, origin), 7, &memory, &plan);
        assert_eq!(hold, Hold::Until(99));
        memory.trial = trial;
        memory.settings.mode = Mode::Audit;
        (memory, plan)
    }

    fn record(memory: &Memory) -> Record {
        Option::from(memory.trial.clone()).expect("a trial")
    }

    #[test]
    fn a_trial_ends_in_a_rollback_or_a_confirmation() {
        let (mut memory, before) = trial(Origin::File);
        assert!(memory.trial.runs());
        let back = memory.roll_back().expect("a plan to go back to");
        assert!(Arc::ptr_eq(&back, &before) && !memory.trial.runs());
        assert_eq!(memory.settings.mode, Mode::Enforce);
        assert!(memory.roll_back().is_none(), "one rollback ends the trial");

        for origin in [Origin::File, Origin::RunTime] {
            let (mut memory, _) = trial(origin);
            assert_eq!(memory.trial.confirm(), origin);
            assert!(!memory.trial.runs());
            assert_eq!(memory.settings.mode, Mode::Audit);
            assert_eq!(memory.trial.confirm(), Origin::RunTime, "nothing waits any more");
        }
    }

    #[test]
    fn a_generation_of_equal_meaning_keeps_the_trial_and_a_change_for_good_ends_it() {
        let (mut memory, before) = trial(Origin::File);
        let (again, hold) = Trial::after(Step::Again, 8, &memory, &plan());
        assert_eq!(hold, Hold::Alike);
        let (kept, back) = again.running().expect("a trial");
        assert_eq!(*kept, Record { generation: 8, ..record(&memory) });
        assert!(Arc::ptr_eq(back, &before));

        for step in [Step::Change, Step::Again] {
            memory.trial = Trial::None;
            let (trial, hold) = Trial::after(step, 8, &memory, &before);
            assert!(!trial.runs() && hold == Hold::ForGood, "{step:?}");
        }
    }

    #[test]
    fn the_live_word_tells_the_next_agent_how_a_trial_went() {
        let record = record(&trial(Origin::File).0);
        let second = Duration::from_secs(1);
        assert_eq!(record.fate(Some(second), 7), Fate::Runs(second));
        assert_eq!(record.fate(Some(Duration::ZERO), 6), Fate::RolledBack, "the deadline has passed");
        assert_eq!(record.fate(None, 7), Fate::Confirmed);
        assert_eq!(record.fate(None, 6), Fate::RolledBack, "on request");
    }

    #[test]
    fn the_stored_form_stays_readable() {
        // As agents before this type stored it.
        let stored = r#"{"generation":7,"reload":true,"settings":{"roles":{"host":["edge"]},"mode":"enforce","modes":{}},
            "file":{"roles":{},"mode":"enforce","modes":{}}}"#;
        let text = |waiting: &str| {
            format!(
                r#"{{"settings":{{}},"file":{{}},"counters":COUNTERS,"counted_before":{{"5":1}}{waiting}}}"#
            )
            .replace("COUNTERS", &serde_json::to_string(&Memory::default().counters).expect("JSON"))
        };
        let memory: Memory =
            serde_json::from_str(&text(&format!(r#","waiting":{stored}"#))).expect("a memory");
        assert!(matches!(memory.trial, Trial::Left(_)) && !memory.trial.runs());
        let record = record(&memory);
        assert_eq!((record.generation, record.origin), (7, Origin::File));
        assert_eq!(record.settings.roles_of("host"), ["edge"]);
        let again = serde_json::to_value(&memory).expect("JSON");
        let stored: serde_json::Value = serde_json::from_str(stored).expect("JSON");
        assert_eq!(again["waiting"], stored, "an earlier agent can read it, too");

        for nothing in ["", r#","waiting":null"#] {
            let memory: Memory = serde_json::from_str(&text(nothing)).expect("a memory");
            assert!(matches!(memory.trial, Trial::None), "{nothing:?}");
        }
    }
}
