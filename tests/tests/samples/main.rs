//! Each sample configuration of `config/examples`, to the letter, on a box with its interfaces and addresses, between
//! the hosts that it is for.

mod site;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use lyncwall_tests::traffic::Outcome::{Answered, Refused, TimedOut};
use site::{Site, expect_tcp, expect_udp, folder, tcp, udp};

/// For what has to come, on a busy machine as well.
const PATIENT: Duration = Duration::from_secs(30);
/// For what must not come. Shorter than the second after which TCP repeats its opening.
const BRIEF: Duration = Duration::from_millis(250);

/// Those that a test here runs.
const SAMPLES: [&str; 3] = ["audit.toml", "director-vip.toml", "reverse-proxy.toml"];

#[test]
fn every_sample_is_run() {
    let files = fs::read_dir(folder()).expect("the samples");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name in UTF-8"));
    assert_eq!(names.collect::<BTreeSet<_>>(), SAMPLES.map(str::to_owned).into());
}

#[test]
fn audit() {
    let site = Site::new();
    let leg = site.leg("eth0", &["192.0.2.10/24"]);
    let somebody = leg.host(&["203.0.113.7"]);
    let _tcp = tcp(&site.host, &[135, 1433]);
    let _udp = udp(&site.host, &[161]);
    let (_agent, api) = site.guard("audit.toml");
    expect_tcp(&somebody, "192.0.2.10", &[135, 1433], Answered);
    expect_udp(&somebody, "192.0.2.10", &[161], Answered);
    let counters = api.counters().expect("counters");
    assert!(counters.of("closed", "pass") >= 2 && counters.of("closed", "drop") == 0, "{counters:?}");
}

/// A balancer of a pool that holds the virtual address.
#[test]
fn director_vip() {
    const BOX: [&str; 2] = ["198.51.100.2", "2001:db8:100::2"];
    const VIP: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];
    let site = Site::new();
    let own = ["198.51.100.2/24", "198.51.100.10/32", "2001:db8:100::2/64", "2001:db8:100::10/128"];
    let leg = site.leg("eth0", &own);
    let edge = leg.host(&["192.0.2.20", "2001:db8:2::20"]);
    let client = leg.host(&["10.0.0.7", "2001:db8:10::7"]);
    let proxy = leg.host(&["192.0.2.10", "2001:db8:2::10"]);
    let admin = leg.host(&["10.20.0.5", "2001:db8:20::5"]);
    let stranger = leg.host(&["203.0.113.9", "2001:db8:3::9"]);
    let director = leg.host(&["10.1.0.11", "2001:db8:1::11"]);
    let _servers = tcp(&site.host, &[22, 80, 443, 4443, 5061, 8080, 9100]);
    let _director = tcp(&director, &[443, 5061]);
    let (_agent, _api) = site.guard("director-vip.toml");
    for (own, vip) in BOX.into_iter().zip(VIP) {
        for (who, ports) in
            [(&edge, [5061].as_slice()), (&client, &[80, 443]), (&proxy, &[4443, 8080]), (&admin, &[22])]
        {
            expect_tcp(who, vip, ports, Answered);
            expect_tcp(&stranger, vip, ports, TimedOut);
        }
        // The box's own addresses have no role.
        expect_tcp(&edge, own, &[5061], TimedOut);
        expect_tcp(&client, own, &[443], TimedOut);
        expect_tcp(&admin, own, &[22], Answered);
    }
    expect_tcp(&admin, BOX[0], &[9100], Answered);
    expect_tcp(&admin, BOX[0], &[9101], Refused);
    expect_tcp(&admin, VIP[0], &[9100], TimedOut);
    expect_tcp(&site.host, "10.1.0.11", &[443, 5061], Answered);
    expect_tcp(&site.host, "2001:db8:1::11", &[443, 5061], Answered);
}

/// A proxy with one leg, which the pool is behind as well.
#[test]
fn reverse_proxy() {
    const PROXY: &str = "192.0.2.10";
    let site = Site::new();
    let leg = site.leg("ens192", &["192.0.2.10/24"]);
    let client = leg.host(&["203.0.113.7"]);
    let admin = leg.host(&["10.20.0.9"]);
    let pool = leg.host(&["192.0.2.50"]);
    let _servers = tcp(&site.host, &[22, 80, 443, 4443, 8080]);
    let _pool = tcp(&pool, &[4443, 8080]);
    let (_agent, api) = site.guard("reverse-proxy.toml");
    assert_eq!(api.status().expect("a status").interfaces[0].mode.to_string(), "native");
    expect_tcp(&client, PROXY, &[80, 443], Answered);
    expect_tcp(&client, PROXY, &[22, 4443, 8080], TimedOut);
    expect_tcp(&admin, PROXY, &[22], Answered);
    expect_tcp(&site.host, "192.0.2.50", &[4443, 8080], Answered);
    expect_tcp(&pool, PROXY, &[4443], TimedOut);
}
