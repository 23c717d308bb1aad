//! First fragments that passed.

use lyncwall_common::abi::{FragmentKey, FragmentRecord};

use super::{constants::is_explaining, counters::with_cpu, map};
use crate::raw;

map!(FRAGMENTS: LruHashMap<FragmentKey, FragmentRecord>);

#[inline(always)]
pub(super) fn get(key: &FragmentKey) -> Option<FragmentRecord> {
    raw::copied(&FRAGMENTS, key)
}

#[inline(always)]
pub(super) fn remember(key: &FragmentKey, record: FragmentRecord) {
    if !is_explaining() && FRAGMENTS.insert(key, record, 0).is_err() {
        with_cpu(|cpu| cpu.fragments_lost += 1);
    }
}

#[inline(always)]
pub(super) fn forget(key: &FragmentKey) {
    // The map need not contain the key.
    if !is_explaining() && FRAGMENTS.remove(key).is_err() {}
}
