//! A session border controller between a carrier and Mediation.

use std::net::Ipv4Addr;

use lyncwall_tests::programs::Folder;
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};

use crate::field::sip::{CALLS, answering, place, successful};

use super::site::{Site, expect_call, expect_tcp, expect_udp, tcp, udp};

/// Calls by SIPp in both directions, at the ports that Topology Builder presets, with the media of the side
/// that is called first.
#[test]
pub(crate) fn an_sbc_carries_calls_of_mediation_and_to_mediation() {
    const SBC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 40);
    const MEDIATION: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 31);
    let site = Site::new();
    let _outer = site.leg("eth0", &["203.0.113.10/24"]);
    let inner = site.leg("eth1", &["192.0.2.40/24"]);
    let mediation = inner.host(&["10.1.0.31"]);
    let folder = Folder::new().expect("a folder");
    let _sbc = [5066, 5067].map(|port| answering(&site.host, &folder, port));
    let _mediation = [5067, 5068].map(|port| answering(&mediation, &folder, port));
    let _media = (udp(&site.host, &[16_384, 20_000]), udp(&mediation, &[49_152, 57_500]));
    let (_agent, api) = site.guard("sbc.toml");
    for (at, ends, ports) in
        [(&mediation, [MEDIATION, SBC], [5066, 5067]), (&site.host, [SBC, MEDIATION], [5067, 5068])]
    {
        for port in ports {
            let finished = place(at, ends, "t1", port, "15");
            assert_eq!(
                (finished.code, successful(&finished)),
                (Some(0), Some(CALLS)),
                "{port}: {finished:?}"
            );
        }
    }
    // Neither side waits for the other with its media.
    expect_udp(&mediation, &SBC.to_string(), &[16_384, 20_000], Answered);
    expect_udp(&site.host, &MEDIATION.to_string(), &[49_152, 57_500], Answered);
    assert_eq!(api.status().expect("a status").dropped, 0);
}

#[test]
pub(crate) fn an_sbc_takes_calls_of_both_sides_and_mixes_none() {
    const TRUNK: [&str; 2] = ["203.0.113.10", "2001:db8:203::10"];
    const INNER: [&str; 2] = ["192.0.2.40", "2001:db8:2::40"];
    const CARRIER: [&str; 2] = ["198.51.100.17", "2001:db8:c0::17"];
    const MEDIATION: [&str; 2] = ["10.1.0.31", "2001:db8:1::31"];
    let site = Site::new();
    let outer = site.leg("eth0", &["203.0.113.10/24", "2001:db8:203::10/64"]);
    let carrier = outer.host(&CARRIER);
    let stranger = outer.host(&["198.51.100.33", "2001:db8:c1::33"]);
    let inner = site.leg("eth1", &["192.0.2.40/24", "2001:db8:2::40/64"]);
    let mediation = inner.host(&MEDIATION);
    let phone = inner.host(&["10.30.0.7", "2001:db8:30::7"]);
    let posing = inner.host(&["198.51.100.18", "2001:db8:c0::18"]);
    let admin = inner.host(&["10.20.0.9", "2001:db8:20::9"]);
    let _servers = tcp(&site.host, &[22, 443, 5060, 5061, 5066, 5067, 5081, 5082]);
    let _media = udp(&site.host, &[5060, 5061, 16_383, 16_384, 24_575, 24_576, 32_767, 32_768]);
    let _mediation = (tcp(&mediation, &[5067, 5068]), udp(&mediation, &[50_000]));
    let _carrier = (tcp(&carrier, &[5060, 5061]), udp(&carrier, &[5060, 40_000]));
    let (_agent, api) = site.guard("sbc.toml");
    for side in 0..2 {
        let (trunk, inner) = (TRUNK[side], INNER[side]);
        // The carrier: its signalling and its media, and nothing of Lync's side.
        expect_call(&carrier, trunk, 5060);
        expect_tcp(&carrier, trunk, &[5061], Answered);
        expect_udp(&carrier, trunk, &[5060, 5061, 24_576, 32_767], Answered);
        expect_tcp(&carrier, trunk, &[22, 443, 5066, 5067, 5081, 5082], TimedOut);
        expect_udp(&carrier, trunk, &[16_384, 24_575, 32_768], TimedOut);
        expect_tcp(&carrier, inner, &[5067], TimedOut);
        expect_tcp(&carrier, MEDIATION[side], &[5067], TimedOut);
        // Its neighbours: nothing.
        expect_tcp(&stranger, trunk, &[22, 5060, 5061, 5067], TimedOut);
        expect_udp(&stranger, trunk, &[5060, 16_384, 24_576], TimedOut);
        // Lync: the role's ports, for servers alone; media by the override, from phones as well.
        expect_call(&mediation, inner, 5067);
        expect_tcp(&mediation, inner, &[5066], Answered);
        expect_tcp(&mediation, inner, &[22, 443, 5060, 5061, 5081, 5082], TimedOut);
        expect_tcp(&phone, inner, &[5066, 5067, 5081, 5082], TimedOut);
        for who in [&mediation, &phone] {
            expect_udp(who, inner, &[16_384, 24_575], Answered);
            expect_udp(who, inner, &[5060, 16_383, 24_576], TimedOut);
        }
        // Whoever has an address of the carrier there is no carrier.
        expect_tcp(&posing, inner, &[5060, 5061, 5067], TimedOut);
        expect_udp(&posing, inner, &[5060, 24_576], TimedOut);
        expect_tcp(&admin, inner, &[22], Answered);
        // What it opens itself, to both sides.
        expect_call(&site.host, MEDIATION[side], 5067);
        expect_tcp(&site.host, MEDIATION[side], &[5068], Answered);
        expect_udp(&site.host, MEDIATION[side], &[50_000], Answered);
        expect_tcp(&site.host, CARRIER[side], &[5060, 5061], Answered);
        expect_udp(&site.host, CARRIER[side], &[5060, 40_000], Answered);
    }
    let counters = api.counters().expect("counters");
    assert!(counters.rule("udp", "16384-24575") >= 8, "{counters:?}");
    assert!(
        counters.allow("carrier media") >= 4 && counters.allow("carrier signalling") >= 6,
        "{counters:?}"
    );
    // The role's ports, to whoever is no server.
    assert!(counters.of("source", "drop") >= 6, "{counters:?}");
}
