//! Whether a source may open one more connection.

use crate::{
    abi::{Bucket, OpeningKey},
    fields::{IpAt, source},
    packet::Packet,
    tables::Tables,
};

/// Counts one more opening against the source's limit on ports of this policy, or of the whole box; false where the limit
/// is reached. Out of line: boxes without a limit do not pay for it.
#[inline(never)]
pub(crate) fn may_open<P: Packet, T: Tables>(
    packet: P,
    tables: &T,
    at: IpAt,
    slot: u32,
    policy: u32,
) -> bool {
    let Some(limit) = tables.limit(slot, policy) else { return false };
    if limit.rate == 0 {
        return true;
    }
    let Some(source) = source(packet, at) else { return false };
    let key = OpeningKey::of(source, limit.scope);
    let (now, hz) = (tables.jiffies(), tables.hz());
    let spent = tables.change_bucket(&key, |bucket| bucket.spend(now, hz, limit));
    spent.unwrap_or_else(|| {
        let mut bucket = Bucket::full(now, hz, limit);
        let within = bucket.spend(now, hz, limit);
        tables.add_bucket(&key, bucket);
        within
    })
}
