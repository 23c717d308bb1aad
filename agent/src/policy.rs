//! The compiled policy: what the configuration, the catalogue and the machine come to, as the tables that the
//! program judges by. Does no I/O: [`compile()`] is a function, [`Compiled`] is data.
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
    /// What the generation makes use of.
    pub features: Features,
    /// All but its number, which is given when it is installed.
    pub generation: Generation,
    /// The zones of VLANs, by the number that an interface in `generation` has one more than.
    pub vlans: Vec<Box<VlanTable>>,
    /// Addresses of targets other than `host`; `None` without [`Features::TARGETS`].
    pub targets: Option<Box<TargetTable>>,
    /// By policy number, then by [`PortTransport`](lyncwall_common::abi::PortTransport).
    pub policies: Vec<[Box<PolicyTable>; 2]>,
    /// `None` without [`Features::ALLOW`].
    pub allow: Option<Box<AllowTable>>,
    /// Sources of groups and allow rules: what a longest-prefix match of an address must find, by prefix. What holds for
    /// covering prefixes is in the records of the prefixes they cover.
    pub sources: Vec<(Prefix, SourceRecord)>,
    /// Not part of the generation: live-edited, and never by a switch.
    pub management: ManagementTables,
}

/// The management rule. No policy switch touches it.
#[derive(Clone, PartialEq, Eq)]
pub struct ManagementTables {
    /// By [`PortTransport`](lyncwall_common::abi::PortTransport).
    pub ports: Box<[PortSet; 2]>,
    /// Who may use them.
    pub sources: Vec<Prefix>,
}
