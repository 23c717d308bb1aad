//! Reads the catalogue's file: its shape, its checks, and its conversion to rows and roles.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::place::Text;
use super::resolve::{Entry, Terms};
use super::{
    Catalogue, Direction, Document, Kind, Printed, RequiredOverride, Role, Row, RowId, Ruling, Strict,
};
use crate::net::{PortRange, Transports};
use crate::problem::{Problem, Problems};

/// Reads a whole catalogue.
pub(super) fn parse(text: &str, file: &Path) -> Result<Catalogue, Problems> {
    let text = Text { file, text };
    match toml::from_str(text.text) {
        Ok(raw) => Reader { text, wrong: Vec::new() }.catalogue(raw),
        Err(error) => {
            let place = text.place(&error.span().unwrap_or_default());
            Err(Problem::at(place, error.message().replace('\n', ", "), "").into())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalogue {
    edition: String,
    #[serde(default)]
    documents: BTreeMap<String, Document>,
    #[serde(default)]
    tables: BTreeMap<String, String>,
    #[serde(default)]
    groups: BTreeMap<String, String>,
    role: Vec<RawRole>,
    row: Vec<RawRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRow {
    id: Spanned<String>,
    role: String,
    service: Option<String>,
    label: Option<String>,
    transport: Transports,
    ports: Spanned<RawPorts>,
    application: String,
    direction: Direction,
    source: Option<String>,
    destination: Option<String>,
    #[serde(default)]
    optional: bool,
    note: String,
    #[serde(default)]
    printed: BTreeMap<Spanned<String>, u32>,
    #[serde(default)]
    strict: RawStrict,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a port, a list of ports, or a range such as \"5000-5010\"")]
enum RawPorts {
    One(i64),
    List(Vec<i64>),
    Range(String),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawStrict {
    ruling: Ruling,
    groups: Vec<Spanned<String>>,
    ports: Option<Spanned<RawPorts>>,
    from_port: Option<u16>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRole {
    key: Spanned<String>,
    kind: Kind,
    printed: String,
    summary: String,
    extends: Option<Spanned<String>>,
    required_override: Option<RawRequired>,
    #[serde(default)]
    rows: Vec<Spanned<String>>,
    #[serde(default)]
    literal: Vec<Spanned<String>>,
    #[serde(default)]
    also: Vec<Spanned<RawAlso>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlso {
    id: Option<Spanned<String>>,
    rows: Vec<Spanned<String>>,
    transport: Option<Transports>,
    ports: Option<Spanned<RawPorts>>,
    #[serde(default)]
    ruling: Ruling,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
    #[serde(default)]
    why: String,
    unless: Option<Spanned<String>>,
    #[serde(default)]
    literal: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequired {
    id: Spanned<String>,
    rows: Vec<Spanned<String>>,
    transport: Transports,
    what: String,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
}

/// Walks the file once and collects its mistakes.
struct Reader<'a> {
    text: Text<'a>,
    wrong: Vec<Problem>,
}

impl Reader<'_> {
    fn catalogue(mut self, raw: RawCatalogue) -> Result<Catalogue, Problems> {
        let keys: BTreeSet<String> = raw.role.iter().map(|role| role.key.get_ref().clone()).collect();
        let mut known = Known { by_id: HashMap::new(), keys, raw_groups: raw.groups };
        let mut rows = Vec::with_capacity(raw.row.len());
        for row in raw.row {
            let span = row.id.span();
            let row = self.row(row, &raw.tables, &raw.documents, &known.raw_groups);
            if known.by_id.insert(row.id.clone(), rows.len()).is_some() {
                self.wrong(
                    &span,
                    format!("the row `{}` is defined twice", row.id),
                    "give each row its own id",
                );
            }
            rows.push(row);
        }
        let mut named = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut roles = Vec::with_capacity(raw.role.len());
        for role in raw.role {
            if !named.insert(role.key.get_ref().clone()) {
                let message = format!("the role `{}` is defined twice", role.key.get_ref());
                self.wrong(&role.key.span(), message, "give each role its own key");
            }
            roles.push(self.role(role, &rows, &known, &mut ids));
        }
        self.wrong.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
        let mut problems = Problems::default();
        self.wrong.into_iter().for_each(|problem| problems.push(problem));
        problems.or(Catalogue {
            edition: raw.edition,
            rows,
            by_id: known.by_id,
            roles,
            groups: known.raw_groups,
            documents: raw.documents,
        })
    }

    fn row(
        &mut self,
        raw: RawRow,
        tables: &BTreeMap<String, String>,
        documents: &BTreeMap<String, Document>,
        groups: &BTreeMap<String, String>,
    ) -> Row {
        let span = raw.id.span();
        let id = raw.id.into_inner();
        let (table, number) = id.split_once('.').unwrap_or((&id, ""));
        let title = tables.get(table).cloned().unwrap_or_else(|| {
            let message = format!("the row `{id}` does not name a table");
            self.wrong(&span, message, "begin the id with a key of [tables] and a dot");
            String::new()
        });
        for document in raw.printed.keys().filter(|document| !documents.contains_key(document.get_ref())) {
            let message = format!("unknown document `{}`", document.get_ref());
            self.wrong(&document.span(), message, "add it to [documents]");
        }
        let strict = Strict {
            ruling: raw.strict.ruling,
            groups: self.groups(&raw.strict.groups, groups),
            ports: raw.strict.ports.map(|ports| self.ports(&ports)),
            from_port: raw.strict.from_port,
            why: raw.strict.why,
        };
        self.ruling(&span, &format!("the row `{id}`"), strict.ruling, &strict.groups, &strict.why);
        Row {
            role: raw.role,
            service: raw.service,
            label: raw.label,
            transport: raw.transport,
            ports: self.ports(&raw.ports),
            application: raw.application,
            direction: raw.direction,
            source: raw.source,
            destination: raw.destination,
            optional: raw.optional,
            note: raw.note,
            printed: Printed {
                table: title,
                row: number.parse().ok(),
                lines: raw.printed.into_iter().map(|(key, line)| (key.into_inner(), line)).collect(),
            },
            strict,
            id: RowId(id),
        }
    }

    fn role(&mut self, raw: RawRole, all: &[Row], known: &Known, ids: &mut BTreeSet<String>) -> Role {
        let key = raw.key.get_ref().clone();
        let extends = raw.extends.map(|base| {
            self.known_role(&base, known);
            base.into_inner()
        });
        if extends.is_some() != (raw.kind == Kind::AddOn) {
            let message = format!("the role `{key}` needs both `extends` and the kind `add-on`, or neither");
            self.wrong(&raw.key.span(), message, "give `extends` to add-ons, and to no other role");
        }
        let (mut strict, mut literal) = (Vec::new(), Vec::new());
        let mut rows = BTreeSet::new();
        for row in self.known_rows(&raw.rows, known) {
            rows.insert(row);
            strict.extend(strict_entries(&all[row], row));
            literal.extend(literal_entries(&all[row], row));
        }
        for row in self.known_rows(&raw.literal, known) {
            rows.insert(row);
            literal.extend(literal_entries(&all[row], row));
        }
        let required_override = raw.required_override.map(|raw| self.required(raw, all, known, ids));
        for also in raw.also {
            let in_literal = also.get_ref().literal;
            let entries = self.also(also, all, known, ids);
            rows.extend(entries.iter().map(|entry| entry.row));
            if in_literal {
                literal.extend(entries.iter().cloned().map(Entry::open_to_all));
            }
            strict.extend(entries);
        }
        Role {
            key,
            kind: raw.kind,
            printed: raw.printed,
            summary: raw.summary,
            extends,
            required_override,
            rows: rows.into_iter().map(|row| all[row].id.clone()).collect(),
            strict,
            literal,
        }
    }

    fn required(
        &mut self,
        raw: RawRequired,
        all: &[Row],
        known: &Known,
        ids: &mut BTreeSet<String>,
    ) -> RequiredOverride {
        self.own_id(&raw.id, known, ids);
        let id = raw.id.into_inner();
        let terms =
            Terms { id: id.clone(), groups: self.groups(&raw.groups, &known.raw_groups), ..Terms::default() };
        let rows = self.known_rows(&raw.rows, known).into_iter();
        let entries = rows.flat_map(|row| spread(row, raw.transport, &all[row].ports, &terms)).collect();
        RequiredOverride { id, what: raw.what, entries }
    }

    fn also(
        &mut self,
        raw: Spanned<RawAlso>,
        all: &[Row],
        known: &Known,
        ids: &mut BTreeSet<String>,
    ) -> Vec<Entry> {
        let span = raw.span();
        let raw = raw.into_inner();
        let rows = self.known_rows(&raw.rows, known);
        if raw.rows.is_empty() {
            self.wrong(&span, "this entry names no row that it follows from", "name the rows");
        }
        let groups = self.groups(&raw.groups, &known.raw_groups);
        self.ruling(&span, "this", raw.ruling, &groups, &raw.why);
        if let Some(other) = &raw.unless {
            self.known_role(other, known);
        }
        let ports = raw.ports.map(|ports| self.ports(&ports));
        if ports.is_some() != raw.transport.is_some() {
            self.wrong(&span, "`ports` and `transport` need each other", "give both or neither");
        }
        match &raw.id {
            Some(id) => self.own_id(id, known, ids),
            None if raw.ruling == Ruling::Optional => {
                self.wrong(&span, "an option needs an `id`", "add the name to enable it by");
            }
            None => {}
        }
        let id = raw.id.map(Spanned::into_inner).unwrap_or_default();
        let terms = Terms {
            ruling: raw.ruling,
            why: raw.why,
            id,
            groups,
            unless: raw.unless.map(Spanned::into_inner),
        };
        let entries = rows.into_iter().flat_map(|row| match (&ports, raw.transport) {
            (Some(ports), Some(transport)) => spread(row, transport, ports, &terms),
            _ => spread(row, all[row].transport, &all[row].ports, &terms),
        });
        entries.collect()
    }

    fn ports(&mut self, raw: &Spanned<RawPorts>) -> Vec<PortRange> {
        let span = raw.span();
        match raw.get_ref() {
            RawPorts::One(port) => self.port(&span, *port).map(|port| vec![one(port)]).unwrap_or_default(),
            RawPorts::List(ports) => {
                if ports.is_empty() {
                    self.wrong(&span, "the list has no port", "name at least one");
                }
                ports.iter().filter_map(|port| self.port(&span, *port)).map(one).collect()
            }
            RawPorts::Range(range) => {
                let ends = range.split_once('-').map(|(first, last)| (first.parse(), last.parse()));
                let Some((Ok(first), Ok(last))) = ends else {
                    self.wrong(&span, format!("`{range}` is not a port range"), "write it as \"5000-5010\"");
                    return Vec::new();
                };
                let (first, last) = (self.port(&span, first), self.port(&span, last));
                let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
                if first > last {
                    self.wrong(
                        &span,
                        format!("the range {range} ends before it starts"),
                        "write the lower port first",
                    );
                }
                vec![PortRange::between(first, last)]
            }
        }
    }

    fn port(&mut self, span: &Range<usize>, port: i64) -> Option<u16> {
        let valid = u16::try_from(port).ok().filter(|port| *port > 0);
        if valid.is_none() {
            self.wrong(span, format!("{port} is not a port"), "ports go from 1 to 65535");
        }
        valid
    }

    fn groups(&mut self, named: &[Spanned<String>], known: &BTreeMap<String, String>) -> Vec<String> {
        for group in named.iter().filter(|group| !known.contains_key(group.get_ref())) {
            let message = format!("unknown group `{}`", group.get_ref());
            self.wrong(&group.span(), message, "add it to [groups]");
        }
        named.iter().map(|group| group.get_ref().clone()).collect()
    }

    fn own_id(&mut self, id: &Spanned<String>, known: &Known, ids: &mut BTreeSet<String>) {
        if known.by_id.contains_key(id.get_ref().as_str()) || !ids.insert(id.get_ref().clone()) {
            let message = format!("the id `{}` is taken", id.get_ref());
            self.wrong(&id.span(), message, "use another id");
        }
    }

    fn known_rows(&mut self, named: &[Spanned<String>], known: &Known) -> Vec<usize> {
        let mut rows = Vec::with_capacity(named.len());
        for id in named {
            match known.by_id.get(id.get_ref().as_str()) {
                Some(row) if rows.contains(row) => {
                    self.wrong(
                        &id.span(),
                        format!("the row `{}` is named twice", id.get_ref()),
                        "name it once",
                    );
                }
                Some(row) => rows.push(*row),
                None => {
                    self.wrong(
                        &id.span(),
                        format!("unknown row `{}`", id.get_ref()),
                        "name the id of a [[row]]",
                    );
                }
            }
        }
        rows
    }

    fn known_role(&mut self, named: &Spanned<String>, known: &Known) {
        if !known.keys.contains(named.get_ref()) {
            let message = format!("unknown role `{}`", named.get_ref());
            self.wrong(&named.span(), message, "name the key of a [[role]]");
        }
    }

    /// Checks that a closed port has a reason, and that a port for a group names one.
    fn ruling(&mut self, span: &Range<usize>, what: &str, ruling: Ruling, groups: &[String], why: &str) {
        if ruling == Ruling::NeedsGroup && groups.is_empty() {
            self.wrong(span, format!("{what} needs a group and names none"), "add `groups`");
        }
        if matches!(ruling, Ruling::NeedsGroup | Ruling::Optional) && why.is_empty() {
            self.wrong(span, format!("{what} stays closed without a reason"), "add `why`");
        }
    }

    fn wrong(&mut self, span: &Range<usize>, message: impl Into<String>, fix: &str) {
        self.wrong.push(Problem::at(self.text.place(span), message, fix));
    }
}

/// The names that rows and roles may refer to.
struct Known {
    by_id: HashMap<RowId, usize>,
    keys: BTreeSet<String>,
    raw_groups: BTreeMap<String, String>,
}

fn one(port: u16) -> PortRange {
    PortRange::one(port)
}

pub(super) fn strict_entries(row: &Row, index: usize) -> Vec<Entry> {
    let Strict { ruling, groups, ports, why, .. } = &row.strict;
    let terms = Terms {
        ruling: *ruling,
        groups: groups.clone(),
        why: why.clone(),
        id: row.id.to_string(),
        unless: None,
    };
    spread(index, row.transport, ports.as_ref().unwrap_or(&row.ports), &terms)
}

/// Open from anywhere, as printed.
fn literal_entries(row: &Row, index: usize) -> Vec<Entry> {
    spread(index, row.transport, &row.ports, &Terms { id: row.id.to_string(), ..Terms::default() })
}

fn spread(row: usize, transports: Transports, ports: &[PortRange], terms: &Terms) -> Vec<Entry> {
    let entry = |transport| move |&ports: &PortRange| Entry { transport, ports, row, terms: terms.clone() };
    transports.each().iter().flat_map(|&transport| ports.iter().map(entry(transport))).collect()
}
