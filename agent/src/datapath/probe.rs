//! What the machine must offer, asked before anything is changed.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::MapType;
use aya::sys::is_map_supported;
use aya::util::KernelVersion;
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::time::{ClockId, clock_getres};

use crate::problem::{Problem, Problems};

/// The oldest kernel that the program is tested on.
const OLDEST: (u8, u8) = (5, 10);

/// Everything that is missing for the data path at `pin_dir`.
///
/// # Errors
/// Where the machine cannot be asked.
pub(super) fn preflight(pin_dir: &Path) -> Result<Problems> {
    let mut problems = privileges()?;
    let kernel = KernelVersion::current().context("reading the kernel's version")?;
    if kernel < KernelVersion::new(OLDEST.0, OLDEST.1, 0) {
        problems.push(Problem::new(
            format!("this kernel is {kernel}, and lyncwall needs {}.{} or later", OLDEST.0, OLDEST.1),
            "boot a newer kernel",
        ));
    }
    problems.append(file_system(pin_dir)?);
    Ok(problems)
}

/// What of the privileges is missing.
///
/// # Errors
/// Where the kernel does not tell them.
pub(super) fn privileges() -> Result<Problems> {
    let status = "/proc/thread-self/status";
    let text = fs::read_to_string(status).with_context(|| format!("reading {status}"))?;
    let effective = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.with_context(|| format!("{status} has no CapEff line"))?;
    let effective =
        u64::from_str_radix(effective.trim(), 16).with_context(|| format!("CapEff in {status}"))?;
    let missing = missing_capabilities(effective);
    let mut problems = Problems::default();
    if !missing.is_empty() {
        problems.push(Problem::new(
            format!("no privilege to load and attach BPF programs ({} missing)", missing.join(", ")),
            "run lyncwall as root",
        ));
    }
    Ok(problems)
}

/// Numbers of linux/capability.h. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    // The verifier asks for it where a program computes with packet pointers, as every parser does.
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

/// The pin directory, or the nearest directory above it that is there, must lie on a BPF file system.
///
/// # Errors
/// Where the directory cannot be asked for.
pub(super) fn file_system(pin_dir: &Path) -> Result<Problems> {
    let mut problems = Problems::default();
    if !pin_dir.is_absolute() {
        problems.push(Problem::new(
            format!("the pin directory {} is not an absolute path", pin_dir.display()),
            "name it from the root, as /sys/fs/bpf/lyncwall",
        ));
        return Ok(problems);
    }
    for directory in pin_dir.ancestors() {
        match statfs(directory) {
            Ok(found) => {
                if found.filesystem_type() != BPF_FS_MAGIC {
                    problems.push(Problem::new(
                        format!("the pin directory {} does not lie on a BPF file system", pin_dir.display()),
                        "mount one with `mount -t bpf bpf /sys/fs/bpf`, or name a directory on one",
                    ));
                }
                return Ok(problems);
            }
            Err(Errno::ENOENT) => {}
            Err(Errno::ENOTDIR) => {
                problems.push(Problem::new(
                    format!("{} is below something that is not a directory", pin_dir.display()),
                    "name another pin directory",
                ));
                return Ok(problems);
            }
            // systemd mounts the file system for root alone.
            Err(Errno::EACCES) => {
                problems.push(Problem::new(
                    format!("{} may not be looked at by this user", directory.display()),
                    "run lyncwall as root",
                ));
                return Ok(problems);
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("asking for the file system of {}", directory.display()));
            }
        }
    }
    Ok(problems)
}

/// The kinds of maps in `types` (numbers of `enum bpf_map_type`) that this kernel does not have.
///
/// # Errors
/// Where the kernel cannot be asked.
pub(super) fn missing_map_types(types: impl IntoIterator<Item = u32>) -> Result<Problems> {
    let mut problems = Problems::default();
    for number in types {
        let kind = aya_obj::generated::bpf_map_type::try_from(number)
            .ok()
            .and_then(|kind| MapType::try_from(kind).ok())
            .with_context(|| format!("the BPF object has a map of the unknown type {number}"))?;
        if !is_map_supported(kind).with_context(|| format!("asking the kernel for maps of type {kind:?}"))? {
            problems.push(Problem::new(
                format!("this kernel has no BPF maps of type {kind:?}"),
                "boot a kernel with BPF and networking support for it",
            ));
        }
    }
    Ok(problems)
}

/// Lifts the limit on locked memory, which kernels before 5.11 charge BPF maps to.
///
/// # Errors
/// Where such a kernel refuses.
pub(super) fn lift_memory_limit() -> Result<()> {
    if KernelVersion::current().context("reading the kernel's version")? >= KernelVersion::new(5, 11, 0) {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
        .context("lifting the limit on locked memory, which this kernel counts BPF maps against")
}

/// The kernel's ticks per second.
///
/// A coarse clock moves once a tick, so its resolution is the length of one. `sysconf(_SC_CLK_TCK)` is no
/// answer: it is 100 for every program whatever the kernel's own tick is.
///
/// # Errors
/// Where the kernel has no such clock.
pub(super) fn ticks_per_second() -> Result<u64> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context("asking for the length of a tick")?;
    let nanoseconds = u64::try_from(tick.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(tick.tv_nsec()).unwrap_or(0);
    // 300 ticks a second are 3,333,333 ns each: round, don't cut.
    (1_000_000_000 + nanoseconds / 2)
        .checked_div(nanoseconds)
        .context("the kernel says that a tick takes no time")
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

    #[test]
    fn a_tick_has_a_usual_length() {
        let hz = super::ticks_per_second().expect("the kernel tells");
        assert!([100, 250, 300, 1000].contains(&hz), "{hz}");
    }
}
