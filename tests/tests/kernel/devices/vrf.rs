//! A routing domain of its own: the kernel moves the routes of its addresses to another table.

use std::net::Ipv4Addr;

use lyncwall_datapath::host;
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::traffic::eventually;

use super::PATIENT;

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn addresses_in_a_vrf_are_the_boxs_own() {
    require_root();
    let pair = Pair::new().expect("a pair");
    let broadcast = Ipv4Addr::new(192, 0, 2, 255);
    let own =
        |at: &Netns, address: Ipv4Addr| at.run(|| host::own(&[])).expect("routes").contains(address.into());
    assert!(own(&pair.host, Pair::HOST_V4) && own(&pair.host, broadcast));
    pair.host.add_vrf("vrf0", 77).expect("a VRF");
    pair.host.enslave(Pair::HOST_LINK, "vrf0").expect("it takes the interface");
    let moved = || own(&pair.host, Pair::HOST_V4) && own(&pair.host, broadcast);
    assert!(eventually(PATIENT, moved), "{:?}", pair.host.run(|| host::own(&[])));
    assert!(!own(&pair.host, Pair::CLIENT_V4));
}
