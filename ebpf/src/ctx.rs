//! The frame of an XDP context.

use core::hint::black_box;

use aya_ebpf::bindings::xdp_md;
use lyncwall_common::{
    packet::{Ipv4Options, Packet, Wire},
    parse::{OPTIONS_MASK, walk_options},
};

use crate::raw::{Context, now};

/// A frame with its beginning in memory.
///
/// One word, which stays in a register. Each read loads the bounds of the memory from the context, which costs as little
/// as to keep them on the stack. `FRAGS` says that the frame may go on in other buffers (`xdp.frags`, kernel 5.18).
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
        // The first buffer nearly always holds the packet, and the helper call is dear. `end` is not added to the start of
        // the data: verifiers up to 6.12 know no bounds of a byte-swapped length, and refuse it as an offset.
        end <= self.0.data_end() - self.0.data() || (FRAGS && end <= self.length())
    }

    #[inline(always)]
    fn header<T: Wire>(self, offset: usize) -> Option<&'a T> {
        self.0.header(offset)
    }

    #[inline(always)]
    fn ipv4_options(self, start: usize, end: usize) -> Ipv4Options {
        let context = self.0.to_kernel();
        Ipv4Options::from_number(subprogram_ipv4_options(context, start as u32, end as u32))
    }

    #[inline(always)]
    fn forget(self, values: [u64; 2]) -> [u64; 2] {
        forget(values)
    }
}

/// Walks the IPv4 options at `start..end` in the first buffer. A subprogram, which the verifier checks once.
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_ipv4_options(context: *mut xdp_md, start: u32, end: u32) -> u32 {
    let frame = Frame::<false>::of(Context::of_kernel(context));
    walk_options(frame, start as usize & OPTIONS_MASK, end as usize & OPTIONS_MASK) as u32
}

/// Adds a difference that is 0, and that the verifier cannot compute: a number that it does not know, minus that number
/// after a way over the stack.
#[inline(always)]
pub(crate) fn forget(values: [u64; 2]) -> [u64; 2] {
    let number = now();
    let nothing = black_box(number).wrapping_sub(number);
    values.map(|value| value.wrapping_add(nothing))
}
