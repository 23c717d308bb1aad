//! Whether the programs are still where the agent attached them: other tools may take them off.

use std::path::PathBuf;

use anyhow::Result;

use super::host::interfaces;
use super::links::PinnedLinks;
use super::pins::{self, MAPS};
use super::{Datapath, egress};

/// Looks at the interfaces and the pins without a [`Datapath`], so that a look never waits for a change.
#[derive(Debug, Clone)]
pub struct LinkWatch {
    pin_dir: PathBuf,
    /// The kernel's numbers of the agent's programs.
    ingress: u32,
    egress: u32,
}

/// The programs of the agent on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The interface's name.
    pub interface: String,
    /// True if the XDP program judges its incoming packets.
    pub judged: bool,
    /// True if the egress program sees its outgoing packets: without it, no new reply gets in.
    pub learned: bool,
}

/// The state of the interfaces at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Those of the wanted interfaces that exist.
    pub interfaces: Vec<Watched>,
    /// The maps whose pins are gone: the next agent would not find them.
    pub unpinned: Vec<&'static str>,
}

impl Look {
    /// True if both programs are on all interfaces, and all maps are pinned.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.unpinned.is_empty() && self.interfaces.iter().all(|watched| watched.judged && watched.learned)
    }

    /// The interfaces whose packets nobody judges.
    pub fn unguarded(&self) -> impl Iterator<Item = &str> {
        self.interfaces.iter().filter(|watched| !watched.judged).map(|watched| &*watched.interface)
    }

    /// True if not one map is pinned any more.
    #[must_use]
    pub fn has_no_pins(&self) -> bool {
        self.unpinned.len() == MAPS.len()
    }
}

impl LinkWatch {
    /// Looks at these interfaces of this thread's network namespace. Leaves out those that do not exist.
    ///
    /// # Errors
    /// If netlink does not answer, or a pin cannot be read.
    pub fn look(&self, wanted: &[&str]) -> Result<Look> {
        let pinned = PinnedLinks::read(&self.pin_dir.join(pins::LINKS))?;
        let outgoing = egress::Attachments::read(&self.pin_dir.join(pins::EGRESS))?;
        let mut look = Look::default();
        for interface in wanted {
            let Some(number) = interfaces::number(interface) else { continue };
            look.interfaces.push(Watched {
                interface: (*interface).to_owned(),
                // The kernel's number of the program is this agent's alone, in any network namespace.
                judged: pinned.runs(number, self.ingress),
                learned: outgoing.runs(number, self.egress)?,
            });
        }
        look.unpinned.extend(MAPS.into_iter().filter(|name| !self.pin_dir.join(name).exists()));
        Ok(look)
    }
}

impl Datapath {
    /// Watches the programs of this agent.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn link_watch(&self) -> Result<LinkWatch> {
        Ok(LinkWatch {
            pin_dir: self.pins.path().to_owned(),
            ingress: self.program()?.info()?.id(),
            egress: self.egress()?.info()?.id(),
        })
    }

    /// Pins the maps again whose pins somebody removed, and returns their names. The links follow with
    /// [`Datapath::attach_all`].
    ///
    /// # Errors
    /// If the kernel refuses, or another agent has taken the directory.
    pub fn pin_again(&mut self) -> Result<Vec<&'static str>> {
        self.pins.pin_again()
    }

    /// True if another process emptied the agent's state, as [`Datapath::detach_unheard`] does before it
    /// removes the pins: somebody opened the box on purpose.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn was_opened(&self) -> Result<bool> {
        Ok(self.state.load()?.is_some_and(|(_, blob)| blob.is_empty()))
    }
}
