//! Checked reads from a frame.

use core::ops::Deref;

pub use crate::bytes::Wire;

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

    /// The `T` at `offset` bytes; `None` where the readable part of the frame ends before the end of the `T`.
    /// Integers are in network byte order.
    ///
    /// A reference where possible: the kernel program then loads a field only where it needs the field.
    fn header<T: Wire>(self, offset: usize) -> Option<Self::Header<T>>;

    /// A copy of the `T` at `offset`; see [`Packet::header`].
    #[inline(always)]
    fn read<T: Wire>(self, offset: usize) -> Option<T> {
        self.header(offset).map(|header| *header)
    }

    /// Judges the IPv4 options at `start..end`, as [`walk_options`](crate::parse::walk_options) does. The kernel program
    /// has a subprogram for it, which the verifier checks only once.
    fn ipv4_options(self, start: usize, end: usize) -> Ipv4Options;

    /// The VLAN identifier of a tag that the kernel keeps beside the frame. It is outside the tags in the frame. Only
    /// outgoing frames have one.
    #[inline(always)]
    fn tag(self) -> Option<u16> {
        None
    }

    /// True for an outgoing frame that another interface, or this one, received.
    #[inline(always)]
    fn is_forwarded(self) -> bool {
        false
    }

    /// True for an outgoing frame that this interface received.
    #[inline(always)]
    fn is_sent_back(self) -> bool {
        false
    }

    /// Returns the values, and makes the verifier forget what it knows of them: it then follows the code behind this
    /// call once, and not once for each way to it. Only the kernel program does anything here.
    #[inline(always)]
    fn forget(self, values: [u64; 2]) -> [u64; 2] {
        values
    }
}

/// The result of a walk through IPv4 options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ipv4Options {
    /// Nothing that matters here.
    Sound = 0,
    /// Lengths that contradict each other, or bytes that cannot be read.
    Malformed = 1,
    /// A loose or strict source route (RFC 7126, 4.3 and 4.4).
    SourceRoute = 2,
}

impl Ipv4Options {
    /// The result with this number; an unknown number counts as malformed.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Sound,
            2 => Self::SourceRoute,
            _ => Self::Malformed,
        }
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
