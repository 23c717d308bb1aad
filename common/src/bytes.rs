//! Types that any bytes make a valid value of. The only unsafe code of this crate.
#![expect(unsafe_code, reason = "types that any bytes make are read from bytes")]

use crate::wire::{
    ErrorV4, ErrorV6, EthernetHeader, ExtensionHeader, IcmpHeader, Ipv4Header, Ipv6Header, LlcHeader,
    SegmentV4, SegmentV6, TcpHeader, UdpHeader, VlanTag,
};

/// A type that any bytes make a valid value of, aligned to 16 bits at most.
///
/// # Safety
/// Every bit pattern of `size_of::<Self>()` bytes must be a valid `Self`, and `align_of::<Self>()` at most 2.
pub unsafe trait Wire: Copy + 'static {}

macro_rules! wire {
    ($($t:ty),*) => { $(
        const _: () = assert!(align_of::<$t>() <= 2);
        // SAFETY: made of unsigned integers and arrays of them only; the alignment is asserted above.
        unsafe impl Wire for $t {}
    )* };
}
wire!(
    u8,
    u16,
    EthernetHeader,
    VlanTag,
    LlcHeader,
    Ipv4Header,
    Ipv6Header,
    ExtensionHeader,
    TcpHeader,
    UdpHeader,
    IcmpHeader,
    SegmentV4,
    SegmentV6,
    ErrorV4,
    ErrorV6
);

// SAFETY: an array of bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: an array of 16-bit integers.
unsafe impl<const N: usize> Wire for [u16; N] {}

/// The `T` that `bytes` begin with; `None` where they are too few.
pub(crate) fn first<T: Wire>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: `bytes` has the size of a `T`, and any bytes are a `T`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// aya copies map values as plain bytes; each type here is `repr(C)`, without padding and without pointers, as the
/// size assertions beside it show.
#[cfg(feature = "user")]
mod map_values {
    use crate::abi;

    macro_rules! pod {
        ($($t:ident),*) => { $(
            // SAFETY: `repr(C)`, fixed-width integers and arrays of them only, no padding.
            unsafe impl aya::Pod for abi::$t {}
        )* };
    }
    pod!(Generation, TargetTable, PolicyTable, AllowTable, SourceV4, SourceV6, SourceRecord, FragmentKey);
    pod!(VlanTable);
    pod!(FragmentRecord, CpuRecord, CounterBlock, Event, Control, FlowKeyV4, FlowKeyV6, FlowPorts, Flow);
    pod!(BlockRecord, OpeningKey, Bucket, Captured);
}
