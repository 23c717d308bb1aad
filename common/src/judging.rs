//! Which generation judges a packet.

use crate::{
    abi::Features,
    blocked::is_blocked,
    fields::IpAt,
    packet::Packet,
    tables::{Rules, Tables},
};

/// The generation that judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judging {
    /// Its slot.
    pub slot: u32,
    /// The features that it uses.
    pub features: Features,
}

impl Judging {
    /// The generation that the live record names. The verdict reads the record once for each frame.
    #[inline(always)]
    pub fn now<T: Rules>(tables: &T) -> Option<Self> {
        let (slot, features) = tables.live()?.judging(|| tables.jiffies());
        Some(Self { slot, features })
    }

    /// True where the generation uses all of these features.
    #[inline(always)]
    pub(crate) const fn has(self, features: Features) -> bool {
        self.features.has(features)
    }

    /// True where the source is on the block-list.
    #[inline(always)]
    pub(crate) fn blocks<P: Packet, T: Tables>(self, packet: P, tables: &T, at: IpAt) -> bool {
        self.has(Features::BLOCKED) && is_blocked(packet, tables, at)
    }
}
