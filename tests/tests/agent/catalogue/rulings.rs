//! Each ruling of the strict reading, by name, and what follows for boxes that no table prints.

use lyncwall_common::abi::PortTransport as Transport;
use lyncwall_policy::catalogue::{Choices, Reading};
use lyncwall_policy::net::{PortRange, Transports};

use super::{at, catalogue, owned, resolve};

/// The sources of an open TCP port.
fn sources(roles: &[&str], port: u16) -> Option<Vec<String>> {
    at(&resolve(roles, Reading::Strict).inbound, Transport::Tcp, port).map(|rule| rule.sources.clone())
}

fn calls(role: &[&str], port: u16) -> bool {
    at(&resolve(role, Reading::Strict).outbound, Transport::Tcp, port).is_some()
}

/// The sources and rows of a closed range that begins at `port`.
fn closed(roles: &[&str], transport: Transport, port: u16) -> Option<(Vec<String>, Vec<String>)> {
    let closed = resolve(roles, Reading::Strict).closed;
    let found = closed.into_iter().find(|closed| closed.transport == transport && closed.first == port)?;
    assert!(!found.why.is_empty(), "{port} is closed without a reason");
    Some((found.sources, found.rows))
}

const INTERNAL_SERVERS: [&str; 4] = ["front-end", "director", "mediation", "persistent-chat"];

#[test]
fn ruling_5081_5082_5066_are_the_peers_listeners() {
    let roles = ["front-end", "collocated-mediation"];
    for port in [5066, 5081, 5082] {
        assert!(calls(&roles, port) && sources(&roles, port).is_none(), "{port}");
    }
    let catalogue = catalogue();
    let missing = catalogue
        .role("pstn-gateway")
        .and_then(|role| role.required_override.as_ref().map(|required| &*required.what));
    assert!(missing.is_some_and(|missing| missing.contains("media range")));
}

#[test]
fn ruling_a_gateway_listens_at_5066_and_5067_and_a_branch_appliance_at_5081_and_5082() {
    let gateway = ["pstn-gateway"];
    for port in [5066, 5067] {
        assert_eq!(sources(&gateway, port), Some(owned(&["servers"])), "{port}");
    }
    for port in [5081, 5082] {
        assert_eq!(sources(&gateway, port), None, "{port}");
        let closed = closed(&gateway, Transport::Tcp, port).expect("an option");
        assert_eq!(closed.0, owned(&["servers"]), "{port}");
    }
    // The literal reading opens what the documents print, from anywhere.
    let literal = resolve(&gateway, Reading::Literal).inbound;
    for (port, open) in [(5066, true), (5067, false), (5081, true), (5082, true)] {
        assert_eq!(at(&literal, Transport::Tcp, port).is_some(), open, "{port}");
    }
}

#[test]
fn a_gateway_whose_branch_ports_are_moved_or_named_opens_them() {
    let bound = Some(["servers".to_owned()].into());
    let moved = Choices {
        bound: bound.clone(),
        overrides: [("server.25".to_owned(), vec![PortRange::one(5060)])].into(),
        ..Choices::default()
    };
    let named = Choices { bound, optional: ["pstn-gateway.branch".to_owned()].into(), ..Choices::default() };
    for (choices, expected) in [
        (Choices::default(), vec![5066, 5067]),
        (moved, vec![5060, 5066, 5067]),
        (named, vec![5066, 5067, 5081, 5082]),
    ] {
        let resolved = catalogue().resolve_with(&["pstn-gateway"], Reading::Strict, &choices);
        let inbound = resolved.expect("a role").inbound;
        assert!(inbound.iter().all(|rule| rule.sources == ["servers"]), "{inbound:?}");
        let ports = inbound.iter().flat_map(|rule| rule.first..=rule.last);
        assert_eq!(ports.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn ruling_5060_is_an_option_for_trusted_services() {
    for (role, row) in [("front-end", "server.02"), ("director", "server.41")] {
        assert_eq!(sources(&[role], 5060), None, "{role}");
        let expected = (owned(&["trusted-services"]), owned(&[row]));
        assert_eq!(closed(&[role], Transport::Tcp, 5060), Some(expected), "{role}");
    }
}

#[test]
fn ruling_445_goes_out_from_its_holder_and_waits_for_the_group_everywhere() {
    let holder = ["front-end", "central-management-store"];
    let roles = INTERNAL_SERVERS.map(|role| vec![role]);
    for roles in roles.iter().map(Vec::as_slice).chain([&holder[..]]) {
        assert_eq!(sources(roles, 445), None, "{roles:?}");
        let expected = (owned(&["central-management-store"]), owned(&["server.37"]));
        assert_eq!(closed(roles, Transport::Tcp, 445), Some(expected), "{roles:?}");
    }
    assert!(calls(&holder, 445) && !calls(&["front-end"], 445));
    assert_eq!(closed(&["office-web-apps"], Transport::Tcp, 445), None);
    // A target lists the servers of a pool; those beside the holder are replicas.
    let bound = Choices { bound: Some(["central-management-store".to_owned()].into()), ..Choices::default() };
    let pool = catalogue().resolve_with(&holder, Reading::Strict, &bound).expect("the roles go together");
    let rule = at(&pool.inbound, Transport::Tcp, 445).expect("the holder reaches its pool mates");
    assert_eq!((&rule.sources, &rule.unbound), (&owned(&["central-management-store"]), &vec![]));
}

#[test]
fn ruling_135_opens_and_its_dynamic_range_is_an_option_on_a_balancer() {
    for role in ["front-end", "front-end-lb-hlb"] {
        assert_eq!(sources(&[role], 135), Some(owned(&["servers"])), "{role}");
    }
    let expected = (owned(&["servers"]), owned(&["hlb-only.03"]));
    assert_eq!(closed(&["front-end-lb-hlb"], Transport::Tcp, 49152), Some(expected));
    assert_eq!(sources(&["front-end-lb-hlb"], 49152), None);
    assert_eq!(closed(&["front-end-lb-dns"], Transport::Tcp, 49152), None);
}

#[test]
fn ruling_1434_stays_closed_until_servers_is_bound() {
    for role in INTERNAL_SERVERS {
        let expected = (owned(&["servers"]), owned(&["server.01", "server.38"]));
        assert_eq!(closed(&[role], Transport::Udp, 1434), Some(expected), "{role}");
    }
}

#[test]
fn ruling_audio_range_opens_where_audio_ends() {
    for role in INTERNAL_SERVERS {
        let resolved = resolve(&[role], Reading::Strict);
        for transport in [Transport::Tcp, Transport::Udp] {
            let named =
                at(&resolved.inbound, transport, 49152).map(|rule| rule.rows.contains(&"server.39".into()));
            let expected = matches!(role, "front-end" | "mediation").then_some(true);
            assert_eq!(named, expected, "{role} {transport:?}");
        }
    }
}

#[test]
fn ruling_front_end_media_is_cut_where_its_rows_change() {
    let resolved = resolve(&["front-end"], Reading::Strict);
    let media: Vec<_> = resolved
        .inbound
        .iter()
        .filter(|rule| rule.first >= 49152)
        .map(|rule| (rule.transport, rule.first, rule.last, rule.sources.join(" "), rule.rows.join(" ")))
        .collect();
    let expected = [
        (Transport::Tcp, 49152, 50000, "", "server.28 server.39"),
        (Transport::Tcp, 50001, 50001, "admins servers", "director.07"),
        (Transport::Tcp, 50002, 50002, "admins servers", "director.08"),
        (Transport::Tcp, 50003, 50003, "admins servers", "director.09"),
        (Transport::Tcp, 50004, 57500, "", "server.28 server.39"),
        (Transport::Tcp, 57501, 65535, "", "server.10 server.28"),
        (Transport::Udp, 49152, 57500, "", "server.39"),
        (Transport::Udp, 57501, 65535, "", "server.10"),
    ];
    assert_eq!(
        media,
        expected.map(|(transport, first, last, from, rows)| {
            (transport, first, last, from.to_owned(), rows.to_owned())
        })
    );
    // As printed, the row and the ranges over it are open.
    let literal = resolve(&["front-end"], Reading::Literal).inbound;
    let rule = at(&literal, Transport::Tcp, 50001).expect("a media port");
    assert_eq!((rule.sources.len(), &rule.rows), (0, &owned(&["server.28", "server.39"])));
}

#[test]
fn a_port_that_a_row_rules_is_no_part_of_a_range_wherever_an_override_puts_it() {
    let choices = Choices {
        overrides: [("server.04".to_owned(), vec![PortRange::one(50100)])].into(),
        ..Choices::default()
    };
    let resolved = catalogue().resolve_with(&["front-end"], Reading::Strict, &choices).expect("a role");
    let rule = at(&resolved.inbound, Transport::Tcp, 50100).expect("the moved port");
    assert_eq!((&rule.sources, &rule.rows), (&owned(&["servers"]), &owned(&["server.04"])));
    let udp = at(&resolved.inbound, Transport::Udp, 50100).expect("media over UDP");
    assert!(udp.sources.is_empty(), "{udp:?}");
}

#[test]
fn ruling_office_web_apps_is_https_over_tcp() {
    let catalogue = catalogue();
    let row = catalogue.row("server.40").expect("the row of Office Web Apps");
    assert_eq!((row.application.as_str(), row.transport, &row.service), ("HTTPS", Transports::Tcp, &None));
    assert_eq!(sources(&["office-web-apps"], 443), Some(vec![]));
}

#[test]
fn ruling_office_web_apps_without_tls_is_an_option_and_its_farm_talks_among_servers() {
    let farm = ["office-web-apps"];
    assert_eq!((sources(&farm, 80), sources(&farm, 809)), (None, None));
    assert_eq!(closed(&farm, Transport::Tcp, 80), Some((vec![], owned(&["web-apps.2"]))));
    assert_eq!(closed(&farm, Transport::Tcp, 809), Some((owned(&["servers"]), owned(&["web-apps.3"]))));
    let choices = Choices {
        bound: Some(["servers".to_owned()].into()),
        optional: ["office-web-apps.http".to_owned()].into(),
        ..Choices::default()
    };
    let inbound = catalogue().resolve_with(&farm, Reading::Strict, &choices).expect("a role").inbound;
    let open: Vec<_> = inbound.iter().map(|rule| (rule.first, rule.sources.join(" "))).collect();
    assert_eq!(open, [(80, String::new()), (443, String::new()), (809, "servers".to_owned())]);
}

#[test]
fn ruling_what_only_servers_call_is_for_servers() {
    let front_end = [448, 5062, 5063, 5064, 5065, 5071, 5072, 5073, 5075, 5076, 5086, 5087, 8060, 8061, 8404];
    for port in front_end {
        assert_eq!(sources(&["front-end"], port), Some(owned(&["servers"])), "{port}");
    }
    for port in [448, 5071, 5072, 5073, 5075, 5076] {
        assert_eq!(sources(&["front-end-lb-hlb"], port), Some(owned(&["servers"])), "{port}");
    }
    for role in ["front-end", "front-end-lb-hlb"] {
        assert_eq!(sources(&[role], 5080), Some(owned(&["edge", "servers"])), "{role}");
    }
    assert_eq!(sources(&["persistent-chat"], 5041), Some(owned(&["servers"])));
    // Clients call these, or no document says who does.
    for (role, ports) in [
        ("front-end", &[80, 443, 5061, 8057, 8058][..]),
        ("front-end-lb-hlb", &[80, 443, 5061]),
        ("persistent-chat", &[443, 881]),
    ] {
        for &port in ports {
            assert_eq!(sources(&[role], port), Some(vec![]), "{role} {port}");
        }
    }
}

#[test]
fn ruling_web_ports_of_servers_are_inbound() {
    for role in ["front-end", "director"] {
        for port in [80, 443] {
            assert_eq!(sources(&[role], port), Some(vec![]), "{role} {port}");
        }
    }
}

#[test]
fn ruling_444_is_for_servers() {
    for role in ["front-end", "director", "front-end-lb-hlb", "director-lb-hlb"] {
        assert_eq!(sources(&[role], 444), Some(owned(&["servers"])), "{role}");
    }
    assert!(calls(&["director-vip"], 444) && sources(&["director-vip"], 444).is_none());
}

#[test]
fn ruling_8080_is_for_the_reverse_proxy_and_internal_clients() {
    for role in ["front-end", "front-end-lb-hlb", "front-end-lb-dns"] {
        assert_eq!(sources(&[role], 8080), Some(owned(&["internal-clients", "reverse-proxy"])), "{role}");
    }
    for role in ["director", "director-vip"] {
        assert_eq!(sources(&[role], 8080), Some(owned(&["reverse-proxy"])), "{role}");
    }
}

#[test]
fn ruling_4443_is_for_the_reverse_proxy_and_servers() {
    for role in [
        "front-end",
        "front-end-lb-hlb",
        "director-lb-hlb",
        "front-end-lb-dns",
        "director-lb-dns",
        "director",
        "director-vip",
    ] {
        assert_eq!(sources(&[role], 4443), Some(owned(&["reverse-proxy", "servers"])), "{role}");
    }
}

#[test]
fn a_source_that_joins_a_row_opens_it_to_nobody_else() {
    let open = |bound: &[&str], port| {
        let bound = Some(bound.iter().map(ToString::to_string).collect());
        let choices = Choices { bound, ..Choices::default() };
        let resolved = catalogue().resolve_with(&["director-vip"], Reading::Strict, &choices);
        let inbound = resolved.expect("a role").inbound;
        at(&inbound, Transport::Tcp, port).expect("an open port").scope().join(" ")
    };
    for (port, first) in [(4443, "reverse-proxy"), (50001, "admins"), (50003, "admins")] {
        assert_eq!(open(&[first], port), first, "{port}");
        assert_eq!(open(&["servers", first], port), format!("{first} servers"), "{port}");
        // The row itself is for anybody until its first group has prefixes, as before.
        assert_eq!(open(&["servers"], port), "", "{port}");
        assert_eq!(open(&[], port), "", "{port}");
    }
}

#[test]
fn ruling_web_ports_of_the_director_vip_are_for_internal_clients() {
    for port in [80, 443] {
        assert_eq!(sources(&["director-vip"], port), Some(owned(&["internal-clients"])), "{port}");
    }
}

#[test]
fn ruling_5061_on_a_director_is_open_from_anywhere() {
    assert_eq!(sources(&["director"], 5061), Some(vec![]));
    assert_eq!(sources(&["director-vip"], 5061), Some(owned(&["edge"])));
    let rule_rows = resolve(&["director"], Reading::Strict);
    let rule = at(&rule_rows.inbound, Transport::Tcp, 5061).expect("5061 is open");
    assert_eq!(rule.rows, owned(&["server.45", "director.06"]));
}

#[test]
fn ruling_centralised_logging_is_for_admins_and_servers_on_every_server() {
    for role in INTERNAL_SERVERS.into_iter().chain(["director-vip", "edge-internal"]) {
        for port in 50001..=50003 {
            assert_eq!(sources(&[role], port), Some(owned(&["admins", "servers"])), "{role} {port}");
        }
    }
}

#[test]
fn ruling_dhcp_is_two_ports_of_which_the_client_receives_on_68() {
    let catalogue = catalogue();
    for (role, row) in [("client", "client.01"), ("phone", "client.12")] {
        let printed = catalogue.row(row).expect("the DHCP row");
        let ports: Vec<String> = printed.ports.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["67", "68"]);
        assert_eq!(printed.strict.from_port, Some(67));
        let inbound = resolve(&[role], Reading::Strict).inbound;
        assert!(at(&inbound, Transport::Udp, 68).is_some() && at(&inbound, Transport::Udp, 67).is_none());
    }
}

#[test]
fn ruling_clients_call_the_edge() {
    let resolved = resolve(&["client"], Reading::Strict);
    let outbound: Vec<_> =
        resolved.outbound.iter().map(|rule| (rule.transport, rule.first, rule.last)).collect();
    let expected = [(Transport::Tcp, 443, 443), (Transport::Tcp, 5061, 5061), (Transport::Udp, 3478, 3478)];
    assert_eq!(outbound, expected);
    assert_eq!(sources(&["client"], 443), None);
}

#[test]
fn ruling_client_media_never_gets_onto_a_server() {
    for role in ["front-end", "director-vip", "reverse-proxy"] {
        let wrong = catalogue().check_roles(&[role, "client"]);
        assert_eq!(wrong.iter().map(|(index, ..)| *index).collect::<Vec<_>>(), [1], "{role}");
    }
    assert!(catalogue().check_roles(&["client", "phone"]).is_empty());
}

#[test]
fn mediation_gateway_ports_are_for_pstn_gateways() {
    for roles in [&["mediation"][..], &["front-end", "collocated-mediation"][..]] {
        assert_eq!(sources(roles, 5067), Some(owned(&["pstn-gateways"])));
        assert_eq!(sources(roles, 5068), Some(owned(&["pstn-gateways"])));
        assert_eq!(sources(roles, 5070), Some(owned(&["servers"])));
    }
    assert!(calls(&["pstn-gateway"], 5067) && calls(&["pstn-gateway"], 5068));
}

#[test]
fn a_reverse_proxy_calls_the_external_web_sites_and_office_web_apps() {
    for port in [443, 4443, 8080] {
        assert!(calls(&["reverse-proxy"], port), "{port}");
    }
    for reading in [Reading::Strict, Reading::Literal] {
        let resolved = resolve(&["reverse-proxy"], reading);
        let closed: Vec<_> = resolved.closed.iter().map(|closed| (closed.first, closed.last)).collect();
        assert_eq!(closed, [(80, 80)], "{reading:?}");
    }
}

#[test]
fn the_inside_leg_of_an_edge_serves_all_that_its_page_lists() {
    let resolved = resolve(&["edge-internal"], Reading::Strict);
    let open: Vec<_> = resolved
        .inbound
        .iter()
        .map(|rule| (rule.transport, rule.first, rule.last, rule.sources.join(" ")))
        .collect();
    let tcp = |port, from: &str| (Transport::Tcp, port, port, from.to_owned());
    let expected = [
        tcp(443, "internal-clients servers"),
        tcp(4443, "central-management-store"),
        tcp(5061, "servers"),
        tcp(5062, "servers"),
        tcp(8057, "servers"),
        tcp(23456, "servers"),
        tcp(50001, "admins servers"),
        tcp(50002, "admins servers"),
        tcp(50003, "admins servers"),
        (Transport::Udp, 3478, 3478, "internal-clients servers".to_owned()),
    ];
    assert_eq!(open, expected);
    assert!(calls(&["edge-internal"], 5061));
    assert!(calls(&["front-end"], 5061) && calls(&["director"], 5061) && calls(&["director-vip"], 5061));
    // The eleven rows of the page.
    let catalogue = catalogue();
    let rows = &catalogue.role("edge-internal").expect("the role").rows;
    assert_eq!(rows.iter().filter(|row| row.as_str().starts_with("edge.")).count(), 11, "{rows:?}");
}

#[test]
fn all_servers_rows_are_for_the_four_internal_servers_only() {
    let catalogue = catalogue();
    for row in ["server.01", "server.38", "server.39"] {
        let having = catalogue.roles().iter().filter(|role| role.rows.iter().any(|id| id.as_str() == row));
        let having: Vec<&str> = having.map(|role| role.key.as_str()).collect();
        assert_eq!(having, INTERNAL_SERVERS, "{row}");
    }
}

#[test]
fn what_is_closed_is_listed_though_another_row_opens_it() {
    let roles = ["front-end-lb-hlb", "mediation"];
    assert!(closed(&roles, Transport::Tcp, 49152).is_some());
    assert_eq!(sources(&roles, 49152), Some(vec![]));
}

#[test]
fn a_printed_range_moves_to_several_and_a_preset_moves_it_as_its_page_says() {
    let tcp = |choices: &Choices| {
        let resolved = catalogue().resolve_with(&["front-end"], Reading::Strict, choices).expect("a role");
        let media = resolved.inbound.into_iter().filter(|rule| {
            rule.transport == Transport::Tcp && rule.rows.iter().any(|row| row == "server.28")
        });
        media.map(|rule| (rule.first, rule.last, rule.rows.join(" "))).collect::<Vec<_>>()
    };
    let range = |text: &str| text.parse::<PortRange>().expect("a range");
    let several = vec![range("40803-44000"), range("45000-49150")];
    let own = |ports| Choices { overrides: [("server.28".to_owned(), ports)].into(), ..Choices::default() };
    let alone = |first, last| (first, last, "server.28".to_owned());
    assert_eq!(tcp(&own(several.clone())), [alone(40803, 44000), alone(45000, 49150)]);
    // 8,348 ports from 40803 on.
    let preset = Choices { optional: ["front-end.qos".to_owned()].into(), ..Choices::default() };
    assert_eq!(tcp(&preset), [alone(40803, 49150)]);
    assert!(catalogue().check_optional("front-end.qos", &["front-end"]).is_none());
    assert!(catalogue().check_optional("front-end.qos", &["mediation"]).is_some());
    // An override of the target itself comes first, and the other media stay.
    let both = Choices { optional: preset.optional, ..own(several) };
    assert_eq!(tcp(&both), [alone(40803, 44000), alone(45000, 49150)]);
    let resolved = catalogue().resolve_with(&["front-end"], Reading::Strict, &both).expect("a role");
    for port in [49152, 57501, 65535] {
        assert!(at(&resolved.inbound, Transport::Tcp, port).is_some(), "{port}");
    }
}
