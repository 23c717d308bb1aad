//! What the tests, the demonstration and the benchmark need to meet a real kernel: hand-built frames, network
//! namespaces that vanish by themselves, test runs of the program, real traffic, and the agent as a process.

pub mod agent;
pub mod bpffs;
pub mod expect;
pub mod kernel;
pub mod netns;
pub mod object;
pub mod packet;
pub mod policy;
pub mod prerequisites;
pub mod programs;
pub mod pty;
pub mod run;
pub mod scene;
mod sys;
pub mod traffic;
pub mod verifier;
