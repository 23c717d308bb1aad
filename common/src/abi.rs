//! The layout of the BPF maps, for both sides.
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
pub mod map;
mod policy;
mod ports;
mod targets;
mod zones;

pub use crate::address::mapped;
pub use blocked::{BlockRecord, MAX_BLOCKED, Until};
pub use counters::{
    Bucket, COUNTER_BLOCK, CounterBlock, CpuRecord, INTERFACE_CELLS, Lost, PORT_DROP_BLOCKS, REASONS,
    RULE_BLOCKS, WARNINGS, interface_cell, port_drop_cell,
};
pub use events::{Captured, Event, Explained, FragmentKey, FragmentRecord, LONGEST_CAPTURE, SNAP_LENGTH};
pub use flows::{FLOWS, Flow, FlowKeyV4, FlowKeyV6, FlowPorts, FlowState, FlowTimes, LONGEST_FLOW};
pub use limit::{Limit, OPENING_SOURCES, OpeningKey};
pub use live::{Capture, Control, Features, Live, PortSet, ReasonSet};
pub use map::{STATE_BYTES, STATE_ELEMENTS};
pub use policy::{
    ALLOW_RULES, AllowKey, AllowTable, Class, MAX_GROUPS, MAX_POLICIES, MAX_PREFIXES, MAX_SOURCES,
    NO_COUNTER, NO_POLICY, PolicyTable, SLOTS, SourceRecord, SourceV4, SourceV6, policy_index,
};
pub use ports::{NetPort, PortTransport};
pub use targets::{
    MAX_TARGET_ADDRESSES, TARGET_BUCKETS, Target, TargetCode, TargetEntry, TargetTable, ZoneTargets,
};
pub use zones::{
    FLAG_DHCP_CLIENT, Generation, INTERFACE_BUCKETS, Interface, MAX_INTERFACES, MAX_NUMBERS, NO_ZONE, REST,
    VLAN_TABLES, VlanTable, ZONE_NUMBERS, ZONES, vlans_index,
};

/// The version of everything in this module.
pub const ABI_VERSION: u32 = 7;

/// The target of the program's log lines, on both sides.
pub const LOG_TARGET: &str = "bpf";

/// Names of the programs and read-only constants in the object.
pub mod program {
    /// The XDP program for kernels before 5.18, and drivers without multi-buffer XDP.
    pub const INGRESS: &str = "ingress";
    /// [`INGRESS`] in an `xdp.frags` section (kernel 5.18), for frames in several buffers.
    pub const INGRESS_FRAGS: &str = "ingress_frags";
    /// The program on outgoing packets. It makes flows.
    pub const EGRESS: &str = "egress";
    /// The XDP program that writes jiffies into a frame. It is attached nowhere: the agent runs it to read the clock.
    pub const CLOCK: &str = "clock";
    /// The XDP program that answers with an [`Explained`](super::Explained) and leaves no trace. It is attached nowhere:
    /// the agent runs it over frames that it made up.
    pub const EXPLAIN: &str = "explain";
    /// `u32`: the interface that made-up frames seem to come in by, where the object is loaded for [`EXPLAIN`]; 0
    /// elsewhere.
    pub const EXPLAINED: &str = "EXPLAINED";
    /// `u8`, of the crate `aya-log-ebpf`: the highest level of log lines that the programs write, from 1 for errors to 5
    /// for traces, and 0 for none. The loader sets it. The verifier knows the value, and removes other lines.
    pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
    /// `u64`: ticks (jiffies) per second of this kernel. Set by the loader.
    pub const HZ: &str = "HZ";
}
