//! The sections of the file, each from its TOML table to its type.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use toml::de::DeValue;

use super::groups::Groups;
use super::roles::Roles;
use super::zones::Zones;
use super::{
    Address, Allow, CatalogueName, Config, Declared, Management, Mode, Name, Named, OnClosed, OnExit,
    Override, Reading, Role, Target, allow, api, flows, limit, lists, zones,
};
use crate::net::{self, PortRange};
use crate::problem::Problems;
use crate::reader::{self, Format, Keys, Node, Table, Unique, all};

/// The most targets in a file.
const TARGETS: usize = 16;
/// The most addresses in all targets of a file.
const ADDRESSES: usize = 256;

const FORMAT: Format = Format {
    top: &[
        "catalogue",
        "reading",
        "mode",
        "on-exit",
        "management",
        "groups",
        "interface",
        "zone",
        "target",
        "role",
        "allow",
        "flows",
        "fragments",
        "limit",
        "api",
        "metrics",
    ],
    whole_file: &["catalogue", "reading", "mode", "on-exit", "management"],
    later: &[
        ("allow.limit", "limits of one rule, besides `[limit]` and that of a target,"),
        ("allow.zone", "rules for one zone"),
        ("role.row.limit", "limits of one row, besides `[limit]` and that of a target,"),
    ],
};
/// Values of `on-closed`.
const ON_CLOSED: [(&str, OnClosed); 2] = [("drop", OnClosed::Drop), ("reject", OnClosed::Reject)];
/// Values of `mode`.
const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];

const MANAGEMENT: Keys = &["from", "tcp", "udp"];
const TARGET: Keys =
    &["name", "address", "zone", "roles", "overrides", "optional", "limit", "mode", "takeover", "on-closed"];

/// The configuration in `text`, or all its mistakes.
pub(super) fn config(text: &str, file: &Path) -> (Option<Declared>, Result<Config, Problems>) {
    let mut declared = None;
    let config = reader::read(text, file, FORMAT, |top| {
        let catalogue = catalogue(top);
        let reading = top.choice("reading", &[("strict", Reading::Strict), ("literal", Reading::Literal)]);
        let mode = top.choice("mode", &MODES);
        let on_exit = top.choice("on-exit", &[("keep", OnExit::Keep), ("detach", OnExit::Detach)]);
        let management = management(top);
        let zones = Zones::read(top);
        let interfaces = zones::interfaces(top, &zones);
        let (targets, checked) = targets(top, &zones);
        let groups = Groups::read(top, &zones);
        let roles = Roles::read(top);
        let names = groups.names.as_ref();
        let names: Option<Vec<&str>> = names.map(|names| names.iter().map(|named| &*named.name).collect());
        let allow = allow::rules(top, declared_targets(top).as_deref(), names.as_deref());
        let flows = flows::flows(top);
        let early_fragments = flows::early_fragments(top);
        let limit = limit::limit(top);
        let (api, metrics) = (api::api(top), api::metrics(top));
        let zones = zones.checked(interfaces.as_deref(), targets.as_deref());
        declared = catalogue.clone().map(|catalogue| Declared {
            catalogue,
            targets: checked,
            groups: groups.names,
            roles: roles.known.clone(),
            roles_are_sound: roles.sound,
            allowed_groups: allow.as_deref().map(groups_named),
        });
        Some(Config {
            catalogue: catalogue?,
            reading: reading?,
            mode: mode?,
            on_exit: on_exit?,
            management: management?,
            zones: zones?,
            groups: groups.read?,
            roles: roles.sound.then_some(roles.known)?,
            interfaces: interfaces?,
            targets: targets?,
            allow: allow?,
            flows: flows?,
            early_fragments: early_fragments?,
            limit: limit?,
            api: api?,
            metrics: metrics?,
        })
    });
    (declared, config)
}

fn groups_named(rules: &[Allow]) -> Vec<String> {
    rules.iter().flat_map(|rule| &rule.groups).map(|group| group.name.clone()).collect()
}

fn catalogue(top: &Table<'_>) -> Option<CatalogueName> {
    let Some(node) = top.get("catalogue") else {
        return Some(CatalogueName { name: "lync-2013".to_owned(), place: top.place("catalogue") });
    };
    let Named { name, place } = node.named()?;
    if name.is_empty() {
        node.problem("the catalogue has no name", "write \"lync-2013\", or leave the key out");
        return None;
    }
    Some(CatalogueName { name, place })
}

fn management(top: &Table<'_>) -> Option<Option<Management>> {
    let outright = "write `management = \"none\"` above the first table to have none";
    let Some(node) = top.get("management") else {
        let message =
            "`[management]` is missing: without it, a mistake in a role can lock you out of this box";
        top.missing("management", message, &format!("add it with `from` and `tcp = [22]`, or {outright}"));
        return None;
    };
    match node.value() {
        DeValue::String(text) if text == "none" => return Some(None),
        DeValue::String(text) => {
            node.problem(format!("`{text}` is not a valid value"), format!("make it a table, or {outright}"));
            return None;
        }
        DeValue::Array(_) => {
            return node.mistyped("one table", "write `[management]`, once and with single brackets");
        }
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => {}
    }
    let table = node.table(MANAGEMENT)?;
    let from = table.required("from", "list the prefixes that you manage this box from");
    let from = from.and_then(|from| {
        lists::prefixes(&from, &format!("list the prefixes that you manage this box from, or {outright}"))
    });
    let tcp = table.get_or("tcp", Vec::new(), lists::ports);
    let udp = table.get_or("udp", Vec::new(), lists::ports);
    let none = |ports: &Option<Vec<PortRange>>| ports.as_ref().is_some_and(Vec::is_empty);
    if none(&tcp) && none(&udp) {
        table.missing("tcp", "`[management]` has no port, so nobody gets in", "add `tcp = [22]`");
        return None;
    }
    Some(Some(Management { from: from?, tcp: tcp?, udp: udp? }))
}

/// What the targets of a file share: unique names, and in each zone unique addresses and one `host`.
struct TargetsSeen {
    names: Unique,
    /// The place of each address, by zone and address.
    addresses: HashMap<(usize, IpAddr), String>,
    /// The target that is `host`, by zone.
    hosts: HashMap<usize, String>,
    /// The number of targets so far, to keep targets with an unknown zone apart.
    count: usize,
    several: bool,
}

/// The targets; and all targets with readable roles, even if they have other mistakes.
fn targets(top: &Table<'_>, zones: &Zones) -> (Option<Vec<Target>>, Vec<Target>) {
    let mut checked = Vec::new();
    let read = read_targets(top, zones, &mut checked);
    (read, checked)
}

fn read_targets(top: &Table<'_>, zones: &Zones, checked: &mut Vec<Target>) -> Option<Vec<Target>> {
    let fix = "add a `[[target]]` with its `roles`";
    let Some(node) = top.get("target") else {
        top.missing("target", "no target, so no role would apply", fix);
        return None;
    };
    let tables = node.tables(TARGET, TARGETS)?;
    if node.value().as_array().is_some_and(|list| list.is_empty()) {
        node.problem("no target, so no role would apply", fix);
    }
    let mut seen = TargetsSeen {
        names: Unique::default(),
        addresses: HashMap::new(),
        hosts: HashMap::new(),
        count: 0,
        several: tables.len() > 1,
    };
    all(tables.iter().map(|table| target(table, zones, &mut seen, checked)))
}

fn target(
    table: &Table<'_>,
    zones: &Zones,
    seen: &mut TargetsSeen,
    checked: &mut Vec<Target>,
) -> Option<Target> {
    let name = if seen.several {
        table.required("name", "give each of several targets a name")
    } else {
        table.get("name")
    };
    let name = match name {
        None => Name::new("host").ok(),
        Some(node) => name_once(&node, &mut seen.names),
    };
    let zone = zones.of(table);
    // A target with an unknown zone counts as in a zone of its own.
    seen.count += 1;
    let address = address(table, zone.unwrap_or(usize::MAX - seen.count), seen);
    let roles = table.required("roles", "list the roles; `roles = []` opens nothing");
    let roles = roles.and_then(|node| roles_of(&node));
    let overrides = table.get_or("overrides", Vec::new(), overrides_of);
    let optional = table.get_or("optional", Vec::new(), |node| lists::names(node, "row"));
    let limit = limit::limit(table);
    let mode = table.get_or("mode", None, |node| node.choice(&MODES).map(Some));
    let takeover = takeover(table, address.as_ref());
    let on_closed = table.get_or("on-closed", OnClosed::Drop, |node| node.choice(&ON_CLOSED));
    // Missing or wrong parts are reported already, and checking references needs none of them.
    let any = Name::new("host").ok();
    checked.extend(roles.clone().zip(name.clone().or(any)).map(|(roles, name)| Target {
        name,
        zone: 0,
        address: Address::Host,
        roles,
        overrides: overrides.clone().unwrap_or_default(),
        optional: optional.clone().unwrap_or_default(),
        limit: None,
        mode: None,
        takeover: false,
        on_closed: OnClosed::Drop,
    }));
    Some(Target {
        name: name?,
        zone: zone?,
        address: address?,
        roles: roles?,
        overrides: overrides?,
        optional: optional?,
        limit: limit?,
        mode: mode?,
        takeover: takeover?,
        on_closed: on_closed?,
    })
}

fn takeover(table: &Table<'_>, address: Option<&Address>) -> Option<bool> {
    let Some(node) = table.get("takeover") else { return Some(false) };
    let takes_over = node.boolean()?;
    if takes_over && address == Some(&Address::Host) {
        node.problem(
            "`takeover` needs listed addresses",
            "list the addresses that move between two boxes, as `address = [\"host\", \"192.0.2.100\"]`",
        );
    }
    Some(takes_over)
}

fn name_once(node: &Node<'_>, names: &mut Unique) -> Option<Name> {
    let name = Name::read(node, &node.named()?)?;
    names.take("target", &name, node).then_some(name)
}

fn address(table: &Table<'_>, zone: usize, seen: &mut TargetsSeen) -> Option<Address> {
    let fix = "write \"host\" for this box, or a list of addresses, as [\"198.51.100.10\"]";
    let list = match table.get("address") {
        // This target may be "host" too.
        None if table.is_partial() => return None,
        None => None,
        Some(node) => match node.value() {
            DeValue::String(text) if text == "host" => None,
            DeValue::String(text) => {
                let fix = match net::address(text) {
                    Ok(addr) => format!("write it in a list, as [\"{addr}\"]"),
                    Err(_) => fix.to_owned(),
                };
                node.problem(format!("`{text}` is neither \"host\" nor a list of addresses"), fix);
                return None;
            }
            DeValue::Array(_) => Some(node),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => return node.mistyped("\"host\" or a list of addresses", fix),
        },
    };
    let Some(node) = list else {
        return the_host(table, zone, seen).then_some(Address::Host);
    };
    let items = node.items()?;
    if items.is_empty() {
        node.problem("the list is empty, so nothing could match", fix);
    }
    let is_host = |item: &&Node<'_>| item.value().as_str() == Some("host");
    let with_host = items.iter().filter(is_host).count();
    if with_host > 1 {
        node.problem("\"host\" is in the list twice", "remove one of the two");
    }
    let sound = with_host == 0 || the_host(table, zone, seen);
    let mut list = Vec::new();
    for item in items.iter().filter(|item| !is_host(item)) {
        let Some(addr) = lists::address(item) else { continue };
        if let Some(other) = seen.addresses.get(&(zone, addr)) {
            let place = if other == table.key() { "this list" } else { other };
            item.problem(format!("{addr} is already in {place}"), "remove one of the two");
            continue;
        }
        seen.addresses.insert((zone, addr), table.key().to_owned());
        if seen.addresses.len() == ADDRESSES + 1 {
            item.problem(
                format!("the targets have more addresses than the {ADDRESSES} that this version handles"),
                "remove some, or use \"host\" if they all belong to this box",
            );
        }
        list.push(addr);
    }
    let good = sound && with_host < 2 && !items.is_empty() && list.len() + with_host == items.len();
    good.then_some(match (with_host, list.is_empty()) {
        (0, _) => Address::List(list),
        (_, true) => Address::Host,
        (_, false) => Address::HostAnd(list),
    })
}

/// Takes "host" in a zone; reports it and returns false if another target has it.
fn the_host(table: &Table<'_>, zone: usize, seen: &mut TargetsSeen) -> bool {
    if let Some(other) = seen.hosts.get(&zone) {
        let message = format!("`{other}` already has the address \"host\"");
        let fix = "list the addresses of this target; only one of a zone can be \"host\"";
        table.problem_at("address", &message, fix);
        return false;
    }
    seen.hosts.insert(zone, table.key().to_owned());
    true
}

fn roles_of(node: &Node<'_>) -> Option<Vec<Role>> {
    let mut names = Unique::default();
    node.list(|item| {
        let Named { name: key, place } = item.named()?;
        if key.is_empty() {
            item.problem("a role has no name", "write the key of a role; `lyncwall roles` lists them");
            return None;
        }
        names.take("role", &key, item).then_some(Role { key, place })
    })
}

fn overrides_of(node: &Node<'_>) -> Option<Vec<Override>> {
    let entries = node.entries("write it as `overrides = { \"server.29\" = \"50000-59999\" }`")?;
    all(entries.into_iter().map(|(row, node)| Some(Override { row, ports: lists::some_ports(&node)? })))
}

/// The names that targets have or seem to have, to check references to targets; reports nothing. `None` if a
/// mistake may have hidden some.
fn declared_targets<'t>(top: &Table<'t>) -> Option<Vec<&'t str>> {
    let tables = top.get("target")?.value().as_array()?;
    if top.is_partial() {
        return None;
    }
    let mut names: Vec<&str> =
        tables.iter().filter_map(|table| table.get_ref().get("name")?.get_ref().as_str()).collect();
    if names.is_empty() && tables.len() == 1 {
        names.push("host");
    }
    Some(names)
}
