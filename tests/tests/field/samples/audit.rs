//! A first start: nothing is dropped.

use lyncwall_tests::traffic::Outcome::Answered;

use super::site::{Site, expect_tcp, expect_udp, tcp, udp};

#[test]
pub(crate) fn audit_drops_nothing_and_counts() {
    let site = Site::new();
    let leg = site.leg("eth0", &["192.0.2.10/24", "2001:db8:2::10/64"]);
    let somebody = leg.host(&["203.0.113.7", "2001:db8:3::7"]);
    let _tcp = tcp(&site.host, &[135, 1433]);
    let _udp = udp(&site.host, &[161]);
    let (_agent, api) = site.guard("audit.toml");
    for own in ["192.0.2.10", "2001:db8:2::10"] {
        expect_tcp(&somebody, own, &[135, 1433], Answered);
        expect_udp(&somebody, own, &[161], Answered);
    }
    let counters = api.counters().expect("counters");
    assert!(counters.of("closed", "pass") >= 4 && counters.of("closed", "drop") == 0, "{counters:?}");
}
