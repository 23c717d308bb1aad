//! Reverse proxies, with one leg and with two.

use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};

use super::site::{Site, expect_call, expect_tcp, expect_udp, tcp, udp};

/// The pool is behind the same leg.
#[test]
pub(crate) fn a_proxy_with_one_leg_publishes() {
    let site = Site::new();
    let leg = site.leg("ens192", &["192.0.2.10/24", "2001:db8:2::10/64"]);
    let client = leg.host(&["203.0.113.7", "2001:db8:3::7"]);
    let admin = leg.host(&["10.20.0.9", "2001:db8:20::9"]);
    let pool = leg.host(&["192.0.2.50", "2001:db8:2::50"]);
    let _servers = tcp(&site.host, &[22, 80, 443, 4443, 8080]);
    let _pool = tcp(&pool, &[443, 4443, 8080]);
    let (_agent, api) = site.guard("reverse-proxy.toml");
    assert_eq!(api.status().expect("a status").interfaces[0].mode.to_string(), "native");
    for (own, backend) in [("192.0.2.10", "192.0.2.50"), ("2001:db8:2::10", "2001:db8:2::50")] {
        expect_tcp(&client, own, &[80, 443], Answered);
        expect_tcp(&client, own, &[22, 4443, 8080], TimedOut);
        expect_tcp(&admin, own, &[22], Answered);
        expect_tcp(&admin, own, &[4443], TimedOut);
        expect_call(&site.host, backend, 4443);
        expect_tcp(&site.host, backend, &[443, 8080], Answered);
        expect_tcp(&pool, own, &[4443, 8080], TimedOut);
    }
}

#[test]
pub(crate) fn a_proxy_with_two_legs_publishes_by_the_outer_one() {
    const OUTER: [&str; 2] = ["203.0.113.10", "2001:db8:203::10"];
    const INNER: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];
    const POOL: [&str; 2] = ["10.1.0.11", "2001:db8:1::11"];
    const RESOLVER: [&str; 2] = ["203.0.113.53", "2001:db8:203::53"];
    let site = Site::new();
    let outside = site.leg("eth0", &["203.0.113.10/24", "2001:db8:203::10/64"]);
    let client = outside.host(&["198.51.100.7", "2001:db8:7::7"]);
    let resolver = outside.host(&RESOLVER);
    let inside = site.leg("eth1", &["192.0.2.10/24", "2001:db8:2::10/64"]);
    let pool = inside.host(&POOL);
    let admin = inside.host(&["10.20.0.9", "2001:db8:20::9"]);
    let mobile = inside.host(&["10.30.0.7", "2001:db8:30::7"]);
    let _servers = tcp(&site.host, &[22, 80, 443, 4443, 8080]);
    let _backend = tcp(&pool, &[443, 4443, 8080]);
    let _names = udp(&resolver, &[53]);
    let (_agent, api) = site.guard("reverse-proxy-two-legs.toml");
    for side in 0..2 {
        expect_tcp(&client, OUTER[side], &[80, 443], Answered);
        expect_tcp(&client, OUTER[side], &[22, 4443, 8080], TimedOut);
        // Nobody gets through the box to the pool.
        expect_tcp(&client, POOL[side], &[443, 4443], TimedOut);
        // The Mobility service has one address, outside and inside: a client stays on it all day.
        expect_call(&client, OUTER[side], 443);
        for own in [OUTER[side], INNER[side]] {
            expect_call(&mobile, own, 443);
            expect_tcp(&mobile, own, &[22, 80, 4443, 8080], TimedOut);
        }
        // From inside, management alone, at either address.
        for own in [INNER[side], OUTER[side]] {
            expect_tcp(&pool, own, &[22, 80, 443, 4443, 8080], TimedOut);
            expect_tcp(&admin, own, &[443, 8080], TimedOut);
        }
        expect_tcp(&admin, INNER[side], &[22], Answered);
        // What the proxy opens is answered, by both legs.
        expect_call(&site.host, POOL[side], 4443);
        expect_tcp(&site.host, POOL[side], &[443, 8080], Answered);
        expect_udp(&site.host, RESOLVER[side], &[53], Answered);
    }
    let counters = api.counters().expect("counters");
    assert!(counters.rule("tcp", "443") >= 4 && counters.allow("certificate renewal") >= 2, "{counters:?}");
    assert!(counters.allow("mobile clients inside") >= 4, "{counters:?}");
}
