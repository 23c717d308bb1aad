//! How many connections each source may still open.

use lyncwall_common::abi::{Bucket, OpeningKey};

use super::{constants::is_explaining, map};
use crate::raw;

map!(OPENINGS: LruHashMap<OpeningKey, Bucket>);

#[inline(always)]
pub(super) fn change<R>(key: &OpeningKey, change: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
    raw::changed(&OPENINGS, key, !is_explaining(), change)
}

#[inline(always)]
pub(super) fn add(key: &OpeningKey, bucket: Bucket) {
    if is_explaining() {
        return;
    }
    // Where the map takes no more, the source counts as new with each opening.
    if OPENINGS.insert(key, bucket, 0).is_err() {}
}
