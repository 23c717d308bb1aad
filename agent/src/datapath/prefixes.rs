//! Source prefixes in the kernel: a longest-prefix-match map for each address family.

use std::io::ErrorKind;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use lyncwall_common::abi::{SourceV4, SourceV6};

use super::load::take;
use crate::net::Prefix;

/// Bits of a key in front of the address: the slot and three bytes of zero.
const SLOT_BITS: u32 = 32;

/// A pair of maps.
pub(super) struct PrefixMaps {
    v4: LpmTrie<MapData, SourceV4, u64>,
    v6: LpmTrie<MapData, SourceV6, u64>,
    names: [&'static str; 2],
}

impl PrefixMaps {
    /// Takes the maps with these names, IPv4 first.
    pub(super) fn take(ebpf: &mut Ebpf, names: [&'static str; 2]) -> Result<Self> {
        Ok(Self { v4: take(ebpf, names[0])?, v6: take(ebpf, names[1])?, names })
    }

    /// The map that holds prefixes of this family.
    pub(super) fn name(&self, prefix: Prefix) -> &'static str {
        self.names[usize::from(prefix.addr().is_ipv6())]
    }

    /// Adds or changes a prefix of a slot.
    pub(super) fn insert(&mut self, slot: u32, prefix: Prefix, value: u64) -> Result<()> {
        match key(slot, prefix) {
            AnyKey::V4(key) => self.v4.insert(&key, value, 0),
            AnyKey::V6(key) => self.v6.insert(&key, value, 0),
        }
        .with_context(|| format!("adding {prefix} to the map {}", self.name(prefix)))
    }

    /// Removes a prefix of a slot, if it is there.
    pub(super) fn remove(&mut self, slot: u32, prefix: Prefix) -> Result<()> {
        let removed = match key(slot, prefix) {
            AnyKey::V4(key) => self.v4.remove(&key),
            AnyKey::V6(key) => self.v6.remove(&key),
        };
        match removed {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
        .with_context(|| format!("removing {prefix} from the map {}", self.name(prefix)))
    }

    /// All prefixes with their slots, as the kernel has them.
    pub(super) fn entries(&self) -> Result<Vec<(u32, Prefix)>> {
        let mut entries = Vec::new();
        for key in self.v4.keys() {
            let key = key.with_context(|| format!("listing the map {}", self.names[0]))?;
            let data = key.data();
            entries.push(entry(data.slot, octets::<2, 4>(data.address).into(), key.prefix_len())?);
        }
        for key in self.v6.keys() {
            let key = key.with_context(|| format!("listing the map {}", self.names[1]))?;
            let data = key.data();
            entries.push(entry(data.slot, octets::<8, 16>(data.address).into(), key.prefix_len())?);
        }
        Ok(entries)
    }
}

enum AnyKey {
    V4(Key<SourceV4>),
    V6(Key<SourceV6>),
}

fn key(slot: u32, prefix: Prefix) -> AnyKey {
    let length = SLOT_BITS + u32::from(prefix.length());
    let slot = [slot as u8, 0, 0, 0];
    match prefix.addr() {
        IpAddr::V4(address) => {
            AnyKey::V4(Key::new(length, SourceV4 { slot, address: units(address.octets()) }))
        }
        IpAddr::V6(address) => {
            AnyKey::V6(Key::new(length, SourceV6 { slot, address: units(address.octets()) }))
        }
    }
}

/// An address as it lies in the packet, in 16-bit units.
fn units<const UNITS: usize, const BYTES: usize>(octets: [u8; BYTES]) -> [u16; UNITS] {
    std::array::from_fn(|n| u16::from_ne_bytes([octets[2 * n], octets[2 * n + 1]]))
}

/// The reverse. `From<[u16; 8]>` of an address would take the units for numbers.
fn octets<const UNITS: usize, const BYTES: usize>(units: [u16; UNITS]) -> [u8; BYTES] {
    std::array::from_fn(|n| units[n / 2].to_ne_bytes()[n % 2])
}

fn entry(slot: [u8; 4], address: IpAddr, length: u32) -> Result<(u32, Prefix)> {
    let bits = length.checked_sub(SLOT_BITS).and_then(|bits| u8::try_from(bits).ok());
    let prefix = bits.and_then(|bits| Prefix::new(address, bits).ok());
    ensure!(slot[1..] == [0; 3], "a source map holds a key with the slot {slot:?}");
    let prefix = prefix.with_context(|| format!("a source map holds the key {address} of {length} bits"))?;
    Ok((u32::from(slot[0]), prefix))
}
