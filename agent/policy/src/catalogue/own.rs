//! Roles that a configuration adds to the catalogue.

use std::collections::BTreeMap;

use super::file::strict_entries;
use super::{Catalogue, Direction, Kind, Printed, Role, Row, RowId, Ruling, Strict};
use crate::net::{PortRange, Transports};
use crate::problem::{Named, Place};

/// A role that a configuration adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRole {
    /// The name in configurations, unique in the file.
    pub name: String,
    /// The place of the name.
    pub place: Place,
    /// The purpose; may be empty.
    pub note: String,
    /// At least one row, with unique names.
    pub rows: Vec<OwnRow>,
}

/// A row of an [`OwnRole`], equal in both readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRow {
    /// The end of its id, after the role's name and a dot: as written, else its number in the role, from 1.
    pub name: String,
    /// The transport.
    pub transport: Transports,
    /// At least one range; no two overlap.
    pub ports: Vec<PortRange>,
    /// The groups that may use it; empty for anybody.
    pub groups: Vec<Named>,
    /// The direction of the connections; never both.
    pub direction: Direction,
    /// The purpose; may be empty.
    pub note: String,
}

impl Catalogue {
    /// Adds a role.
    ///
    /// # Errors
    /// The name, or the id of a row, if the catalogue has it already.
    pub fn add_role(&mut self, own: &OwnRole) -> Result<(), String> {
        if self.role(&own.name).is_some() {
            return Err(format!("the role `{}`", own.name));
        }
        let id = |row: &OwnRow| format!("{}.{}", own.name, row.name);
        if let Some(taken) = own.rows.iter().map(id).find(|id| self.anywhere(id)) {
            return Err(format!("the row `{taken}`"));
        }
        let (mut rows, mut entries) = (Vec::new(), Vec::new());
        for own_row in &own.rows {
            let row = row(&own.name, RowId(id(own_row)), own_row);
            entries.extend(strict_entries(&row, self.rows.len()));
            rows.push(row.id.clone());
            self.by_id.insert(row.id.clone(), self.rows.len());
            self.rows.push(row);
        }
        let summary =
            if own.note.is_empty() { "a role of the configuration".to_owned() } else { own.note.clone() };
        self.roles.push(Role {
            printed: own.name.clone(),
            key: own.name.clone(),
            kind: Kind::Own,
            summary,
            extends: None,
            required_override: None,
            presets: Vec::new(),
            unknown: Vec::new(),
            rows,
            strict: entries.clone(),
            literal: entries,
        });
        Ok(())
    }
}

fn row(role: &str, id: RowId, own: &OwnRow) -> Row {
    let ruling = if own.direction == Direction::Outbound { Ruling::Outbound } else { Ruling::Inbound };
    Row {
        id,
        role: role.to_owned(),
        service: None,
        label: (!own.note.is_empty()).then(|| own.note.clone()),
        transport: own.transport,
        ports: own.ports.clone(),
        application: String::new(),
        direction: own.direction,
        source: None,
        destination: None,
        optional: false,
        note: own.note.clone(),
        printed: Printed {
            table: "roles of the configuration".to_owned(),
            row: None,
            lines: BTreeMap::new(),
            page: None,
        },
        strict: Strict {
            ruling,
            groups: own.groups.iter().map(|group| group.name.clone()).collect(),
            ..Strict::default()
        },
    }
}
