//! The catalogue: the printed port rows of one product edition, the roles made of them, and what a set of
//! roles opens in either reading.
//!
//! Everything that was decided about a row stands in the catalogue's file; this module knows no port and no role.

mod file;
mod own;
mod place;
mod resolve;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::net::{PortRange, Transports};
use crate::problem::{Place, Problem, Problems};
pub use own::{OwnRole, OwnRow};
use resolve::Entry;
pub use resolve::{Choices, Closed, Reading, Resolved, Rule};

/// The name of the catalogue that is built in.
pub const BUILT_IN: &str = "lync-2013";
const BUILT_IN_TEXT: &str = include_str!("../../../config/lync-2013.toml");

/// One edition's rows and roles, checked: every row that a role names exists, every range is in order.
#[derive(Debug, Clone)]
pub struct Catalogue {
    edition: String,
    rows: Vec<Row>,
    by_id: HashMap<RowId, usize>,
    roles: Vec<Role>,
    groups: BTreeMap<String, String>,
    documents: BTreeMap<String, Document>,
}

impl Catalogue {
    /// Reads the built-in catalogue by its name, or a file: what has a `/` or ends in `.toml`, taken from
    /// `relative_to` where it is relative.
    ///
    /// # Errors
    /// An unknown name, a file that cannot be read, or every mistake in it.
    pub fn load(source: &str, relative_to: &Path) -> Result<Self, Problems> {
        if source == BUILT_IN {
            return file::parse(BUILT_IN_TEXT, Path::new(BUILT_IN));
        }
        if !source.contains('/') && !source.ends_with(".toml") {
            return Err(Problem::new(
                format!("there is no catalogue `{source}`"),
                format!("`{BUILT_IN}` is built in; the name of a file has a `/` in it or ends in `.toml`"),
            )
            .into());
        }
        let path = relative_to.join(source);
        match std::fs::read_to_string(&path) {
            Ok(text) => file::parse(&text, &path),
            Err(error) => Err(Problem::at(
                Place { file: path, line: 0, column: 0, key: String::new() },
                format!("the catalogue cannot be read: {error}"),
                "",
            )
            .into()),
        }
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

    /// The named sources that rows may refer to, each with what it stands for.
    pub fn groups(&self) -> &BTreeMap<String, String> {
        &self.groups
    }

    /// The documents that the rows are printed in, by the key that [`Printed::lines`] uses.
    pub fn documents(&self) -> &BTreeMap<String, Document> {
        &self.documents
    }

    /// What is wrong with `roles` as the roles of one box: the index of the role, a message and a fix each.
    /// An empty list is in order: nothing opens.
    pub fn check_roles(&self, roles: &[&str]) -> Vec<(usize, String, String)> {
        let mut wrong = Vec::new();
        let mut say = |index: usize, message: String, fix: String| wrong.push((index, message, fix));
        for (index, key) in roles.iter().enumerate() {
            if roles[..index].contains(key) {
                say(index, format!("the role `{key}` is named twice"), "name it once".into());
                continue;
            }
            let Some(role) = self.role(key) else {
                say(index, format!("there is no role `{key}`"), self.suggest(key));
                continue;
            };
            if let Some(base) = role.extends.as_deref().filter(|base| !roles.contains(base)) {
                let fix = format!("name `{base}` as well");
                say(index, format!("`{key}` is an add-on of `{base}`"), fix);
            }
            // Client media is nearly every port; next to another role it would open that role's box.
            let other = roles.iter().find(|other| {
                role.kind == Kind::Client
                    && self.role(other).is_some_and(|other| !matches!(other.kind, Kind::Client | Kind::Own))
            });
            if let Some(other) = other {
                let message = format!("`{key}` is for clients and does not go with `{other}`");
                say(index, message, "give it a target of its own".into());
            }
        }
        wrong
    }

    fn suggest(&self, unknown: &str) -> String {
        let likeness = |role: &&Role| strsim::jaro_winkler(unknown, &role.key);
        match self.roles.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
            Some(role) if likeness(&role) > 0.75 => {
                format!("did you mean `{}`? `lyncwall roles` lists them all", role.key)
            }
            _ => "`lyncwall roles` lists them all".into(),
        }
    }

    /// What a box with `roles` opens in `reading`.
    ///
    /// # Errors
    /// What [`Catalogue::check_roles`] finds.
    pub fn resolve(&self, roles: &[&str], reading: Reading) -> Result<Resolved, Problems> {
        self.resolve_with(roles, reading, &Choices::default())
    }

    /// The same with what a configuration adds.
    ///
    /// # Errors
    /// What [`Catalogue::check_roles`] finds.
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
        let entries: Vec<Entry> = self
            .roles_of(roles)
            .flat_map(|role| Self::entries(role, reading, choices))
            .filter(|entry| entry.terms.unless.as_deref().is_none_or(|other| !roles.contains(&other)))
            .collect();
        Ok(resolve::resolve(entries.iter(), roles, reading, choices, |row| self.rows[row].id.to_string()))
    }

    fn roles_of<'a>(&'a self, keys: &'a [&str]) -> impl Iterator<Item = &'a Role> {
        keys.iter().filter_map(|key| self.role(key))
    }

    /// What a role says in a reading, with what `choices` add: options that the literal reading lacks, and what is
    /// required.
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

    /// The optional rows of `roles` that are switched on, but open to nobody until a group is bound: their ids and these
    /// groups.
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

    /// Why `id` is nothing to override in a target with `roles`: a message and a fix; `None` where it is.
    pub fn check_override(&self, id: &str, roles: &[&str]) -> Option<(String, String)> {
        if self.known_ids(roles).contains(id) {
            return None;
        }
        let message = match self.anywhere(id) {
            true => format!("no role of this target has the row `{id}`"),
            false => format!("there is no row `{id}`"),
        };
        Some((message, Self::suggest_id(id, &self.known_ids(roles), "`lyncwall show` lists those of a role")))
    }

    /// Why `id` is nothing to switch on in a target with `roles`: a message and a fix; `None` where it is.
    pub fn check_optional(&self, id: &str, roles: &[&str]) -> Option<(String, String)> {
        let options: BTreeSet<&str> = self
            .roles_of(roles)
            .flat_map(|role| &role.strict)
            .filter(|entry| entry.terms.ruling == Ruling::Optional)
            .map(|entry| entry.terms.id.as_str())
            .collect();
        if options.contains(id) {
            return None;
        }
        let message = if self.known_ids(roles).contains(id) {
            format!("the row `{id}` is not optional")
        } else if self.anywhere(id) {
            format!("no role of this target has the optional row `{id}`")
        } else {
            format!("there is no optional row `{id}`")
        };
        Some((
            message,
            Self::suggest_id(id, &options, "`lyncwall show` says which rows of a role are optional"),
        ))
    }

    /// The ids of all that `roles` say in either reading.
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

    fn suggest_id(unknown: &str, known: &BTreeSet<&str>, otherwise: &str) -> String {
        let nearest = known.iter().min_by_key(|id| strsim::damerau_levenshtein(unknown, id));
        match nearest.filter(|id| strsim::damerau_levenshtein(unknown, id) <= 2) {
            Some(id) => format!("did you mean `{id}`? {otherwise}"),
            None => otherwise.to_owned(),
        }
    }

    /// A short name for what `rows` (ids) serve, such as `SIP/TLS, SIP/MTLS (Lync Server Front-End service)`.
    /// Ids that the catalogue does not know are left out.
    pub fn services(&self, rows: &[String]) -> String {
        let rows: Vec<&Row> = rows.iter().filter_map(|id| self.row(id)).collect();
        let protocols = some_of(rows.iter().flat_map(|row| row.application.split(", ")));
        let names = some_of(rows.iter().map(|row| row.name()));
        match (protocols.is_empty(), names.is_empty()) {
            (_, true) => protocols,
            (true, false) => names,
            (false, false) => format!("{protocols} ({names})"),
        }
    }
}

/// The first two different names, and how many more there are.
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
    /// Its stable id.
    pub id: RowId,
    /// The role as it is printed, in English.
    pub role: String,
    /// The service as it is printed; `None` where the cell is blank or the table has no such column.
    pub service: Option<String>,
    /// What to call the row where the printed service says too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What carries it.
    pub transport: Transports,
    /// The printed ports.
    pub ports: Vec<PortRange>,
    /// The application protocols, separated by `, `.
    pub application: String,
    /// Which way the connections go, seen from the printed role.
    pub direction: Direction,
    /// Who opens them, where a document says so.
    pub source: Option<String>,
    /// Whom they go to, where a document says so.
    pub destination: Option<String>,
    /// True where the documents call it optional.
    pub optional: bool,
    /// What it is for, in our words.
    pub note: String,
    /// Where it is printed.
    pub printed: Printed,
    /// What the strict reading makes of it.
    pub strict: Strict,
}

impl Row {
    /// A short name of what the row serves: the label, else the service, else the role.
    pub fn name(&self) -> &str {
        self.label.as_deref().or(self.service.as_deref()).unwrap_or(&self.role)
    }
}

/// Which way connections go, seen from the printed role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The role listens.
    Inbound,
    /// The role calls; the port is the peer's.
    Outbound,
    /// Either.
    Both,
}

impl Direction {
    /// As the catalogue writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Both => "both",
        }
    }
}

/// Where a row is printed.
#[derive(Debug, Clone, Serialize)]
pub struct Printed {
    /// The title of the table.
    pub table: String,
    /// The row in that table, from 1; `None` for what only the prose says.
    pub row: Option<u16>,
    /// Document key to the line where the row starts, from 1.
    pub lines: BTreeMap<String, u32>,
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

/// A document that rows are printed in.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The language of the translation, as `zh-TW`.
    pub language: String,
    /// The title, in English.
    pub title: String,
    /// The publisher's id of the page, the same in all languages.
    pub asset: String,
}

/// The strict reading of a row, on the role that it is printed for.
#[derive(Debug, Clone, Serialize)]
pub struct Strict {
    /// What is done with it.
    pub ruling: Ruling,
    /// The named sources it opens to; empty for anybody.
    pub groups: Vec<String>,
    /// The ports that open, where these are not all the printed ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortRange>>,
    /// The only port that the peer sends from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_port: Option<u16>,
    /// Why it does not simply open; empty where it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What the strict reading does with a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// Opens it.
    #[default]
    Inbound,
    /// Opens nothing: the port is the peer's.
    Outbound,
    /// Opens it to its groups only, and not while they are not bound.
    NeedsGroup,
    /// Opens it only where it is enabled by id.
    Optional,
}

impl Ruling {
    /// As the catalogue writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::NeedsGroup => "needs-group",
            Self::Optional => "optional",
        }
    }
}

/// A named set of rows that hold for one kind of box.
#[derive(Debug, Clone)]
pub struct Role {
    /// The name to configure it by.
    pub key: String,
    /// What kind of box it is.
    pub kind: Kind,
    /// The name as it is printed, in English.
    pub printed: String,
    /// One line for people.
    pub summary: String,
    /// The role that has to be there too; `Some` for add-ons only.
    pub extends: Option<String>,
    /// What an administrator has to add because no document prints it.
    pub required_override: Option<RequiredOverride>,
    /// Every row that says something about the role in either reading, in catalogue order.
    pub rows: Vec<RowId>,
    strict: Vec<Entry>,
    literal: Vec<Entry>,
}

/// Ports that no document prints, so that nothing of them is open until a target's overrides name them.
#[derive(Debug, Clone)]
pub struct RequiredOverride {
    /// The id to override.
    pub id: String,
    /// What it is, for people.
    pub what: String,
    /// With ports that stand in for those of the override.
    entries: Vec<Entry>,
}

/// What kind of box a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A Lync server.
    Server,
    /// Something that another role does as well.
    AddOn,
    /// A box that stands as the load balancer.
    Balancer,
    /// A box in front that no table prints; it follows from rows that name it.
    Derived,
    /// A client or a phone.
    Client,
    /// A role of the configuration's own.
    #[serde(skip_deserializing)]
    Own,
}
