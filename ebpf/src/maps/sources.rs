//! The groups of an address, and the `[[allow]]` rules that name it.

use aya_ebpf::maps::lpm_trie::Key;
use lyncwall_common::{
    abi::{AllowKey, AllowTable, SourceRecord, SourceV4, SourceV6},
    fields::Address,
};

use super::{generations, map};

map!(ALLOW: Array<AllowTable>);
map!(SOURCES_V4: LpmTrie<SourceV4, SourceRecord>);
map!(SOURCES_V6: LpmTrie<SourceV6, SourceRecord>);

/// The groups and rules of an address: those of its longest prefix, and those of everybody in the zone.
#[inline(always)]
pub(super) fn record(slot: u32, zone: u32, address: Address) -> SourceRecord {
    let Some(generation) = generations::get(slot) else { return SourceRecord::default() };
    let set = [generation.sources as u8, 0, 0, 0];
    let record = match address {
        Address::V4(address) => SOURCES_V4.get(Key::new(64, SourceV4 { set, address })),
        Address::V6(address) => SOURCES_V6.get(Key::new(160, SourceV6 { set, address })),
    };
    record.copied().unwrap_or_default().and(generation.sources_behind(zone))
}

/// The counter of the first allow rule that matches.
#[inline(always)]
pub(super) fn allow(slot: u32, key: AllowKey, policy: u32, zone: u32, source: Address) -> Option<u32> {
    let table = ALLOW.get(slot)?;
    let candidates = table.candidates(key, policy);
    if candidates == 0 {
        return None;
    }
    table.first(candidates, record(slot, zone, source).rules)
}
