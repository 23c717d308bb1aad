//! The layout of the BPF maps: what both sides read and write.
//!
//! Every type is `repr(C)` and of fixed width. Integers are in host byte order unless a field says otherwise.
//! A change of any layout, map size or meaning raises [`ABI_VERSION`]: an agent refuses to adopt pinned maps of
//! another version.

mod blocked;
mod counters;
mod events;
mod flows;
mod limit;
mod live;
mod policy;
mod targets;
mod zones;

pub use blocked::{BlockRecord, MAX_BLOCKED, Until};
pub use counters::{
    Bucket, COUNTER_BLOCK, CounterBlock, CpuRecord, INTERFACE_CELLS, Lost, PORT_DROP_BLOCKS, REASONS,
    RULE_BLOCKS, WARNINGS, interface_cell, port_drop_cell,
};
pub use events::{Captured, Event, Explained, FragmentKey, FragmentRecord, LONGEST_CAPTURE, SNAP_LENGTH};
pub use flows::{FLOWS, Flow, FlowKeyV4, FlowKeyV6, FlowPorts, FlowState, FlowTimes, LONGEST_FLOW};
pub use limit::{Limit, OPENING_SOURCES, OpeningKey};
pub use live::{Capture, Control, Features, Live, PortSet, ReasonSet};
pub use policy::{
    ALLOW_RULES, AllowKey, AllowTable, Class, MAX_GROUPS, MAX_POLICIES, MAX_PREFIXES, MAX_SOURCES,
    NO_COUNTER, NO_POLICY, PolicyTable, SLOTS, SourceRecord, SourceV4, SourceV6, policy_index,
};
pub use targets::{
    MAX_TARGET_ADDRESSES, TARGET_BUCKETS, Target, TargetCode, TargetEntry, TargetTable, ZoneTargets, mapped,
};
pub use zones::{
    FLAG_DHCP_CLIENT, Generation, INTERFACE_BUCKETS, Interface, MAX_INTERFACES, MAX_NUMBERS, NO_ZONE, REST,
    VLAN_TABLES, VlanTable, ZONE_NUMBERS, ZONES, vlans_index,
};

/// Bytes in one element of `STATE`.
pub const STATE_BYTES: usize = 32 * 1024;

/// Elements of `STATE`: two copies of 1 MiB, written in turn.
pub const STATE_ELEMENTS: u32 = 64;

/// The version of everything in this module.
pub const ABI_VERSION: u32 = 6;

/// The target that log lines of the program have, on both sides.
pub const LOG_TARGET: &str = "bpf";

/// Names of the maps, as in the object and under the pin directory.
pub mod map {
    /// [`Control`](super::Control), one element, mapped into the agent: the live word and the management ports.
    pub const CONTROL: &str = "CONTROL";
    /// Management sources, IPv4: [`SourceV4`](super::SourceV4) → `u64` (1). Live-edited, set 0.
    pub const MANAGEMENT_V4: &str = "MANAGEMENT_V4";
    /// Management sources, IPv6: [`SourceV6`](super::SourceV6) → `u64` (1). Live-edited, set 0.
    pub const MANAGEMENT_V6: &str = "MANAGEMENT_V6";
    /// Blocked sources, IPv4: [`SourceV4`](super::SourceV4) → [`BlockRecord`](super::BlockRecord). Live-edited, set 0.
    pub const BLOCKED_V4: &str = "BLOCKED_V4";
    /// Blocked sources, IPv6: [`SourceV6`](super::SourceV6) → [`BlockRecord`](super::BlockRecord). Live-edited, set 0.
    pub const BLOCKED_V6: &str = "BLOCKED_V6";
    /// [`Generation`](super::Generation) by slot. Generation-scoped.
    pub const GENERATIONS: &str = "GENERATIONS";
    /// [`TargetTable`](super::TargetTable) by slot. Generation-scoped.
    pub const TARGETS: &str = "TARGETS";
    /// [`VlanTable`](super::VlanTable) by [`vlans_index`](super::vlans_index). Generation-scoped.
    pub const VLANS: &str = "VLANS";
    /// [`PolicyTable`](super::PolicyTable) by [`policy_index`](super::policy_index). Generation-scoped.
    pub const POLICIES: &str = "POLICIES";
    /// [`AllowTable`](super::AllowTable) by slot. Generation-scoped.
    pub const ALLOW: &str = "ALLOW";
    /// Sources, IPv4: [`SourceV4`](super::SourceV4) → [`SourceRecord`](super::SourceRecord). Generation-scoped: a
    /// generation names the set.
    pub const SOURCES_V4: &str = "SOURCES_V4";
    /// Sources, IPv6: [`SourceV6`](super::SourceV6) → [`SourceRecord`](super::SourceRecord). Generation-scoped, as above.
    pub const SOURCES_V6: &str = "SOURCES_V6";
    /// Verdicts of first fragments: [`FragmentKey`](super::FragmentKey) →
    /// [`FragmentRecord`](super::FragmentRecord), least recently used goes first. Live-edited.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Tracked flows, IPv4: [`FlowKeyV4`](super::FlowKeyV4) → [`Flow`](super::Flow), least recently used goes first.
    pub const FLOWS_V4: &str = "FLOWS_V4";
    /// Tracked flows, IPv6: [`FlowKeyV6`](super::FlowKeyV6) → [`Flow`](super::Flow), least recently used goes first.
    pub const FLOWS_V6: &str = "FLOWS_V6";
    /// What sources may open still: [`OpeningKey`](super::OpeningKey) → [`Bucket`](super::Bucket), least recently used goes
    /// first. Live-edited.
    pub const OPENINGS: &str = "OPENINGS";
    /// [`FlowPorts`](super::FlowPorts), one element: when some flow last used a local port.
    pub const FLOW_PORTS: &str = "FLOW_PORTS";
    /// [`CpuRecord`](super::CpuRecord), one per CPU: counters by reason, token buckets. Survives generations.
    pub const CPU: &str = "CPU";
    /// Rule counters, per CPU: blocks of [`COUNTER_BLOCK`](super::COUNTER_BLOCK). Survives generations.
    pub const RULE_HITS: &str = "RULE_HITS";
    /// Drops by (transport, port), per CPU; see [`port_drop_cell`](super::port_drop_cell). Survives generations.
    pub const PORT_DROPS: &str = "PORT_DROPS";
    /// Ring buffer of [`Event`](super::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Perf buffers, one per CPU: [`Captured`](super::Captured) and the bytes of a packet. Not pinned: each agent has its own.
    pub const CAPTURES: &str = "CAPTURES";
    /// Ring buffer of log lines, made by the crate `aya-log-ebpf`. Not pinned: each agent reads those of the programs it loaded.
    pub const LOGS: &str = "AYA_LOGS";
    /// The agent's own memory between two agents; the program does not read it.
    pub const STATE: &str = "STATE";
}

/// Names of the programs and read-only constants in the object.
pub mod program {
    /// The XDP program for kernels before 5.18, and drivers without multi-buffer XDP.
    pub const INGRESS: &str = "ingress";
    /// The same program in an `xdp.frags` section (kernel 5.18): works with jumbo frames.
    pub const INGRESS_FRAGS: &str = "ingress_frags";
    /// The program on what the box sends: makes flows.
    pub const EGRESS: &str = "egress";
    /// The XDP program that writes jiffies into a frame. Attached nowhere: the agent runs it to read the clock.
    pub const CLOCK: &str = "clock";
    /// The XDP program that answers with an [`Explained`](super::Explained) and leaves no trace. Attached nowhere: the agent runs
    /// it over frames that nobody sent.
    pub const EXPLAIN: &str = "explain";
    /// `u32`: the interface that frames seem to come in by, where the object is loaded for [`EXPLAIN`]; 0 elsewhere.
    pub const EXPLAINED: &str = "EXPLAINED";
    /// `u8`, of the crate `aya-log-ebpf`: the least severe level of log lines that are written, 1 for errors to 5 for traces, and 0
    /// for none. Set by the loader; the verifier knows it, and takes lines of other levels out of the programs.
    pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
    /// `u64`: ticks (jiffies) per second of this kernel. Set by the loader.
    pub const HZ: &str = "HZ";
}

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
