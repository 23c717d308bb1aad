//! The frame of an XDP context. The only code that touches packet memory.

use aya_ebpf::{EbpfContext as _, helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use lyncwall_common::packet::{Packet, Wire};

use crate::maps;

/// A frame whose beginning lies at `data..end`.
///
/// `FRAGS` says that it may go on in other buffers (`xdp.frags`, kernel 5.18).
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a, const FRAGS: bool> {
    context: &'a XdpContext,
    data: usize,
    end: usize,
}

impl<'a, const FRAGS: bool> Frame<'a, FRAGS> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self { context, data: context.data(), end: context.data_end() }
    }

    /// The number of the interface.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }
}

impl<const FRAGS: bool> Packet for Frame<'_, FRAGS> {
    #[inline(always)]
    fn length(self) -> usize {
        if FRAGS {
            // SAFETY: the context is the one that the kernel handed in.
            let length = unsafe { bpf_xdp_get_buff_len(self.context.as_ptr().cast()) };
            return length as usize;
        }
        self.end - self.data
    }

    #[inline(always)]
    fn holds(self, end: usize) -> bool {
        // The first buffer nearly always holds the packet, and the helper call is dear.
        self.data + end <= self.end || (FRAGS && end <= self.length())
    }

    #[inline(always)]
    fn read<T: Wire>(self, offset: usize) -> Option<T> {
        let start = self.data + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: `start` and the size of a `T` behind it lie between data and data_end, which the verifier checks
        // again; any bytes are a `T`. Frames begin at an even address (the verifier refuses the load on machines where
        // that would matter), and headers lie at even offsets, so a `T` is aligned.
        Some(unsafe { (start as *const T).read() })
    }

    #[inline(always)]
    fn forget(self, values: [u64; 2]) -> [u64; 2] {
        maps::forget(values)
    }
}
