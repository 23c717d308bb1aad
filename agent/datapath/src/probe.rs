//! Checks of the machine, before any change.

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

/// The state of the machine, for `lyncwall doctor` and the start.
#[derive(Debug, Clone)]
pub struct HostCheck {
    /// The kernel's features.
    pub features: Features,
    /// Missing privileges.
    pub privileges: Problems,
    /// Problems with the place of the pins.
    pub file_system: Problems,
    /// The limit on locked memory.
    pub memory: MemoryLimit,
}

impl HostCheck {
    /// Asks for everything, and raises this process's limit on locked memory if the limit counts. Changes
    /// nothing on the machine, except that a question about clsact may load its kernel module.
    ///
    /// # Errors
    /// If the machine cannot be asked.
    pub fn ask(pin_dir: &Path) -> Result<Self> {
        let memory = MemoryLimit::ask()?;
        if memory.liftable {
            // If a running agent has used the limit up, the kernel answers every question with EPERM.
            memory.lift()?;
        }
        Ok(Self {
            features: Features::ask()?,
            privileges: privileges()?,
            file_system: file_system(pin_dir)?,
            memory,
        })
    }

    /// All problems that keep the data path from running here.
    #[must_use]
    pub fn problems(&self) -> Problems {
        let mut problems = self.privileges.clone();
        problems.append(self.features.problems());
        // In a user namespace with privileges of its own, the kernel refuses what the privileges seem to
        // grant.
        if self.privileges.is_empty() {
            problems.append(self.features.forbidden());
        }
        problems.append(self.file_system.clone());
        // Without privileges, the limit is a minor problem, with one common remedy.
        if self.privileges.is_empty() {
            problems.append(self.memory.problems());
        }
        problems
    }
}

/// The kernel's features, if a data path at `pin_dir` can run.
///
/// # Errors
/// [`Problems`] for everything that is missing, together.
pub(super) fn preflight(pin_dir: &Path) -> Result<Features> {
    let machine = HostCheck::ask(pin_dir)?;
    Ok(machine.problems().or(machine.features)?)
}
