//! The further pages: what they print, and which ruling rests on them.

use std::collections::BTreeSet;

use lyncwall_policy::catalogue::Row;
use lyncwall_policy::net::Transports;

use super::{catalogue, ranges};

/// The rows of further pages, written down a second time: id, transport, ports.
const PRINTED: [(&str, Transports, &str); 27] = [
    ("edge.01", Transports::Tcp, "23456"),
    ("edge.02", Transports::Tcp, "5061"),
    ("edge.03", Transports::Tcp, "5061"),
    ("edge.04", Transports::Tcp, "8057"),
    ("edge.05", Transports::Tcp, "5062"),
    ("edge.06", Transports::Udp, "3478"),
    ("edge.07", Transports::Tcp, "443"),
    ("edge.08", Transports::Tcp, "4443"),
    ("edge.09", Transports::Tcp, "50001"),
    ("edge.10", Transports::Tcp, "50002"),
    ("edge.11", Transports::Tcp, "50003"),
    ("gateway.1", Transports::Tcp, "5066"),
    ("gateway.2", Transports::Tcp, "5067"),
    ("web-apps.1", Transports::Tcp, "443"),
    ("web-apps.2", Transports::Tcp, "80"),
    ("web-apps.3", Transports::Tcp, "809"),
    ("domain.01", Transports::Udp, "123"),
    ("domain.02", Transports::Tcp, "135"),
    ("domain.03", Transports::Both, "464"),
    ("domain.04", Transports::Tcp, "49152-65535"),
    ("domain.05", Transports::Both, "389"),
    ("domain.06", Transports::Tcp, "636"),
    ("domain.07", Transports::Tcp, "3268"),
    ("domain.08", Transports::Tcp, "3269"),
    ("domain.09", Transports::Both, "53"),
    ("domain.10", Transports::Both, "88"),
    ("domain.11", Transports::Tcp, "445"),
];

#[test]
fn each_row_of_a_further_page_is_there_with_its_page() {
    let catalogue = catalogue();
    let rows: Vec<&Row> = catalogue.rows().iter().filter(|row| row.printed.page.is_some()).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, PRINTED.map(|(id, ..)| id));
    for (row, (id, transport, ports)) in rows.iter().zip(PRINTED) {
        let printed: Vec<_> = row.ports.iter().map(|ports| (ports.first(), ports.last())).collect();
        assert_eq!((row.transport, printed), (transport, ranges(ports)), "{id}");
        assert!(row.printed.lines.is_empty(), "{id} is in a document as well");
        let page = row.printed.page.as_deref().and_then(|page| catalogue.pages().get(page));
        assert!(page.is_some_and(|page| page.title.len() > 10 && page.name.len() > 10), "{id}: {page:?}");
    }
}

#[test]
fn a_ruling_that_narrows_a_row_says_why_and_by_which_page() {
    let catalogue = catalogue();
    // Narrowed by what pages say: the first rulings rest on the printed source of their rows.
    for id in [
        "server.06",
        "server.09",
        "server.15",
        "server.16",
        "server.17",
        "server.18",
        "server.20",
        "server.21",
        "server.27",
        "server.29",
        "server.30",
        "server.31",
        "server.33",
        "server.34",
        "server.35",
        "server.36",
        "server.50",
        "hlb-only.08",
        "hlb-only.09",
        "hlb-only.10",
        "hlb-only.11",
        "hlb-only.12",
        "hlb-only.13",
        "hlb-only.14",
        "director.02",
        "director.07",
        "director.08",
        "director.09",
    ] {
        let strict = &catalogue.row(id).expect("a row").strict;
        assert!(strict.why.len() > 20 && !strict.pages.is_empty(), "{id}: {strict:?}");
        assert!(strict.pages.iter().all(|page| catalogue.title(page).is_some()), "{id}: {strict:?}");
    }
}

#[test]
fn every_page_is_the_ground_of_something() {
    let catalogue = catalogue();
    let text = include_str!("../../../../config/lync-2013.toml");
    for key in catalogue.pages().keys() {
        let named = text.matches(&format!("\"{key}\"")).count();
        assert!(named > 0, "nothing rests on the page {key}");
    }
}

#[test]
fn each_role_says_what_the_catalogue_does_not_cover() {
    let catalogue = catalogue();
    // An add-on is never alone: its role says so.
    let silent = catalogue.roles().iter().filter(|role| role.unknown.is_empty() && role.extends.is_none());
    let silent: BTreeSet<&str> = silent.map(|role| role.key.as_str()).collect();
    assert_eq!(silent, BTreeSet::new());
    assert_eq!(catalogue.sources_of(&["front-end"]), 2);
    assert_eq!(catalogue.sources_of(&["edge-internal"]), 2);
}
