//! Other tools may take the programs off the interfaces, or remove the pins. The firewall puts both back, and
//! names the interfaces where it cannot.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::Firewall;
use lyncwall_api::Unguarded;
use lyncwall_datapath::{LinkWatch, Look};
use lyncwall_policy::plan::Plan;

/// What [`Firewall::mend`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// The firewall guards all interfaces that exist, except these.
    Except(Vec<Unguarded>),
    /// Another process opened the box on purpose while this agent did not answer.
    Opened,
}

impl Firewall {
    /// Looks at the programs and the pins without the firewall.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn link_watch(&self) -> Result<LinkWatch> {
        self.datapath.link_watch()
    }

    /// Puts back what others took off or removed. Connections continue as at a start: outgoing packets and
    /// existing sockets show them.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn mend(&mut self) -> Result<Mended> {
        let plan = self.guarded_plan();
        let look = self.look(&plan)?;
        if look.is_whole() {
            self.obstacles.clear();
            return Ok(Mended::Except(Vec::new()));
        }
        if self.was_opened(&look)? {
            return Ok(Mended::Opened);
        }
        if !look.unpinned.is_empty() {
            match self.datapath.pin_again() {
                Ok(maps) if maps.is_empty() => {}
                Ok(maps) => {
                    self.mended += 1;
                    tracing::warn!("somebody removed the pins of {} maps: pinned them again", maps.len());
                }
                Err(error) => {
                    tracing::error!(
                        "the pins of maps are gone, and the next agent will miss them: {error:#}"
                    );
                }
            }
        }
        for watched in look.interfaces.iter().filter(|watched| !(watched.judged && watched.learned)) {
            let interface = &*watched.interface;
            // One at a time: an obstacle on one interface must not leave another open, and an obstacle to
            // learning must not leave this one open.
            let mut one = Plan::clone(&plan);
            one.config.interfaces.retain(|of_plan| *of_plan.name == *interface);
            let taken = self.take_over(&one, Duration::ZERO);
            let closed = taken.is_ok() || watched.judged || self.attach(&one).is_ok();
            if closed && !watched.judged {
                self.mended += 1;
                tracing::warn!(
                    interface,
                    "another tool took the program on incoming packets off {interface}: put it back"
                );
            }
            match taken {
                Ok(()) => {
                    if !watched.learned {
                        self.mended += 1;
                        tracing::warn!(
                            interface,
                            "another tool took the program on outgoing packets off {interface}: put it back"
                        );
                    }
                    self.obstacles.remove(interface);
                }
                Err(error) => {
                    let why = format!("{:#}", anyhow::Error::from(error)).replace('\n', "; ");
                    self.obstacles.insert(interface.to_owned(), why);
                }
            }
        }
        self.unguarded().map(Mended::Except)
    }

    /// The interfaces that exist but whose packets nobody judges now.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn unguarded(&self) -> Result<Vec<Unguarded>> {
        let look = self.look(&self.guarded_plan())?;
        Ok(look.unguarded().map(|interface| self.why_unguarded(interface)).collect())
    }

    fn why_unguarded(&self, interface: &str) -> Unguarded {
        let why = self.obstacles.get(interface).map_or("another tool took the program off", |why| why);
        Unguarded { interface: interface.to_owned(), why: why.to_owned() }
    }

    /// The interfaces of [`Firewall::unguarded`], and warnings about everything else that others took away.
    pub(super) fn taken_away(&self) -> Result<(Vec<Unguarded>, Vec<String>)> {
        let look = self.look(&self.guarded_plan())?;
        let mut warnings = Vec::new();
        for watched in look.interfaces.iter().filter(|watched| watched.judged && !watched.learned) {
            let interface = &watched.interface;
            let why = self.obstacles.get(interface).map_or("another tool took it off", |why| why);
            warnings.push(format!(
                "{interface} has no program on outgoing packets, so replies to new connections are dropped: {why}"
            ));
        }
        if !look.unpinned.is_empty() {
            warnings.push(format!(
                "the pins of {} maps are gone: this agent enforces without them, but the next one will begin anew",
                look.unpinned.len()
            ));
        }
        Ok((look.unguarded().map(|interface| self.why_unguarded(interface)).collect(), warnings))
    }

    /// True if another process has removed all pins on purpose.
    pub(super) fn is_open(&self) -> Result<bool> {
        let look = self.look(&self.plan)?;
        self.was_opened(&look)
    }

    fn was_opened(&self, look: &Look) -> Result<bool> {
        Ok(look.has_no_pins() && self.datapath.was_opened()?)
    }

    /// The plan in force, with the interfaces that a rollback would need.
    fn guarded_plan(&self) -> Arc<Plan> {
        let Some((_, back)) = self.memory.trial.running() else { return Arc::clone(&self.plan) };
        let known = |name: &str| self.plan.config.interfaces.iter().any(|known| *known.name == *name);
        let mut all = Plan::clone(&self.plan);
        all.config
            .interfaces
            .extend(back.config.interfaces.iter().filter(|more| !known(&more.name)).cloned());
        Arc::new(all)
    }

    fn look(&self, plan: &Plan) -> Result<Look> {
        let names: Vec<&str> = plan.config.interfaces.iter().map(|interface| &*interface.name).collect();
        self.datapath.link_watch()?.look(&names)
    }
}
