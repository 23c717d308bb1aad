//! The block-list.

use aya_ebpf::maps::lpm_trie::Key;
use lyncwall_common::{
    abi::{BlockRecord, SourceV4, SourceV6, Until},
    fields::Address,
};

use super::map;

map!(BLOCKED_V4: LpmTrie<SourceV4, BlockRecord>);
map!(BLOCKED_V6: LpmTrie<SourceV6, BlockRecord>);

#[inline(always)]
pub(super) fn until(source: Address) -> Option<Until> {
    let record = match source {
        Address::V4(address) => BLOCKED_V4.get(Key::new(64, SourceV4 { set: [0; 4], address })),
        Address::V6(address) => BLOCKED_V6.get(Key::new(160, SourceV6 { set: [0; 4], address })),
    };
    record.map(|record| record.until)
}
