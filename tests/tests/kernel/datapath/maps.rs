//! The maps of the BPF object beside the list in `lyncwall_common::abi::map`.

use std::collections::BTreeMap;

use aya_obj::Object;
use aya_obj::maps::PinningType;
use lyncwall_common::abi::map;

use super::object;

#[test]
fn the_object_has_the_maps_of_the_list_with_their_types_and_sizes() {
    let object = Object::parse(&object()).expect("the object parses");
    // Constants are in maps of their own, named after their sections.
    let made = object.maps.iter().filter(|(name, _)| !name.starts_with('.')).map(|(name, map)| {
        let sizes = [map.map_type(), map.key_size(), map.value_size(), map.max_entries()];
        (name.as_str(), (sizes, map.pinning() == PinningType::ByName))
    });
    let listed = map::ALL
        .iter()
        .map(|map| (map.name, ([map.kind as u32, map.key_size, map.value_size, map.entries], map.pinned)));
    assert_eq!(made.collect::<BTreeMap<_, _>>(), listed.collect::<BTreeMap<_, _>>());
}
