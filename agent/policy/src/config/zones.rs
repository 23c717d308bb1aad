//! `[[zone]]` and `[[interface]]`: the networks and the interfaces that face them.

use std::collections::HashMap;

use toml::de::DeValue;

use super::{Attach, Interface, InterfaceName, Name, Outbound, Target, Unmatched, Zone};
use crate::problem::Place;
use crate::reader::{Keys, Node, Table, Unique, all};

/// The most zones in a file.
const ZONES: usize = lyncwall_common::abi::ZONES;
/// The most interfaces in a file.
const INTERFACES: usize = 32;

const ZONE: Keys = &["name", "unmatched", "outbound"];
const INTERFACE: Keys = &["name", "attach", "dhcp-client", "zone", "vlans"];

/// The zones of a file.
pub(super) struct Zones<'t> {
    /// The zones with a name, and their tables; one default zone if the file has none.
    known: Vec<(Option<Zone>, String, Option<Table<'t>>)>,
    /// True if the name of a zone could not be read: then references to zones are not checked.
    unsure: bool,
}

impl<'t> Zones<'t> {
    pub(super) fn read(top: &Table<'t>) -> Self {
        let Some(node) = top.get("zone") else {
            let zone = Zone {
                name: "default".to_owned(),
                unmatched: Unmatched::Drop,
                outbound: Outbound::Unmatched,
            };
            return Self { known: vec![(Some(zone), "default".to_owned(), None)], unsure: false };
        };
        let tables = node.tables(ZONE, ZONES).unwrap_or_default();
        let count = tables.len();
        let mut names = Unique::default();
        let mut known = Vec::new();
        for table in tables {
            let zone = zone(&table, &mut names);
            if let Some(name) = table.get("name").and_then(|name| Some(name.value().as_str()?.to_owned())) {
                known.push((zone, name, Some(table)));
            }
        }
        let unsure = known.len() < count || node.value().as_array().is_none() || top.is_partial();
        if count == 0 && !unsure {
            node.problem("the list is empty", "leave the key out, or add a `[[zone]]`");
        }
        Self { known, unsure }
    }

    /// The number of the zone of an interface or target. The key is required if there are several zones.
    pub(super) fn of(&self, table: &Table<'_>) -> Option<usize> {
        match table.get("zone") {
            Some(node) => self.named(node.string()?, |message, fix| node.problem(message, fix)),
            None if self.known.len() < 2 || self.unsure => Some(0),
            None => {
                let fix = format!("write the zone it is in: {}", self.names());
                table.missing("zone", "`zone` is missing, and there are several zones", &fix);
                None
            }
        }
    }

    /// The number of a zone; reports an unknown name to `problem`, with a fix.
    fn named(&self, text: &str, problem: impl Fn(String, String)) -> Option<usize> {
        let found = self.known.iter().position(|(_, name, _)| name == text);
        // The number is never used: a file whose zones could not be read is rejected.
        if found.is_some() || self.unsure {
            return Some(found.unwrap_or(0));
        }
        let fix = match &*self.known {
            [(_, _, None)] => {
                "remove the key: a file without `[[zone]]` has one zone for everything".to_owned()
            }
            [(_, only, _)] => format!("write \"{only}\", or remove the key"),
            _ => format!("write one of {}, or add a `[[zone]]` with that name", self.names()),
        };
        problem(format!("unknown zone `{text}`"), fix);
        None
    }

    fn names(&self) -> String {
        self.known.iter().map(|(_, name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    }

    /// The zones; reports those without an interface or VLAN. An unreadable zone is `None`: it may be any
    /// zone.
    pub(super) fn checked(
        self,
        interfaces: Option<&[Interface]>,
        targets: Option<&[Target]>,
    ) -> Option<Vec<Zone>> {
        let several = self.known.len() > 1;
        let mut sound = true;
        for (number, (zone, name, table)) in self.known.iter().enumerate() {
            let Some(table) = table else { continue };
            let holds = |interface: &Interface| {
                interface.zone == number || interface.vlans.iter().any(|(_, zone)| *zone == number)
            };
            if several && interfaces.is_some_and(|all| !all.iter().any(holds)) {
                let message = format!("the zone `{name}` has no interface and no VLAN");
                table.problem(&message, "give an `[[interface]]` this `zone`, or remove the zone");
                sound = false;
            }
            let limits = zone.as_ref().is_some_and(|zone| zone.outbound == Outbound::Catalogue);
            if limits && targets.is_some_and(|all| all.iter().all(|target| target.zone == number)) {
                let message = "`outbound = \"catalogue\"` takes its rules from targets in other zones, and there are none";
                let fix =
                    "add a `[[target]]` in another zone for the servers behind this one, or remove the key";
                table.problem_at("outbound", message, fix);
                sound = false;
            }
        }
        let zones: Option<Vec<Zone>> = self.known.into_iter().map(|(zone, ..)| zone).collect();
        zones.filter(|zones| sound && !zones.is_empty())
    }
}

fn zone(table: &Table<'_>, names: &mut Unique) -> Option<Zone> {
    let name = table.required("name", "give the zone a name").and_then(|node| {
        let name = Name::read(&node, &node.named()?)?;
        names.take("zone", &name, &node).then(|| name.to_string())
    });
    let unmatched = table.choice("unmatched", &[("drop", Unmatched::Drop), ("pass", Unmatched::Pass)]);
    let words = [("any", Some(Outbound::Unmatched)), ("catalogue", Some(Outbound::Catalogue))];
    let outbound = table.choice("outbound", &words);
    let said = table.get("unmatched").is_some();
    let (unmatched, outbound) = match (unmatched?, outbound?) {
        (unmatched, None) => (unmatched, Outbound::Unmatched),
        // An explicit `outbound = "any"` implies `unmatched = "pass"`.
        (Unmatched::Pass, Some(Outbound::Unmatched)) => (Unmatched::Pass, Outbound::Unmatched),
        (Unmatched::Drop, Some(Outbound::Unmatched)) if !said => (Unmatched::Pass, Outbound::Unmatched),
        (Unmatched::Drop, Some(Outbound::Unmatched)) => {
            let message = "`outbound = \"any\"` lets pass what `unmatched = \"drop\"` drops";
            table.problem_at("outbound", message, "remove one of the two");
            return None;
        }
        (Unmatched::Drop, Some(Outbound::Catalogue)) => (Unmatched::Drop, Outbound::Catalogue),
        (Unmatched::Pass, Some(Outbound::Catalogue)) => {
            let message = "`unmatched = \"pass\"` lets pass what the catalogue does not name";
            table.problem_at("unmatched", message, "remove `unmatched`, or write `outbound = \"any\"`");
            return None;
        }
    };
    Some(Zone { name: name?, unmatched, outbound })
}

/// The interfaces of the file.
pub(super) fn interfaces(top: &Table<'_>, zones: &Zones<'_>) -> Option<Vec<Interface>> {
    let fix = "add an `[[interface]]` with its `name`";
    let Some(node) = top.get("interface") else {
        top.missing("interface", "no interface, so nothing would be protected", fix);
        return None;
    };
    let tables = node.tables(INTERFACE, INTERFACES)?;
    if node.value().as_array().is_some_and(|list| list.is_empty()) {
        node.problem("no interface, so nothing would be protected", fix);
    }
    let mut names = Unique::default();
    all(tables.iter().map(|table| interface(table, zones, &mut names)))
}

fn interface(table: &Table<'_>, zones: &Zones<'_>, names: &mut Unique) -> Option<Interface> {
    let node = table.required("name", "name the interface, as `name = \"eth0\"`");
    let name = node.as_ref().and_then(|node| {
        let text = node.string()?;
        let name = InterfaceName::new(text);
        let name =
            name.map_err(|why| node.problem(format!("`{text}`: {why}"), "`ip link` lists the names")).ok()?;
        names.take("interface", text, node).then_some(name)
    });
    let attach = table.choice(
        "attach",
        &[("auto", Attach::Auto), ("native", Attach::Native), ("generic", Attach::Generic)],
    );
    let dhcp_client = table.get_or("dhcp-client", false, Node::boolean);
    let zone = zones.of(table);
    let vlans = vlans(table, zones);
    let (vlans, vlans_place) = vlans?;
    Some(Interface {
        name: name?,
        place: node?.place(),
        attach: attach?,
        dhcp_client: dhcp_client?,
        zone: zone?,
        vlans,
        vlans_place,
    })
}

/// VLANs with the numbers of their zones, and the place of the list.
type Vlans = (Vec<(u16, usize)>, Option<Place>);

/// The VLANs of an interface.
fn vlans(table: &Table<'_>, zones: &Zones<'_>) -> Option<Vlans> {
    let Some(node) = table.get("vlans") else { return Some((Vec::new(), None)) };
    let shape = "write it as `vlans = { inside = [10, \"20-29\"] }`: a zone, and its VLANs on this interface";
    let mut taken: HashMap<u16, String> = HashMap::new();
    let mut all = Vec::new();
    let mut sound = true;
    for (named, ids) in node.entries(shape)? {
        let problem = |message, fix| node.problem_at(&named.place, message, fix);
        let zone = zones.named(&named.name, problem);
        let Some(ids) = identifiers(&ids, shape) else {
            sound = false;
            continue;
        };
        for (item, first, last) in ids {
            let twice = (first..=last).find_map(|id| Some((id, taken.get(&id)?)));
            if let Some((id, other)) = twice {
                let message = if *other == named.name {
                    format!("VLAN {id} is already in this list")
                } else {
                    format!("VLAN {id} is already in the zone `{other}`")
                };
                item.problem(message, "a VLAN is in one zone for each interface: remove one of the two");
                sound = false;
                continue;
            }
            taken.extend((first..=last).map(|id| (id, named.name.clone())));
            all.extend((first..=last).zip(std::iter::repeat(zone.unwrap_or_default())));
        }
        sound &= zone.is_some();
    }
    sound.then(|| (all, Some(node.place())))
}

/// VLAN identifiers with their places: a number, a `"first-last"` range, or a list of both.
fn identifiers<'t>(node: &Node<'t>, shape: &str) -> Option<Vec<(Node<'t>, u16, u16)>> {
    let items = node.one_or_more()?;
    if items.is_empty() {
        node.problem("the list is empty, so nothing could match", "list the VLANs, or remove the zone here");
    }
    let range = |item: &Node<'t>| {
        let ends = match item.value() {
            DeValue::Integer(number) => {
                let id = u16::from_str_radix(number.as_str(), number.radix()).unwrap_or(0);
                Some((id, id))
            }
            DeValue::String(text) => text
                .split_once('-')
                .and_then(|(first, last)| Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))),
            _ => return item.mistyped("a VLAN", shape),
        };
        // IEEE 802.1Q: 0 tags a frame with a priority only, and 4095 is reserved.
        match ends {
            Some((first, last)) if (1..=4094).contains(&first) && first <= last && last <= 4094 => {
                Some((item.clone(), first, last))
            }
            _ => {
                let fix = "write a number from 1 to 4094, or a range as \"first-last\", the lower first";
                item.problem("this is not a VLAN or a range of VLANs", fix);
                None
            }
        }
    };
    all(items.iter().map(range)).filter(|read| !read.is_empty())
}
