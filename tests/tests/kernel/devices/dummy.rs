//! An interface that nothing comes in by: its addresses are reached through the others.

use lyncwall_datapath::{Attach, Mode};
use lyncwall_tests::netns::Pair;

use super::{Bench, HOST};

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn an_address_of_a_dummy_is_guarded_where_its_packets_come_in() {
    let mut bench = Bench::new();
    let (client, host) = (bench.pair.client.clone(), bench.pair.host.clone());
    host.add_dummy("dummy0").expect("a dummy");
    host.add_address("dummy0", HOST.into(), 32).expect("an address");
    client.add_route(HOST.into(), 32, Pair::HOST_V4.into()).expect("a route");
    bench.expect_open(&client, HOST);
    bench.attached_generic_for_want_of_native("dummy0");
    bench.expect_open(&client, HOST);
    assert_eq!(bench.detach(), ["dummy0"]);
    assert_eq!(bench.attached(Pair::HOST_LINK, Attach::Auto), Mode::Native);
    bench.expect_guarded(&client, HOST);
}
