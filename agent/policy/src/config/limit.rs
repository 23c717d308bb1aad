//! `[limit]` and a target's `limit`: the rate at which one source may open connections.

use std::ops::RangeInclusive;

use lyncwall_common::abi::Limit;

use super::Openings;
use crate::reader::{Keys, Table};

const LIMIT: Keys = &["openings-per-second", "burst"];

const RANGE: RangeInclusive<u32> = 1..=Limit::MOST;

/// The limit of the file or of one target; `Some(None)` without one.
pub(super) fn limit(around: &Table<'_>) -> Option<Option<Openings>> {
    let Some(node) = around.get("limit") else { return Some(None) };
    let table = node.table(LIMIT)?;
    let rate =
        table.required("openings-per-second", "set the connections that one source may open a second, as 20");
    let rate = rate.and_then(|node| node.integer(RANGE, "connections per second"));
    let burst = match table.get("burst") {
        Some(node) => node.integer(RANGE, "connections"),
        // As many as in one second.
        None => rate,
    };
    Some(Some(Openings { per_second: rate?, burst: burst? }))
}
