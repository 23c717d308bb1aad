//! Addresses that come over from another box: their connections existed before this box forwards them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Firewall;
use lyncwall_datapath::KnownFlows;
use lyncwall_policy::config::{Address, Target};
use lyncwall_policy::net::OwnAddresses;
use lyncwall_policy::plan::{Machine, Plan};

/// How long to pick up connections midway after an address came over: twice the longest silence of a SIP
/// client between two keep-alives. The program ends it by itself.
const WINDOW: Duration = Duration::from_secs(60);

/// An open window.
pub(super) struct Takeover {
    until: Instant,
    /// The flows from before it.
    known: KnownFlows,
}

impl Firewall {
    /// When an address of a target with `takeover` comes to this box, makes the program pick up outgoing TCP
    /// connections midway for a while.
    pub(super) fn take_connections_over(&mut self, machine: &Machine) -> Result<()> {
        let came = came_over(&self.plan, &self.own, &machine.own);
        if came.is_empty() {
            self.own.clone_from(&machine.own);
            return Ok(());
        }
        let known = match self.takeover.take() {
            Some(earlier) => earlier.known,
            None => self.datapath.known_flows()?,
        };
        self.datapath.set_learning(Some(WINDOW))?;
        self.takeover = Some(Takeover { until: Instant::now() + WINDOW, known });
        self.own.clone_from(&machine.own);
        let addresses = came.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        tracing::info!(
            addresses,
            seconds = WINDOW.as_secs(),
            "addresses came over ({addresses}): picking up TCP connections midway for {} s",
            WINDOW.as_secs()
        );
        Ok(())
    }

    /// After a window: forgets the picked-up connections to this box itself, which its rules judge. Call it
    /// now and again.
    ///
    /// # Errors
    /// If a map cannot be read or changed.
    pub fn end_takeover(&mut self) -> Result<()> {
        match self.takeover.take_if(|takeover| takeover.until <= Instant::now()) {
            Some(over) => self.forget_accepted(&over.known),
            None => Ok(()),
        }
    }

    /// Ends learning, unless a window is still open.
    pub(super) fn end_learning(&mut self) -> Result<()> {
        let left =
            self.takeover.as_ref().map(|takeover| takeover.until.saturating_duration_since(Instant::now()));
        self.datapath.set_learning(left.filter(|left| !left.is_zero()))
    }

    /// Keeps flows that a drain added while a window is open.
    pub(super) fn keep_drained(&mut self) {
        let Some(takeover) = &mut self.takeover else { return };
        match self.datapath.known_flows() {
            Ok(known) => takeover.known = known,
            Err(error) => tracing::warn!("drained connections may be cut: {error:#}"),
        }
    }
}

/// The addresses in `now` but not in `before` that a target takes connections over with.
fn came_over(plan: &Plan, before: &OwnAddresses, now: &OwnAddresses) -> Vec<IpAddr> {
    let listed = |target: &Target| match &target.address {
        Address::Host => Vec::new(),
        Address::HostAnd(list) | Address::List(list) => list.clone(),
    };
    let taken = plan.config.targets.iter().filter(|target| target.takeover).flat_map(listed);
    taken.filter(|address| now.contains(*address) && !before.contains(*address)).collect()
}
