//! Lists of ports, prefixes and addresses.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use toml::de::DeValue;

use super::Named;
use crate::net::{self, PortRange, Prefix, PrefixError, Span, overlaps};
use crate::reader::{Node, Unique};

/// Ports: numbers and `"first-last"` without overlap. The list may be empty; a single port needs no list.
pub(super) fn ports(node: &Node<'_>) -> Option<Vec<PortRange>> {
    match node.value() {
        DeValue::Array(_) => list(node, Node::ports),
        _ => node.ports().map(|range| vec![range]),
    }
}

/// Like [`ports`], but at least one.
pub(super) fn some_ports(node: &Node<'_>) -> Option<Vec<PortRange>> {
    let ports = ports(node)?;
    if ports.is_empty() {
        node.problem(
            "the list is empty, so nothing could match",
            "list the ports; [\"1-65535\"] is all ports",
        );
        return None;
    }
    Some(ports)
}

/// Groups without duplicates. An empty list is a mistake: it would read like "for nobody".
pub(super) fn groups(node: &Node<'_>, when_empty: &str) -> Option<Vec<Named>> {
    let named = names(node, "group")?;
    if named.is_empty() {
        node.problem("the list is empty, so nothing could match", when_empty);
        return None;
    }
    Some(named)
}

/// Names without duplicates.
pub(super) fn names(node: &Node<'_>, what: &str) -> Option<Vec<Named>> {
    let mut seen = Unique::default();
    node.list(|item| item.named().filter(|named| seen.take(what, &named.name, item)))
}

/// Prefixes without overlap. An empty list is a mistake: it would read like "from nowhere".
pub(super) fn prefixes(node: &Node<'_>, when_empty: &str) -> Option<Vec<Prefix>> {
    let prefixes = list(node, prefix)?;
    if prefixes.is_empty() {
        node.problem("the list is empty, so nothing could match", when_empty);
        return None;
    }
    Some(prefixes)
}

/// One unicast address.
pub(super) fn address(node: &Node<'_>) -> Option<IpAddr> {
    let text = node.string()?;
    let addr = match net::address(text) {
        Ok(addr) => addr,
        Err(PrefixError::Compatible { meant }) => {
            compatible(node, text, meant);
            return None;
        }
        Err(_) => {
            match text.parse::<Prefix>() {
                Err(PrefixError::Syntax) => node.problem(
                    format!("`{text}` is not an address"),
                    "write an IPv4 or IPv6 address, as `192.0.2.10` or `2001:db8::10`",
                ),
                Ok(_) | Err(_) => node.problem(
                    format!("`{text}` is a prefix, but a target has single addresses"),
                    "remove the `/…`",
                ),
            }
            return None;
        }
    };
    let not_unicast = match addr {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("is not the address of a host"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("is the broadcast address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("is not the address of a host"),
        _ if addr.is_multicast() => Some("is a multicast address"),
        _ if addr.is_loopback() => Some("is a loopback address, which no packet on an interface carries"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    match not_unicast {
        None => Some(addr),
        Some(why) => {
            node.problem(format!("`{text}` {why}"), "name the unicast addresses that packets are sent to");
            None
        }
    }
}

/// Reads the items of a list with `read` and rejects overlaps.
fn list<'t, T: Span + Display>(node: &Node<'t>, read: impl Fn(&Node<'t>) -> Option<T>) -> Option<Vec<T>> {
    let items = node.items()?;
    let (nodes, values): (Vec<&Node<'_>>, Vec<T>) =
        items.iter().filter_map(|item| Some((item, read(item)?))).unzip();
    let pairs = overlaps(&values);
    for &(low, high) in &pairs {
        let (earlier, later) = (&values[low], &values[high]);
        if earlier.span() == later.span() {
            nodes[high].problem(format!("{later} is in the list twice"), "remove one of the two");
        } else {
            nodes[high].problem(
                format!("{later} overlaps {earlier}"),
                "keep one, or make them meet without overlap",
            );
        }
    }
    (pairs.is_empty() && values.len() == items.len()).then_some(values)
}

fn prefix(node: &Node<'_>) -> Option<Prefix> {
    let text = node.string()?;
    let error = match text.parse::<Prefix>() {
        Ok(prefix) if is_mapped(&prefix) => {
            let fix = "write it as an IPv4 prefix";
            node.problem(format!("`{text}` is an IPv4 prefix in IPv6 form, which no packet carries"), fix);
            return None;
        }
        Ok(prefix) => return Some(prefix),
        Err(error) => error,
    };
    match error {
        PrefixError::HostBits { corrected } => node.problem(
            format!("`{text}` has address bits set behind the prefix length"),
            format!("write \"{corrected}\", or the address alone for one host"),
        ),
        PrefixError::Length { longest } => node.problem(
            format!("`{text}` has a prefix length over {longest}"),
            format!("the length is a number from 0 to {longest}"),
        ),
        PrefixError::Compatible { meant } => compatible(node, text, meant),
        PrefixError::Syntax => node.problem(
            format!("`{text}` is not an address or prefix"),
            "write it as \"192.0.2.10\", \"10.0.0.0/8\" or \"2001:db8::/32\"",
        ),
    }
    None
}

fn compatible(node: &Node<'_>, text: &str, meant: Ipv4Addr) {
    node.problem(
        format!("`{text}` is an IPv4 address in an IPv6 form that no packet carries"),
        format!("write {meant}"),
    );
}

/// True for the space of all IPv4 addresses in IPv6 form. Shorter parts of it are IPv4 prefixes: see [`Prefix`].
fn is_mapped(prefix: &Prefix) -> bool {
    match prefix.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(addr) => prefix.length() == 96 && addr.to_ipv4_mapped().is_some(),
    }
}
