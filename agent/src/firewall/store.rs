//! The state that survives a reboot: the confirmed settings and configuration, in one file of the state
//! directory.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Memory, durable};
use lyncwall_policy::plan::{Plan, Settings};

const FILE: &str = "confirmed.json";

/// The file and its content.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    held: Option<Confirmed>,
    lock: Lock,
    /// What of the content is lost, one sentence each.
    damage: Vec<String>,
}

/// Whose state directory it is.
#[derive(Debug)]
enum Lock {
    /// Ours, until this is dropped.
    Held { _directory: File },
    /// Another agent's.
    Taken,
    /// Nobody's: it cannot be opened.
    Failed,
}

/// The confirmed state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Confirmed {
    /// The settings.
    settings: Settings,
    /// The settings of the file at that time.
    file: Settings,
    /// The text of the configuration file.
    config: String,
    /// The text of a later reload that nobody confirmed; a file with this text is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tried: Option<String>,
    /// What of the state was lost and nobody has acknowledged, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<String>,
}

impl Store {
    /// The store in `directory`, which need not exist. An unreadable store is logged and counts as empty, and
    /// so does one that another agent uses: a box without a firewall would be worse.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let file = directory.join(FILE);
        let lock = match durable::lock(directory) {
            Ok(Some(directory)) => Lock::Held { _directory: directory },
            Ok(None) => {
                let lock = Lock::Taken;
                let store = Self { file, held: None, lock, damage: Vec::new() };
                tracing::warn!("{}", store.warning().unwrap_or_default());
                return store;
            }
            Err(error) => {
                tracing::warn!("cannot open the state directory {}: {error}", directory.display());
                Lock::Failed
            }
        };
        let found = durable::read(&file, |text| Ok(serde_json::from_slice::<Confirmed>(text)?));
        let damage: Vec<String> = found.damage.into_iter().collect();
        if !damage.is_empty() {
            durable::set_aside(&file);
        }
        Self { file, held: found.content, lock, damage }
    }

    /// The settings of the run time that the next start restores although the file in force says something
    /// else, one phrase each. Changes nothing.
    pub(super) fn kept_in(directory: &Path) -> Vec<String> {
        let file = directory.join(FILE);
        let found = durable::read(&file, |text| Ok(serde_json::from_slice::<Confirmed>(text)?));
        found.content.map(|held| held.settings.differences_from_file(&held.file)).unwrap_or_default()
    }

    /// Removes the settings and configuration that the next start would restore.
    pub(super) fn forget_in(directory: &Path) -> Result<()> {
        durable::remove(&directory.join(FILE))
    }

    /// Refuses to write into the directory of another agent.
    pub(super) fn ours(&self) -> Result<()> {
        match self.warning() {
            Some(warning) => bail!("{warning}"),
            None => Ok(()),
        }
    }

    /// Why nothing is stored; `None` if it is.
    pub(super) fn warning(&self) -> Option<String> {
        matches!(self.lock, Lock::Taken).then(|| {
            format!(
                "another lyncwall agent uses the state directory {}: nothing of this one survives a reboot; name another \
                 directory with --state-dir, and start again",
                self.directory().display()
            )
        })
    }

    /// True if it holds no state.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_none()
    }

    /// What of its content was lost, one sentence each; once.
    pub(super) fn take_damage(&mut self) -> Vec<String> {
        std::mem::take(&mut self.damage)
    }

    /// Forgets the losses.
    pub(super) fn acknowledge(&mut self) -> Result<()> {
        let Some(held) = self.held.clone().filter(|held| !held.lost.is_empty()) else { return Ok(()) };
        self.write(Confirmed { lost: Vec::new(), ..held })
    }

    /// The path of the file.
    pub(super) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    /// The memory of an agent that finds no maps: after a boot, or after the box was opened.
    pub(super) fn memory(&self) -> Memory {
        let held = self.held.clone();
        held.map_or_else(Memory::default, |held| Memory {
            settings: held.settings,
            file: held.file,
            lost: held.lost,
            ..Memory::default()
        })
    }

    /// The configuration before an unconfirmed reload, if `plan` is what that reload tried.
    pub(super) fn before(&self, plan: &Plan) -> Option<Plan> {
        let held = self.held.as_ref().filter(|held| held.tried.as_ref() == Some(&plan.text))?;
        self.parsed(held, plan)
    }

    /// The confirmed configuration, as it was in the file of `plan`.
    pub(super) fn plan(&self, plan: &Plan) -> Option<Plan> {
        self.parsed(self.held.as_ref()?, plan)
    }

    fn parsed(&self, held: &Confirmed, plan: &Plan) -> Option<Plan> {
        self.read(&held.config, plan)
    }

    fn read(&self, text: &str, plan: &Plan) -> Option<Plan> {
        Plan::parse(text, &plan.file)
            .inspect_err(|problems| {
                tracing::warn!("the configuration in {} is no longer valid: {problems}", self.file.display());
            })
            .ok()
    }

    /// The configuration of the last unconfirmed reload, as it was in the file of `plan`.
    pub(super) fn tried_plan(&self, plan: &Plan) -> Option<Plan> {
        self.read(self.tried()?, plan)
    }

    /// The text of the last reload, if it was not confirmed.
    pub(super) fn tried(&self) -> Option<&str> {
        self.held.as_ref()?.tried.as_deref()
    }

    /// Stores the confirmed state. Rules of another origin than the file leave the text on trial unconfirmed.
    pub(super) fn confirm(&mut self, plan: &Plan, memory: &Memory, origin: Origin) -> Result<()> {
        let tried = match origin {
            Origin::File => None,
            Origin::RunTime => self.tried().map(str::to_owned),
        };
        self.try_out(plan, memory, tried)
    }

    /// Stores the current state, and the text on trial.
    pub(super) fn try_out(&mut self, plan: &Plan, memory: &Memory, tried: Option<String>) -> Result<()> {
        let held = Confirmed {
            settings: memory.settings.clone(),
            file: memory.file.clone(),
            config: plan.text.clone(),
            tried,
            lost: memory.lost.clone(),
        };
        if self.held.as_ref() == Some(&held) {
            return Ok(());
        }
        self.write(held)
    }

    fn write(&mut self, held: Confirmed) -> Result<()> {
        self.ours()?;
        let text = serde_json::to_vec_pretty(&held).context("encoding the confirmed state")?;
        durable::write(&self.file, &text).with_context(|| format!("writing {}", self.file.display()))?;
        self.held = Some(held);
        Ok(())
    }
}

/// Where the live rules come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub(super) enum Origin {
    /// From the configuration file, as it was read last.
    File,
    /// From an earlier text of the file, and settings of the run time. The file itself was not read.
    RunTime,
}

impl From<bool> for Origin {
    fn from(reload: bool) -> Self {
        if reload { Self::File } else { Self::RunTime }
    }
}

impl From<Origin> for bool {
    fn from(origin: Origin) -> Self {
        origin == Origin::File
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Store;
    use crate::firewall::Memory;
    use crate::firewall::store::Origin;
    use lyncwall_policy::plan::Plan;

    const GOOD: &str = "management = \"none\"\n[[interface]]\nname = \"eth0\"\n[[target]]\nroles = []\n";

    fn plan(text: &str) -> Plan {
        Plan::parse(text, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn what_was_confirmed_is_found_again_and_what_was_tried_is_not_taken() {
        let directory = std::env::temp_dir().join(format!("lyncwall-store-{}", std::process::id()));
        let old = plan(GOOD);
        let new = plan(&format!("mode = \"audit\"\n{GOOD}"));
        let mut memory = Memory::default();
        memory.settings.roles = [("host".to_owned(), vec!["edge".to_owned()])].into();

        let mut store = Store::open(&directory);
        assert!(
            store.memory().settings.roles.is_empty() && store.before(&new).is_none(),
            "nothing was ever stored"
        );
        store.confirm(&old, &memory, Origin::File).expect("a store");
        store.try_out(&old, &memory, Some(new.text.clone())).expect("a store");
        drop(store);
        let mut store = Store::open(&directory);
        assert_eq!(store.memory().settings, memory.settings);
        assert_eq!(store.before(&new).map(|plan| plan.text), Some(old.text.clone()));
        assert!(store.before(&old).is_none() && store.tried().is_some());

        // Other settings change nothing about it; the file itself does.
        store.confirm(&old, &Memory::default(), Origin::RunTime).expect("a store");
        drop(store);
        let mut store = Store::open(&directory);
        assert!(store.before(&new).is_some());
        store.confirm(&new, &memory, Origin::File).expect("a store");
        drop(store);
        let store = Store::open(&directory);
        assert!(store.before(&new).is_none() && store.tried().is_none() && store.damage.is_empty());
        assert_eq!(std::fs::read_dir(&directory).expect("the directory").count(), 2, "the file and its copy");

        // A second agent neither reads nor writes it.
        let mut second = Store::open(&directory);
        assert!(second.is_empty() && second.ours().is_err());
        second.confirm(&old, &Memory::default(), Origin::File).expect_err("it is not its own");
        drop((store, second));

        // A damaged file costs nothing but a word.
        let file = directory.join(super::FILE);
        std::fs::write(&file, "{").expect("damage");
        let mut store = Store::open(&directory);
        assert_eq!(store.memory().settings, memory.settings);
        assert_eq!(store.take_damage().len(), 1);
        memory.lost = vec!["something".to_owned()];
        store.confirm(&new, &memory, Origin::File).expect("a store");
        drop(store);
        let mut store = Store::open(&directory);
        assert_eq!((store.memory().lost, store.take_damage()), (memory.lost, Vec::new()));
        store.acknowledge().expect("a store");
        drop(store);
        assert!(Store::open(&directory).memory().lost.is_empty());

        for file in [&file, &super::durable::copy_of(&file)] {
            std::fs::write(file, "{").expect("damage");
        }
        let mut store = Store::open(&directory);
        assert!(store.is_empty() && store.take_damage().len() == 1);
        std::fs::remove_dir_all(&directory).expect("no directory");
    }
}
