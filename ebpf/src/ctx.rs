//! The frame of an XDP context.

use core::hint::black_box;

use lyncwall_common::{
    packet::{Packet, Wire},
    parse::Options,
};

use crate::{
    once,
    raw::{Context, now},
};

/// A frame, the beginning of which lies in memory.
///
/// One word, so that it stays in a register; the bounds of the memory are asked of the context with each read, which is as
/// cheap as to keep them on the stack. `FRAGS` says that the frame may go on in other buffers (`xdp.frags`, kernel 5.18).
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a, const FRAGS: bool>(Context<'a>);

impl<'a, const FRAGS: bool> Frame<'a, FRAGS> {
    #[inline(always)]
    pub(crate) fn of(context: Context<'a>) -> Self {
        Self(context)
    }

    #[inline(always)]
    pub(crate) fn context(self) -> Context<'a> {
        self.0
    }

    /// The number of the interface.
    #[inline(always)]
    pub(crate) fn ifindex(self) -> u32 {
        self.0.ifindex()
    }
}

impl<'a, const FRAGS: bool> Packet for Frame<'a, FRAGS> {
    type Header<T: Wire> = &'a T;

    #[inline(always)]
    fn length(self) -> usize {
        if FRAGS { self.0.length_of_all() } else { self.0.data_end() - self.0.data() }
    }

    #[inline(always)]
    fn holds(self, end: usize) -> bool {
        // The first buffer nearly always holds the packet, and the helper call is dear. The end is not added to the beginning:
        // verifiers up to 6.12 know no bounds of a byte-swapped length, and refuse it as an offset into the packet.
        end <= self.0.data_end() - self.0.data() || (FRAGS && end <= self.length())
    }

    #[inline(always)]
    fn header<T: Wire>(self, offset: usize) -> Option<&'a T> {
        self.0.header(offset)
    }

    #[inline(always)]
    fn options(self, start: usize, end: usize) -> Options {
        once::options(self.0, start, end)
    }

    #[inline(always)]
    fn forget(self, values: [u64; 2]) -> [u64; 2] {
        forget(values)
    }
}

/// Adds a difference that is 0, and that the verifier does not compute: of a number that it knows nothing of, and of the
/// same number that has been on the stack.
#[inline(always)]
pub(crate) fn forget(values: [u64; 2]) -> [u64; 2] {
    let number = now();
    let nothing = black_box(number).wrapping_sub(number);
    values.map(|value| value.wrapping_add(nothing))
}
