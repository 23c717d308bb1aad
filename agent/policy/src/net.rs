//! Address prefixes, port ranges and transports in their text form.

use std::fmt;
use std::iter;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use lyncwall_common::abi::PortTransport;
use serde::{Serialize, Serializer};

/// An IPv4 or IPv6 prefix. No bit after its length is set.
///
/// Displays as `10.0.0.0/8`; parses that form, or a bare address as a prefix of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix of `length` bits that starts at `addr`.
    ///
    /// # Errors
    /// `length` is over 32 (IPv4) or 128 (IPv6), or `addr` has a bit set after it.
    pub fn new(addr: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let longest = IpNet::from(addr).max_prefix_len();
        let net = IpNet::new(addr, length).map_err(|_| PrefixError::Length { longest })?;
        let corrected = Self(net.trunc());
        if corrected.0 == net { Ok(corrected) } else { Err(PrefixError::HostBits { corrected }) }
    }

    /// The prefix of one address.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self(addr.into())
    }

    /// All prefixes that contain an address, longest first.
    pub fn around(addr: IpAddr) -> impl Iterator<Item = Self> {
        iter::successors(Some(IpNet::from(addr)), IpNet::supernet).map(Self)
    }

    /// The first address.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.0.addr()
    }

    /// The length in bits: 0..=32 for IPv4, 0..=128 for IPv6.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.0.broadcast()
    }

    /// True if the prefix contains `addr`; never across address families.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr)
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
                // What fits no u8 is over the longest prefix, too.
                Self::new(addr, u8::try_from(length).unwrap_or(u8::MAX))
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A range of ports, both ends included; the first is never above the last. A range from a text never has port 0.
///
/// Displays as `443` or `49152-65535`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports `first..=last`, as people may ask for them.
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

    /// The ports from the lower to the higher of two.
    #[must_use]
    pub fn between(one: u16, other: u16) -> Self {
        Self { first: one.min(other), last: one.max(other) }
    }

    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The first port.
    #[must_use]
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(&self) -> u16 {
        self.last
    }

    /// True if the range contains `port`.
    #[must_use]
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// The ports in `ranges` but not in `others`, ascending and joined.
    #[must_use]
    pub fn without(ranges: &[Self], others: &[Self]) -> Vec<Self> {
        without(&joined(ranges.to_vec()), &joined(others.to_vec()))
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

/// What carries a row or a rule: one of the two transports that have ports, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transports {
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
    /// Both.
    Both,
}

impl Transports {
    /// Its single transports, TCP first.
    #[must_use]
    pub fn each(self) -> &'static [PortTransport] {
        match self {
            Self::Tcp => &[PortTransport::Tcp],
            Self::Udp => &[PortTransport::Udp],
            Self::Both => &[PortTransport::Tcp, PortTransport::Udp],
        }
    }

    /// As files write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Both => "both",
        }
    }

    /// True for this transport, or both.
    #[must_use]
    pub fn covers(self, transport: PortTransport) -> bool {
        self.each().contains(&transport)
    }
}

/// A transport by its name.
pub(crate) mod transport_name {
    use lyncwall_common::abi::PortTransport;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &PortTransport, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PortTransport, D::Error> {
        let name = String::deserialize(from)?;
        let known = PortTransport::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| D::Error::custom(format!("unknown transport `{name}`")))
    }
}

/// A value that covers an unbroken run of numbers in one number space.
pub trait Span {
    /// The space (4 or 6 for addresses, 0 for ports), the first and the last number.
    fn span(&self) -> (u8, u128, u128);
}

impl Span for Prefix {
    fn span(&self) -> (u8, u128, u128) {
        match self.0 {
            IpNet::V4(net) => (4, net.network().to_bits().into(), net.broadcast().to_bits().into()),
            IpNet::V6(net) => (6, net.network().to_bits(), net.broadcast().to_bits()),
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

/// Sorts ports, and joins neighbours and overlaps.
#[must_use]
pub fn joined(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut joined: Vec<PortRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

/// The ports in `ranges` but not in `others`; all three lists are joined.
pub(crate) fn without(ranges: &[PortRange], others: &[PortRange]) -> Vec<PortRange> {
    let mut rest = Vec::new();
    for range in ranges {
        // Wider than a port, to hold the number after the last one.
        let mut first = u32::from(range.first);
        for other in others.iter().filter(|other| other.first <= range.last && other.last >= range.first) {
            if let Ok(start) = u16::try_from(first)
                && start < other.first
            {
                rest.push(PortRange::between(start, other.first - 1));
            }
            first = u32::from(other.last) + 1;
        }
        if let Ok(start) = u16::try_from(first)
            && start <= range.last
        {
            rest.push(PortRange::between(start, range.last));
        }
    }
    rest
}

/// A decimal number without sign or leading zero; a number too large for `u32` becomes `u32::MAX`.
fn decimal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
