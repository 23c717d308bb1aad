//! What the machine must grant. A test without it fails with a sentence that says what is missing; it never
//! passes by doing nothing.

use std::fs;

use anyhow::{Context as _, Result};
use aya::util::KernelVersion;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// Bit and name of each capability that the kernel tests use (linux/capability.h).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// Demands the privileges for namespaces, mounts, packet sockets and BPF.
///
/// # Panics
/// Where one is missing; the message names it and says how to run the tests.
pub fn require_root() {
    let missing = missing_capabilities().expect("/proc/self/status can be read");
    assert!(
        missing.is_empty(),
        "this test needs {}, which this process does not have: run `cargo xtask test` as root \
         (in a container, one with these capabilities)",
        missing.join(", ")
    );
}

/// Lifts the limit on locked memory, which kernels before 5.11 charge BPF maps to.
///
/// # Errors
/// Where such a kernel refuses it; newer ones do not need it and are not asked.
pub fn raise_memlock() -> Result<()> {
    let version = KernelVersion::current().context("the kernel's version")?;
    if version >= KernelVersion::new(5, 11, 0) {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
        .context("this kernel counts BPF maps as locked memory, and the limit cannot be raised")
}

fn missing_capabilities() -> Result<Vec<&'static str>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .context("no CapEff line in /proc/self/status")?;
    let effective = u64::from_str_radix(effective.trim(), 16)?;
    Ok(CAPABILITIES.iter().filter(|(bit, _)| effective & 1 << bit == 0).map(|(_, name)| *name).collect())
}
