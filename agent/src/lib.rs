//! The agent: it reads the configuration and the catalogue, compiles them into the maps that the XDP program
//! judges by, and reports what was dropped and why.

/// The commands, a file each.
pub mod commands {
    pub mod check;
}
pub mod config;
pub mod net;
pub mod problem;
