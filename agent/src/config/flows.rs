//! `[flows]`: how long flows live, and how long the start waits to learn of them.

use std::ops::RangeInclusive;
use std::time::Duration;

use lyncwall_common::abi::{FlowTimes, LONGEST_FLOW};

use super::Flows;
use super::reader::{Keys, Table};

const FLOWS: Keys = Keys { known: &["learn", "tcp-established", "udp"], later: &[("size", "table sizes")] };

/// Seconds; 0 does not wait.
const LEARN: RangeInclusive<u32> = 0..=60;

/// Seconds. Below a minute the replies of a slow peer would find their flow gone.
const SILENCE: RangeInclusive<u32> = 60..=LONGEST_FLOW;

impl Default for Flows {
    fn default() -> Self {
        Self { learn: Duration::from_secs(2), times: FlowTimes::DEFAULT }
    }
}

/// The section, or what holds without it.
pub(super) fn flows(top: &Table<'_>) -> Option<Flows> {
    let default = Flows::default();
    let Some(node) = top.get("flows") else { return Some(default) };
    let table = node.table(FLOWS)?;
    let seconds = |name: &str, range, default| match table.get(name) {
        Some(node) => node.integer(range, "seconds"),
        None => Some(default),
    };
    let learn = seconds("learn", LEARN, 2);
    let tcp_established = seconds("tcp-established", SILENCE, default.times.tcp_established);
    let udp = seconds("udp", SILENCE, default.times.udp);
    Some(Flows {
        learn: Duration::from_secs(learn?.into()),
        times: FlowTimes { tcp_established: tcp_established?, udp: udp? },
    })
}
