//! `[groups]`: names of sources.

use toml::de::DeValue;

use super::lists;
use super::zones::Zones;
use super::{Group, Name, Named};
use crate::reader::{Keys, Node, Table, all};

/// The most groups in a file.
const GROUPS: usize = 32;

const GROUP: Keys = &["zone"];

/// The groups of a file, valid or not.
pub(super) struct Groups {
    /// All names; `None` if a syntax error may have hidden some.
    pub(super) names: Option<Vec<Named>>,
    /// The groups; `None` if one is invalid.
    pub(super) read: Option<Vec<Group>>,
}

impl Groups {
    /// Reads the groups of the file.
    pub(super) fn read<'t>(top: &Table<'t>, zones: &Zones<'t>) -> Self {
        let known = |names: Vec<Named>| (!top.is_partial()).then_some(names);
        let Some(node) = top.get("groups") else {
            return Self { names: known(Vec::new()), read: Some(Vec::new()) };
        };
        let entries = node.entries("write the groups under a `[groups]` header");
        let Some(entries) = entries else { return Self { names: None, read: None } };
        if entries.len() > GROUPS {
            let count = entries.len();
            let message = format!("{count} groups: this version handles at most {GROUPS}");
            node.problem(message, "remove groups that no role or rule uses");
        }
        let read = all(entries.iter().map(|(name, node)| group(name, node, zones)));
        let names = entries.into_iter().map(|(name, _)| name).collect();
        Self { names: known(names), read }
    }
}

fn group(named: &Named, node: &Node<'_>, zones: &Zones<'_>) -> Option<Group> {
    let name = Name::read(node, named);
    let sources = match node.value() {
        DeValue::Table(_) => zone_of(node, zones).map(|zone| (Vec::new(), Some(zone))),
        DeValue::String(text) => {
            node.problem(format!("`{text}` is not a list"), format!("write it in a list, as [\"{text}\"]"));
            None
        }
        _ => lists::prefixes(node, "list its prefixes, or remove the group").map(|prefixes| (prefixes, None)),
    };
    let (prefixes, zone) = sources?;
    Some(Group { name: name?, place: named.place.clone(), prefixes, zone })
}

/// The zone of a group.
fn zone_of(node: &Node<'_>, zones: &Zones<'_>) -> Option<usize> {
    let table = node.table(GROUP)?;
    if table.get("zone").is_none() {
        // An unknown key is reported already.
        if node.value().as_table().is_some_and(toml::map::Map::is_empty) {
            node.problem(
                "a group is a list of prefixes, or a zone",
                "write it as [\"192.0.2.0/24\"] or as { zone = \"inside\" }",
            );
        }
        return None;
    }
    zones.of(&table)
}
