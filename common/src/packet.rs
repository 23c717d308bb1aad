//! Checked reads from a frame.

use core::ops::Deref;

pub use crate::bytes::Wire;
use crate::parse::{Options, walk_options};

/// A frame, from its Ethernet header on, without the frame check sequence.
///
/// It is a handle, passed by value: a reference to one would keep it in memory in the kernel program.
pub trait Packet: Copy {
    /// The length of the frame in bytes, also where only its beginning can be read.
    fn length(self) -> usize;

    /// True where the frame has at least `end` bytes.
    fn holds(self, end: usize) -> bool {
        end <= self.length()
    }

    /// A header of the frame.
    type Header<T: Wire>: Deref<Target = T>;

    /// The `T` at `offset` bytes; `None` where the readable part of the frame ends before it does. Integers come
    /// as they lie in memory: in network byte order.
    ///
    /// A reference where it can be, so that the kernel program loads the fields it needs, and each when it needs it.
    fn header<T: Wire>(self, offset: usize) -> Option<Self::Header<T>>;

    /// The same as a value.
    #[inline(always)]
    fn read<T: Wire>(self, offset: usize) -> Option<T> {
        self.header(offset).map(|header| *header)
    }

    /// What the IPv4 options at `start..end` say; see [`walk_options`]. The kernel program does it where the verifier looks
    /// at it once.
    #[inline(always)]
    fn options(self, start: usize, end: usize) -> Options {
        walk_options(self, start, end)
    }

    /// The VLAN identifier of a tag that the kernel keeps beside the frame, in front of those in it: so it is with what goes
    /// out.
    #[inline(always)]
    fn tag(self) -> Option<u16> {
        None
    }

    /// True for what goes out and came in before.
    #[inline(always)]
    fn is_forwarded(self) -> bool {
        false
    }

    /// True for what goes out by the interface that it came in by.
    #[inline(always)]
    fn is_sent_back(self) -> bool {
        false
    }

    /// The same values, of which the verifier knows nothing any more. It then takes all ways that lead here for the same
    /// one instead of following each; only the kernel program does anything here.
    #[inline(always)]
    fn forget(self, values: [u64; 2]) -> [u64; 2] {
        values
    }
}

/// A whole frame in memory.
impl Packet for &[u8] {
    fn length(self) -> usize {
        self.len()
    }

    /// A copy: a slice may begin at an odd address.
    type Header<T: Wire> = Copied<T>;

    fn header<T: Wire>(self, offset: usize) -> Option<Copied<T>> {
        crate::bytes::first(self.get(offset..)?).map(Copied)
    }
}

/// A header that was copied out of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Copied<T>(pub T);

impl<T> Deref for Copied<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
