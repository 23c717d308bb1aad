//! The agent: the firewall as a whole, the server, events, metrics and the commands.
//!
//! `lyncwall-policy` is pure, `lyncwall-datapath` asks the kernel, `lyncwall-api` has the types of the socket. This crate puts
//! them together, and carries the BPF object.

pub mod events;
pub mod firewall;
pub mod metrics;
pub mod object;
pub mod pcapng;
pub mod server;
pub mod wire;

pub use lyncwall_api as api;
pub use lyncwall_api::client;
pub use lyncwall_datapath as datapath;
pub use lyncwall_policy::{catalogue, config, frame, net, plan, problem, services};

/// The compiled policy, from what goes in to what a switch changes.
pub mod policy {
    pub use lyncwall_policy::compare::{Comparison, Ways};
    pub use lyncwall_policy::compile::{
        COUNTERS, Compiled, CounterBook, GroupInput, Identity, Input, InterfaceInput, ManagementTables, Rule,
        TargetInput, ZoneInput, block_records, compile,
    };
    pub use lyncwall_policy::judge::{HostTables, judge};
    pub use lyncwall_policy::locate::{Located, Locator};
    pub use lyncwall_policy::media_ranges::{
        Exposed, MediaRange, Overlap, exposed, is_within, media_ranges, overlaps,
    };
    pub use lyncwall_policy::open::{Change, OpenPorts};
}

/// Connections and listeners of this box, under the names that tests know.
pub mod standing {
    pub use lyncwall_datapath::connections::{connections, listeners, name_processes};
    pub use lyncwall_policy::connection::{Connection as Standing, Listener, Protocol};
}
