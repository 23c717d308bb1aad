//! Checked reads from a frame.

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
    vlan::VlanHdr,
};

/// A type that any bytes make a valid value of.
///
/// # Safety
/// Every bit pattern of `size_of::<Self>()` bytes must be a valid `Self`.
pub unsafe trait Wire: Copy {}

macro_rules! wire {
    ($($t:ty),*) => { $(
        // SAFETY: made of unsigned integers and arrays of them only.
        unsafe impl Wire for $t {}
    )* };
}
wire!(u8, u16, u32, u64, EthHdr, VlanHdr, Ipv4Hdr, Ipv6Hdr, TcpHdr, UdpHdr);

// SAFETY: an array of bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}

/// A frame, from its Ethernet header on, without the frame check sequence.
pub trait Packet {
    /// The length of the frame in bytes, also where only its beginning can be read.
    fn len(&self) -> usize;

    /// True for a frame of no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True where the frame has at least `end` bytes.
    fn holds(&self, end: usize) -> bool {
        end <= self.len()
    }

    /// The `T` at `offset` bytes; `None` where the readable part of the frame ends before it does. Integers come
    /// as they lie in memory: in network byte order.
    fn read<T: Wire>(&self, offset: usize) -> Option<T>;
}

/// A whole frame in memory.
impl Packet for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        let bytes = self.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: `bytes` has the size of a `T`, and any bytes are a `T`.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}
