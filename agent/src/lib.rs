//! The agent: it reads the configuration and the catalogue, compiles them into the maps that the XDP program
//! judges by, and reports what was dropped and why.

pub mod catalogue;
pub mod config;
pub mod datapath;
pub mod net;
pub mod object;
pub mod plan;
pub mod policy;
pub mod problem;
