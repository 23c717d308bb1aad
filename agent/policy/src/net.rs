//! Address prefixes and port ranges in their text form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// An IPv4 or IPv6 prefix. No bit after its length is set.
///
/// Displays as `10.0.0.0/8`; parses that form, or a bare address as a prefix of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix of `length` bits that starts at `addr`.
    ///
    /// # Errors
    /// `length` is over 32 (IPv4) or 128 (IPv6), or `addr` has a bit set after it.
    pub fn new(addr: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let longest = longest(addr);
        if length > longest {
            return Err(PrefixError::Length { longest });
        }
        let corrected = Self { addr: masked(addr, length), length };
        if corrected.addr == addr { Ok(corrected) } else { Err(PrefixError::HostBits { corrected }) }
    }

    /// The prefix of one address.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, length: longest(addr) }
    }

    /// All prefixes that contain an address, longest first.
    pub fn around(addr: IpAddr) -> impl Iterator<Item = Self> {
        (0..=longest(addr)).rev().map(move |length| Self { addr: masked(addr, length), length })
    }

    /// The first address.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The length in bits: 0..=32 for IPv4, 0..=128 for IPv6.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        match self.addr {
            IpAddr::V4(addr) => IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() | !mask_v4(self.length))),
            IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() | !mask_v6(self.length))),
        }
    }

    /// True if the prefix contains `addr`; never across address families.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && masked(addr, self.length) == self.addr
    }
}

/// Why a text, or an address with a length, is not a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixError {
    /// Not an address, or not an address, a slash and a decimal length.
    Syntax,
    /// The length exceeds that of the address family.
    Length {
        /// The greatest length of the family: 32 or 128.
        longest: u8,
    },
    /// The address has bits set after the length.
    HostBits {
        /// The prefix of that length that contains the address.
        corrected: Prefix,
    },
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("not an address or prefix"),
            Self::Length { longest } => write!(f, "the prefix length is over {longest}"),
            Self::HostBits { corrected } => {
                write!(f, "the address has bits set behind the prefix length; the prefix is {corrected}")
            }
        }
    }
}

impl std::error::Error for PrefixError {}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (addr, length) = match text.split_once('/') {
            None => (text, None),
            Some((addr, length)) => (addr, Some(length)),
        };
        let addr: IpAddr = addr.parse().map_err(|_| PrefixError::Syntax)?;
        match length {
            None => Ok(Self::host(addr)),
            Some(length) => {
                let length = decimal(length).ok_or(PrefixError::Syntax)?;
                let longest = longest(addr);
                Self::new(addr, u8::try_from(length).map_err(|_| PrefixError::Length { longest })?)
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.length)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A range of ports, both ends included: 1..=65535, the first never above the last.
///
/// Displays as `443` or `49152-65535`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports `first..=last`.
    ///
    /// # Errors
    /// `first` is 0 or over `last`.
    pub fn new(first: u16, last: u16) -> Result<Self, PortRangeError> {
        if first == 0 {
            Err(PortRangeError::Bounds)
        } else if first > last {
            Err(PortRangeError::Backwards)
        } else {
            Ok(Self { first, last })
        }
    }

    /// The first port.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub fn last(&self) -> u16 {
        self.last
    }

    /// True if the range contains `port`.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Why a text, or a pair of ports, is not a port range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRangeError {
    /// Not a decimal port, or not two of them with `-` between.
    Syntax,
    /// A port is not in 1..=65535.
    Bounds,
    /// The first port is over the last.
    Backwards,
}

impl fmt::Display for PortRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "neither a port nor two ports with `-` between",
            Self::Bounds => "a port is a number from 1 to 65535",
            Self::Backwards => "the first port is over the last",
        })
    }
}

impl std::error::Error for PortRangeError {}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text| {
            let number = decimal(text).ok_or(PortRangeError::Syntax)?;
            u16::try_from(number).map_err(|_| PortRangeError::Bounds)
        };
        Self::new(port(first)?, port(last)?)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A value that covers an unbroken run of numbers in one number space.
pub trait Span {
    /// The space (4 or 6 for addresses, 0 for ports), the first and the last number.
    fn span(&self) -> (u8, u128, u128);
}

impl Span for Prefix {
    fn span(&self) -> (u8, u128, u128) {
        match (self.addr, self.last()) {
            (IpAddr::V6(first), IpAddr::V6(last)) => (6, first.to_bits(), last.to_bits()),
            (IpAddr::V4(first), IpAddr::V4(last)) => (4, first.to_bits().into(), last.to_bits().into()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                unreachable!("the last address of a prefix has the family of the first")
            }
        }
    }
}

impl Span for PortRange {
    fn span(&self) -> (u8, u128, u128) {
        (0, self.first.into(), self.last.into())
    }
}

/// The pairs of indices (lower, higher) of items that share a number: empty if no two items do, else one pair
/// for each item that starts inside another. Sorts once, so that long lists stay cheap.
pub fn overlaps<T: Span>(items: &[T]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&n| items[n].span());
    let mut pairs = Vec::new();
    let mut widest: Option<usize> = None;
    for n in order {
        let (space, first, last) = items[n].span();
        if let Some(before) = widest {
            let (space_before, _, last_before) = items[before].span();
            if space == space_before && first <= last_before {
                pairs.push((before.min(n), before.max(n)));
                if last <= last_before {
                    continue;
                }
            }
        }
        widest = Some(n);
    }
    pairs
}

/// A decimal number without sign or leading zero; a number too large for `u32` becomes `u32::MAX`.
fn decimal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

fn longest(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn masked(addr: IpAddr, length: u8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() & mask_v4(length))),
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() & mask_v6(length))),
    }
}

/// The upper `length` bits set. Length 0, a shift by the full width, gives 0.
fn mask_v4(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask_v6(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
