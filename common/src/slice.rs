//! A whole frame in memory: what the agent and the tests judge.

use crate::{
    bytes,
    packet::{Copied, Ipv4Options, Packet, Wire},
    parse::walk_options,
};

impl Packet for &[u8] {
    fn length(self) -> usize {
        self.len()
    }

    /// A copy: a slice may begin at an odd address.
    type Header<T: Wire> = Copied<T>;

    fn header<T: Wire>(self, offset: usize) -> Option<Copied<T>> {
        bytes::first(self.get(offset..)?).map(Copied)
    }

    fn ipv4_options(self, start: usize, end: usize) -> Ipv4Options {
        walk_options(self, start, end)
    }
}
