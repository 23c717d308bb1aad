//! The frame of an XDP context. The only code that touches packet memory.

use core::marker::PhantomData;

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use lyncwall_common::packet::{Packet, Wire};

use crate::maps;

/// A frame, the beginning of which lies in memory.
///
/// One word, so that it stays in a register; the bounds of the memory are asked of the context with each read, which is as
/// cheap as to keep them on the stack. `FRAGS` says that the frame may go on in other buffers (`xdp.frags`, kernel 5.18).
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a, const FRAGS: bool> {
    context: *mut xdp_md,
    lifetime: PhantomData<&'a XdpContext>,
}

impl<'a, const FRAGS: bool> Frame<'a, FRAGS> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self { context: context.ctx, lifetime: PhantomData }
    }

    /// The number of the interface.
    #[inline(always)]
    pub(crate) fn ifindex(self) -> u32 {
        // SAFETY: the context that the kernel handed in.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn data(self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.context).data as usize }
    }

    #[inline(always)]
    fn data_end(self) -> usize {
        // SAFETY: as above.
        let end = unsafe { &raw const (*self.context).data_end };
        // SAFETY: as above. Volatile, or the compiler computes with the end of the packet, which the verifier refuses.
        unsafe { end.read_volatile() as usize }
    }
}

impl<'a, const FRAGS: bool> Packet for Frame<'a, FRAGS> {
    type Header<T: Wire> = &'a T;

    #[inline(always)]
    fn length(self) -> usize {
        if FRAGS {
            // SAFETY: the context that the kernel handed in.
            let length = unsafe { bpf_xdp_get_buff_len(self.context) };
            return length as usize;
        }
        self.data_end() - self.data()
    }

    #[inline(always)]
    fn holds(self, end: usize) -> bool {
        // The first buffer nearly always holds the packet, and the helper call is dear.
        self.data() + end <= self.data_end() || (FRAGS && end <= self.length())
    }

    #[inline(always)]
    fn header<T: Wire>(self, offset: usize) -> Option<&'a T> {
        let start = self.data() + offset;
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: `start` and the size of a `T` behind it lie between data and data_end, which the verifier checks
        // again; any bytes are a `T`. Frames begin at an even address (the verifier refuses the load on machines where
        // that would matter), and headers lie at even offsets, so a `T` is aligned. Nobody writes to the frame meanwhile.
        Some(unsafe { &*(start as *const T) })
    }

    #[inline(always)]
    fn forget(self, values: [u64; 2]) -> [u64; 2] {
        maps::forget(values)
    }
}
