//! The box is opened: what is open then, what is not, and what the next start restores.

use std::path::Path;

use anyhow::Result;

use super::{Firewall, Store, durable};
use lyncwall_api as api;
use lyncwall_datapath::Detached;

impl Firewall {
    /// Opens the box: takes the program off all interfaces and removes all maps. The next start restores the
    /// state that survives a reboot.
    ///
    /// # Errors
    /// If the pins cannot be listed. [`Detached`] says what could not be removed.
    pub fn remove(self) -> Result<Detached> {
        self.datapath.remove()
    }

    /// Opens the box and forgets the block-list; with `forget`, also the settings of the run time.
    ///
    /// # Errors
    /// If the pins cannot be listed. The box is as it was then.
    pub fn detach(mut self, forget: bool) -> Result<api::Detached> {
        self.note_usage();
        let directory = self.store.ours().is_ok().then(|| self.store.directory().to_owned());
        Ok(opened(self.datapath.remove()?, directory.as_deref(), forget))
    }

    /// What is so after a command opened the box without its agent; forgets as [`Firewall::detach`] does. If the
    /// agent of these pins exists but does not answer (`unheard`), its lock on the state directory does not count.
    #[must_use]
    pub fn detached_without_agent(
        detached: Detached,
        state_dir: &Path,
        unheard: bool,
        forget: bool,
    ) -> api::Detached {
        // Another agent may use the directory, for other pins.
        let lock = if state_dir.exists() { durable::lock(state_dir) } else { Ok(None) };
        match lock {
            Ok(lock) => opened(detached, (unheard || lock.is_some()).then_some(state_dir), forget),
            Err(error) => {
                let mut opened = opened(detached, None, forget);
                opened.failed.push(format!("cannot open {}: {error}", state_dir.display()));
                opened
            }
        }
    }
}

/// What is so once the pins are removed. `state_dir` is ours, or `None`.
fn opened(detached: Detached, state_dir: Option<&Path>, forget: bool) -> api::Detached {
    let Detached { interfaces, maps, left, guarded, failed } = detached;
    let mut opened = api::Detached { interfaces, maps: maps.len(), guarded, left, kept: Vec::new(), failed };
    let Some(directory) = state_dir.filter(|_| opened.guarded.is_empty()) else { return opened };
    if let Err(error) = Firewall::forget_blocked(directory) {
        opened.failed.push(format!("the next start will restore the block-list: {error:#}"));
    }
    if forget && let Err(error) = Store::forget_in(directory) {
        opened.failed.push(format!("the next start will restore the settings of the run time: {error:#}"));
    }
    opened.kept = Store::kept_in(directory);
    opened
}
