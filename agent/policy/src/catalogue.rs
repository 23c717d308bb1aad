//! The catalogue: the printed port rows of one product edition, the roles made of them, and the ports that a
//! set of roles opens in each reading.
//!
//! The catalogue's file holds every decision about a row; this module knows no port and no role.

mod file;
mod own;
mod resolve;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::net::{PortRange, Transports};
use crate::problem::{Problem, Problems, nearest};
use crate::reader;
pub use own::{OwnRole, OwnRow};
use resolve::Entry;
pub use resolve::{Choices, Closed, Open, Reading, Resolved};

/// The name of the built-in catalogue.
pub const BUILT_IN: &str = "lync-2013";
const BUILT_IN_TEXT: &str = include_str!("../../../config/lync-2013.toml");

/// One edition's rows and roles, checked: every row that a role names exists, and every range is in order.
#[derive(Debug, Clone)]
pub struct Catalogue {
    edition: String,
    rows: Vec<Row>,
    by_id: HashMap<RowId, usize>,
    roles: Vec<Role>,
    groups: BTreeMap<String, String>,
    documents: BTreeMap<String, Document>,
    pages: BTreeMap<String, Page>,
}

impl Catalogue {
    /// Reads the built-in catalogue by its name, or a file. A name with a `/`, or that ends in `.toml`, is a
    /// file; a relative path starts at `relative_to`.
    ///
    /// # Errors
    /// An unknown name, a file that cannot be read, or every mistake in it.
    pub fn load(source: &str, relative_to: &Path) -> Result<Self, Problems> {
        if source == BUILT_IN {
            return file::parse(BUILT_IN_TEXT, Path::new(BUILT_IN));
        }
        if !source.contains('/') && !source.ends_with(".toml") {
            return Err(Problem::new(
                format!("unknown catalogue `{source}`"),
                format!("use `{BUILT_IN}`, or a file name with a `/` or the ending `.toml`"),
            )
            .into());
        }
        let path = relative_to.join(source);
        let text = reader::text_of(&path, |place, error| {
            Problem::at(place, format!("cannot read the catalogue: {error}"), "")
        })?;
        file::parse(&text, &path)
    }

    /// The edition's name, such as `lync-2013`.
    pub fn edition(&self) -> &str {
        &self.edition
    }

    /// All rows, in the order of the printed tables.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row of that id, given as a [`RowId`] or as text.
    pub fn row(&self, id: impl AsRef<str>) -> Option<&Row> {
        self.by_id.get(id.as_ref()).map(|&index| &self.rows[index])
    }

    /// All roles, in the order of the file.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// The role of that key.
    pub fn role(&self, key: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.key == key)
    }

    /// The named sources that rows may refer to, each with its description.
    pub fn groups(&self) -> &BTreeMap<String, String> {
        &self.groups
    }

    /// The documents that print the rows, by the key that [`Printed::lines`] uses.
    pub fn documents(&self) -> &BTreeMap<String, Document> {
        &self.documents
    }

    /// The further pages that rows and rulings rest on, by the key that [`Printed::page`] uses.
    pub fn pages(&self) -> &BTreeMap<String, Page> {
        &self.pages
    }

    /// The title of a page or document by its key.
    pub fn title(&self, key: &str) -> Option<&str> {
        let document = || self.documents.get(key).map(|document| document.title.as_str());
        self.pages.get(key).map(|page| page.title.as_str()).or_else(document)
    }

    /// The number of different documents and pages that print the rows of `roles`. The translations of one
    /// document count once.
    pub fn sources_of(&self, roles: &[&str]) -> usize {
        let rows = self.roles_of(roles).flat_map(|role| &role.rows).filter_map(|id| self.row(id));
        let titles = rows.flat_map(|row| {
            let documents = row.printed.lines.keys();
            documents.chain(&row.printed.page).filter_map(|key| self.title(key))
        });
        titles.collect::<BTreeSet<_>>().len()
    }

    /// Checks `roles` as the roles of one box. Returns the index of the role, a message and a fix for each
    /// mistake. An empty list is valid: it opens nothing.
    pub fn check_roles(&self, roles: &[&str]) -> Vec<(usize, String, String)> {
        let mut wrong = Vec::new();
        let mut say = |index: usize, message: String, fix: String| wrong.push((index, message, fix));
        for (index, key) in roles.iter().enumerate() {
            if roles[..index].contains(key) {
                say(index, format!("the role `{key}` is named twice"), "name it once".into());
                continue;
            }
            let Some(role) = self.role(key) else {
                let keys = self.roles.iter().map(|role| &*role.key);
                let fix = Self::suggest(key, keys, "`lyncwall roles` lists all roles");
                say(index, format!("unknown role `{key}`"), fix);
                continue;
            };
            if let Some(base) = role.extends.as_deref().filter(|base| !roles.contains(base)) {
                let fix = format!("name `{base}` as well");
                say(index, format!("`{key}` is an add-on of `{base}`"), fix);
            }
            // Client media is nearly every port; next to another role it would open that role's box.
            let other = roles.iter().find(|other| {
                role.kind == Kind::Client
                    && self
                        .role(other)
                        .is_some_and(|other| !matches!(other.kind, Kind::Client | Kind::Preset | Kind::Own))
            });
            if let Some(other) = other {
                let message = format!("`{key}` is for clients: it cannot be combined with `{other}`");
                say(index, message, "give `{key}` a target of its own".into());
            }
        }
        wrong
    }

    /// The ports that a box with `roles` opens in `reading`.
    ///
    /// # Errors
    /// The mistakes that [`Catalogue::check_roles`] finds.
    pub fn resolve(&self, roles: &[&str], reading: Reading) -> Result<Resolved, Problems> {
        self.resolve_with(roles, reading, &Choices::default())
    }

    /// Like [`Catalogue::resolve`], with the choices of a configuration.
    ///
    /// # Errors
    /// The mistakes that [`Catalogue::check_roles`] finds.
    pub fn resolve_with(
        &self,
        roles: &[&str],
        reading: Reading,
        choices: &Choices,
    ) -> Result<Resolved, Problems> {
        let mut problems = Problems::default();
        for (_, message, fix) in self.check_roles(roles) {
            problems.push(Problem::new(message, fix));
        }
        problems.or(())?;
        let choices = &self.with_presets(roles, choices);
        let entries: Vec<Entry> = self
            .roles_of(roles)
            .flat_map(|role| Self::entries(role, reading, choices))
            .filter(|entry| entry.terms.unless.as_deref().is_none_or(|other| !roles.contains(&other)))
            .collect();
        Ok(resolve::resolve(entries.iter(), roles, reading, choices, |row| self.rows[row].id.to_string()))
    }

    /// The choices with the overrides of their presets. An override of the target itself comes first.
    fn with_presets(&self, roles: &[&str], choices: &Choices) -> Choices {
        let mut choices = choices.clone();
        let presets = self.roles_of(roles).flat_map(|role| &role.presets);
        for preset in presets.filter(|preset| choices.optional.contains(&preset.id)) {
            for (row, ports) in &preset.overrides {
                choices.overrides.entry(row.clone()).or_insert_with(|| ports.clone());
            }
        }
        choices
    }

    fn roles_of<'a>(&'a self, keys: &'a [&str]) -> impl Iterator<Item = &'a Role> {
        keys.iter().filter_map(|key| self.role(key))
    }

    /// The entries of a role in a reading, with those that `choices` add: options that the literal reading
    /// lacks, and required overrides.
    fn entries(role: &Role, reading: Reading, choices: &Choices) -> Vec<Entry> {
        let mut entries = match reading {
            Reading::Strict => role.strict.clone(),
            Reading::Literal => {
                let options = role.strict.iter().filter(|entry| choices.optional.contains(&entry.terms.id));
                let options = options.cloned().map(Entry::open_to_all);
                role.literal.iter().cloned().chain(options).collect()
            }
        };
        let required = role.required_override.iter();
        entries.extend(required.filter(|required| choices.overrides.contains_key(&required.id)).flat_map(
            |required| {
                let entries = required.entries.iter().cloned();
                entries.map(|entry| if reading == Reading::Literal { entry.open_to_all() } else { entry })
            },
        ));
        entries
    }

    /// The optional rows of `roles` that are switched on but closed until a group is bound: their ids, and
    /// the groups.
    pub fn waiting(
        &self,
        roles: &[&str],
        reading: Reading,
        choices: &Choices,
    ) -> BTreeMap<String, Vec<String>> {
        let entries = self.roles_of(roles).flat_map(|role| Self::entries(role, reading, choices));
        entries
            .filter(|entry| choices.waits(entry))
            .map(|entry| (entry.terms.id, entry.terms.groups))
            .collect()
    }

    /// Why a target with `roles` cannot override `id`: a message and a fix; `None` if it can.
    pub fn check_override(&self, id: &str, roles: &[&str]) -> Option<(String, String)> {
        if self.known_ids(roles).contains(id) {
            return None;
        }
        let message = match self.anywhere(id) {
            true => format!("no role of this target has the row `{id}`"),
            false => format!("unknown row `{id}`"),
        };
        Some((message, Self::suggest(id, self.known_ids(roles), "`lyncwall show` lists the rows of a role")))
    }

    /// Why a target with `roles` cannot switch on `id`: a message and a fix; `None` if it can.
    pub fn check_optional(&self, id: &str, roles: &[&str]) -> Option<(String, String)> {
        let rows = self.roles_of(roles).flat_map(|role| &role.strict);
        let rows = rows.filter(|entry| entry.terms.ruling == Ruling::Optional);
        let presets = self.roles_of(roles).flat_map(|role| &role.presets);
        let options: BTreeSet<&str> = rows
            .map(|entry| entry.terms.id.as_str())
            .chain(presets.map(|preset| preset.id.as_str()))
            .collect();
        if options.contains(id) {
            return None;
        }
        let message = if self.known_ids(roles).contains(id) {
            format!("the row `{id}` is not optional")
        } else if self.anywhere(id) {
            format!("no role of this target has the optional row `{id}`")
        } else {
            format!("unknown optional row `{id}`")
        };
        Some((message, Self::suggest(id, options, "`lyncwall show` lists the optional rows of a role")))
    }

    /// The ids of all entries of `roles` in either reading.
    fn known_ids<'a>(&'a self, roles: &'a [&str]) -> BTreeSet<&'a str> {
        let mut ids = BTreeSet::new();
        for role in self.roles_of(roles) {
            for entry in role.strict.iter().chain(&role.literal) {
                ids.extend([entry.terms.id.as_str(), self.rows[entry.row].id.as_str()]);
            }
            ids.extend(role.required_override.as_ref().map(|required| required.id.as_str()));
        }
        ids.remove("");
        ids
    }

    fn anywhere(&self, id: &str) -> bool {
        let all: Vec<&str> = self.roles.iter().map(|role| role.key.as_str()).collect();
        self.by_id.contains_key(id) || self.known_ids(&all).contains(id)
    }

    /// A fix for an unknown name: the command that lists the `known` ones, behind the nearest of them.
    fn suggest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>, list: &str) -> String {
        let did = nearest(unknown, known).map_or_else(String::new, |name| format!("did you mean `{name}`? "));
        did + list
    }

    /// The names of the services of `rows` (ids), without their protocols.
    pub fn names(&self, rows: &[String]) -> String {
        names_of(&rows.iter().filter_map(|id| self.row(id)).collect::<Vec<_>>())
    }

    /// A short name for the service of `rows` (ids), such as `SIP/TLS, SIP/MTLS (Lync Server Front-End
    /// service)`. Leaves out ids that the catalogue does not know.
    pub fn services(&self, rows: &[String]) -> String {
        let rows: Vec<&Row> = rows.iter().filter_map(|id| self.row(id)).collect();
        let protocols = some_of(rows.iter().flat_map(|row| row.application.split(", ")));
        let names = names_of(&rows);
        match (protocols.is_empty(), names.is_empty()) {
            (_, true) => protocols,
            (true, false) => names,
            (false, false) => format!("{protocols} ({names})"),
        }
    }
}

fn names_of(rows: &[&Row]) -> String {
    some_of(rows.iter().map(|row| row.name()))
}

/// The first two different names, and the number of others.
fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut seen = BTreeSet::new();
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && seen.insert(*name)).collect();
    match names.as_slice() {
        [first, second, _, ..] => format!("{first}, {second} and {} more", names.len() - 2),
        few => few.join(", "),
    }
}

/// The stable id of a row: its table and its number there, as `server.03`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RowId(String);

impl RowId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RowId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RowId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One printed row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The stable id.
    pub id: RowId,
    /// The printed role, in English.
    pub role: String,
    /// The printed service; `None` if the cell is blank or the table has no such column.
    pub service: Option<String>,
    /// The name to show for a row whose printed service says too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The transport.
    pub transport: Transports,
    /// The printed ports.
    pub ports: Vec<PortRange>,
    /// The application protocols, separated by `, `.
    pub application: String,
    /// The direction of the connections, seen from the printed role.
    pub direction: Direction,
    /// The printed source, if a document names one.
    pub source: Option<String>,
    /// The printed destination, if a document names one.
    pub destination: Option<String>,
    /// True if the documents call the row optional.
    pub optional: bool,
    /// The purpose, in our words.
    pub note: String,
    /// The place in the documents.
    pub printed: Printed,
    /// The strict reading.
    pub strict: Strict,
}

impl Row {
    /// A short name of the row's service: the label, else the service, else the role.
    pub fn name(&self) -> &str {
        self.label.as_deref().or(self.service.as_deref()).unwrap_or(&self.role)
    }
}

/// The direction of connections, seen from the printed role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The role listens.
    Inbound,
    /// The role calls; the port is the peer's.
    Outbound,
    /// Both.
    Both,
}

impl Direction {
    /// The word in the catalogue's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Both => "both",
        }
    }
}

/// The place of a row in the documents.
#[derive(Debug, Clone, Serialize)]
pub struct Printed {
    /// The title of the table.
    pub table: String,
    /// The row in that table, from 1; `None` for a port that only the prose names.
    pub row: Option<u16>,
    /// Document key to the line where the row starts, from 1.
    pub lines: BTreeMap<String, u32>,
    /// The key of the further page that prints it, where no document does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

impl Printed {
    /// The table, and the row in it, as in `Table 4, row 12`.
    #[must_use]
    pub fn place(&self) -> String {
        match self.row {
            Some(row) => format!("{}, row {row}", self.table),
            None => self.table.clone(),
        }
    }
}

/// A document that prints rows.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// The language of the translation, as `zh-TW`.
    pub language: String,
    /// The title, in English.
    pub title: String,
    /// The publisher's id of the page, equal in all languages.
    pub asset: String,
}

/// A further public page of the publisher: one that a row is taken from, or that a ruling rests on.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// The title, in English.
    pub title: String,
    /// The name of the page in the publisher's documentation, without its language and folder.
    pub name: String,
    /// The publisher's id of the page, equal in all languages, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
}

/// The strict reading of a row, for the role that the row is printed for.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Strict {
    /// The ruling.
    pub ruling: Ruling,
    /// The named sources that may use it; empty for anybody.
    pub groups: Vec<String>,
    /// Named sources that may use it too, if they have prefixes. Without prefixes, they do not open it to
    /// anybody, as those of `groups` do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<String>,
    /// The ports to open, if not all printed ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortRange>>,
    /// The only source port of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_port: Option<u16>,
    /// Why the row does not simply open; empty if it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The keys of the documents and pages that the ruling rests on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<String>,
}

/// The ruling of the strict reading on a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// Opens it.
    #[default]
    Inbound,
    /// Opens nothing: the port is the peer's.
    Outbound,
    /// Opens it to its groups only, and keeps it closed while no group is bound.
    NeedsGroup,
    /// Opens it only if a target enables its id.
    Optional,
}

impl Ruling {
    /// The word in the catalogue's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::NeedsGroup => "needs-group",
            Self::Optional => "optional",
        }
    }
}

/// A named set of rows for one kind of box.
#[derive(Debug, Clone)]
pub struct Role {
    /// The name in configurations.
    pub key: String,
    /// The kind of box.
    pub kind: Kind,
    /// The printed name, in English.
    pub printed: String,
    /// A summary of one line.
    pub summary: String,
    /// The role that an add-on needs; `None` for other roles.
    pub extends: Option<String>,
    /// Ports that an administrator must add because no document prints them.
    pub required_override: Option<RequiredOverride>,
    /// Sets of overrides that a page describes.
    pub presets: Vec<Preset>,
    /// What such a box needs and the catalogue does not cover, or cannot know; one sentence each.
    pub unknown: Vec<String>,
    /// Every row with an entry for the role in either reading, in catalogue order.
    pub rows: Vec<RowId>,
    strict: Vec<Entry>,
    literal: Vec<Entry>,
}

/// Overrides that belong together. A target enables them by `id`, in its list of options.
#[derive(Debug, Clone)]
pub struct Preset {
    /// The id to enable it by.
    pub id: String,
    /// The description for users.
    pub what: String,
    /// The ports that replace those of a row, by its id.
    pub overrides: BTreeMap<String, Vec<PortRange>>,
}

/// Ports that no document prints: they stay closed until a target's overrides name them.
#[derive(Debug, Clone)]
pub struct RequiredOverride {
    /// The id to override.
    pub id: String,
    /// The description for users.
    pub what: String,
    /// The entry that an override fills with ports.
    entries: Vec<Entry>,
}

/// The kind of box that a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A Lync server.
    Server,
    /// A part that runs beside another role on one box.
    AddOn,
    /// A load balancer.
    Balancer,
    /// A box in front that no table prints; derived from rows that name it.
    Derived,
    /// A client or a phone.
    Client,
    /// What servers of any kind call beside Lync; it opens nothing.
    Preset,
    /// A role that the configuration adds.
    Own,
}

#[cfg(test)]
mod tests;
