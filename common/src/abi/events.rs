//! What the program reports of a dropped packet, and what it remembers of a first fragment.

/// A sampled drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Event {
    /// Jiffies when it happened.
    pub jiffies: u64,
    /// The interface it came in by.
    pub ifindex: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// Source address, network byte order; an IPv4 address in the first four bytes.
    pub source: [u8; 16],
    /// Destination address, likewise.
    pub destination: [u8; 16],
    /// Source port, host byte order; 0 where there is none.
    pub source_port: u16,
    /// Destination port, host byte order; 0 where there is none.
    pub destination_port: u16,
    /// VLAN identifiers, outer first; 0 where there is no tag, else with bit 15 set.
    pub vlan: [u16; 2],
    /// EtherType after the tags, host byte order.
    pub ether_type: u16,
    /// [`Reason`](crate::reason::Reason).
    pub reason: u8,
    /// [`Action`](crate::reason::Action): audit mode reports what it would have dropped.
    pub action: u8,
    /// 4, 6, or 0 where the addresses could not be read.
    pub family: u8,
    /// IP protocol, after extension headers.
    pub protocol: u8,
    /// TCP flags, or the ICMP type.
    pub flags: u8,
    /// The ICMP code.
    pub code: u8,
    /// The slot that judged.
    pub slot: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Event>() == 72);

/// What a later fragment has in common with its first one (RFC 791, RFC 8200).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address, network byte order; an IPv4 address in the first four bytes, the rest 0.
    pub source: [u8; 16],
    /// Destination address, likewise.
    pub destination: [u8; 16],
    /// Identification, as it lies in the packet.
    pub id: u32,
    /// IP protocol for IPv4; 0 for IPv6, where only the first fragment's header chain says what it is (RFC 8200, 4.5).
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// The zone it came in by, so that an outsider cannot ride on an inside verdict; 0 while there is one zone.
    pub zone: u16,
}

const _: () = assert!(size_of::<FragmentKey>() == 40);

/// What is remembered of an allowed first fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FragmentRecord {
    /// Jiffies after which it is forgotten.
    pub expires: u64,
    /// Where its payload ends, in bytes from the start of the fragmented part.
    pub end: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<FragmentRecord>() == 16);
