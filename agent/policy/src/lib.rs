//! What may get in, as data: the configuration and the catalogue as people write them, the plan that both come to, and the
//! tables that the program judges by.
//!
//! This crate asks nothing of the machine. It loads no program, opens no socket and knows no clock; the only files that it
//! reads are a configuration and the catalogue that it names. What it must know of the machine, a caller puts into a
//! [`plan::Machine`]. The crate `lyncwall-datapath` writes a [`compile::Compiled`] into the kernel's maps;
//! [`judge::judge()`] runs the program's own verdict over it in memory.

pub mod catalogue;
pub mod compare;
pub mod compile;
pub mod config;
pub mod connection;
pub mod frame;
pub mod judge;
pub mod locate;
pub mod media_ranges;
pub mod net;
pub mod open_ports;
pub mod plan;
pub mod problem;
mod reach;
mod reader;
pub mod services;
pub mod text;
