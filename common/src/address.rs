//! Addresses, in the byte order of the packet.

/// An IP address in the byte order of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4, in 16-bit units.
    V4([u16; 2]),
    /// IPv6, in 16-bit units.
    V6([u16; 8]),
}

impl Address {
    /// The address as a type of the standard library.
    #[must_use]
    pub fn ip(self) -> core::net::IpAddr {
        match self {
            Self::V4([high, low]) => {
                let ([a, b], [c, d]) = (high.to_ne_bytes(), low.to_ne_bytes());
                [a, b, c, d].into()
            }
            Self::V6(units) => units.map(u16::from_be).into(),
        }
    }

    /// The address as two words: the key of a [`TargetTable`](crate::abi::TargetTable).
    #[must_use]
    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        match self {
            Self::V4(address) => mapped(address),
            Self::V6([a, b, c, d, e, f, g, h]) => [word(a, b, c, d), word(e, f, g, h)],
        }
    }
}

/// An IPv4 address as two words: those of the IPv6 address that it is mapped to (RFC 4291, 2.5.5.2).
#[must_use]
#[inline(always)]
pub const fn mapped([high, low]: [u16; 2]) -> [u64; 2] {
    [0, (0xffff_0000 | (high as u64) << 32 | (low as u64) << 48).to_le()]
}

/// The 64-bit word that four 16-bit units make in memory.
#[inline(always)]
const fn word(a: u16, b: u16, c: u16, d: u16) -> u64 {
    (a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48).to_le()
}

#[cfg(test)]
mod tests {
    use super::mapped;

    #[test]
    fn an_ipv4_address_is_mapped_as_it_lies_in_memory() {
        let address = std::net::Ipv4Addr::new(192, 0, 2, 10);
        let [a, b, c, d] = address.octets();
        let [high, low] = mapped([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]);
        let bytes = [high.to_ne_bytes(), low.to_ne_bytes()].concat();
        assert_eq!(bytes, address.to_ipv6_mapped().octets());
    }
}
