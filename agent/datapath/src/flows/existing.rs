//! Connections from before the program: shown to it, so that it adds flows for them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use lyncwall_common::abi::{Flow, FlowTimes};

use crate::{Datapath, clock};
use lyncwall_policy::connection::{Connection, Leg, Moment};

impl Datapath {
    /// Lets the program pick up TCP connections midway for this time; for the time before enforcement.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn set_learning(&mut self, time: Option<Duration>) -> Result<()> {
        let until = match time {
            Some(time) => self.deadline_in(time)?,
            None => 0,
        };
        self.control.set_learning(until);
        Ok(())
    }

    /// Adds flows for existing connections, unless a rule of the live generation lets their packets in.
    /// Learning must be on. The leg of a connection is unknown, so each is shown on one leg of every zone.
    ///
    /// # Errors
    /// If the kernel does not run the program.
    pub fn seed(&self, connections: &[Connection], legs: &[Leg]) -> Result<()> {
        let program = self.egress()?;
        let mut shown =
            legs.iter().flat_map(|leg| connections.iter().map(move |connection| (connection, leg)));
        shown.try_for_each(|(connection, leg)| show(program, connection, Moment::Middle, *leg))
    }

    /// Adds flows for connections as if this side had opened them now, on each of these legs: for TCP always,
    /// for UDP only if no rule of the live generation lets the packets in.
    ///
    /// # Errors
    /// If the kernel does not run the program.
    pub fn open_flows(&self, connections: &[Connection], legs: &[Leg]) -> Result<()> {
        let program = self.egress()?;
        for leg in legs {
            for connection in connections {
                for moment in [Moment::Opening, Moment::Middle] {
                    show(program, connection, moment, *leg)?;
                }
            }
        }
        Ok(())
    }

    /// The connections without a flow in any of the first `zones`; `times` is the life of flows.
    ///
    /// # Errors
    /// If a map or the kernel's clock cannot be read.
    pub fn without_flow(
        &self,
        connections: Vec<Connection>,
        times: FlowTimes,
        zones: usize,
    ) -> Result<Vec<Connection>> {
        if connections.is_empty() {
            return Ok(connections);
        }
        let mut found = Vec::new();
        for connection in connections {
            let flows = (0..zones as u16).filter_map(|zone| self.flows.find(&connection, zone).transpose());
            found.push((connection, flows.collect::<Result<Vec<Flow>>>()?));
        }
        // Read after the flows, so that no flow is later than it.
        let now = clock::jiffies(&self.ebpf)?;
        found.retain(|(_, flows)| !flows.iter().any(|flow| times.lives(*flow, now, self.hz)));
        Ok(found.into_iter().map(|(connection, _)| connection).collect())
    }
}

/// Shows the program a connection, as if this side had sent a packet by `leg`. The program decides whether
/// that adds a flow: it knows the open ports.
fn show(program: &SchedClassifier, connection: &Connection, moment: Moment, leg: Leg) -> Result<()> {
    /// The offset of the interface in `struct __sk_buff`; the bytes before it are 0. The kernel accepts it
    /// from 5.9 on.
    const IFINDEX: usize = 10;
    let frame = connection.outgoing(moment, leg)?;
    let mut context = [0u32; IFINDEX + 1];
    context[IFINDEX] = leg.ifindex;
    let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let context = (leg.ifindex != 0).then_some(&*context);
    let options = TestRunOptions { data_in: Some(&frame), ctx_in: context, ..TestRunOptions::default() };
    program.test_run(options).context("showing an existing connection to the program")?;
    Ok(())
}
