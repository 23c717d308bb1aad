//! Management, and the page that the agent has mapped.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, maps::lpm_trie::Key};
use lyncwall_common::{
    abi::{Control, SourceV4, SourceV6},
    fields::Address,
};

use super::map;
use crate::raw::ControlPage;

map!(CONTROL: Array<Control>, flags: BPF_F_MMAPABLE);
map!(MANAGEMENT_V4: LpmTrie<SourceV4, u64>);
map!(MANAGEMENT_V6: LpmTrie<SourceV6, u64>);

#[inline(always)]
pub(super) fn page() -> Option<ControlPage> {
    ControlPage::of(&CONTROL)
}

#[inline(always)]
pub(super) fn is_management_source(source: Address) -> bool {
    match source {
        Address::V4(address) => MANAGEMENT_V4.get(Key::new(64, SourceV4 { set: [0; 4], address })).is_some(),
        Address::V6(address) => MANAGEMENT_V6.get(Key::new(160, SourceV6 { set: [0; 4], address })).is_some(),
    }
}
