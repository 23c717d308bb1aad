//! The `[[allow]]` rules.

use toml::de::DeValue;

use super::lists;
use super::{Allow, AllowWhat, Name, Named};
use crate::problem::did_you_mean;
use crate::reader::{Keys, Node, Table, Unique, all};

/// The most rules in a file.
const RULES: usize = 64;
/// The most bytes in the name of a rule.
const NAME: usize = 64;

const KEYS: Keys = &["name", "transport", "ports", "protocol", "from", "groups", "target"];

/// Protocols by their names in the IANA registry, in lower case, without those that the program judges
/// otherwise.
const PROTOCOLS: &[(&str, u8)] = &[
    ("igmp", 2),
    ("ipip", 4),
    ("dccp", 33),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// The rules of the file. `targets` and `groups` are the names that a rule may refer to; `None` if a syntax
/// error may have hidden some.
pub(super) fn rules(
    top: &Table<'_>,
    targets: Option<&[&str]>,
    groups: Option<&[&str]>,
) -> Option<Vec<Allow>> {
    let Some(node) = top.get("allow") else { return Some(Vec::new()) };
    let mut names = Unique::default();
    let tables = node.tables(KEYS, RULES)?;
    all(tables.iter().map(|table| rule(table, targets, groups, &mut names)))
}

fn rule(
    table: &Table<'_>,
    targets: Option<&[&str]>,
    groups: Option<&[&str]>,
    names: &mut Unique,
) -> Option<Allow> {
    let name = table.required("name", "give the rule a name for its counter");
    let name = name.and_then(|node| rule_name(&node, names));
    let what = what(table);
    let anywhere = "leave `from` out to allow from anywhere, or list the prefixes";
    let from = table.get_or("from", Vec::new(), |node| lists::prefixes(node, anywhere));
    let groups = table.get_or("groups", Vec::new(), |node| groups_of(node, groups));
    let target = table.get_or("target", None, |node| target(node, targets).map(Some));
    Some(Allow { name: name?, what: what?, from: from?, groups: groups?, target: target? })
}

/// The groups of a rule. Each must have prefixes: a rule without sources would let everybody in.
fn groups_of(node: &Node<'_>, bound: Option<&[&str]>) -> Option<Vec<Named>> {
    let named = lists::groups(node, "leave `groups` out, or name groups of [groups]")?;
    let Some(bound) = bound else { return Some(named) };
    let unbound: Vec<&Named> = named.iter().filter(|group| !bound.contains(&&*group.name)).collect();
    for group in &unbound {
        let bind = || format!("give it prefixes, as `{} = [\"192.0.2.0/24\"]` under [groups]", group.name);
        let fix = did_you_mean(&group.name, bound.iter().copied(), bind);
        node.problem_at(&group.place, format!("the group `{}` has no prefixes", group.name), fix);
    }
    unbound.is_empty().then_some(named)
}

fn rule_name(node: &Node<'_>, names: &mut Unique) -> Option<String> {
    let text = node.string()?;
    if text.is_empty() || text.len() > NAME {
        let fix = format!("give it 1 to {NAME} bytes");
        node.problem(format!("the rule's name has {} bytes", text.len()), fix);
        return None;
    }
    if text.chars().any(char::is_control) {
        node.problem("the rule's name has a control character", "use printable characters");
        return None;
    }
    names.take("rule", text, node).then(|| text.to_owned())
}

fn what(table: &Table<'_>) -> Option<AllowWhat> {
    let (transport, ports) = (table.get("transport"), table.get("ports"));
    if let Some(node) = table.get("protocol") {
        for other in [&transport, &ports].into_iter().flatten() {
            other.problem(
                "a rule has either `protocol` or `transport` with `ports`",
                "remove one, or make it two rules",
            );
        }
        return protocol(&node).map(AllowWhat::Protocol);
    }
    if transport.is_none() && ports.is_none() {
        if !table.misspells("protocol") && !table.misspells("ports") {
            let fix = "add `transport` and `ports`, or `protocol`";
            table.missing("transport", "the rule allows nothing", fix);
        }
        return None;
    }
    let transport = transport.or_else(|| {
        table.required("transport", "add `transport = \"tcp\"`, \"udp\" or \"both\" beside `ports`")
    });
    let transport = transport.and_then(|node| node.transports());
    let ports =
        ports.or_else(|| table.required("ports", "add `ports`, as in `ports = [9100, \"9200-9210\"]`"));
    let ports = ports.and_then(|node| lists::some_ports(&node));
    Some(AllowWhat::Ports { transport: transport?, ports: ports? })
}

fn protocol(node: &Node<'_>) -> Option<u8> {
    let bounds = "write a number from 0 to 255, or a name, as \"vrrp\"";
    let number = match node.value() {
        DeValue::Integer(number) => match u8::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number,
            Err(_) => {
                node.problem(format!("{number} is not a protocol number"), bounds);
                return None;
            }
        },
        DeValue::String(text) => by_name(text, node)?,
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => return node.mistyped("a protocol", bounds),
    };
    let Some((why, fix)) = judged_otherwise(number) else { return Some(number) };
    node.problem(format!("protocol {number} cannot be allowed here: {why}"), fix);
    None
}

/// The number of an IP protocol, from its name in lower case or from digits.
#[must_use]
pub fn protocol_number(text: &str) -> Option<u8> {
    numbered(text).or_else(|| text.parse().ok())
}

/// The name of an IP protocol without ports, by its number.
#[must_use]
pub fn protocol_name(number: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

fn numbered(text: &str) -> Option<u8> {
    let judged = [("icmp", 1), ("tcp", 6), ("udp", 17), ("ipv6-icmp", 58), ("icmpv6", 58)];
    let find = |list: &[(&str, u8)]| list.iter().find(|(name, _)| *name == text).map(|&(_, number)| number);
    find(PROTOCOLS).or_else(|| find(&judged))
}

fn by_name(text: &str, node: &Node<'_>) -> Option<u8> {
    let number = numbered(text);
    if number.is_none() {
        let names: Vec<&str> = PROTOCOLS.iter().map(|&(name, _)| name).collect();
        let fix = did_you_mean(text, names.iter().copied(), || match text.parse::<u8>() {
            Ok(_) => format!("write {text} without quotes"),
            Err(_) => format!("write its number, or one of {}", names.join(", ")),
        });
        node.problem(format!("`{text}` is not a known protocol"), fix);
    }
    number
}

/// Why an `[[allow]]` rule cannot allow this protocol, and the remedy.
fn judged_otherwise(number: u8) -> Option<(&'static str, &'static str)> {
    match number {
        6 => Some(("TCP is allowed by port", "write `transport = \"tcp\"` and `ports`")),
        17 => Some(("UDP is allowed by port", "write `transport = \"udp\"` and `ports`")),
        1 | 58 => Some((
            "lyncwall judges ICMP by type, before these rules",
            "remove the rule: errors, neighbour discovery and echo requests get in without it",
        )),
        0 | 43 | 44 | 60 => Some((
            "it is an IPv6 extension header; lyncwall judges the protocol behind it",
            "allow the protocol that the packets carry",
        )),
        _ => None,
    }
}

fn target(node: &Node<'_>, targets: Option<&[&str]>) -> Option<Name> {
    let text = node.string()?;
    let Some(targets) = targets else { return Name::new(text).ok() };
    if targets.contains(&text) {
        // A target with a malformed name has its own problem already.
        return Name::new(text).ok();
    }
    let fix = did_you_mean(text, targets.iter().copied(), || match targets {
        [] => "give the targets names, or leave the key out for any destination".to_owned(),
        _ => format!("write one of {}, or leave the key out for any destination", targets.join(", ")),
    });
    node.problem(format!("unknown target `{text}`"), fix);
    None
}
