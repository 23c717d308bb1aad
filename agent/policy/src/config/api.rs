//! `[api]` and `[metrics]`: the users of the agent's socket, and the TCP addresses of the metrics.

use std::net::SocketAddr;

use super::{Api, Listen, Named};
use crate::reader::{Keys, Node, Table, Unique, all};

const API: Keys = &["readers", "group"];
const METRICS: Keys = &["listen"];

/// The most metrics addresses in a file.
const LISTEN: usize = 8;

/// `[api]`; without it, only root may use the socket.
pub(super) fn api(top: &Table<'_>) -> Option<Api> {
    let Some(node) = top.get("api") else { return Some(Api::default()) };
    let table = node.table(API)?;
    let group = |name: &str| table.get_or(name, None, |node| group(node).map(Some));
    let (readers, group) = (group("readers"), group("group"));
    Some(Api { readers: readers?, group: group? })
}

fn group(node: &Node<'_>) -> Option<Named> {
    let named = node.named()?;
    if named.name.is_empty() {
        node.problem("the group has no name", "name a group of this box, or leave the key out");
        return None;
    }
    Some(named)
}

/// The addresses of `[metrics]`; empty without the table.
pub(super) fn metrics(top: &Table<'_>) -> Option<Vec<Listen>> {
    let Some(node) = top.get("metrics") else { return Some(Vec::new()) };
    let table = node.table(METRICS)?;
    let Some(node) = table.get("listen") else { return Some(Vec::new()) };
    let items = node.items()?;
    if let Some(extra) = items.get(LISTEN) {
        let count = items.len();
        extra.problem(
            format!("{count} addresses: this version serves metrics on at most {LISTEN}"),
            "remove some; 0.0.0.0 and [::] are all addresses of this box",
        );
        return None;
    }
    let mut seen = Unique::default();
    let mut before: Vec<SocketAddr> = Vec::new();
    all(items.iter().map(|item| {
        let address = address(item)?;
        let listen = Listen { address, place: item.place() };
        let other = before.iter().find(|other| overlap(**other, address));
        if let Some(other) = other {
            item.problem(
                format!("{address} and {other} cannot both be served: one includes the other"),
                "keep the one that all its clients reach",
            );
        }
        let alone = other.is_none();
        before.push(address);
        (seen.take("address", &address.to_string(), item) && alone).then_some(listen)
    }))
}

/// True if no two sockets can listen at both addresses: one is all addresses of its family. Sockets for IPv6
/// take no IPv4 here.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let all_of_one = one.ip().is_unspecified() || other.ip().is_unspecified();
    all_of_one && one != other && one.port() == other.port() && one.is_ipv4() == other.is_ipv4()
}

fn address(node: &Node<'_>) -> Option<SocketAddr> {
    let text = node.string()?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => {
            Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
        }
        Ok(_) => {
            node.problem(format!("`{text}` has port 0, which is not a port"), "name the port, as 9464");
            None
        }
        Err(_) => {
            node.problem(
                format!("`{text}` is not an address with a port"),
                "write it as \"127.0.0.1:9464\" or \"[::1]:9464\"",
            );
            None
        }
    }
}
