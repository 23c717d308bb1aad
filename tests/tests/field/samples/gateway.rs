//! A gateway that forwards, with a Front End pool, a Director and a Mediation Server behind it.

use lyncwall_tests::agent::Tally;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{TcpEcho, UdpEcho};

use super::site::{Leg, Site, expect_call, expect_ping, expect_tcp, expect_udp, tcp, udp};

const OUTER: [&str; 2] = ["198.51.100.1", "2001:db8:100::1"];
const INNER: [&str; 2] = ["10.1.0.1", "2001:db8:1::1"];
const POOL: [&str; 2] = ["10.1.0.11", "2001:db8:1::11"];
const DIRECTOR: [&str; 2] = ["10.1.0.21", "2001:db8:1::21"];
const MEDIATION: [&str; 2] = ["10.1.0.31", "2001:db8:1::31"];
/// A server inside that the sample does not know.
const OTHER: [&str; 2] = ["10.1.0.99", "2001:db8:1::99"];
const PSTN: [&str; 2] = ["192.0.2.40", "2001:db8:2::40"];
const EDGE: [&str; 2] = ["192.0.2.20", "2001:db8:2::20"];
const BRANCH: [&str; 2] = ["10.2.0.11", "2001:db8:4::11"];
const WEB_APPS: [&str; 2] = ["192.0.2.70", "2001:db8:2::70"];
const DOMAIN_CONTROLLER: [&str; 2] = ["192.0.2.60", "2001:db8:2::60"];
const CLIENT: [&str; 2] = ["10.30.0.7", "2001:db8:30::7"];
const STRANGER: [&str; 2] = ["203.0.113.9", "2001:db8:3::9"];

/// Ports that every server has somebody on, whether they are for anybody or not.
const TCP: [u16; 25] = [
    22, 80, 88, 135, 389, 443, 444, 445, 1433, 4443, 5060, 5061, 5062, 5066, 5067, 5068, 5070, 5080, 5081,
    5082, 5090, 8057, 8080, 50_001, 50_100,
];
const UDP: [u16; 9] = [53, 88, 123, 1434, 3478, 5353, 20_000, 50_100, 60_000];

/// Who is in front.
struct Outside {
    client: Netns,
    pstn: Netns,
    proxy: Netns,
    edge: Netns,
    admin: Netns,
    branch: Netns,
    web_apps: Netns,
    domain_controller: Netns,
    stranger: Netns,
}

impl Outside {
    fn new(leg: &Leg<'_>) -> Self {
        Self {
            client: leg.host(&CLIENT),
            pstn: leg.host(&PSTN),
            proxy: leg.host(&["192.0.2.10", "2001:db8:2::10"]),
            edge: leg.host(&EDGE),
            admin: leg.host(&["10.20.0.9", "2001:db8:20::9"]),
            branch: leg.host(&BRANCH),
            web_apps: leg.host(&WEB_APPS),
            domain_controller: leg.host(&DOMAIN_CONTROLLER),
            stranger: leg.host(&STRANGER),
        }
    }
}

/// Who is behind.
struct Inside {
    pool: Netns,
    director: Netns,
    mediation: Netns,
    other: Netns,
    console: Netns,
}

impl Inside {
    fn new(leg: &Leg<'_>) -> Self {
        Self {
            pool: leg.host(&POOL),
            director: leg.host(&DIRECTOR),
            mediation: leg.host(&MEDIATION),
            other: leg.host(&OTHER),
            console: leg.host(&["10.1.0.5", "2001:db8:1::5"]),
        }
    }
}

fn servers(at: &Netns) -> (Vec<TcpEcho>, Vec<UdpEcho>) {
    (tcp(at, &TCP), udp(at, &UDP))
}

#[test]
pub(crate) fn a_gateway_lets_in_what_its_servers_serve_and_out_what_they_call() {
    let site = Site::new();
    let outer = site.leg("eth0", &["198.51.100.1/24", "2001:db8:100::1/64"]);
    let inner = site.leg("eth1", &["10.1.0.1/24", "2001:db8:1::1/64"]);
    site.forward();
    let (outside, inside) = (Outside::new(&outer), Inside::new(&inner));
    let all = [
        &site.host,
        &outside.pstn,
        &outside.edge,
        &outside.branch,
        &outside.client,
        &outside.web_apps,
        &outside.domain_controller,
        &outside.stranger,
        &inside.pool,
        &inside.director,
        &inside.mediation,
        &inside.other,
    ];
    let _servers = all.map(servers);
    let (_agent, api) = site.guard("gateway.toml");
    for side in 0..2 {
        into_the_pool(&outside, POOL[side]);
        into_the_director(&outside, DIRECTOR[side]);
        into_mediation(&outside, MEDIATION[side]);
        out(&inside, side);
        the_gateway_itself(&site.host, &outside, &inside, side);
        // What is no target, is not there.
        expect_tcp(&outside.client, OTHER[side], &[80, 443, 5061], TimedOut);
        expect_ping(&outside.client, OTHER[side], TimedOut);
        expect_ping(&outside.client, POOL[side], Answered);
        expect_ping(&inside.mediation, PSTN[side], Answered);
    }
    counted(&api.counters().expect("counters"));
}

fn into_the_pool(outside: &Outside, pool: &str) {
    expect_call(&outside.client, pool, 5061);
    expect_tcp(&outside.client, pool, &[80, 443, 8080, 50_100], Answered);
    expect_udp(&outside.client, pool, &[50_100, 60_000], Answered);
    expect_tcp(
        &outside.client,
        pool,
        &[22, 135, 444, 445, 1433, 4443, 5060, 5062, 5066, 5068, 5080, 5081, 5090, 50_001],
        TimedOut,
    );
    expect_udp(&outside.client, pool, &[53, 123, 1434, 5353], TimedOut);
    // Conferencing services are for servers, bandwidth checks for the Edge as well, logs for administrators.
    expect_tcp(&outside.branch, pool, &[5062, 5080, 50_001], Answered);
    expect_tcp(&outside.edge, pool, &[5061, 5080], Answered);
    expect_tcp(&outside.edge, pool, &[5062, 50_001], TimedOut);
    expect_tcp(&outside.admin, pool, &[50_001], Answered);
    // Replication, from the other holder of the Central Management store.
    expect_call(&outside.branch, pool, 445);
    expect_tcp(&outside.stranger, pool, &[445, 5062, 5080, 50_001], TimedOut);
    expect_tcp(&outside.proxy, pool, &[4443, 8080], Answered);
    expect_tcp(&outside.branch, pool, &[135, 444, 4443], Answered);
    expect_udp(&outside.branch, pool, &[1434], Answered);
    expect_tcp(&outside.stranger, pool, &[135, 444, 4443, 8080], TimedOut);
    // Management is of the gateway, not of who is behind it.
    expect_tcp(&outside.admin, pool, &[22], TimedOut);
}

fn into_the_director(outside: &Outside, director: &str) {
    expect_tcp(&outside.client, director, &[80, 443], Answered);
    expect_call(&outside.edge, director, 5061);
    expect_tcp(&outside.proxy, director, &[4443, 8080], Answered);
    expect_tcp(&outside.branch, director, &[444, 4443], Answered);
    expect_tcp(&outside.admin, director, &[50_001], Answered);
    expect_tcp(&outside.client, director, &[22, 135, 444, 4443, 5060, 5068, 8080, 50_001], TimedOut);
    // Audio ends on Front Ends and Mediation Servers, not here.
    expect_udp(&outside.client, director, &[50_100, 60_000], TimedOut);
}

fn into_mediation(outside: &Outside, mediation: &str) {
    expect_call(&outside.pstn, mediation, 5068);
    expect_tcp(&outside.pstn, mediation, &[5067], Answered);
    expect_udp(&outside.pstn, mediation, &[50_100], Answered);
    expect_tcp(&outside.branch, mediation, &[5070], Answered);
    // The ports that it calls are those of the other side.
    expect_tcp(&outside.pstn, mediation, &[5081, 5082, 5066, 5070, 5090, 443], TimedOut);
    expect_udp(&outside.pstn, mediation, &[60_000], TimedOut);
    expect_tcp(&outside.client, mediation, &[5067, 5068, 5070, 5081], TimedOut);
}

/// What the servers call, at the groups that the calls name.
fn out(inside: &Inside, side: usize) {
    // A call to the telephone network, with the media of Mediation first.
    expect_call(&inside.mediation, PSTN[side], 5067);
    expect_tcp(&inside.mediation, PSTN[side], &[5066, 5081, 5082], Answered);
    expect_udp(&inside.mediation, PSTN[side], &[20_000, 50_100], Answered);
    expect_tcp(&inside.mediation, PSTN[side], &[443, 5060, 5068, 5090, 50_100], TimedOut);
    expect_tcp(&inside.mediation, STRANGER[side], &[5067, 5081, 5082], TimedOut);
    // Media of conferences, to clients and servers.
    expect_udp(&inside.pool, CLIENT[side], &[20_000, 50_100], Answered);
    expect_udp(&inside.pool, BRANCH[side], &[50_100], Answered);
    expect_udp(&inside.pool, BRANCH[side], &[60_000], TimedOut);
    expect_tcp(&inside.pool, CLIENT[side], &[22, 443, 5090, 50_100], TimedOut);
    // The Edge: SIP, authentication of media, web conferences, the media relay, replication, logs.
    expect_call(&inside.pool, EDGE[side], 5061);
    expect_tcp(&inside.pool, EDGE[side], &[443, 4443, 5062, 8057, 50_001], Answered);
    expect_udp(&inside.pool, EDGE[side], &[3478], Answered);
    expect_tcp(&inside.pool, EDGE[side], &[80, 5070, 8080], TimedOut);
    expect_tcp(&inside.pool, PSTN[side], &[5066], Answered);
    // Office Web Apps, and the servers of the branch: Mediation, web sites, replication.
    expect_call(&inside.pool, WEB_APPS[side], 443);
    expect_tcp(&inside.pool, WEB_APPS[side], &[80, 4443, 8080], TimedOut);
    expect_call(&inside.pool, BRANCH[side], 5070);
    expect_tcp(&inside.pool, BRANCH[side], &[80, 443, 444, 445, 4443, 50_001], Answered);
    expect_tcp(&inside.director, BRANCH[side], &[444, 5061], Answered);
    // The domain.
    expect_tcp(&inside.pool, DOMAIN_CONTROLLER[side], &[88, 135, 389, 445, 50_100], Answered);
    expect_udp(&inside.director, DOMAIN_CONTROLLER[side], &[53, 88, 123], Answered);
    expect_tcp(&inside.pool, STRANGER[side], &[88, 135, 389, 50_100], TimedOut);
    for who in [&inside.pool, &inside.director, &inside.other] {
        expect_tcp(who, STRANGER[side], &[80, 443, 5070, 5090, 8080], TimedOut);
    }
    expect_udp(&inside.pool, STRANGER[side], &[53, 123], Answered);
    expect_udp(&inside.pool, STRANGER[side], &[5353, 1434, 20_000, 50_100], TimedOut);
}

/// Nothing but management, by both legs and at all addresses.
fn the_gateway_itself(gateway: &Netns, outside: &Outside, inside: &Inside, side: usize) {
    for own in [OUTER[side], INNER[side]] {
        for who in [&outside.admin, &inside.console] {
            expect_tcp(who, own, &[22], Answered);
            expect_tcp(who, own, &[443], TimedOut);
        }
        expect_tcp(&outside.client, own, &[22, 443, 5061], TimedOut);
        expect_tcp(&outside.pstn, own, &[22, 5068, 5081], TimedOut);
        expect_tcp(&inside.mediation, own, &[22, 443, 5061, 5081], TimedOut);
    }
    // What it opens itself, to both sides.
    expect_tcp(gateway, STRANGER[side], &[443], Answered);
    expect_udp(gateway, STRANGER[side], &[5353], Answered);
    expect_tcp(gateway, POOL[side], &[22], Answered);
}

/// Which rows let out what was called, and that answers met no rule at all.
fn counted(counters: &Tally) {
    let called = |ports: &str| {
        let rules = counters.0.rules.iter();
        let mut of =
            rules.filter(|rule| rule.target.as_deref() == Some("inside (outbound)") && rule.ports == ports);
        let rule = of.next().unwrap_or_else(|| panic!("no counter of {ports}: {counters:?}"));
        (rule.packets >= 2, rule.rows.join(" "))
    };
    assert_eq!(called("5067"), (true, "gateway.2".to_owned()));
    assert_eq!(called("5081"), (true, "server.25".to_owned()));
    assert_eq!(called("5061"), (true, "director.prose-1 server.03".to_owned()));
    assert_eq!(called("5066"), (true, "gateway.1 server.32".to_owned()));
    assert_eq!(called("444"), (true, "director.03 server.04 server.42".to_owned()));
    for reason in ["unmatched", "closed", "source"] {
        assert!(counters.of(reason, "drop") > 0, "{reason}: {counters:?}");
    }
    assert_eq!(counters.of("no-flow", "drop"), 0, "{counters:?}");
}
