//! The built-in catalogue against the facts and rulings it was made from, written down here a second time.

mod calls;
mod pages;
mod rulings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lyncwall_common::abi::PortTransport as Transport;
use lyncwall_policy::catalogue::{Catalogue, Direction, Kind, Open, Reading, Resolved, Row};
use lyncwall_policy::net::Transports;

const FACTS: &str = include_str!("../../facts/lync-2013-rows.tsv");

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
    let catalogue = catalogue();
    let printed = catalogue.rows().iter().filter(|row| row.printed.page.is_none());
    assert_eq!(printed.count(), 103);
}

#[test]
fn every_printed_row_is_in_the_catalogue_with_its_facts() {
    let catalogue = catalogue();
    for fact in facts() {
        let row = catalogue.row(&fact.id).unwrap_or_else(|| panic!("{} is missing", fact.id));
        let ports: Vec<_> = row.ports.iter().map(|ports| (ports.first(), ports.last())).collect();
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
    let printed = catalogue.rows().iter().take(103);
    let ids: Vec<String> = printed.map(|row| row.id.to_string()).collect();
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
        ("domain-member", Kind::Preset, None),
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
                "443 881 5041 50001-50003".into(),
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
        (
            &["edge-internal"],
            ["443 4443 5061 5062 8057 23456 50001-50003".into(), "3478".into(), "5061".into(), String::new()],
        ),
        (&["pstn-gateway"], ["5066 5067".into(), String::new(), "5066 5081 5082".into(), String::new()]),
        (&["domain-member"], same("")),
    ];
    let mut tried: BTreeSet<&str> = BTreeSet::new();
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

fn at(rules: &[Open], transport: Transport, port: u16) -> Option<&Open> {
    rules.iter().find(|rule| rule.transport == transport && (rule.first..=rule.last).contains(&port))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn roles_combine_to_one_box() {
    let roles = ["front-end", "collocated-mediation", "central-management-store"];
    let resolved = resolve(&roles, Reading::Strict);
    assert_eq!(resolved.roles, roles);
    assert_eq!(open(&resolved, Transport::Tcp), ranges(&format!("{FRONT_END} 5067 5068 5070")));
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
