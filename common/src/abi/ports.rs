//! Transports and ports.

/// The two transports that have ports, as an index into per-transport tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PortTransport {
    /// TCP, IP protocol 6.
    Tcp = 0,
    /// UDP, IP protocol 17.
    Udp = 1,
}

impl PortTransport {
    /// Both, by value.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// `tcp` or `udp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port as it lies in the packet: the `u16` whose bytes in memory are in network byte order.
///
/// Tables by port are indexed with this value, because the verifiers of 5.10 and 6.1 lose track of a byte-swapped
/// one ("unbounded min value").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct NetPort(pub u16);

impl NetPort {
    /// The port number in host byte order.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }

    /// From a port number in host byte order.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// The index into a table of 65,536.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
