//! Whether a packet's source is on the block-list.

use crate::{
    decide::Tables,
    fields::{Place, source},
    packet::Packet,
    parse::Family,
    summary::Summary,
};

/// True while the source is blocked. Out of line: boxes without a block-list do not pay for it.
#[inline(never)]
pub(crate) fn is_blocked<P: Packet, T: Tables>(packet: P, tables: &T, place: Place) -> bool {
    let Some(source) = source(packet, place) else { return false };
    tables.blocked(source).is_some_and(|until| until.lasts(tables.jiffies()))
}

/// IPv6 neighbour discovery that comes from the link (RFC 4861). It passes whoever is blocked, as ARP does: otherwise a
/// management source on the list could not be answered.
#[inline(always)]
pub(crate) const fn is_neighbour_discovery(summary: Summary) -> bool {
    matches!(summary.place().family(), Family::V6)
        && matches!(summary.flags(), 133..=136)
        && summary.hop_limit() == 255
}
