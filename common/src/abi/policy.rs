//! Generation-scoped tables: written whole into a slot that nobody judges by, then made live by one word.

use core::hint::black_box;

use super::{FlowTimes, Limit, NetPort, PortTransport};

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

/// Interfaces in a generation.
pub const MAX_INTERFACES: usize = 32;

/// Buckets of [`Generation::interfaces`]; a power of two. A seed that keeps 32 numbers apart in so many is found in a few
/// tries.
pub const INTERFACE_BUCKETS: usize = 256;

/// Rules in an [`AllowTable`]: one bit each.
pub const ALLOW_RULES: usize = 64;

/// Buckets of a [`TargetTable`]; a power of two.
pub const TARGET_BUCKETS: usize = 4096;

/// Addresses in a [`TargetTable`]: as many as a search for a seed without a collision finds room for quickly.
pub const MAX_TARGET_ADDRESSES: usize = 256;

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

/// The target that a destination belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its policy, or [`NO_POLICY`].
    pub policy: u32,
    /// True where the destination is the box itself and not an address that it stands in front of.
    pub host: bool,
}

impl Target {
    /// The box itself, where there are no other targets.
    pub const HOST: Self = Self { policy: 0, host: true };
    /// No target at all.
    pub const NONE: Self = Self { policy: NO_POLICY, host: false };
}

/// What allow rules are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowKey {
    /// A destination port.
    Port(PortTransport, NetPort),
    /// An IP protocol.
    Protocol(u8),
}

/// What an open port refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Class {
    /// The rule's counter in `RULE_HITS`.
    pub counter: u32,
    /// The groups that may use it, as bits; 0 for any source.
    pub groups: u32,
}

/// One transport of one policy. Every port costs the same: one byte says which class it belongs to.
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

/// The number of the lowest bit that is set; `bits` is not 0. BPF has no instruction for it, so: a de Bruijn sequence.
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
    // The verifier does not look into the table; the compiler does, and would drop the mask.
    black_box(position) as usize & 63
}

/// What is known of a source: the value of `SOURCES_V4` and `SOURCES_V6`. Covers what holds for shorter prefixes around
/// it as well, as a longest-prefix match finds one entry only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SourceRecord {
    /// The `[[allow]]` rules that name it, as bits.
    pub rules: u64,
    /// The groups that it is in, as bits.
    pub groups: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SourceRecord>() == 16);

/// A source prefix of IPv4, as the data of a longest-prefix-match key: the prefix length of the key is 32 more than that
/// of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SourceV4 {
    /// The set, in the first byte; the rest is 0. [`Generation::sources`] names it; management has one set, 0.
    pub set: [u8; 4],
    /// As it lies in the packet, in 16-bit units.
    pub address: [u16; 2],
}

/// The same for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SourceV6 {
    /// The set, in the first byte; the rest is 0. [`Generation::sources`] names it; management has one set, 0.
    pub set: [u8; 4],
    /// As it lies in the packet, in 16-bit units.
    pub address: [u16; 8],
}

const _: () = assert!(size_of::<SourceV4>() == 8);
const _: () = assert!(size_of::<SourceV6>() == 20);

/// The destination addresses of a generation, in a table where a seed was found that keeps them apart: one look
/// answers.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TargetTable {
    /// Makes [`TargetTable::bucket`] free of collisions; both odd.
    pub seed: [u64; 2],
    /// By bucket.
    pub entries: [TargetEntry; TARGET_BUCKETS],
    /// The policy of `host`, for every address that is not in the table; or [`NO_POLICY`]. Addresses that are not in
    /// the table count as the box itself either way, so that management reaches it.
    pub host: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

/// One destination address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TargetEntry {
    /// The address as two words, each as it lies in the packet; an IPv4 address is mapped (RFC 4291, 2.5.5.2).
    pub address: [u64; 2],
    /// The target's policy.
    pub policy: u32,
    /// [`TargetEntry::USED`], [`TargetEntry::LOCAL`]; 0 where the entry is not in use.
    pub used: u32,
}

impl TargetEntry {
    /// The entry is in use.
    pub const USED: u32 = 1;
    /// The address is the box's own: management reaches it.
    pub const LOCAL: u32 = 2;
}

const _: () = assert!(core::mem::offset_of!(TargetTable, entries) == 16);
const _: () = assert!(size_of::<TargetEntry>() == 24);
const _: () = assert!(size_of::<TargetTable>() == 16 + 24 * TARGET_BUCKETS + 8);

impl TargetTable {
    /// Where an address belongs under a seed.
    ///
    /// The shift in between is what a plain sum of two products lacks: there, two addresses that differ in the highest bit
    /// of both words collide under every seed.
    #[must_use]
    #[inline(always)]
    pub const fn bucket(seed: [u64; 2], address: [u64; 2]) -> usize {
        let first = address[0].wrapping_mul(seed[0]);
        let sum = (first ^ (first >> 32)).wrapping_add(address[1]).wrapping_mul(seed[1]);
        (sum >> (64 - TARGET_BUCKETS.trailing_zeros())) as usize
    }

    /// The target of an address.
    #[must_use]
    #[inline(always)]
    pub const fn find(&self, address: [u64; 2]) -> Target {
        let entry = &self.entries[Self::bucket(self.seed, address)];
        if entry.used != 0 && entry.address[0] == address[0] && entry.address[1] == address[1] {
            return Target { policy: entry.policy, host: entry.used & TargetEntry::LOCAL != 0 };
        }
        Target { policy: self.host, host: true }
    }
}

/// An IPv4 address, as it lies in the packet, in the form of [`TargetEntry`].
#[must_use]
#[inline(always)]
pub const fn mapped([high, low]: [u16; 2]) -> [u64; 2] {
    [0, (0xffff_0000 | (high as u64) << 32 | (low as u64) << 48).to_le()]
}

/// The interface is a DHCP client: replies to it pass.
pub const FLAG_DHCP_CLIENT: u32 = 1;

/// What a generation says of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Interface {
    /// The kernel's number of it; 0 where the entry is not in use.
    pub ifindex: u32,
    /// [`FLAG_DHCP_CLIENT`].
    pub flags: u32,
}

/// What a generation says once for all, needed off the common path only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Generation {
    /// Counts up with every switch and reload; 0 where the slot was never filled.
    pub number: u64,
    /// How long flows live.
    pub flow_times: FlowTimes,
    /// 1 where destinations in no target pass.
    pub unmatched_pass: u32,
    /// The set of sources in `SOURCES_V4` and `SOURCES_V6`, below [`SLOTS`]. Generations with the same sources share one.
    pub sources: u32,
    /// Makes [`Generation::bucket`] free of collisions; odd.
    pub interface_seed: u64,
    /// Interfaces that something is said of, by bucket: one look answers.
    pub interfaces: [Interface; INTERFACE_BUCKETS],
    /// How many connections a source may open, by policy.
    pub limits: [Limit; MAX_POLICIES as usize],
}

const _: () = assert!(size_of::<Generation>() == 32 + 8 * INTERFACE_BUCKETS + 16 * MAX_POLICIES as usize);

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

impl Generation {
    /// A slot that was never filled.
    pub const EMPTY: Self = Self {
        number: 0,
        flow_times: FlowTimes::DEFAULT,
        unmatched_pass: 0,
        sources: 0,
        interface_seed: 1,
        interfaces: [Interface { ifindex: 0, flags: 0 }; INTERFACE_BUCKETS],
        limits: [Limit::NONE; MAX_POLICIES as usize],
    };

    /// True where the interface is marked as a DHCP client.
    #[must_use]
    #[inline(always)]
    pub fn is_dhcp_client(&self, ifindex: u32) -> bool {
        let interface = self.interfaces[Self::bucket(self.interface_seed, ifindex)];
        interface.ifindex == ifindex && interface.flags & FLAG_DHCP_CLIENT != 0
    }

    /// Where an interface belongs under a seed.
    #[must_use]
    #[inline(always)]
    pub const fn bucket(seed: u64, ifindex: u32) -> usize {
        ((ifindex as u64).wrapping_mul(seed) >> (64 - INTERFACE_BUCKETS.trailing_zeros())) as usize
    }
}

impl PolicyTable {
    /// Nothing open.
    pub const CLOSED: Self =
        Self { ports: [0; 65536], classes: [Class { counter: NO_COUNTER, groups: 0 }; 256] };

    /// What a port refers to; `None` where it is closed.
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
    use super::{lowest_bit, mapped};

    #[test]
    fn the_lowest_bit_is_found() {
        for n in 0..64 {
            assert_eq!(lowest_bit(1 << n), n);
            assert_eq!(lowest_bit(u64::MAX << n), n);
        }
    }

    #[test]
    fn an_ipv4_address_is_mapped_as_it_lies_in_memory() {
        let address = std::net::Ipv4Addr::new(192, 0, 2, 10);
        let [a, b, c, d] = address.octets();
        let [high, low] = mapped([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]);
        let bytes = [high.to_ne_bytes(), low.to_ne_bytes()].concat();
        assert_eq!(bytes, address.to_ipv6_mapped().octets());
    }
}
