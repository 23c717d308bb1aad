//! The compiled policy: configuration, catalogue and machine as the tables that the program judges by. Does
//! no I/O: [`compile()`] is a function, [`Compiled`] is data.
//!
//! [`crate::datapath`] writes a [`Compiled`] into the kernel's maps; [`judge()`] runs the program's own verdict over
//! it in memory.

use lyncwall_common::abi::{
    AllowTable, Features, Generation, PolicyTable, PortSet, SourceRecord, TargetTable, VlanTable,
};

use crate::net::Prefix;

mod allow;
mod blocked;
mod compare;
mod compile;
mod counters;
mod input;
mod judge;
mod locate;
mod open;
mod seed;
mod sources;
mod targets;
mod wide;
mod zones;

pub use blocked::block_records;
pub use compare::{Comparison, Ways};
pub use compile::compile;
pub use counters::{COUNTERS, CounterBook, Identity};
pub use input::{GroupInput, Input, InterfaceInput, Rule, TargetInput, ZoneInput};
pub use judge::{HostTables, judge};
pub use locate::{Located, Locator};
pub use open::{Change, OpenPorts, Ports};
pub use wide::{Exposed, Overlap, WideRange, exposed, is_within, overlaps, wide_ranges};

/// One generation, ready to be written.
#[derive(Clone)]
pub struct Compiled {
    /// The features that the generation uses.
    pub features: Features,
    /// The generation without its number, which it gets when it is installed.
    pub generation: Generation,
    /// The zones of VLANs; an interface in `generation` refers to its table by index plus one.
    pub vlans: Vec<Box<VlanTable>>,
    /// Addresses of targets other than `host`; `None` without [`Features::TARGETS`].
    pub targets: Option<Box<TargetTable>>,
    /// By policy number, then by [`PortTransport`](lyncwall_common::abi::PortTransport).
    pub policies: Vec<[Box<PolicyTable>; 2]>,
    /// `None` without [`Features::ALLOW`].
    pub allow: Option<Box<AllowTable>>,
    /// The sources of groups and allow rules: the result of a longest-prefix match, by prefix. The record of
    /// a prefix includes those of the prefixes that cover it.
    pub sources: Vec<(Prefix, SourceRecord)>,
    /// Not part of the generation: edited live, and never by a switch.
    pub management: ManagementTables,
}

/// The management rule. No policy switch touches it.
#[derive(Clone, PartialEq, Eq)]
pub struct ManagementTables {
    /// By [`PortTransport`](lyncwall_common::abi::PortTransport).
    pub ports: Box<[PortSet; 2]>,
    /// The sources that may use the ports.
    pub sources: Vec<Prefix>,
}
