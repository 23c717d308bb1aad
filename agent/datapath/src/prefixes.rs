//! Source prefixes in the kernel: a longest-prefix-match map for each address family.

use std::io::ErrorKind;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use lyncwall_common::abi::{SourceV4, SourceV6};
use lyncwall_common::fields::Address;

use super::load::take;
use lyncwall_policy::net::Prefix;

/// Bits of a key before the address: the set and three bytes of zero.
const SET_BITS: u32 = 32;

/// A pair of maps, from prefixes to values.
pub(super) struct PrefixMaps<V> {
    v4: LpmTrie<MapData, SourceV4, V>,
    v6: LpmTrie<MapData, SourceV6, V>,
    names: [&'static str; 2],
}

impl<V: Pod> PrefixMaps<V> {
    /// Takes the maps with these names, IPv4 first.
    pub(super) fn take(ebpf: &mut Ebpf, names: [&'static str; 2]) -> Result<Self> {
        Ok(Self { v4: take(ebpf, names[0])?, v6: take(ebpf, names[1])?, names })
    }

    /// The map for prefixes of this family.
    pub(super) fn name(&self, prefix: Prefix) -> &'static str {
        self.names[usize::from(prefix.addr().is_ipv6())]
    }

    /// Adds or changes a prefix of a set.
    pub(super) fn insert(&mut self, set: u32, prefix: Prefix, value: V) -> Result<()> {
        match key(set, prefix) {
            AnyKey::V4(key) => self.v4.insert(&key, value, 0),
            AnyKey::V6(key) => self.v6.insert(&key, value, 0),
        }
        .with_context(|| format!("adding {prefix} to the map {}", self.name(prefix)))
    }

    /// Removes a prefix of a set, if present.
    pub(super) fn remove(&mut self, set: u32, prefix: Prefix) -> Result<()> {
        let removed = match key(set, prefix) {
            AnyKey::V4(key) => self.v4.remove(&key),
            AnyKey::V6(key) => self.v6.remove(&key),
        };
        match removed {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
        .with_context(|| format!("removing {prefix} from the map {}", self.name(prefix)))
    }

    /// All prefixes with their sets and values, read from the kernel.
    pub(super) fn entries(&self) -> Result<Vec<(u32, Prefix, V)>> {
        let mut entries = Vec::new();
        for found in self.v4.iter() {
            let (key, value) = found.with_context(|| format!("listing the map {}", self.names[0]))?;
            let data = key.data();
            let (set, prefix) = entry(data.set, Address::V4(data.address).ip(), key.prefix_len())?;
            entries.push((set, prefix, value));
        }
        for found in self.v6.iter() {
            let (key, value) = found.with_context(|| format!("listing the map {}", self.names[1]))?;
            let data = key.data();
            let (set, prefix) = entry(data.set, Address::V6(data.address).ip(), key.prefix_len())?;
            entries.push((set, prefix, value));
        }
        Ok(entries)
    }
}

enum AnyKey {
    V4(Key<SourceV4>),
    V6(Key<SourceV6>),
}

fn key(set: u32, prefix: Prefix) -> AnyKey {
    let length = SET_BITS + u32::from(prefix.length());
    match prefix.addr() {
        IpAddr::V4(address) => AnyKey::V4(Key::new(length, SourceV4::new(set, address))),
        IpAddr::V6(address) => AnyKey::V6(Key::new(length, SourceV6::new(set, address))),
    }
}

fn entry(set: [u8; 4], address: IpAddr, length: u32) -> Result<(u32, Prefix)> {
    let bits = length.checked_sub(SET_BITS).and_then(|bits| u8::try_from(bits).ok());
    let prefix = bits.and_then(|bits| Prefix::new(address, bits).ok());
    ensure!(set[1..] == [0; 3], "a source map holds a key with the set {set:?}");
    let prefix = prefix.with_context(|| format!("a source map holds the key {address} of {length} bits"))?;
    Ok((u32::from(set[0]), prefix))
}
