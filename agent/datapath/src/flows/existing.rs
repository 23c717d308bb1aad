//! Connections that stood before the program did: shown to it, so that it makes flows of them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use lyncwall_common::abi::{Flow, FlowTimes};

use crate::{Datapath, clock};
use lyncwall_policy::connection::{Connection, Leg, Moment};

impl Datapath {
    /// Picks TCP connections up in the middle for this time, or no longer: for the time before enforcement begins.
    ///
    /// # Errors
    /// Where the kernel's clock cannot be read.
    pub fn set_learning(&mut self, time: Option<Duration>) -> Result<()> {
        let until = match time {
            Some(time) => self.deadline_in(time)?,
            None => 0,
        };
        self.control.set_learning(until);
        Ok(())
    }

    /// Makes flows of connections that stand already, where no rule of the live generation lets their packets in.
    /// Learning has to be on. As nobody knows by which leg they leave, they are shown on one of each zone.
    ///
    /// # Errors
    /// Where the kernel does not run the program.
    pub fn seed(&self, connections: &[Connection], legs: &[Leg]) -> Result<()> {
        let program = self.egress()?;
        let mut shown =
            legs.iter().flat_map(|leg| connections.iter().map(move |connection| (connection, leg)));
        shown.try_for_each(|(connection, leg)| show(program, connection, Moment::Middle, *leg))
    }

    /// Makes flows of connections as if this side had opened them now, by each of these legs: of TCP whatever is open, of
    /// UDP only where no rule of the live generation lets its packets in.
    ///
    /// # Errors
    /// Where the kernel does not run the program.
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

    /// Those of some connections whose packets no flow lets in, in any of the first `zones`; `times` is how long flows live.
    ///
    /// # Errors
    /// Where a map or the kernel's clock cannot be read.
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
        // Asked for after the flows, none of which is later then.
        let now = clock::jiffies(&self.ebpf)?;
        found.retain(|(_, flows)| !flows.iter().any(|flow| times.lives(*flow, now, self.hz)));
        Ok(found.into_iter().map(|(connection, _)| connection).collect())
    }
}

/// Shows a connection to the program as if this side had sent a packet of it by `leg`. Whether that makes a flow is for the program
/// to say, which knows what is open.
fn show(program: &SchedClassifier, connection: &Connection, moment: Moment, leg: Leg) -> Result<()> {
    /// Where `struct __sk_buff` has the interface; what lies before it is 0. The kernel takes it from 5.9 on.
    const IFINDEX: usize = 10;
    let frame = connection.outgoing(moment, leg)?;
    let mut context = [0u32; IFINDEX + 1];
    context[IFINDEX] = leg.ifindex;
    let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let context = (leg.ifindex != 0).then_some(&*context);
    let options = TestRunOptions { data_in: Some(&frame), ctx_in: context, ..TestRunOptions::default() };
    program.test_run(options).context("showing a standing connection to the program")?;
    Ok(())
}
