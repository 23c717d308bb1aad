//! The built-in catalogue against the facts and rulings it was made from, written down here a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lyncwall::catalogue::{Catalogue, Direction, Kind, Reading, Resolved, Row, Rule, Transport, Transports};

const FACTS: &str = include_str!("../facts/lync-2013-rows.tsv");

fn catalogue() -> Catalogue {
    Catalogue::load("lync-2013", Path::new("")).expect("the built-in catalogue is in order")
}

fn resolve(roles: &[&str], reading: Reading) -> Resolved {
    catalogue().resolve(roles, reading).expect("the roles go together")
}

/// One line of the facts file.
struct Fact {
    table: String,
    id: String,
    ports: Vec<(u16, u16)>,
    transport: Transports,
    direction: Direction,
    optional: bool,
    ruling: String,
    groups: Vec<String>,
    lines: BTreeMap<String, u32>,
    role: String,
}

fn facts() -> Vec<Fact> {
    let lines = FACTS.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.map(|line| fact(&line.split('\t').collect::<Vec<_>>())).collect()
}

fn fact(cells: &[&str]) -> Fact {
    let [table, _, id, ports, transport, direction, optional, ruling, groups, lines, role] = cells else {
        panic!("eleven cells in {cells:?}");
    };
    let number = |text: &str| text.parse::<u16>().expect("a port");
    Fact {
        table: (*table).to_owned(),
        id: (*id).to_owned(),
        ports: match (ports.split_once('-'), ports.split_once('/')) {
            (Some((first, last)), _) => vec![(number(first), number(last))],
            (None, Some((one, other))) => vec![(number(one), number(one)), (number(other), number(other))],
            (None, None) => vec![(number(ports), number(ports))],
        },
        transport: match *transport {
            "tcp" => Transports::Tcp,
            "udp" => Transports::Udp,
            "tcp+udp" => Transports::Both,
            other => panic!("{other} is no transport"),
        },
        direction: match *direction {
            "inbound" => Direction::Inbound,
            "outbound" => Direction::Outbound,
            "both" => Direction::Both,
            other => panic!("{other} is no direction"),
        },
        optional: *optional == "y",
        ruling: (*ruling).to_owned(),
        groups: groups.split('+').filter(|group| *group != "-").map(str::to_owned).collect(),
        lines: lines
            .split(' ')
            .map(|place| place.split_once(':').expect("document:line"))
            .map(|(document, line)| (document.to_owned(), line.parse().expect("a line")))
            .collect(),
        role: (*role).to_owned(),
    }
}

#[test]
fn there_are_103_printed_rows() {
    let mut tables: BTreeMap<String, usize> = BTreeMap::new();
    for fact in facts() {
        *tables.entry(fact.table).or_default() += 1;
    }
    let expected = [("client", 12), ("director-rules", 13), ("hlb-dns", 6), ("hlb-only", 20), ("server", 52)];
    assert_eq!(tables, expected.map(|(table, count)| (table.to_owned(), count)).into());
    assert_eq!(catalogue().rows().len(), 103);
}

#[test]
fn every_printed_row_is_in_the_catalogue_with_its_facts() {
    let catalogue = catalogue();
    for fact in facts() {
        let row = catalogue.row(&fact.id).unwrap_or_else(|| panic!("{} is missing", fact.id));
        let ports: Vec<_> = row.ports.iter().map(|ports| (ports.first, ports.last)).collect();
        assert_eq!(ports, fact.ports, "ports of {}", fact.id);
        assert_eq!(row.transport, fact.transport, "transport of {}", fact.id);
        assert_eq!(row.direction, fact.direction, "direction of {}", fact.id);
        assert_eq!(row.optional, fact.optional, "optional of {}", fact.id);
        assert_eq!(row.role, fact.role, "role of {}", fact.id);
        assert_eq!(row.printed.lines, fact.lines, "lines of {}", fact.id);
        assert_eq!(row.strict.ruling.as_str(), fact.ruling, "ruling of {}", fact.id);
        let groups: BTreeSet<_> = row.strict.groups.iter().collect();
        assert_eq!(groups, fact.groups.iter().collect(), "groups of {}", fact.id);
    }
}

#[test]
fn the_rows_stand_in_printed_order_and_each_has_a_note_of_its_own() {
    let catalogue = catalogue();
    let ids: Vec<String> = catalogue.rows().iter().map(|row| row.id.to_string()).collect();
    assert_eq!(ids, facts().into_iter().map(|fact| fact.id).collect::<Vec<_>>());
    for row in catalogue.rows() {
        assert!(row.note.len() > 10, "the note of {} says nothing", row.id);
        assert!(!row.application.is_empty(), "{} has no protocol", row.id);
    }
}

#[test]
fn what_goes_out_only_is_never_ruled_inbound() {
    let strict = |row: &Row| (row.direction, row.strict.ruling.as_str());
    for row in catalogue().rows() {
        assert_eq!(
            row.direction == Direction::Outbound,
            row.strict.ruling.as_str() == "outbound",
            "{} is {:?}",
            row.id,
            strict(row)
        );
    }
}

#[test]
fn no_row_is_without_a_role() {
    let catalogue = catalogue();
    let used: BTreeSet<_> = catalogue.roles().iter().flat_map(|role| &role.rows).collect();
    let unused: Vec<_> = catalogue.rows().iter().map(|row| &row.id).filter(|id| !used.contains(id)).collect();
    assert!(unused.is_empty(), "no role has {unused:?}");
}

#[test]
fn every_role_is_there_with_its_kind() {
    let expected = [
        ("front-end", Kind::Server, None),
        ("director", Kind::Server, None),
        ("mediation", Kind::Server, None),
        ("persistent-chat", Kind::Server, None),
        ("office-web-apps", Kind::Server, None),
        ("collocated-mediation", Kind::AddOn, Some("front-end")),
        ("central-management-store", Kind::AddOn, Some("front-end")),
        ("collocated-mediation-lb", Kind::AddOn, Some("front-end-lb-hlb")),
        ("front-end-lb-hlb", Kind::Balancer, None),
        ("mediation-lb-hlb", Kind::Balancer, None),
        ("director-lb-hlb", Kind::Balancer, None),
        ("front-end-lb-dns", Kind::Balancer, None),
        ("director-lb-dns", Kind::Balancer, None),
        ("director-vip", Kind::Balancer, None),
        ("client", Kind::Client, None),
        ("phone", Kind::Client, None),
        ("reverse-proxy", Kind::Derived, None),
        ("edge-internal", Kind::Derived, None),
        ("pstn-gateway", Kind::Derived, None),
    ];
    let catalogue = catalogue();
    assert_eq!(catalogue.roles().len(), expected.len());
    for (key, kind, base) in expected {
        let role = catalogue.role(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!((role.kind, role.extends.as_deref()), (kind, base), "{key}");
        assert!(!role.rows.is_empty(), "{key} has no rows");
    }
}

/// `80 443 5000-5010` as ranges, joined where they meet or overlap.
fn ranges(text: &str) -> Vec<(u16, u16)> {
    joined(text.split_whitespace().map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse().expect("a port"), last.parse().expect("a port"))
    }))
}

fn joined(ranges: impl Iterator<Item = (u16, u16)>) -> Vec<(u16, u16)> {
    let mut sorted: Vec<(u16, u16)> = ranges.collect();
    sorted.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn open(resolved: &Resolved, transport: Transport) -> Vec<(u16, u16)> {
    let of_transport = resolved.inbound.iter().filter(|rule| rule.transport == transport);
    joined(of_transport.map(|rule| (rule.first, rule.last)))
}

const FRONT_END: &str = "80 135 443 444 448 4443 5061 5062 5063 5064 5065 5071 5072 5073 5075 5076 5080 5086 5087 \
     8057 8058 8060 8061 8080 8404 49152-65535";
const FRONT_END_BALANCER: &str = "80 135 443 444 448 4443 5061 5071 5072 5073 5075 5076 5080 8080";

#[test]
fn each_role_opens_what_the_documents_and_rulings_say() {
    let front_end = |more: &str| format!("{FRONT_END} {more}");
    let balancer = |more: &str| format!("{FRONT_END_BALANCER} {more}");
    let same = |ports: &str| [ports.to_owned(), String::new(), ports.to_owned(), String::new()];
    // Strict TCP and UDP, literal TCP and UDP.
    let expected: Vec<(&[&str], [String; 4])> = vec![
        (
            &["front-end"],
            [front_end(""), "49152-65535".into(), front_end("5060 5066"), "1434 49152-65535".into()],
        ),
        (
            &["front-end", "collocated-mediation"],
            [
                front_end("5067 5068 5070"),
                "49152-65535".into(),
                front_end("5060 5066 5067 5068 5070 5081 5082"),
                "1434 49152-65535".into(),
            ],
        ),
        (
            &["front-end", "central-management-store"],
            [front_end(""), "49152-65535".into(), front_end("445 5060 5066"), "1434 49152-65535".into()],
        ),
        (
            &["director"],
            [
                "80 443 444 4443 5061 8080 50001-50003".into(),
                String::new(),
                "80 443 444 4443 5060 5061 8080 49152-57500".into(),
                "1434 49152-57500".into(),
            ],
        ),
        (
            &["mediation"],
            [
                "5067 5068 5070 49152-57500".into(),
                "49152-57500".into(),
                "5067 5068 5070 49152-57500".into(),
                "1434 49152-57500".into(),
            ],
        ),
        (
            &["persistent-chat"],
            [
                "443 881 5041".into(),
                String::new(),
                "443 881 5041 49152-57500".into(),
                "1434 49152-57500".into(),
            ],
        ),
        (&["office-web-apps"], same("443")),
        (&["front-end-lb-hlb"], same(FRONT_END_BALANCER)),
        (&["front-end-lb-hlb", "collocated-mediation-lb"], same(&balancer("5070"))),
        (&["mediation-lb-hlb"], same("5070")),
        (&["director-lb-hlb"], same("443 444 4443 5061")),
        (&["front-end-lb-dns"], same("80 443 4443 8080")),
        (&["director-lb-dns"], same("443 4443")),
        (
            &["director-vip"],
            [
                "80 443 4443 5061 8080 50001-50003".into(),
                String::new(),
                "80 443 444 4443 5061 8080 50001-50003".into(),
                String::new(),
            ],
        ),
        (
            &["client"],
            ["1024-65535".into(), "68 1024-65535".into(), "443 1024-65535".into(), "67 68 1024-65535".into()],
        ),
        (&["phone"], [String::new(), "68".into(), String::new(), "67 68".into()]),
        (&["reverse-proxy"], same("443")),
        (&["edge-internal"], same("5061")),
        (&["pstn-gateway"], same("5066 5081 5082")),
    ];
    let mut tried = BTreeSet::new();
    for (roles, [strict_tcp, strict_udp, literal_tcp, literal_udp]) in expected {
        tried.extend(roles);
        for (reading, tcp, udp) in
            [(Reading::Strict, strict_tcp, strict_udp), (Reading::Literal, literal_tcp, literal_udp)]
        {
            let resolved = resolve(roles, reading);
            assert_eq!(open(&resolved, Transport::Tcp), ranges(&tcp), "{roles:?} {reading:?} tcp");
            assert_eq!(open(&resolved, Transport::Udp), ranges(&udp), "{roles:?} {reading:?} udp");
        }
    }
    let all = catalogue();
    let untried: Vec<_> = all.roles().iter().filter(|role| !tried.contains(role.key.as_str())).collect();
    assert!(untried.is_empty(), "not compared: {untried:?}");
}

/// The roles that a printed role stands for.
fn printed_for(role: &str) -> &'static [&'static str] {
    match role {
        "All Servers" | "All internal servers" => &["front-end", "director", "mediation", "persistent-chat"],
        "Front End Servers" | "Front End pool" | "Front End Server" => &["front-end"],
        "Front End Servers that also run a Collocated Mediation Server" => &["collocated-mediation"],
        "Front End Servers where the Central Management store resides" => &["central-management-store"],
        "Office Web Apps Servers" => &["office-web-apps"],
        "Directors" => &["director"],
        "Director" => &["director", "director-vip"],
        "Mediation Servers" => &["mediation"],
        "Persistent Chat Front End Server" => &["persistent-chat"],
        "Mediation Server load balancer" => &["mediation-lb-hlb"],
        "Front End Server load balancer (if the pool also runs Mediation Server)" => {
            &["collocated-mediation-lb"]
        }
        "Clients" => &["client"],
        phone if phone.starts_with("Aastra 6721ip") => &["phone"],
        other => panic!("the printed role {other} stands for no role"),
    }
}

#[test]
fn the_literal_reading_opens_each_printed_row_on_each_printed_role_from_anywhere() {
    for fact in facts() {
        let roles: BTreeSet<&str> = match (fact.table.as_str(), fact.role.as_str()) {
            ("hlb-only", "Front End Server load balancer") => ["front-end-lb-hlb"].into(),
            ("hlb-only", "Director load balancer") => ["director-lb-hlb"].into(),
            ("hlb-dns", "Front End Server load balancer") => ["front-end-lb-dns"].into(),
            ("hlb-dns", "Director load balancer") => ["director-lb-dns"].into(),
            ("client", role) => printed_for(role).iter().copied().collect(),
            (_, role) => role.split("; ").flat_map(printed_for).copied().collect(),
        };
        for role in roles {
            let base = catalogue().role(role).and_then(|role| role.extends.clone());
            let with_base: Vec<&str> = base.as_deref().into_iter().chain([role]).collect();
            let resolved = resolve(&with_base, Reading::Literal);
            for (&transport, &(first, last)) in
                fact.transport.each().iter().flat_map(|t| fact.ports.iter().map(move |ports| (t, ports)))
            {
                for port in first..=last {
                    let rule = at(&resolved.inbound, transport, port);
                    let rule = rule.unwrap_or_else(|| panic!("{role} does not open {transport:?} {port}"));
                    assert!(rule.rows.contains(&fact.id), "{role} {port} forgets {}", fact.id);
                    assert!(rule.sources.is_empty(), "{role} {port} is limited to {:?}", rule.sources);
                }
            }
        }
    }
}

fn at(rules: &[Rule], transport: Transport, port: u16) -> Option<&Rule> {
    rules.iter().find(|rule| rule.transport == transport && (rule.first..=rule.last).contains(&port))
}

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

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
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
    let missing = catalogue.role("pstn-gateway").and_then(|role| role.required_override.as_deref());
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
fn roles_combine_to_one_box() {
    let roles = ["front-end", "collocated-mediation", "central-management-store"];
    let resolved = resolve(&roles, Reading::Strict);
    assert_eq!(resolved.roles, roles);
    assert_eq!(open(&resolved, Transport::Tcp), ranges(&format!("{FRONT_END} 5067 5068 5070")));
}

#[test]
fn what_is_closed_is_listed_though_another_row_opens_it() {
    let roles = ["front-end-lb-hlb", "mediation"];
    assert!(closed(&roles, Transport::Tcp, 49152).is_some());
    assert_eq!(sources(&roles, 49152), Some(vec![]));
}

#[test]
fn mistakes_in_the_roles_are_all_found() {
    let wrong = catalogue().check_roles(&["direktor-vip", "collocated-mediation", "mediation", "mediation"]);
    let indexes: Vec<usize> = wrong.iter().map(|(index, ..)| *index).collect();
    assert_eq!(indexes, [0, 1, 3]);
    assert!(wrong[0].2.contains("`director-vip`"), "{:?}", wrong[0]);
    assert!(wrong[1].2.contains("`front-end`"), "{:?}", wrong[1]);
    assert!(catalogue().check_roles(&[]).is_empty());
    let problems = catalogue().resolve(&["x", "y"], Reading::Strict).expect_err("two unknown roles");
    assert_eq!(problems.iter().count(), 2);
}

#[test]
fn rules_are_named_by_what_they_serve() {
    let named = |rows: &[&str]| catalogue().services(&owned(rows));
    assert_eq!(named(&["server.03"]), "SIP/TLS, SIP/MTLS (Lync Server Front-End service)");
    assert_eq!(named(&["server.32"]), "SIP/TCP (E9-1-1 gateway)");
    assert_eq!(named(&["hlb-only.06"]), "HTTPS (Front End Server load balancer)");
    assert_eq!(
        named(&["server.12", "server.19"]),
        "HTTPS (Lync Server Web Compatibility service, Mobility Services component)"
    );
    assert_eq!(named(&[]), "");
}
