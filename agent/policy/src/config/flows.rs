//! `[flows]`: how long flows live, and how long the start waits to learn of them.

use std::ops::RangeInclusive;
use std::time::Duration;

use lyncwall_common::abi::{FLOWS, FlowTimes, LONGEST_FLOW};

use super::Flows;
use super::reader::{Keys, Table};

const SECTION: Keys = Keys { known: &["learn", "tcp-established", "udp", "size"], later: &[] };

/// Seconds; 0 does not wait.
const LEARN: RangeInclusive<u32> = 0..=60;

/// Flows in each of the two tables: a million takes 100 MB, and a third of a second of the first start.
const SIZE: RangeInclusive<u32> = 1_024..=4_194_304;

/// Seconds. Below a minute the replies of a slow peer would find their flow gone.
const SILENCE: RangeInclusive<u32> = 60..=LONGEST_FLOW;

impl Default for Flows {
    fn default() -> Self {
        Self { learn: Duration::from_secs(2), times: FlowTimes::DEFAULT, size: FLOWS }
    }
}

/// The section, or what holds without it.
pub(super) fn flows(top: &Table<'_>) -> Option<Flows> {
    let default = Flows::default();
    let Some(node) = top.get("flows") else { return Some(default) };
    let table = node.table(SECTION)?;
    let number = |name: &str, range, what, default| match table.get(name) {
        Some(node) => node.integer(range, what),
        None => Some(default),
    };
    let learn = number("learn", LEARN, "seconds", 2);
    let tcp_established = number("tcp-established", SILENCE, "seconds", default.times.tcp_established);
    let udp = number("udp", SILENCE, "seconds", default.times.udp);
    let size = number("size", SIZE, "flows", default.size);
    Some(Flows {
        learn: Duration::from_secs(learn?.into()),
        times: FlowTimes { tcp_established: tcp_established?, udp: udp? },
        size: size?,
    })
}
