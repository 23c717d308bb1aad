//! `[flows]`: the life of flows, and the learning time at the start. `[fragments]`: those that come out of order.

use std::ops::RangeInclusive;
use std::time::Duration;

use lyncwall_common::abi::{FlowTimes, LONGEST_FLOW};

use super::Flows;
use crate::reader::{Keys, Table};

const SECTION: Keys = &["learn", "tcp-established", "udp", "size"];

const FRAGMENTS: Keys = &["early"];

/// Fragments a second for each CPU. The kernel keeps each for up to 30 s in 4 MiB (`net.ipv4.ipfrag_high_thresh`).
const EARLY: RangeInclusive<u32> = 0..=1_000;

/// Seconds; 0 does not wait.
const LEARN: RangeInclusive<u32> = 0..=60;

/// The capacity of each of the two tables: a million flows take 100 MB, and a third of a second of the first
/// start.
const SIZE: RangeInclusive<u32> = 1_024..=4_194_304;

/// Seconds. With less than a minute, the flow would be gone before a slow peer replies.
const SILENCE: RangeInclusive<u32> = 60..=LONGEST_FLOW;

impl Default for Flows {
    fn default() -> Self {
        Self { learn: Duration::from_secs(2), times: FlowTimes::DEFAULT, size: None }
    }
}

/// The section, or its defaults.
pub(super) fn flows(top: &Table<'_>) -> Option<Flows> {
    let default = Flows::default();
    let Some(node) = top.get("flows") else { return Some(default) };
    let table = node.table(SECTION)?;
    let number =
        |name: &str, range, what, default| table.get_or(name, default, |node| node.integer(range, what));
    let learn = number("learn", LEARN, "seconds", 2);
    let tcp_established = number("tcp-established", SILENCE, "seconds", default.times.tcp_established);
    let udp = number("udp", SILENCE, "seconds", default.times.udp);
    let size = match table.get("size") {
        Some(node) => node.integer(SIZE, "flows").map(Some),
        None => Some(None),
    };
    Some(Flows {
        learn: Duration::from_secs(learn?.into()),
        times: FlowTimes { tcp_established: tcp_established?, udp: udp? },
        size: size?,
    })
}

/// Later fragments that each CPU lets in before their first one, per second.
pub(super) fn early_fragments(top: &Table<'_>) -> Option<u32> {
    let Some(node) = top.get("fragments") else { return Some(0) };
    let early = "set how many later fragments a second may come before their first one, as 10";
    node.table(FRAGMENTS)?.required("early", early)?.integer(EARLY, "fragments per second")
}
