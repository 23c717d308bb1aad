//! `[[role]]`: the user's own roles.

use super::lists;
use super::{Name, Named, OwnRole, OwnRow};
use crate::catalogue::Direction;
use crate::reader::{Keys, Table, Unique, all};

/// The most own roles in a file.
const ROLES: usize = 32;
/// The most rows in a role.
const ROWS: usize = 128;

const ROLE: Keys = &["name", "note", "row"];
const ROW: Keys = &["name", "transport", "ports", "groups", "note", "direction"];

/// The own roles of a file.
pub(super) struct Roles {
    /// All roles with a readable name, even if they have mistakes.
    pub(super) known: Vec<OwnRole>,
    /// True if no role has a mistake.
    pub(super) sound: bool,
}

impl Roles {
    /// Reads the roles of the file.
    pub(super) fn read(top: &Table<'_>) -> Self {
        // An empty table replaces a header that was not TOML: the file may have more roles than this list.
        let mut roles = Self { known: Vec::new(), sound: true };
        let Some(node) = top.get("role") else { return roles };
        roles.sound = !top.is_partial();
        let Some(tables) = node.tables(ROLE, ROLES) else {
            roles.sound = false;
            return roles;
        };
        let mut names = Unique::default();
        for table in &tables {
            let (role, sound) = role(table, &mut names);
            roles.sound &= sound && role.is_some();
            roles.known.extend(role);
        }
        roles
    }
}

/// The readable part of a role, and whether it is complete.
fn role(table: &Table<'_>, names: &mut Unique) -> (Option<OwnRole>, bool) {
    let node = table.required("name", "give the role a name for targets to use");
    let name = node.as_ref().and_then(|node| {
        let named = node.named()?;
        let shaped = Name::read(node, &named).is_some();
        Some((shaped && names.take("role", &named.name, node), named))
    });
    let note = text(table, "note");
    let rows = table.required("row", "add a `[[role.row]]` with `transport` and `ports`");
    let rows = rows.and_then(|node| {
        if node.value().as_array().is_some_and(|list| list.is_empty()) {
            node.problem("the role has no row, so it would open nothing", "add a `[[role.row]]`");
        }
        node.tables(ROW, ROWS)
    });
    let mut sound = note.is_some() && rows.is_some();
    let mut ids = Unique::default();
    let read: Vec<Option<OwnRow>> = (1..)
        .zip(rows.unwrap_or_default())
        .map(|(number, table): (usize, Table<'_>)| row(&table, number, &mut ids))
        .collect();
    sound &= read.iter().all(Option::is_some);
    let Some((good, Named { name, place })) = name else { return (None, false) };
    let rows = read.into_iter().flatten().collect();
    (Some(OwnRole { name, place, note: note.unwrap_or_default(), rows }), good && sound)
}

fn row(table: &Table<'_>, number: usize, ids: &mut Unique) -> Option<OwnRow> {
    let name = match table.get("name") {
        None => Some(number.to_string()),
        Some(node) => node.named().and_then(|named| {
            Name::read(&node, &named)?;
            ids.take("row", &named.name, &node).then_some(named.name)
        }),
    };
    let transport = table.required("transport", "add `transport = \"tcp\"`, \"udp\" or \"both\"");
    let transport = transport.and_then(|node| node.transports());
    let ports = table.required("ports", "add `ports`, as in `ports = [8443, \"9200-9210\"]`");
    let ports = ports.and_then(|node| lists::some_ports(&node));
    let anybody = "leave `groups` out to open it to anybody, or name groups";
    let groups = table.get_or("groups", Vec::new(), |node| {
        let named = lists::groups(node, anybody)?;
        all(named.iter().map(|named| Name::read(node, named))).and(Some(named))
    });
    let directions = [("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];
    let direction = table.get_or("direction", Direction::Inbound, |node| node.choice(&directions));
    let note = text(table, "note");
    Some(OwnRow {
        name: name?,
        transport: transport?,
        ports: ports?,
        groups: groups?,
        direction: direction?,
        note: note?,
    })
}

/// A text of one line; empty without the key.
fn text(table: &Table<'_>, key: &str) -> Option<String> {
    let Some(node) = table.get(key) else { return Some(String::new()) };
    let text = node.string()?;
    if text.chars().any(char::is_control) {
        node.problem("the note has a control character", "use printable characters, on one line");
        return None;
    }
    Some(text.to_owned())
}
