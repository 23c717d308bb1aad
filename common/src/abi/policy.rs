//! Generation-scoped tables: written whole into a slot that judges nothing, then made live by one word.

use core::hint::black_box;

use super::{NetPort, PortTransport};

/// Slots that hold a generation: the live one, the one to fall back to, and one to fill.
pub const SLOTS: u32 = 3;

/// Policies, one per target, in a generation.
pub const MAX_POLICIES: u32 = 16;

/// Management prefixes, for each address family.
pub const MAX_PREFIXES: u32 = 65_536;

/// Prefixes of groups and `[[allow]]` rules together, for each address family and set: 100,000 with room to grow.
pub const MAX_SOURCES: u32 = 131_072;

/// Groups with prefixes in a generation: one bit each in [`Class::groups`].
pub const MAX_GROUPS: usize = 32;

/// Rules in an [`AllowTable`]: one bit each.
pub const ALLOW_RULES: usize = 64;

/// Stands for "no policy" where a policy's number is expected.
pub const NO_POLICY: u32 = u32::MAX;

/// Stands for "no counter" where a rule counter's number is expected.
pub const NO_COUNTER: u32 = u32::MAX;

/// The key of a policy in the map `POLICIES`. `slot` below [`SLOTS`], `policy` below [`MAX_POLICIES`].
#[must_use]
#[inline(always)]
pub const fn policy_index(slot: u32, policy: u32, transport: PortTransport) -> u32 {
    (slot * MAX_POLICIES + policy) * 2 + transport as u32
}

/// The key of a look-up among allow rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowKey {
    /// A destination port.
    Port(PortTransport, NetPort),
    /// An IP protocol.
    Protocol(u8),
}

/// The class of an open port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Class {
    /// The rule's counter in `RULE_HITS`.
    pub counter: u32,
    /// The groups that may use it, as bits; 0 for any source.
    pub groups: u32,
}

/// One transport of one policy. One byte for each port names its class, so that every port costs one look-up.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PolicyTable {
    /// The class of each port, by [`NetPort::index`]; 0 is closed.
    pub ports: [u8; 65536],
    /// Classes 1 to 255.
    pub classes: [Class; 256],
}

const _: () = assert!(core::mem::offset_of!(PolicyTable, classes) == 65536);
const _: () = assert!(size_of::<PolicyTable>() == 65536 + 2048);

/// The `[[allow]]` rules: a rule is a bit, and matches where its bit is in all of the masks below.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct AllowTable {
    /// The class of each port, by [`PortTransport`] and [`NetPort::index`]; class 0 has no rule.
    pub ports: [[u8; 65536]; 2],
    /// The class of each IP protocol; class 0 has no rule.
    pub protocols: [u8; 256],
    /// The rules of each class.
    pub classes: [u64; 256],
    /// Rules that hold for a policy's target: those without a target and those that name it.
    pub targets: [u64; MAX_POLICIES as usize],
    /// Rules that hold for destinations in no target: those without a target.
    pub no_target: u64,
    /// Rules without a source.
    pub any_source: u64,
    /// Each rule's counter in `RULE_HITS`.
    pub counters: [u32; ALLOW_RULES],
}

const _: () = assert!(core::mem::offset_of!(AllowTable, protocols) == 131_072);
const _: () = assert!(core::mem::offset_of!(AllowTable, classes) == 131_328);
const _: () = assert!(size_of::<AllowTable>() == 131_328 + 2048 + 128 + 8 + 8 + 256);

impl AllowTable {
    /// No rule.
    pub const EMPTY: Self = Self {
        ports: [[0; 65536]; 2],
        protocols: [0; 256],
        classes: [0; 256],
        targets: [0; MAX_POLICIES as usize],
        no_target: 0,
        any_source: 0,
        counters: [NO_COUNTER; ALLOW_RULES],
    };

    /// The rules that match but for the source, for a destination of `policy` or [`NO_POLICY`].
    #[must_use]
    #[inline(always)]
    pub const fn candidates(&self, key: AllowKey, policy: u32) -> u64 {
        let class = match key {
            AllowKey::Port(transport, port) => self.ports[transport as usize][port.index()],
            AllowKey::Protocol(protocol) => self.protocols[protocol as usize],
        };
        if class == 0 {
            return 0;
        }
        // The mask keeps the index in range where the compiler takes it before the comparison.
        let named = self.targets[(policy % MAX_POLICIES) as usize];
        let here = if policy == NO_POLICY { self.no_target } else { named };
        self.classes[class as usize] & here
    }

    /// The counter of the first of `candidates` that has no source or is one of `sources`.
    #[must_use]
    #[inline(always)]
    pub fn first(&self, candidates: u64, sources: u64) -> Option<u32> {
        let rules = candidates & (self.any_source | sources);
        if rules == 0 { None } else { Some(self.counters[lowest_bit(rules)]) }
    }
}

/// The number of the lowest set bit; `bits` is not 0. BPF has no instruction for it: a de Bruijn sequence finds it.
#[inline(always)]
fn lowest_bit(bits: u64) -> usize {
    const SEQUENCE: u64 = 0x03f7_9d71_b4cb_0a89;
    static POSITIONS: [u8; 64] = {
        let mut table = [0; 64];
        let mut n = 0;
        while n < 64 {
            table[(SEQUENCE.wrapping_mul(1 << n) >> 58) as usize] = n as u8;
            n += 1;
        }
        table
    };
    let lowest = bits & bits.wrapping_neg();
    let position = POSITIONS[(lowest.wrapping_mul(SEQUENCE) >> 58) as usize];
    // The compiler knows the values in the table, and would drop the mask; the verifier does not, and needs it.
    black_box(position) as usize & 63
}

/// The groups and rules of a source: the value of `SOURCES_V4` and `SOURCES_V6`. Includes those of shorter prefixes around
/// it, as a longest-prefix match finds only one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SourceRecord {
    /// The `[[allow]]` rules that name it, as bits.
    pub rules: u64,
    /// Its groups, as bits.
    pub groups: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

impl SourceRecord {
    /// The rules and groups of both.
    #[must_use]
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self { rules: self.rules | other.rules, groups: self.groups | other.groups, reserved: 0 }
    }
}

const _: () = assert!(size_of::<SourceRecord>() == 16);

/// A source prefix of IPv4, as the data of a longest-prefix-match key: the prefix length of the key is 32 more than that
/// of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SourceV4 {
    /// The set, in the first byte; the rest is 0. [`Generation::sources`](super::Generation::sources) names it; management has one set, 0.
    pub set: [u8; 4],
    /// The address in network byte order, in 16-bit units.
    pub address: [u16; 2],
}

/// A source prefix of IPv6, as the data of a longest-prefix-match key; see [`SourceV4`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SourceV6 {
    /// The set, in the first byte; the rest is 0. [`Generation::sources`](super::Generation::sources) names it; management has one set, 0.
    pub set: [u8; 4],
    /// The address in network byte order, in 16-bit units.
    pub address: [u16; 8],
}

const _: () = assert!(size_of::<SourceV4>() == 8);
const _: () = assert!(size_of::<SourceV6>() == 20);

impl SourceV4 {
    /// The key data of an address in a set.
    #[must_use]
    pub fn new(set: u32, address: core::net::Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self { set: [set as u8, 0, 0, 0], address: [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])] }
    }
}

impl SourceV6 {
    /// The key data of an address in a set.
    #[must_use]
    pub fn new(set: u32, address: core::net::Ipv6Addr) -> Self {
        Self { set: [set as u8, 0, 0, 0], address: address.segments().map(u16::to_be) }
    }
}

impl PolicyTable {
    /// Nothing open.
    pub const CLOSED: Self =
        Self { ports: [0; 65536], classes: [Class { counter: NO_COUNTER, groups: 0 }; 256] };

    /// The class of a port; `None` where the port is closed.
    #[must_use]
    #[inline(always)]
    pub const fn open(&self, port: NetPort) -> Option<Class> {
        match self.ports[port.index()] {
            0 => None,
            class => Some(self.classes[class as usize]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::lowest_bit;

    #[test]
    fn the_lowest_bit_is_found() {
        for n in 0..64 {
            assert_eq!(lowest_bit(1 << n), n);
            assert_eq!(lowest_bit(u64::MAX << n), n);
        }
    }
}
