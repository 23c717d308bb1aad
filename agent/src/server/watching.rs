//! The programs and the pins while the agent runs: what others take away comes back, or is said to be missing.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{AGAIN, Daemon};
use crate::firewall::{Firewall, Mended};
use lyncwall_api as api;

/// How often to look at the programs and the pins.
const LOOK: Duration = Duration::from_millis(400);
/// How many attempts to put a program back follow each other at once; then one in [`SELDOM`].
const QUICK: u32 = 5;
const SELDOM: u32 = 12;
/// How often to log that an interface is still unguarded.
const REMIND: Duration = Duration::from_secs(60);

impl Daemon {
    /// Watches the programs and the pins for ever, and puts back what others take away. Netlink does not tell
    /// of a link that ends.
    pub async fn watch_links(&self) {
        let mut attempts = 0;
        let mut reminded = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            if reminded.elapsed() >= REMIND {
                reminded = Instant::now();
                self.unguarded.borrow().iter().for_each(log_unguarded);
            }
            match self.are_whole().await {
                Ok(true) => {
                    attempts = 0;
                    self.guards_except(Vec::new());
                    continue;
                }
                Ok(false) => attempts += 1,
                Err(error) => {
                    tracing::error!("cannot tell whether the interfaces are guarded: {error:#}");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
            if (attempts <= QUICK || attempts % SELDOM == 0)
                && let Err(error) = self.mend().await
            {
                tracing::error!("cannot put the programs back: {error:#}");
            }
        }
    }

    /// Looks without the queue: a change may take seconds.
    async fn are_whole(&self) -> Result<bool> {
        let (links, names) = (self.links.clone(), self.known().guarded.clone());
        let look = tokio::task::spawn_blocking(move || {
            links.look(&names.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let look = look.await.context("the call panicked")??;
        if self.detaching.load(Ordering::Relaxed) {
            return Ok(true);
        }
        // Until an attempt to mend knows more.
        let known = self.unguarded.borrow().clone();
        let found = look.unguarded().map(|name| {
            let same = known.iter().find(|known| known.interface == name).cloned();
            same.unwrap_or_else(|| api::Unguarded {
                interface: name.to_owned(),
                why: "another tool took the program off".to_owned(),
            })
        });
        if !look.is_whole() {
            self.guards_except(found.collect());
        }
        Ok(look.is_whole())
    }

    async fn mend(&self) -> Result<()> {
        let daemon = self.clone();
        self.blocking(move |held| {
            let Some(firewall) = held.as_mut() else { return Ok(()) };
            match firewall.mend()? {
                Mended::Except(unguarded) => daemon.guards_except(unguarded),
                Mended::Opened => {
                    drop(held.take());
                    tracing::warn!(
                        "`lyncwall detach` opened the box while this agent did not answer: the agent ends"
                    );
                    daemon.detached.send_replace(true);
                }
            }
            Ok(())
        })
        .await
    }

    /// Puts back what others took away, as far as that is possible.
    pub(super) fn mend_first(&self, firewall: &mut Firewall) -> Result<()> {
        match firewall.mend() {
            Ok(Mended::Except(unguarded)) => self.guards_except(unguarded),
            Ok(Mended::Opened) => bail!("`lyncwall detach` opened the box: this agent ends"),
            Err(error) => tracing::error!("cannot put the programs back: {error:#}"),
        }
        Ok(())
    }

    /// Notes, and logs, which interfaces are unguarded from now on.
    fn guards_except(&self, unguarded: Vec<api::Unguarded>) {
        self.unguarded.send_if_modified(|before| {
            if *before == unguarded {
                return false;
            }
            for on in unguarded.iter().filter(|on| !before.contains(on)) {
                log_unguarded(on);
            }
            for on in before.iter().filter(|on| unguarded.iter().all(|now| now.interface != on.interface)) {
                tracing::warn!(interface = on.interface, "{} is no longer unguarded", on.interface);
            }
            *before = unguarded;
            true
        });
    }
}

/// Logs that nobody judges the packets of an interface.
pub(super) fn log_unguarded(on: &api::Unguarded) {
    let api::Unguarded { interface, why } = on;
    tracing::error!(interface, "UNGUARDED: nobody judges the packets of {interface}: {why}");
}
