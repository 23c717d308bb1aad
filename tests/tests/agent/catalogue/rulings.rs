//! Each ruling of the strict reading, by name, and what follows for boxes that no table prints.

use lyncwall_common::abi::PortTransport as Transport;
use lyncwall_policy::catalogue::Reading;
use lyncwall_policy::net::Transports;

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
        assert_eq!(sources(&["pstn-gateway"], port), Some(owned(&["servers"])), "{port}");
    }
    let catalogue = catalogue();
    let missing = catalogue
        .role("pstn-gateway")
        .and_then(|role| role.required_override.as_ref().map(|required| &*required.what));
    assert!(missing.is_some_and(|missing| missing.contains("media range")));
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
fn ruling_445_goes_out_from_its_holder_and_waits_for_the_group_elsewhere() {
    for role in INTERNAL_SERVERS {
        assert_eq!(sources(&[role], 445), None, "{role}");
        let expected = (owned(&["central-management-store"]), owned(&["server.37"]));
        assert_eq!(closed(&[role], Transport::Tcp, 445), Some(expected), "{role}");
    }
    let holder = ["front-end", "central-management-store"];
    assert!(calls(&holder, 445) && sources(&holder, 445).is_none());
    assert_eq!(closed(&holder, Transport::Tcp, 445), None);
    assert!(!calls(&["front-end"], 445));
    assert_eq!(closed(&["office-web-apps"], Transport::Tcp, 445), None);
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
        .map(|rule| (rule.transport, rule.first, rule.last, rule.rows.join(" ")))
        .collect();
    let expected = [
        (Transport::Tcp, 49152, 57500, "server.28 server.39"),
        (Transport::Tcp, 57501, 65535, "server.10 server.28"),
        (Transport::Udp, 49152, 57500, "server.39"),
        (Transport::Udp, 57501, 65535, "server.10"),
    ];
    assert_eq!(
        media,
        expected.map(|(transport, first, last, rows)| (transport, first, last, rows.to_owned()))
    );
}

#[test]
fn ruling_office_web_apps_is_https_over_tcp() {
    let catalogue = catalogue();
    let row = catalogue.row("server.40").expect("the row of Office Web Apps");
    assert_eq!((row.application.as_str(), row.transport, &row.service), ("HTTPS", Transports::Tcp, &None));
    assert_eq!(sources(&["office-web-apps"], 443), Some(vec![]));
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
    for role in ["front-end", "front-end-lb-hlb", "director-lb-hlb", "front-end-lb-dns", "director-lb-dns"] {
        assert_eq!(sources(&[role], 4443), Some(owned(&["reverse-proxy", "servers"])), "{role}");
    }
    for role in ["director", "director-vip"] {
        assert_eq!(sources(&[role], 4443), Some(owned(&["reverse-proxy"])), "{role}");
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
fn ruling_centralised_logging_is_for_admins() {
    for role in ["director", "director-vip"] {
        for port in 50001..=50003 {
            assert_eq!(sources(&[role], port), Some(owned(&["admins"])), "{role} {port}");
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
fn the_inside_leg_of_an_edge_serves_and_calls_5061() {
    assert_eq!(sources(&["edge-internal"], 5061), Some(owned(&["servers"])));
    assert!(calls(&["edge-internal"], 5061));
    assert!(calls(&["front-end"], 5061) && calls(&["director"], 5061) && calls(&["director-vip"], 5061));
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
