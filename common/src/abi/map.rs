//! The list of the BPF maps. It is the only one: the kernel program takes the sizes of its maps from here, the agent the
//! names, and tests hold the object and the documents against it.
//!
//! A map is **generation-scoped**, where it is written whole into a slot that judges nothing; **live-edited**, where
//! single entries change while packets are judged; or a **counter**, which outlives generations.

use super::{
    AllowTable, BlockRecord, Bucket, Captured, Control, CounterBlock, CpuRecord, Event, FLOWS, Flow,
    FlowKeyV4, FlowKeyV6, FlowPorts, FragmentKey, FragmentRecord, Generation, MAX_BLOCKED, MAX_POLICIES,
    MAX_PREFIXES, MAX_SOURCES, OPENING_SOURCES, OpeningKey, PORT_DROP_BLOCKS, PolicyTable, PortTransport,
    RULE_BLOCKS, SLOTS, SourceRecord, SourceV4, SourceV6, TargetTable, VLAN_TABLES, VlanTable,
};

/// Declares the maps: for each a constant with its name in the object, which is also its name in the pin directory.
macro_rules! maps {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $definition:expr;)*) => {
        $($(#[$doc])* pub const $constant: &str = $name;)*

        /// Every map.
        pub const ALL: &[Definition] = &[$(Definition { name: $name, ..$definition }),*];
    };
}

maps! {
    /// The live word, the management ports, and whether somebody captures. The agent maps it into its memory.
    CONTROL = "CONTROL", array::<Control>(1);
    /// Management sources, IPv4, with the value 1. Live-edited, in set 0.
    MANAGEMENT_V4 = "MANAGEMENT_V4", lpm_trie::<SourceV4, u64>(MAX_PREFIXES);
    /// Management sources, IPv6, with the value 1. Live-edited, in set 0.
    MANAGEMENT_V6 = "MANAGEMENT_V6", lpm_trie::<SourceV6, u64>(MAX_PREFIXES);
    /// Blocked sources, IPv4. Live-edited, in set 0.
    BLOCKED_V4 = "BLOCKED_V4", lpm_trie::<SourceV4, BlockRecord>(MAX_BLOCKED);
    /// Blocked sources, IPv6. Live-edited, in set 0.
    BLOCKED_V6 = "BLOCKED_V6", lpm_trie::<SourceV6, BlockRecord>(MAX_BLOCKED);
    /// Settings of a generation, by slot. Generation-scoped.
    GENERATIONS = "GENERATIONS", array::<Generation>(SLOTS);
    /// Destination addresses, by slot. Generation-scoped.
    TARGETS = "TARGETS", array::<TargetTable>(SLOTS);
    /// The zone of each VLAN, by [`vlans_index`](super::vlans_index). Generation-scoped.
    VLANS = "VLANS", array::<VlanTable>(VLAN_TABLES);
    /// Open ports, by [`policy_index`](super::policy_index). Generation-scoped.
    POLICIES = "POLICIES", array::<PolicyTable>(SLOTS * MAX_POLICIES * PortTransport::ALL.len() as u32);
    /// `[[allow]]` rules, by slot. Generation-scoped.
    ALLOW = "ALLOW", array::<AllowTable>(SLOTS);
    /// Groups and `[[allow]]` rules of sources, IPv4. Generation-scoped: a generation names its set.
    SOURCES_V4 = "SOURCES_V4", lpm_trie::<SourceV4, SourceRecord>(SLOTS * MAX_SOURCES);
    /// Groups and `[[allow]]` rules of sources, IPv6. Generation-scoped: a generation names its set.
    SOURCES_V6 = "SOURCES_V6", lpm_trie::<SourceV6, SourceRecord>(SLOTS * MAX_SOURCES);
    /// First fragments that passed. A full map loses the least recently used one. Live-edited.
    FRAGMENTS = "FRAGMENTS", lru_hash::<FragmentKey, FragmentRecord>(16_384);
    /// Tracked flows, IPv4. A full map loses the least recently used one. The configuration may set the size.
    FLOWS_V4 = "FLOWS_V4", lru_hash::<FlowKeyV4, Flow>(FLOWS);
    /// Tracked flows, IPv6. A full map loses the least recently used one. The configuration may set the size.
    FLOWS_V6 = "FLOWS_V6", lru_hash::<FlowKeyV6, Flow>(FLOWS);
    /// What a source may still open. A full map loses the least recently used source. Live-edited.
    OPENINGS = "OPENINGS", lru_hash::<OpeningKey, Bucket>(OPENING_SOURCES);
    /// When a flow last used each local port. Live-edited.
    FLOW_PORTS = "FLOW_PORTS", array::<FlowPorts>(1);
    /// Counters by reason, and token buckets, for each CPU.
    CPU = "CPU", per_cpu_array::<CpuRecord>(1);
    /// Rule counters, for each CPU.
    RULE_HITS = "RULE_HITS", per_cpu_array::<CounterBlock>(RULE_BLOCKS);
    /// Drops by [`port_drop_cell`](super::port_drop_cell), for each CPU.
    PORT_DROPS = "PORT_DROPS", per_cpu_array::<CounterBlock>(PORT_DROP_BLOCKS);
    /// Sampled drops.
    EVENTS = "EVENTS", ring_buffer::<Event>(256 * 1024);
    /// Captured packets: a header, then the bytes of the packet. Not pinned: each agent has its own buffers.
    CAPTURES = "CAPTURES", perf_buffers::<Captured>().not_pinned();
    /// Log lines, in a map that the crate `aya-log-ebpf` declares. Not pinned: each agent reads the lines of the programs
    /// that it loaded.
    LOGS = "AYA_LOGS", ring_buffer::<u8>(128 * 1024).not_pinned();
    /// What an agent stores for the next one. The program does not read it.
    STATE = "STATE", array::<[u8; STATE_BYTES]>(STATE_ELEMENTS);
}

/// Bytes in one element of `STATE`.
pub const STATE_BYTES: usize = 32 * 1024;

/// Elements of `STATE`: two copies of 1 MiB, written in turn.
pub const STATE_ELEMENTS: u32 = 64;

/// A map, as it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Its name in the object and in the pin directory.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The size of a key in bytes; 0 for a ring buffer.
    pub key_size: u32,
    /// The size of a value in bytes; 0 for a ring buffer.
    pub value_size: u32,
    /// The maximum of entries; of a ring buffer its size in bytes; 0 where the loader sets one entry for each CPU.
    pub entries: u32,
    /// True where the map is pinned by its name, and outlives the agent.
    pub pinned: bool,
}

/// The type of a map, by its number in the kernel (`enum bpf_map_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// An array.
    Array = 2,
    /// Buffers that a process reads, one for each CPU.
    PerfBuffers = 4,
    /// An array with a value for each CPU.
    PerCpuArray = 6,
    /// A hash map that loses its least recently used entry where it is full.
    LruHash = 9,
    /// Prefixes, looked up by longest match.
    LpmTrie = 11,
    /// A buffer that a process reads.
    RingBuffer = 27,
}

/// The map with this name. Meant for constants: there an unknown name is a compile error.
///
/// # Panics
/// Where no map has this name.
#[must_use]
pub const fn definition(name: &str) -> Definition {
    let mut n = 0;
    while n < ALL.len() {
        if is_same(ALL[n].name.as_bytes(), name.as_bytes()) {
            return ALL[n];
        }
        n += 1;
    }
    panic!("no map has this name")
}

/// The names of the pinned maps.
pub const PINNED: [&str; PINNED_MAPS] = {
    let mut names = [""; PINNED_MAPS];
    let (mut n, mut found) = (0, 0);
    while n < ALL.len() {
        if ALL[n].pinned {
            names[found] = ALL[n].name;
            found += 1;
        }
        n += 1;
    }
    names
};

const PINNED_MAPS: usize = {
    let (mut n, mut found) = (0, 0);
    while n < ALL.len() {
        found += ALL[n].pinned as usize;
        n += 1;
    }
    found
};

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut n = 0;
    while n < one.len() {
        if one[n] != other[n] {
            return false;
        }
        n += 1;
    }
    true
}

/// A type in a map. In the agent, aya must be able to copy it as plain bytes.
#[cfg(feature = "user")]
use aya::Pod as Plain;

/// A type in a map.
#[cfg(not(feature = "user"))]
use Copy as Plain;

impl Definition {
    const fn not_pinned(self) -> Self {
        Self { pinned: false, ..self }
    }
}

const fn pinned(kind: Kind, key_size: usize, value_size: usize, entries: u32) -> Definition {
    let (key_size, value_size) = (key_size as u32, value_size as u32);
    Definition { name: "", kind, key_size, value_size, entries, pinned: true }
}

const fn array<V: Plain>(entries: u32) -> Definition {
    pinned(Kind::Array, size_of::<u32>(), size_of::<V>(), entries)
}

const fn per_cpu_array<V: Plain>(entries: u32) -> Definition {
    pinned(Kind::PerCpuArray, size_of::<u32>(), size_of::<V>(), entries)
}

/// The key is the length of the prefix, and then a `K`.
const fn lpm_trie<K: Plain, V: Plain>(entries: u32) -> Definition {
    pinned(Kind::LpmTrie, size_of::<u32>() + size_of::<K>(), size_of::<V>(), entries)
}

const fn lru_hash<K: Plain, V: Plain>(entries: u32) -> Definition {
    pinned(Kind::LruHash, size_of::<K>(), size_of::<V>(), entries)
}

/// Records are `V`.
#[expect(clippy::extra_unused_type_parameters, reason = "holds the type of the records to `Plain`")]
const fn ring_buffer<V: Plain>(bytes: u32) -> Definition {
    pinned(Kind::RingBuffer, 0, 0, bytes)
}

/// Records begin with a `V`.
#[expect(clippy::extra_unused_type_parameters, reason = "holds the type of the records to `Plain`")]
const fn perf_buffers<V: Plain>() -> Definition {
    pinned(Kind::PerfBuffers, size_of::<u32>(), size_of::<u32>(), 0)
}

#[cfg(test)]
mod tests {
    use super::{ALL, Kind, PINNED, definition};

    #[test]
    fn every_map_has_a_name_of_its_own() {
        for map in ALL {
            assert_eq!(definition(map.name), *map);
            assert_eq!(PINNED.contains(&map.name), map.pinned, "{}", map.name);
        }
        assert_eq!(PINNED.len(), ALL.iter().filter(|map| map.pinned).count());
    }

    #[test]
    fn the_size_of_a_ring_buffer_is_a_power_of_two_in_pages() {
        for map in ALL.iter().filter(|map| map.kind == Kind::RingBuffer) {
            assert!(map.entries.is_power_of_two() && map.entries >= 4096, "{}", map.name);
        }
    }
}
