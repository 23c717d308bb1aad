//! Addresses that come over from another box: what this one forwards from then on stood before it did.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Firewall;
use crate::config::{Address, Target};
use crate::datapath::KnownFlows;
use crate::plan::{Machine, Plan};

/// How long connections are picked up in the middle once an address came over: as long as a SIP client is silent between two
/// keep-alives, twice. The program ends it by itself.
const WINDOW: Duration = Duration::from_secs(60);

/// A window that was opened.
pub(super) struct Takeover {
    until: Instant,
    /// The flows of before.
    known: KnownFlows,
}

impl Firewall {
    /// Where an address came to this box that a target takes over: has the program pick up TCP connections in the middle for a
    /// while, in what leaves.
    pub(super) fn take_connections_over(&mut self, machine: &Machine) -> Result<()> {
        let came = came_over(&self.plan, &self.addresses, &machine.addresses);
        if came.is_empty() {
            self.addresses.clone_from(&machine.addresses);
            return Ok(());
        }
        let known = match self.takeover.take() {
            Some(earlier) => earlier.known,
            None => self.datapath.known_flows()?,
        };
        self.datapath.set_learning(Some(WINDOW))?;
        self.takeover = Some(Takeover { until: Instant::now() + WINDOW, known });
        self.addresses.clone_from(&machine.addresses);
        let addresses = came.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        tracing::info!(
            addresses,
            seconds = WINDOW.as_secs(),
            "came over: TCP connections are picked up in the middle for a while"
        );
        Ok(())
    }

    /// Once a window is over: forgets what was picked up of connections to this box itself, which its rules judge. To be called
    /// now and again.
    ///
    /// # Errors
    /// Where a map cannot be read or changed.
    pub fn end_takeover(&mut self) -> Result<()> {
        match self.takeover.take_if(|takeover| takeover.until <= Instant::now()) {
            Some(over) => self.forget_accepted(&over.known),
            None => Ok(()),
        }
    }

    /// Ends learning, but for a window that is open still.
    pub(super) fn end_learning(&mut self) -> Result<()> {
        let left =
            self.takeover.as_ref().map(|takeover| takeover.until.saturating_duration_since(Instant::now()));
        self.datapath.set_learning(left.filter(|left| !left.is_zero()))
    }

    /// What was let go on while a window is open is not forgotten when that is over.
    pub(super) fn keep_drained(&mut self) {
        let Some(takeover) = &mut self.takeover else { return };
        match self.datapath.known_flows() {
            Ok(known) => takeover.known = known,
            Err(error) => tracing::warn!("what was let go on may be cut: {error:#}"),
        }
    }
}

/// The addresses among `now` and not among `before` that a target takes connections over with.
fn came_over(plan: &Plan, before: &[IpAddr], now: &[IpAddr]) -> Vec<IpAddr> {
    let listed = |target: &Target| match &target.address {
        Address::Host => Vec::new(),
        Address::HostAnd(list) | Address::List(list) => list.clone(),
    };
    let taken = plan.config.targets.iter().filter(|target| target.takeover).flat_map(listed);
    taken.filter(|address| now.contains(address) && !before.contains(address)).collect()
}
