//! How many flows suit the memory of the machine.

use std::fs;

use lyncwall_common::abi::FLOWS;

/// Memory of the machine for each flow of either family, in bytes. The tables take about 220 of them.
const PER_FLOW: u64 = 32 * 1024;

/// The fewest flows that a machine gets.
const LEAST: u32 = 65_536;

/// The most flows that a machine gets by itself: their tables are made in a tenth of a second.
const MOST: u32 = 262_144;

/// The capacity of a flow table that suits this machine.
#[must_use]
pub fn flows() -> u32 {
    match fs::read_to_string("/proc/meminfo") {
        Ok(text) => total(&text).map_or(FLOWS, flows_for),
        Err(error) => {
            tracing::debug!(%error, "cannot read /proc/meminfo");
            FLOWS
        }
    }
}

/// The capacity for a machine with so many bytes of memory.
fn flows_for(bytes: u64) -> u32 {
    let flows = u32::try_from(bytes / PER_FLOW).unwrap_or(u32::MAX);
    flows.clamp(LEAST, MOST)
}

/// The memory in bytes, from the text of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::{flows_for, total};

    #[test]
    fn the_tables_grow_with_the_memory_within_bounds() {
        const GIB: u64 = 1 << 30;
        let sizes = [GIB / 2, GIB, 4 * GIB, 8 * GIB, 512 * GIB, u64::MAX].map(flows_for);
        assert_eq!(sizes, [65_536, 65_536, 131_072, 262_144, 262_144, 262_144]);
    }

    #[test]
    fn the_memory_is_read_in_kibibytes() {
        let text = "MemTotal:       16303428 kB\nMemFree:        1 kB\n";
        assert_eq!(total(text), Some(16_303_428 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal: many\n"), None);
    }
}
