//! Each sample configuration of `config/examples`, to the letter, on a box with its interfaces and addresses, between
//! the hosts that it is for.

mod audit;
mod balancer;
mod gateway;
mod proxy;
mod sbc;
mod site;

use std::collections::BTreeSet;
use std::fs;

use site::folder;

/// Each file with the test that runs it.
const SAMPLES: [(&str, fn()); 6] = [
    ("audit.toml", audit::audit_drops_nothing_and_counts),
    ("director-vip.toml", balancer::a_virtual_address_is_guarded_on_whichever_box_holds_it),
    ("gateway.toml", gateway::a_gateway_lets_in_what_its_servers_serve_and_out_what_they_call),
    ("reverse-proxy-two-legs.toml", proxy::a_proxy_with_two_legs_publishes_by_the_outer_one),
    ("reverse-proxy.toml", proxy::a_proxy_with_one_leg_publishes),
    ("sbc.toml", sbc::an_sbc_takes_calls_of_both_sides_and_mixes_none),
];

#[test]
fn every_sample_is_run() {
    let files = fs::read_dir(folder()).expect("the samples");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name in UTF-8"));
    assert_eq!(names.collect::<BTreeSet<_>>(), SAMPLES.map(|(name, _)| name.to_owned()).into());
}
