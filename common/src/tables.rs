//! The look-ups behind a verdict. The kernel program answers them from BPF maps, the agent from the policy that it
//! compiled, the property tests from plain lists.
//!
//! An answer of `None` from a look-up that cannot fail in the kernel says that a table is missing: a defect.

use crate::{
    abi::{
        AllowKey, Bucket, Class, Flow, FlowKeyV4, FlowKeyV6, FlowTimes, FragmentKey, FragmentRecord, Limit,
        Live, NetPort, OpeningKey, PortTransport, Target, Until,
    },
    fields::Address,
};

/// Look-ups that say what a rule lets in.
pub trait Rules {
    /// The live record.
    fn live(&self) -> Option<Live>;
    /// The kernel's tick counter.
    fn jiffies(&self) -> u64;
    /// Ticks per second.
    fn hz(&self) -> u64;
    /// True for a management port.
    fn management_port(&self, transport: PortTransport, port: NetPort) -> bool;
    /// True for a management source.
    fn management_source(&self, source: Address) -> bool;
    /// The zone of a packet on this interface in this VLAN, 0 for an untagged frame; `None` where the interface is in no
    /// zone. Asked only with [`Features::ZONES`](crate::abi::Features::ZONES).
    fn zone(&self, slot: u32, vlan: u16) -> Option<u32>;
    /// The target of a zone that lists an address; `None` where no target does. Asked only with
    /// [`Features::TARGETS`](crate::abi::Features::TARGETS).
    fn listed(&self, slot: u32, zone: u32, address: [u64; 2]) -> Option<Target>;
    /// The target of a destination in a zone: two words as in [`TargetEntry`](crate::abi::TargetEntry).
    fn target(&self, slot: u32, zone: u32, address: [u64; 2]) -> Target;
    /// True where an address of a zone is neither that of a target nor one of the box, and the box forwards. Asked only
    /// with [`Features::TARGETS`](crate::abi::Features::TARGETS).
    fn is_elsewhere(&self, slot: u32, zone: u32, address: [u64; 2]) -> bool;
    /// The class of a port of a policy: `Some(None)` where the port is closed.
    fn port(&self, slot: u32, policy: u32, transport: PortTransport, port: NetPort) -> Option<Option<Class>>;
    /// The groups, as bits, of an address, and of everybody in the zone of a packet.
    fn groups(&self, slot: u32, zone: u32, address: Address) -> u32;
    /// The counter of the first allow rule that matches, for a destination of `policy` or
    /// [`NO_POLICY`](crate::abi::NO_POLICY).
    fn allow(&self, slot: u32, key: AllowKey, policy: u32, zone: u32, source: Address) -> Option<u32>;
    /// True where targets of this policy are in audit mode; with [`NO_POLICY`](crate::abi::NO_POLICY), packets without a
    /// target. Asked only with [`Features::MODES`](crate::abi::Features::MODES).
    fn audits(&self, slot: u32, policy: u32) -> bool;
    /// True where all targets of a zone, and packets without a target, are in audit mode; false for
    /// [`NO_ZONE`](crate::abi::NO_ZONE). Asked only with [`Features::MODES`](crate::abi::Features::MODES).
    fn audits_zone(&self, slot: u32, zone: u32) -> bool;
    /// True where destinations in no target of a zone pass.
    fn unmatched_pass(&self, slot: u32, zone: u32) -> bool;
}

/// What the verdict over an incoming packet needs beside [`Rules`].
pub trait Tables: Rules {
    /// True where the interface that the packet came in by is a DHCP client.
    fn dhcp_client(&self, slot: u32) -> bool;
    /// When the block of a source ends; `None` where no prefix of the block-list contains the source.
    fn blocked(&self, source: Address) -> Option<Until>;
    /// How many connections a source may open to ports of a policy.
    fn limit(&self, slot: u32, policy: u32) -> Option<Limit>;
    /// Applies `change` to a source's bucket and stores the result; `None` where the source has no bucket.
    fn change_bucket<R>(&self, key: &OpeningKey, change: impl FnOnce(&mut Bucket) -> R) -> Option<R>;
    /// Gives a source a bucket. A full table loses the bucket of the source that opened nothing for longest.
    fn add_bucket(&self, key: &OpeningKey, bucket: Bucket);
    /// Takes one packet from a rate; false where the rate is exhausted.
    fn within(&self, rate: Rate) -> bool;
    /// Takes one from the rate of later fragments that may come before their first one; false where it is exhausted, or
    /// the generation has none.
    fn may_come_early(&self, slot: u32) -> bool;
    /// The record of a first fragment.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentRecord>;
    /// Stores the record of a first fragment.
    fn remember_fragment(&self, key: &FragmentKey, record: FragmentRecord);
    /// Removes the record of a first fragment.
    fn forget_fragment(&self, key: &FragmentKey);
}

/// A limit on packets per second, for each CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// [`ICMP_ERROR_RATE`], for errors that quote nothing that is known.
    IcmpError,
    /// [`ICMP_LANE_RATE`], for errors that quote a live flow. The number is as of [`Rate::IcmpErrorOfPort`].
    IcmpErrorOfFlow(u8),
    /// [`ICMP_LANE_RATE`], for errors that quote the answer of an open port. The number, below
    /// [`ICMP_ERROR_LANES`](crate::abi::ICMP_ERROR_LANES), depends on the far side.
    IcmpErrorOfPort(u8),
    /// [`ICMP_ECHO_RATE`].
    IcmpEcho,
}

/// ICMP errors that quote nothing that is known, that each CPU lets in, per second.
pub const ICMP_ERROR_RATE: u64 = 1000;

/// ICMP errors that quote the answer of an open port to one of the far sides that share a number, that each CPU lets in,
/// per second.
pub const ICMP_LANE_RATE: u64 = 250;

/// Echo requests that each CPU lets in, per second.
pub const ICMP_ECHO_RATE: u64 = 1000;

/// Answers to packets at closed ports of each transport that each CPU sends, per second. Linux sends as many ICMP errors
/// (`net.ipv4.icmp_msgs_per_sec`).
pub const ANSWER_RATE: u64 = 1000;

/// What flows need beside [`Rules`].
pub trait Tracking: Rules + Flows<FlowKeyV4> + Flows<FlowKeyV6> {
    /// The time-outs of a generation.
    fn flow_times(&self, slot: u32) -> Option<FlowTimes>;
    /// The [`FlowPorts::stamp`](crate::abi::FlowPorts::stamp) of a local port.
    fn flow_port(&self, transport: PortTransport, port: NetPort) -> u8;
    /// Sets the stamp of a local port.
    fn stamp_flow_port(&self, transport: PortTransport, port: NetPort, stamp: u8);
    /// True where TCP connections are picked up in the middle: for a moment before enforcement begins.
    fn learning(&self) -> bool;
}

/// A table of flows with keys of one kind.
pub trait Flows<K> {
    /// Applies `change` to a flow and stores the result. `None` where there is no such flow.
    fn change<R>(&self, key: &K, change: impl FnOnce(&mut Flow) -> R) -> Option<R>;

    /// Adds a flow. A full table loses the least recently used flow.
    fn add(&self, key: &K, flow: Flow);
}
