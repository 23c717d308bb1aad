//! The state that survives a reboot: the confirmed settings and configuration, in one file of the state
//! directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Memory;
use lyncwall_policy::plan::{Plan, Settings};

const FILE: &str = "confirmed.json";

/// The file and its content.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    held: Option<Confirmed>,
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
}

impl Store {
    /// The store in `directory`, which need not exist. An unreadable store is logged and counts as empty: a
    /// box without a firewall would be worse.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let file = directory.join(FILE);
        let read = || -> Result<Option<Confirmed>> {
            match fs::read(&file) {
                Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let held = read().unwrap_or_else(|error| {
            tracing::warn!("{}: {error:#}; using the configuration file", file.display());
            None
        });
        Self { file, held }
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
        };
        if self.held.as_ref() == Some(&held) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&held).context("encoding the confirmed state")?;
        replace(&self.file, &text).with_context(|| format!("writing {}", self.file.display()))?;
        self.held = Some(held);
        Ok(())
    }
}

/// Replaces a file completely or not at all, even if the power fails.
pub(super) fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let new = file.with_extension("new");
    let mut written = File::create(&new)?;
    written.write_all(text)?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    File::open(directory)?.sync_all()
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
        let mut store = Store::open(&directory);
        assert_eq!(store.memory().settings, memory.settings);
        assert_eq!(store.before(&new).map(|plan| plan.text), Some(old.text.clone()));
        assert!(store.before(&old).is_none() && store.tried().is_some());

        // Other settings change nothing about it; the file itself does.
        store.confirm(&old, &Memory::default(), Origin::RunTime).expect("a store");
        assert!(Store::open(&directory).before(&new).is_some());
        store.confirm(&new, &Memory::default(), Origin::File).expect("a store");
        let store = Store::open(&directory);
        assert!(store.before(&new).is_none() && store.tried().is_none());
        assert_eq!(std::fs::read_dir(&directory).expect("the directory").count(), 1, "nothing else is left");

        std::fs::write(directory.join(super::FILE), "{").expect("damage");
        assert!(Store::open(&directory).memory().settings.roles.is_empty());
        std::fs::remove_dir_all(&directory).expect("no directory");
    }
}
