//! The agent. It reads the configuration and the catalogue, compiles them into the maps of the XDP program,
//! and reports what the program drops and why.

pub mod api;
pub mod catalogue;
pub mod client;
pub mod config;
pub mod datapath;
pub mod events;
pub mod exposure;
pub mod firewall;
pub mod frame;
mod interfaces;
pub mod machine;
pub mod metrics;
pub mod net;
mod netlink;
pub mod object;
pub mod pcapng;
pub mod plan;
pub mod policy;
pub mod problem;
pub mod server;
pub mod services;
pub mod standing;
