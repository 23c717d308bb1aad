//! What a kernel can make different: its verifier, its helpers, its hooks, its drivers. `cargo xtask vm` runs this program
//! on other kernels too.

mod audit;
mod datapath;
mod devices;
mod streams;
mod traffic;
mod verdicts;
