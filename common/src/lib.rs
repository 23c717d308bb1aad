//! Packet parsing, the verdict and the BPF map layouts that the kernel program and the agent share.
#![no_std]
