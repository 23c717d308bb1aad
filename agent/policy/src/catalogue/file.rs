//! Reads the catalogue's file: each table to its type, with all references checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use toml::de::DeValue;

use super::resolve::{Entry, Terms};
use super::{
    Catalogue, Direction, Document, Kind, Page, Preset, Printed, RequiredOverride, Role, Row, RowId, Ruling,
    Strict,
};
use crate::net::{PortRange, Transports};
use crate::problem::{Named, Problems, did_you_mean};
use crate::reader::{self, Format, Keys, Node, Table, Unique, all};

const FORMAT: Format = Format {
    top: &["edition", "documents", "pages", "tables", "groups", "role", "row"],
    whole_file: &["edition"],
    later: &[],
};
const DOCUMENT: Keys = &["language", "title", "asset"];
const PAGE: Keys = &["title", "name", "asset"];
const ROW: Keys = &[
    "id",
    "role",
    "service",
    "label",
    "transport",
    "ports",
    "application",
    "direction",
    "source",
    "destination",
    "optional",
    "note",
    "printed",
    "page",
    "strict",
];
const STRICT: Keys = &["ruling", "groups", "more", "ports", "from-port", "why", "pages"];
const ROLE: Keys = &[
    "key",
    "kind",
    "printed",
    "summary",
    "extends",
    "required-override",
    "rows",
    "literal",
    "also",
    "calls",
    "presets",
    "unknown",
];
const ALSO: Keys = &[
    "id",
    "rows",
    "transport",
    "ports",
    "ruling",
    "groups",
    "more",
    "why",
    "pages",
    "unless",
    "literal",
    "override-enables",
];
const CALL: Keys = &["id", "rows", "transport", "ports", "to", "why", "pages"];
const PRESET: Keys = &["id", "what", "overrides", "pages"];
const REQUIRED: Keys = &["id", "rows", "transport", "what", "groups"];

const DIRECTIONS: [Direction; 3] = [Direction::Inbound, Direction::Outbound, Direction::Both];
const RULINGS: [Ruling; 4] = [Ruling::Inbound, Ruling::Outbound, Ruling::NeedsGroup, Ruling::Optional];
const KINDS: [(&str, Kind); 6] = [
    ("server", Kind::Server),
    ("add-on", Kind::AddOn),
    ("balancer", Kind::Balancer),
    ("derived", Kind::Derived),
    ("client", Kind::Client),
    ("preset", Kind::Preset),
];

/// Reads a whole catalogue.
pub(super) fn parse(text: &str, file: &Path) -> Result<Catalogue, Problems> {
    reader::read(text, file, FORMAT, catalogue)
}

fn catalogue(top: &Table<'_>) -> Option<Catalogue> {
    let edition = required_text(top, "edition");
    let [documents, pages, tables, groups] = ["documents", "pages", "tables", "groups"].map(|key| {
        top.get_or(key, Vec::new(), |node| node.entries(&format!("write its keys under a `[{key}]` header")))
    });
    let declared = |entries: &Option<Vec<(Named, Node<'_>)>>| {
        let names = entries.as_ref().filter(|_| !top.is_partial());
        names.map(|entries| entries.iter().map(|(named, _)| named.name.clone()).collect())
    };
    let listed = |list, key| top.names(list, key).map(|names| names.into_iter().map(str::to_owned).collect());
    let known = Known {
        documents: Names { what: "document", fix: "add it to [documents]", all: declared(&documents) },
        pages: Names {
            what: "page",
            fix: "add it to [pages]",
            all: declared(&pages).zip(declared(&documents)).map(|(pages, documents)| {
                let (pages, documents): (BTreeSet<String>, BTreeSet<String>) = (pages, documents);
                pages.union(&documents).cloned().collect()
            }),
        },
        tables: Names { what: "table", fix: "add it to [tables]", all: declared(&tables) },
        groups: Names { what: "group", fix: "add it to [groups]", all: declared(&groups) },
        roles: Names { what: "role", fix: "name the key of a [[role]]", all: listed("role", "key") },
        rows: Names { what: "row", fix: "name the id of a [[row]]", all: listed("row", "id") },
    };
    let (documents, pages) = (map(documents, document), map(pages, page));
    let (tables, groups) = (map(tables, text), map(groups, text));
    let mut ids = Unique::default();
    let rows = top.required("row", "add a `[[row]]` for each printed row").and_then(|node| {
        let titles = tables.unwrap_or_default();
        all(node.tables(ROW, usize::MAX)?.iter().map(|table| row(table, &titles, &known, &mut ids)))
    });
    let numbered = rows.iter().flatten().enumerate();
    let by_id = numbered.map(|(number, row)| (row.id.clone(), number)).collect();
    let mut roles =
        Roles { rows: rows.as_deref(), by_id: &by_id, known: &known, keys: Unique::default(), ids };
    let roles = top
        .required("role", "add a `[[role]]` with its `rows`")
        .and_then(|node| all(node.tables(ROLE, usize::MAX)?.iter().map(|table| roles.role(table))));
    Some(Catalogue {
        edition: edition?,
        roles: roles?,
        rows: rows?,
        by_id,
        groups: groups?,
        documents: documents?,
        pages: pages?,
    })
}

/// The names that rows and roles may refer to.
struct Known {
    documents: Names,
    /// Pages, and documents.
    pages: Names,
    tables: Names,
    groups: Names,
    roles: Names,
    rows: Names,
}

struct Names {
    what: &'static str,
    /// The fix for an unknown name that is like no known one.
    fix: &'static str,
    /// `None` if a mistake may have hidden some: then references are not checked.
    all: Option<BTreeSet<String>>,
}

impl Names {
    fn has(&self, name: &str) -> bool {
        self.all.as_ref().is_none_or(|all| all.contains(name))
    }

    /// The name `named`, written at or in `node`; reports an unknown one.
    fn check(&self, node: &Node<'_>, named: Named) -> Option<String> {
        let Named { name, place } = named;
        if self.has(&name) {
            return Some(name);
        }
        let all = self.all.iter().flatten().map(String::as_str);
        let fix = did_you_mean(&name, all, || self.fix.to_owned());
        node.problem_at(&place, format!("unknown {} `{name}`", self.what), fix);
        None
    }

    fn one(&self, node: &Node<'_>) -> Option<String> {
        self.check(node, node.named()?)
    }
}

fn document(node: &Node<'_>) -> Option<Document> {
    let table = node.table(DOCUMENT)?;
    let [language, title, asset] = ["language", "title", "asset"].map(|key| required_text(&table, key));
    Some(Document { language: language?, title: title?, asset: asset? })
}

fn page(node: &Node<'_>) -> Option<Page> {
    let table = node.table(PAGE)?;
    let [title, name] = ["title", "name"].map(|key| required_text(&table, key));
    let asset = table.get_or("asset", None, |node| text(node).map(Some));
    Some(Page { title: title?, name: name?, asset: asset? })
}

fn row(table: &Table<'_>, titles: &BTreeMap<String, String>, known: &Known, ids: &mut Unique) -> Option<Row> {
    let id = table.required("id", "name its table and its number there, as \"server.03\"").and_then(|node| {
        let id = node.string()?;
        let (title, number) = id.split_once('.').unwrap_or((id, ""));
        if !known.tables.has(title) {
            let message = format!("the row `{id}` does not name a table");
            node.problem(message, "begin the id with a key of [tables] and a dot");
        }
        ids.take("row", id, &node).then(|| (id, titles.get(title).cloned(), number.parse().ok()))
    });
    let [role, application, note] = ["role", "application", "note"].map(|key| required_text(table, key));
    let [service, label, source, destination] = ["service", "label", "source", "destination"]
        .map(|key| table.get_or(key, None, |node| text(node).map(Some)));
    let transport = table.required("transport", TRANSPORT).and_then(|node| node.transports());
    let ports = table.required("ports", PORTS).and_then(|node| ports(&node));
    let direction = table
        .required("direction", "add `direction = \"inbound\"`, \"outbound\" or \"both\"")
        .and_then(|node| node.choice(&DIRECTIONS.map(|word| (word.as_str(), word))));
    let optional = table.get_or("optional", false, Node::boolean);
    let lines = table.get_or("printed", BTreeMap::new(), |node| {
        let lines = node.entries("write it as `printed = { 000 = 90 }`: a document, and the line there")?;
        let line = |(document, line): (Named, Node<'_>)| {
            let number = line.integer(1..=u32::MAX, "lines");
            Some((known.documents.check(&line, document)?, number?))
        };
        all(lines.into_iter().map(line)).map(BTreeMap::from_iter)
    });
    let page = table.get_or("page", None, |node| known.pages.one(node).map(Some));
    let strict = match table.get("strict") {
        Some(node) => node.table(STRICT).and_then(|table| strict(&table, known)),
        None => Some(Strict::default()),
    };
    let (id, title, number) = id?;
    Some(Row {
        id: RowId(id.to_owned()),
        role: role?,
        service: service?,
        label: label?,
        transport: transport?,
        ports: ports?,
        application: application?,
        direction: direction?,
        source: source?,
        destination: destination?,
        optional: optional?,
        note: note?,
        printed: Printed { table: title.unwrap_or_default(), row: number, lines: lines?, page: page? },
        strict: strict?,
    })
}

fn strict(table: &Table<'_>, known: &Known) -> Option<Strict> {
    let terms = terms(table, known);
    let ports = table.get_or("ports", None, |node| ports(node).map(Some));
    let from_port = table.get_or("from-port", None, |node| match node.value() {
        DeValue::Integer(_) => node.ports().map(|port| Some(port.first())),
        _ => node.mistyped("a port", "write a number from 1 to 65535"),
    });
    let pages = pages(table, known);
    let Terms { ruling, groups, more, why, .. } = terms?;
    Some(Strict { ruling, groups, more, ports: ports?, from_port: from_port?, why, pages: pages? })
}

/// The ruling of an entry, its groups and its reason.
fn terms(table: &Table<'_>, known: &Known) -> Option<Terms> {
    let ruling = table.choice("ruling", &RULINGS.map(|word| (word.as_str(), word)));
    let [groups, more] = ["groups", "more"].map(|key| groups(table, key, known));
    let why = table.get_or("why", String::new(), text);
    if ruling == Some(Ruling::NeedsGroup) && groups.as_ref().is_some_and(Vec::is_empty) {
        table.missing("groups", "this needs a group and names none", "add `groups`");
    }
    let closed = matches!(ruling, Some(Ruling::NeedsGroup | Ruling::Optional));
    if closed && why.as_ref().is_some_and(String::is_empty) {
        table.missing("why", "this stays closed without a reason", "add `why`");
    }
    if more.as_ref().is_some_and(|more| !more.is_empty()) && groups.as_ref().is_some_and(Vec::is_empty) {
        table.problem_at("more", "this is for anybody already", "name the other sources in `groups`");
    }
    Some(Terms { ruling: ruling?, groups: groups?, more: more?, why: why?, ..Terms::default() })
}

fn groups(table: &Table<'_>, key: &str, known: &Known) -> Option<Vec<String>> {
    table.get_or(key, Vec::new(), |node| node.list(|item| known.groups.one(item)))
}

/// The pages that a ruling rests on.
fn pages(table: &Table<'_>, known: &Known) -> Option<Vec<String>> {
    table.get_or("pages", Vec::new(), |node| node.list(|item| known.pages.one(item)))
}

/// Reads the roles.
struct Roles<'a> {
    /// The rows; `None` if one has a mistake.
    rows: Option<&'a [Row]>,
    by_id: &'a HashMap<RowId, usize>,
    known: &'a Known,
    keys: Unique,
    /// The ids of rows, options and overrides.
    ids: Unique,
}

impl Roles<'_> {
    fn role(&mut self, table: &Table<'_>) -> Option<Role> {
        let key = table.required("key", "give the role a name for configurations").and_then(|node| {
            let key = node.string()?;
            self.keys.take("role", key, &node).then(|| key.to_owned())
        });
        let kind = table.required("kind", "add `kind`, as `kind = \"server\"`");
        let kind = kind.and_then(|node| node.choice(&KINDS));
        let [printed, summary] = ["printed", "summary"].map(|key| required_text(table, key));
        let extends = table.get_or("extends", None, |node| self.known.roles.one(node).map(Some));
        if kind.is_some_and(|kind| (kind == Kind::AddOn) != table.get("extends").is_some()) {
            let message = "a role needs both `extends` and the kind `add-on`, or neither";
            table.problem_at("key", message, "give `extends` to add-ons, and to no other role");
        }
        let [rows, literal] =
            ["rows", "literal"].map(|key| table.get_or(key, Vec::new(), |node| self.rows(node)));
        let required = table.get_or("required-override", None, |node| {
            node.table(REQUIRED).and_then(|table| self.required(&table)).map(Some)
        });
        let also = table.get_or("also", Vec::new(), |node| {
            all(node.tables(ALSO, usize::MAX)?.iter().map(|table| self.also(table)))
        });
        let calls = table.get_or("calls", Vec::new(), |node| {
            all(node.tables(CALL, usize::MAX)?.iter().map(|table| self.call(table)))
        });
        let presets = table.get_or("presets", Vec::new(), |node| {
            all(node.tables(PRESET, usize::MAX)?.iter().map(|table| self.preset(table)))
        });
        let unknown = table.get_or("unknown", Vec::new(), |node| node.list(text));

        let (all, rows, also, calls) = (self.rows?, rows?, also?, calls?);
        let strict_of_rows = rows.iter().flat_map(|&row| strict_entries(&all[row], row));
        let derived = also.iter().flat_map(|(_, entries)| entries).cloned();
        let mut strict: Vec<Entry> = strict_of_rows.chain(derived).collect();
        let calls: Vec<Entry> = calls.into_iter().flatten().collect();
        // A row that is only called belongs to the role that listens, if there is one.
        let called = calls.iter().filter(|_| kind == Some(Kind::Preset));
        let mut used: BTreeSet<usize> = strict.iter().chain(called).map(|entry| entry.row).collect();
        strict.extend(calls);
        let printed_rows = rows.into_iter().chain(literal?).inspect(|row| {
            used.insert(*row);
        });
        let mut literal: Vec<Entry> = printed_rows.flat_map(|row| literal_entries(&all[row], row)).collect();
        let derived = also.into_iter().filter(|(in_both, _)| *in_both).flat_map(|(_, entries)| entries);
        literal.extend(derived.map(Entry::open_to_all));
        Some(Role {
            key: key?,
            kind: kind?,
            printed: printed?,
            summary: summary?,
            extends: extends?,
            required_override: required?,
            presets: presets?,
            unknown: unknown?,
            rows: used.into_iter().map(|row| all[row].id.clone()).collect(),
            strict,
            literal,
        })
    }

    fn required(&mut self, table: &Table<'_>) -> Option<RequiredOverride> {
        let id = table.required("id", "add the name to override it by").and_then(|node| self.own_id(&node));
        let what = required_text(table, "what");
        let rows = table.required("rows", ROWS).and_then(|node| self.rows(&node));
        let transport = table.required("transport", TRANSPORT).and_then(|node| node.transports());
        let groups = groups(table, "groups", self.known);
        let (all, rows, transport, id) = (self.rows?, rows?, transport?, id?);
        let terms = Terms { id: id.clone(), groups: groups?, ..Terms::default() };
        let entries = rows.into_iter().flat_map(|row| spread(row, transport, &all[row].ports, &terms));
        Some(RequiredOverride { id, what: what?, entries: entries.collect() })
    }

    /// The entries of a derived row, and whether they are in both readings.
    fn also(&mut self, table: &Table<'_>) -> Option<(bool, Vec<Entry>)> {
        let terms = terms(table, self.known);
        let id = table.get_or("id", String::new(), |node| self.own_id(node));
        if terms.as_ref().is_some_and(|terms| terms.ruling == Ruling::Optional) && table.get("id").is_none() {
            table.missing("id", "an option needs an `id`", "add the name to enable it by");
        }
        let unless = table.get_or("unless", None, |node| self.known.roles.one(node).map(Some));
        let pages = pages(table, self.known);
        let enabled_by_override = table.get_or("override-enables", false, Node::boolean);
        let in_both = table.get_or("literal", false, Node::boolean);
        let terms = Terms { id: id?, unless: unless?, enabled_by_override: enabled_by_override?, ..terms? };
        let entries = self.derived(table, &terms);
        pages?;
        Some((in_both?, entries?))
    }

    /// The entries of a call to a port of a peer, for the groups that it may go to.
    fn call(&mut self, table: &Table<'_>) -> Option<Vec<Entry>> {
        let id = table.get_or("id", String::new(), |node| self.own_id(node));
        let to = groups(table, "to", self.known);
        if to.as_ref().is_some_and(Vec::is_empty) {
            table.missing("to", "this call names no group that it goes to", "add `to`");
        }
        let why = required_text(table, "why");
        let pages = pages(table, self.known);
        let terms = Terms {
            id: id?,
            ruling: Ruling::Outbound,
            groups: to?,
            only_to_bound: true,
            why: why?,
            ..Terms::default()
        };
        let entries = self.derived(table, &terms);
        pages?;
        entries
    }

    /// The entries that follow from the rows of a table, with its own ports and transport if it has them.
    fn derived(&self, table: &Table<'_>, terms: &Terms) -> Option<Vec<Entry>> {
        let rows = table.required("rows", ROWS).and_then(|node| {
            if node.value().as_array().is_some_and(|list| list.is_empty()) {
                node.problem("this entry names no row that it follows from", "name the rows");
            }
            self.rows(&node)
        });
        let transport = table.get_or("transport", None, |node| node.transports().map(Some));
        let ports = table.get_or("ports", None, |node| ports(node).map(Some));
        let both = "`ports` and `transport` need each other";
        match (table.get("ports"), table.get("transport")) {
            (Some(_), None) => table.missing("transport", both, TRANSPORT),
            (None, Some(_)) => table.missing("ports", both, PORTS),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let (all, ports, transport) = (self.rows?, ports?, transport?);
        let entries = rows?.into_iter().flat_map(|row| {
            let printed = &all[row];
            let ports = ports.as_ref().unwrap_or(&printed.ports);
            spread(row, transport.unwrap_or(printed.transport), ports, terms)
        });
        Some(entries.collect())
    }

    fn preset(&mut self, table: &Table<'_>) -> Option<Preset> {
        let id = table.required("id", "add the name to enable it by").and_then(|node| self.own_id(&node));
        let what = required_text(table, "what");
        let overrides = table.required("overrides", OVERRIDES).and_then(|node| {
            let entries = node.entries(OVERRIDES)?;
            all(entries.into_iter().map(|(row, node)| {
                let ports = ports(&node);
                Some((self.known.rows.check(&node, row)?, ports?))
            }))
        });
        let pages = pages(table, self.known);
        pages?;
        Some(Preset { id: id?, what: what?, overrides: overrides?.into_iter().collect() })
    }

    fn own_id(&mut self, node: &Node<'_>) -> Option<String> {
        let id = node.string()?;
        self.ids.take("row", id, node).then(|| id.to_owned())
    }

    /// The numbers of the rows that a list names, each once; `None` as well if a row has a mistake.
    fn rows(&self, node: &Node<'_>) -> Option<Vec<usize>> {
        let mut seen = Unique::default();
        node.list(|item| {
            let id = self.known.rows.one(item)?;
            seen.take("row", &id, item).then(|| self.by_id.get(&*id).copied())?
        })
    }
}

const TRANSPORT: &str = "add `transport = \"tcp\"`, \"udp\" or \"both\"";
const PORTS: &str = "add `ports`, as in `ports = 5061`, `ports = [80, 443]` or `ports = \"49152-65535\"`";
const OVERRIDES: &str = "write it as `overrides = { \"server.28\" = \"40803-49150\" }`";
const ROWS: &str = "name the rows, as in `rows = [\"server.03\"]`";

/// Ports, at least one; a single port or range needs no list.
fn ports(node: &Node<'_>) -> Option<Vec<PortRange>> {
    let items = node.one_or_more()?;
    if items.is_empty() {
        node.problem("the list has no port", "name at least one");
    }
    all(items.iter().map(Node::ports))
}

fn text(node: &Node<'_>) -> Option<String> {
    node.string().map(str::to_owned)
}

fn required_text(table: &Table<'_>, key: &str) -> Option<String> {
    table.required(key, "add it, with a text in quotes").and_then(|node| text(&node))
}

/// The entries of a table with free keys, each value by `read`.
fn map<T>(
    entries: Option<Vec<(Named, Node<'_>)>>,
    read: impl Fn(&Node<'_>) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let read = entries?.into_iter().map(|(named, node)| Some((named.name, read(&node)?)));
    all(read).map(BTreeMap::from_iter)
}

pub(super) fn strict_entries(row: &Row, index: usize) -> Vec<Entry> {
    let Strict { ruling, groups, more, ports, why, .. } = &row.strict;
    let terms = Terms {
        ruling: *ruling,
        groups: groups.clone(),
        more: more.clone(),
        why: why.clone(),
        id: row.id.to_string(),
        ..Terms::default()
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
