//! Changes without an agent, in the pinned maps: those that need no compilation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lyncwall_common::abi::FLOWS;
use lyncwall_policy::config::Mode;
use lyncwall_policy::net::Prefix;
use lyncwall_policy::plan::Settings;

use super::blocked;
use super::{Memory, remember};
use lyncwall_api as api;
use lyncwall_datapath::{Datapath, LogLevel, Unattended};

/// The pinned maps, held so that no agent starts meanwhile.
pub struct Pinned {
    datapath: Datapath,
    /// Has the file that restores the block-list after a boot.
    state_dir: PathBuf,
}

impl Pinned {
    /// Opens the maps below `pin_dir`; `None` if the kernel enforces nothing there.
    ///
    /// # Errors
    /// [`Problems`](lyncwall_policy::problem::Problems) if an agent holds them, if they are of another version, or for want of privileges.
    pub fn open(object: &[u8], pin_dir: &Path, state_dir: &Path) -> Result<Option<Self>> {
        if Unattended::look(pin_dir)?.is_none() {
            return Ok(None);
        }
        let datapath = Datapath::open_with(object, pin_dir, FLOWS, LogLevel::Off)?;
        Ok(Some(Self { datapath, state_dir: state_dir.to_owned() }))
    }

    /// Like [`Firewall::block`](super::Firewall::block).
    ///
    /// # Errors
    /// As there.
    pub fn block(&mut self, prefixes: &[String], time: Option<Duration>) -> Result<api::BlockEdit> {
        let read = blocked::to_block(&self.datapath.blocked()?, prefixes, time)?;
        let added: Vec<_> = read.iter().map(|prefix| (*prefix, time)).collect();
        self.datapath.block(&added)?;
        self.edited(&read, Vec::new())
    }

    /// Like [`Firewall::unblock`](super::Firewall::unblock).
    ///
    /// # Errors
    /// As there.
    pub fn unblock(&mut self, prefixes: &[String]) -> Result<api::BlockEdit> {
        let read = blocked::to_unblock(&self.datapath.blocked()?, prefixes)?;
        self.datapath.unblock(&read)?;
        let warnings = blocked::left_blocked(&read, &self.datapath.blocked()?);
        self.edited(&read, warnings)
    }

    /// Puts the whole box into audit mode, with all targets, until somebody sets another mode. The next agent
    /// keeps it. Returns the number of the live generation.
    ///
    /// # Errors
    /// If a map cannot be read. Once the kernel audits, a failure to tell the next agent is a warning.
    pub fn audit(&mut self) -> Result<(u64, Option<String>)> {
        let generation = self.datapath.live()?.number;
        self.datapath.audit();
        let warning = self.tell_the_next().err();
        let warning = warning.map(|error| format!("the next agent may enforce again: {error:#}"));
        Ok((generation, warning))
    }

    fn tell_the_next(&mut self) -> Result<()> {
        let blob = self.datapath.load_state()?.context("the agent stored no state beside the maps")?;
        let mut memory: Memory =
            serde_json::from_slice(&blob).context("reading what the agent stored beside the maps")?;
        memory.settings.set_mode(None, Mode::Audit);
        remember(&mut self.datapath, &memory)
    }

    fn edited(&self, prefixes: &[Prefix], mut warnings: Vec<String>) -> Result<api::BlockEdit> {
        let list = self.datapath.blocked()?;
        let kept = blocked::keep_without_agent(&self.state_dir, &list);
        warnings.extend(
            kept.err().map(|error| format!("the next boot may restore another block-list: {error:#}")),
        );
        Ok(api::BlockEdit {
            list: blocked::summary(&list, &self.datapath.counters()?),
            prefixes: prefixes.iter().map(Prefix::to_string).collect(),
            warnings,
        })
    }
}

/// The run-time settings in the state that an agent stored beside the maps; `None` for an unknown form.
#[must_use]
pub fn stored_settings(blob: &[u8]) -> Option<Settings> {
    serde_json::from_slice::<Memory>(blob).ok().map(|memory| memory.settings)
}
