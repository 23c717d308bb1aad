//! What the machine must offer, asked before anything is changed.

mod ask;
mod clock;
mod features;
mod file_system;
mod memory;
mod privileges;

use std::path::Path;

use anyhow::Result;

pub(super) use clock::ticks_per_second;
pub use features::{Answer, Feature, Features, Id, MAP_TYPES};
pub(super) use file_system::file_system;
pub use memory::MemoryLimit;
pub(super) use privileges::privileges;

use lyncwall_policy::problem::Problems;

/// What `lyncwall doctor` and the start want to know of the machine.
#[derive(Debug, Clone)]
pub struct HostCheck {
    /// What the kernel can do.
    pub features: Features,
    /// What of the privileges is missing.
    pub privileges: Problems,
    /// What is wrong with the place for the pins.
    pub file_system: Problems,
    /// The limit on locked memory.
    pub memory: MemoryLimit,
}

impl HostCheck {
    /// Asks all of it, and lifts this process's limit on locked memory where that counts. Nothing of the machine is
    /// changed, except that asking for clsact may load its kernel module.
    ///
    /// # Errors
    /// Where the machine cannot be asked.
    pub fn ask(pin_dir: &Path) -> Result<Self> {
        let memory = MemoryLimit::ask()?;
        if memory.liftable {
            // Where a running agent has used it up, the kernel answers to every question that it is forbidden.
            memory.lift()?;
        }
        Ok(Self {
            features: Features::ask()?,
            privileges: privileges()?,
            file_system: file_system(pin_dir)?,
            memory,
        })
    }

    /// All that keeps the data path from running here.
    #[must_use]
    pub fn problems(&self) -> Problems {
        let mut problems = self.privileges.clone();
        problems.append(self.features.problems());
        // With privileges in this user namespace and none in the first, the kernel forbids what it seems to grant.
        if self.privileges.is_empty() {
            problems.append(self.features.forbidden());
        }
        problems.append(self.file_system.clone());
        // Without any privilege the limit is the lesser trouble, and its fix is the same.
        if self.privileges.is_empty() {
            problems.append(self.memory.problems());
        }
        problems
    }
}

/// The kernel's features, where nothing is in the way of a data path at `pin_dir`.
///
/// # Errors
/// [`Problems`] for all that is missing, together.
pub(super) fn preflight(pin_dir: &Path) -> Result<Features> {
    let machine = HostCheck::ask(pin_dir)?;
    Ok(machine.problems().or(machine.features)?)
}
