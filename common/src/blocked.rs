//! Whether a packet's source is on the block-list.

use crate::{
    fields::{IpAt, source},
    packet::Packet,
    tables::Tables,
};

/// True while the source is blocked. Out of line: boxes without a block-list do not pay for it.
#[inline(never)]
pub(crate) fn is_blocked<P: Packet, T: Tables>(packet: P, tables: &T, at: IpAt) -> bool {
    let Some(source) = source(packet, at) else { return false };
    tables.blocked(source).is_some_and(|until| until.lasts(tables.jiffies()))
}
