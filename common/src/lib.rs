//! What the kernel program and the agent have in common: packet parsing, the verdict, and the layout of the
//! BPF maps.
//!
//! Everything here is plain `no_std` Rust without a pointer in it. The kernel program, the unit tests, the
//! property tests and the agent's own judge run the same [`decide::judge`]; only the two traits below it differ:
//! [`packet::Packet`] reads a frame and [`decide::Tables`] looks things up.
#![cfg_attr(not(test), no_std)]

pub mod abi;
mod blocked;
mod bytes;
pub mod decide;
pub mod fields;
pub mod flow;
pub mod fragment;
mod icmp;
mod limit;
pub mod packet;
pub mod parse;
pub mod reason;
pub mod summary;
pub mod tcp;
pub mod wire;
pub mod zone;
