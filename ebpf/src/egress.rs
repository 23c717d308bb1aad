//! What the box sends and forwards: looked at for the flows it opens, and never touched.

use aya_ebpf::programs::TcContext;
use lyncwall_common::{
    flow,
    packet::{Packet, Wire},
    parse::Options,
};

use crate::{maps::Kernel, raw::Outgoing};

/// As many bytes of a packet as headers that matter may take: two tags, IPv6 with some extension headers, TCP.
const HEADERS: usize = 128;

/// Takes notice of a packet.
#[inline(always)]
pub(crate) fn track(context: &TcContext) {
    let packet = Outgoing::new(context);
    if packet.readable() < HEADERS && packet.readable() < packet.length() {
        packet.pull(HEADERS.min(packet.length()));
    }
    if let Some(kernel) = Kernel::new(packet) {
        flow::track(Frame(packet), &kernel);
    }
}

/// A frame that goes out. Its tags, which the kernel keeps beside it, are not in it.
#[derive(Clone, Copy)]
struct Frame<'a>(Outgoing<'a>);

impl<'a> Packet for Frame<'a> {
    type Header<T: Wire> = &'a T;

    #[inline(always)]
    fn length(self) -> usize {
        self.0.length()
    }

    #[inline(always)]
    fn header<T: Wire>(self, offset: usize) -> Option<&'a T> {
        self.0.header(offset)
    }

    #[inline(always)]
    fn tag(self) -> Option<u16> {
        self.0.tag()
    }

    /// What the box sends is not judged.
    #[inline(always)]
    fn options(self, _: usize, _: usize) -> Options {
        Options::Sound
    }

    #[inline(always)]
    fn forget(self, values: [u64; 2]) -> [u64; 2] {
        crate::ctx::forget(values)
    }
}
