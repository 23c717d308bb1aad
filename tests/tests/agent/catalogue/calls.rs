//! What the roles call: the listeners of the printed sources' peers, and media that a server sends first.

use std::path::Path;

use lyncwall_common::abi::PortTransport as Transport;
use lyncwall_policy::catalogue::{Choices, Reading, Resolved};
use lyncwall_policy::compile::Rule;
use lyncwall_policy::plan::{Machine, Plan};

use super::{at, catalogue, owned, resolve};

/// The destinations of a call to a port; `None` if the roles do not call it.
fn to(resolved: &Resolved, transport: Transport, port: u16) -> Option<Vec<String>> {
    at(&resolved.outbound, transport, port).map(|rule| rule.sources.clone())
}

#[test]
fn servers_call_the_ports_whose_printed_source_they_are() {
    let front_end = resolve(&["front-end"], Reading::Strict);
    for (port, destination) in [
        (80, &["servers"][..]),
        (443, &["edge", "office-web-apps", "servers"]),
        (444, &["servers"]),
        (4443, &["servers"]),
        (5041, &["servers"]),
        (5061, &[]),
        (5062, &["edge"]),
        (5066, &[]),
        (5070, &["servers"]),
        (8057, &["edge"]),
        (23456, &["edge"]),
        (50001, &["edge", "servers"]),
    ] {
        assert_eq!(to(&front_end, Transport::Tcp, port), Some(owned(destination)), "{port}");
    }
    let mediation = resolve(&["mediation"], Reading::Strict);
    for port in [5066, 5067, 5081, 5082] {
        assert_eq!(to(&mediation, Transport::Tcp, port), Some(owned(&["pstn-gateways"])), "{port}");
    }
    assert_eq!(to(&mediation, Transport::Tcp, 5061), Some(owned(&["servers"])));
    let collocated = resolve(&["front-end", "collocated-mediation"], Reading::Strict);
    assert_eq!(to(&collocated, Transport::Tcp, 5067), Some(owned(&["pstn-gateways"])));
    let holder = resolve(&["front-end", "central-management-store"], Reading::Strict);
    assert_eq!(to(&holder, Transport::Tcp, 4443), Some(owned(&["edge", "servers"])));
    assert_eq!(to(&holder, Transport::Tcp, 445), Some(vec![]));
    for role in ["director", "persistent-chat"] {
        let resolved = resolve(&[role], Reading::Strict);
        assert_eq!(to(&resolved, Transport::Tcp, 50003), Some(owned(&["edge", "servers"])), "{role}");
    }
}

#[test]
fn servers_send_media_first() {
    let (clients, gateways) = ("internal-clients", "pstn-gateways");
    for (roles, port, destination) in [
        (&["front-end"][..], 20_000, &[clients][..]),
        (&["front-end"], 50_000, &[clients, "servers"]),
        (&["front-end"], 3478, &["edge", clients]),
        (&["mediation"], 20_000, &[clients, gateways]),
        (&["mediation"], 50_000, &[clients, gateways, "servers"]),
        (&["mediation"], 3478, &["edge", clients, gateways]),
        (&["front-end", "collocated-mediation"], 20_000, &[clients, gateways]),
        (&["pstn-gateway"], 50_000, &["servers"]),
    ] {
        let resolved = resolve(roles, Reading::Strict);
        assert_eq!(to(&resolved, Transport::Udp, port), Some(owned(destination)), "{roles:?} {port}");
        assert_eq!(to(&resolved, Transport::Udp, 1023), None, "{roles:?}");
        // Whoever calls over TCP is the client.
        assert_eq!(to(&resolved, Transport::Tcp, 20_000), None, "{roles:?}");
    }
}

#[test]
fn a_call_goes_to_groups_with_prefixes_and_nowhere_while_none_has() {
    let resolve = |bound: &[&str]| {
        let bound = Some(bound.iter().map(ToString::to_string).collect());
        let choices = Choices { bound, ..Choices::default() };
        catalogue().resolve_with(&["mediation"], Reading::Strict, &choices).expect("a role")
    };
    let nobody = resolve(&[]);
    assert_eq!(nobody.outbound, []);
    for (transport, port) in [(Transport::Tcp, 5067), (Transport::Udp, 20_000)] {
        let closed = nobody
            .closed_calls
            .iter()
            .find(|closed| closed.transport == transport && (closed.first..=closed.last).contains(&port));
        assert!(closed.is_some_and(|closed| closed.why.contains("`pstn-gateways`")), "{closed:?}");
    }
    let gateways = resolve(&["pstn-gateways"]);
    assert_eq!(to(&gateways, Transport::Tcp, 5067), Some(owned(&["pstn-gateways"])));
    assert_eq!(to(&gateways, Transport::Udp, 20_000), Some(owned(&["pstn-gateways"])));
    assert_eq!((to(&gateways, Transport::Tcp, 5061), to(&gateways, Transport::Tcp, 443)), (None, None));
    assert!(gateways.outbound.iter().all(|rule| rule.unbound.is_empty()), "{:?}", gateways.outbound);
}

#[test]
fn a_domain_member_calls_its_domain_controllers_and_opens_nothing() {
    let member = resolve(&["mediation", "domain-member"], Reading::Strict);
    for port in [88, 135, 389, 445, 464, 636, 3268] {
        assert_eq!(to(&member, Transport::Tcp, port), Some(owned(&["domain-controllers"])), "{port}");
    }
    for port in [53, 88, 123, 389, 464] {
        assert_eq!(to(&member, Transport::Udp, port), Some(owned(&["domain-controllers"])), "{port}");
    }
    assert_eq!(member.inbound, resolve(&["mediation"], Reading::Strict).inbound);
}

const BEHIND: &str = r#"
[management]
from = ["192.0.2.0/28"]
tcp = [22]
[groups]
pstn-gateways = ["192.0.2.40"]
internal-clients = ["10.30.0.0/16"]
[[zone]]
name = "outside"
[[zone]]
name = "inside"
outbound = "catalogue"
[[interface]]
name = "eth0"
zone = "outside"
[[interface]]
name = "eth1"
zone = "inside"
[[target]]
name = "mediation"
zone = "outside"
address = ["10.1.0.31"]
roles = ["mediation"]
overrides = { "mediation.gateway-media" = "16384-24575", "mediation.client-media" = ["50020-50039"] }
"#;

fn called(plan: &Plan, transport: Transport, port: u16) -> Option<Rule> {
    let input = plan.input(&plan.settings(), &Machine::default()).expect("the roles are known");
    let rules = input.zones[1].outbound.clone().expect("the calls of the inner zone");
    rules.into_iter().find(|rule| rule.transport == transport && (rule.first..=rule.last).contains(&port))
}

#[test]
fn media_ranges_of_peers_are_overridden_by_the_ids_of_the_calls() {
    let plan = Plan::parse(BEHIND, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    for (port, groups) in [
        (16_383, None),
        (16_384, Some("pstn-gateways")),
        (24_575, Some("pstn-gateways")),
        (50_020, Some("internal-clients")),
        (50_040, None),
    ] {
        let groups = groups.map(|group| owned(&[group]));
        assert_eq!(called(&plan, Transport::Udp, port).map(|rule| rule.groups), groups, "{port}");
    }
    // The range at which Mediation itself listens has not moved.
    let resolved = plan.resolve("mediation", &owned(&["mediation"])).expect("a role");
    assert!(at(&resolved.inbound, Transport::Udp, 57_500).is_some());
}

#[test]
fn calls_that_wait_for_a_group_are_a_warning_where_they_count() {
    let warnings = |text: &str| {
        let plan = Plan::parse(text, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems}"));
        plan.warnings(&plan.settings()).into_iter().filter(|warning| warning.contains("calls")).collect()
    };
    let waiting: Vec<String> = warnings(BEHIND);
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    assert!(waiting.iter().any(|warning| warning.contains("[groups].edge")), "{waiting:?}");
    assert!(waiting.iter().any(|warning| warning.contains("[groups].servers")), "{waiting:?}");
    assert_eq!(warnings(&BEHIND.replace("\"catalogue\"", "\"any\"")), Vec::<String>::new());
}

#[test]
fn a_dropped_call_is_told_the_groups_that_would_let_it_out() {
    let plan = Plan::parse(BEHIND, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    let roles = plan.settings().roles;
    let groups = |transport, port| {
        plan.called_groups(1, &roles, transport, port).into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(groups(Transport::Tcp, 5067), "pstn-gateways");
    assert_eq!(groups(Transport::Tcp, 5061), "servers");
    assert_eq!(groups(Transport::Udp, 3478), "edge");
    assert_eq!(groups(Transport::Tcp, 5090), "");
    assert_eq!(plan.called_groups(0, &roles, Transport::Tcp, 5067).len(), 0, "the target's own zone");
}
