//! The privileges of this process.

use std::fs;

use anyhow::{Context as _, Result};

use lyncwall_policy::problem::{Problem, Problems};

/// The problem of missing privileges.
///
/// # Errors
/// If the kernel does not answer.
pub(in super::super) fn privileges() -> Result<Problems> {
    let missing = missing_capabilities(effective()?);
    let mut problems = Problems::default();
    if !missing.is_empty() {
        problems.push(Problem::new(
            format!("no privilege to load and attach BPF programs ({} missing)", missing.join(", ")),
            "run lyncwall as root",
        ));
    }
    Ok(problems)
}

/// True if this process may raise its limits.
///
/// # Errors
/// As [`privileges`].
pub(super) fn may_raise_limits() -> Result<bool> {
    const SYS_RESOURCE: u32 = 24;
    Ok(effective()? & 1 << SYS_RESOURCE != 0)
}

/// The effective capabilities, one bit each.
fn effective() -> Result<u64> {
    let status = "/proc/thread-self/status";
    let text = fs::read_to_string(status).with_context(|| format!("reading {status}"))?;
    let effective = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.with_context(|| format!("{status} has no CapEff line"))?;
    u64::from_str_radix(effective.trim(), 16).with_context(|| format!("CapEff in {status}"))
}

/// Numbers of linux/capability.h. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    // The verifier needs it for arithmetic on packet pointers, which every parser does.
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;

    let has = |capability: u32| effective & 1 << capability != 0;
    let mut missing = Vec::new();
    if !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    if !has(PERFMON) && !has(SYS_ADMIN) {
        missing.push("CAP_PERFMON");
    }
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::missing_capabilities;

    #[test]
    fn the_missing_capabilities_are_named() {
        assert_eq!(missing_capabilities(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
        assert_eq!(missing_capabilities(1 << 39 | 1 << 12), ["CAP_PERFMON"]);
        assert!(missing_capabilities(1 << 38 | 1 << 39 | 1 << 12).is_empty());
        assert!(missing_capabilities(1 << 21 | 1 << 12).is_empty());
        assert_eq!(missing_capabilities(1 << 21), ["CAP_NET_ADMIN"]);
    }
}
