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
