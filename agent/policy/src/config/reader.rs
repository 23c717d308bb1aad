//! A typed walk over a parsed TOML file that knows the place of each value and reports every mistake.
//!
//! A failed read reports its mistake and returns `None`; the walk continues with the rest of the file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Name, Named, syntax};
use crate::problem::{Place, Problem, Problems};

/// The file to read, and its mistakes so far.
pub(super) struct Reader<'t> {
    file: &'t Path,
    text: &'t str,
    problems: RefCell<Problems>,
    /// True if syntax errors cost parts of the file: then a missing key is no mistake.
    partial: bool,
}

/// One value, with its dotted key and its place.
#[derive(Clone)]
pub(super) struct Node<'t> {
    reader: &'t Reader<'t>,
    key: String,
    at: usize,
    value: &'t DeValue<'t>,
}

/// One table, with its dotted key and its place.
pub(super) struct Table<'t> {
    reader: &'t Reader<'t>,
    key: String,
    at: usize,
    entries: &'t DeTable<'t>,
    keys: Keys,
}

/// The keys of a table.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// Known keys.
    pub(super) known: &'static [&'static str],
    /// Keys of later versions, and their subject in the plural.
    pub(super) later: &'static [(&'static str, &'static str)],
}

/// Reads `text` with `walk`: its value, or every mistake of the parser and of `walk`, in the order of the
/// text.
pub(super) fn read<T>(
    text: &str,
    file: &Path,
    keys: Keys,
    walk: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let (sound, errors) = syntax::without_errors(text);
    // If the rest does not parse either, an empty table replaces it.
    let root = DeTable::parse(&sound).map_or_else(|_| DeTable::new(), Spanned::into_inner);
    let reader =
        Reader { file, text, problems: RefCell::default(), partial: errors.iter().any(|error| error.costs) };
    for error in errors {
        let place = place(file, text, error.at, String::new());
        reader.problems.borrow_mut().push(Problem::at(place, error.message, error.fix));
    }
    let top = Table { reader: &reader, key: String::new(), at: 0, entries: &root, keys };
    top.check_keys();
    let value = walk(&top);
    let problems = sorted(&reader.problems.into_inner());
    match value {
        Some(value) => problems.or(value),
        None if problems.is_empty() => unreachable!("a value is left out only where a problem is reported"),
        None => Err(problems),
    }
}

/// The place after the last character of `text`, which is the start of `file`.
pub(super) fn place_after(file: &Path, text: &str) -> Place {
    place(file, text, text.len(), String::new())
}

fn place(file: &Path, text: &str, at: usize, key: String) -> Place {
    let before = &text.as_bytes()[..at.min(text.len())];
    let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    // Each character has one byte that is not a continuation byte. A byte order mark takes no column.
    let characters = before[start..].iter().filter(|&&b| b & 0xC0 != 0x80).count();
    let mark = usize::from(before[start..].starts_with("\u{feff}".as_bytes()));
    let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
    Place { file: file.to_owned(), line, column: 1 + characters - mark, key }
}

fn sorted(problems: &Problems) -> Problems {
    let position = |p: &&Problem| p.place.as_ref().map_or((0, 0), |place| (place.line, place.column));
    let mut list: Vec<&Problem> = problems.iter().collect();
    list.sort_by_key(position);
    let mut sorted = Problems::default();
    list.into_iter().for_each(|problem| sorted.push(problem.clone()));
    sorted
}

impl<'t> Node<'t> {
    /// Reports a mistake in this value.
    pub(super) fn problem(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.reader.problems.borrow_mut().push(Problem::at(self.place(), message, fix));
    }

    /// Reports a mistake elsewhere in the file.
    pub(super) fn problem_at(&self, place: &Place, message: impl Into<String>, fix: impl Into<String>) {
        self.reader.problems.borrow_mut().push(Problem::at(place.clone(), message, fix));
    }

    /// The place of the value.
    pub(super) fn place(&self) -> Place {
        place(self.reader.file, self.reader.text, self.at, self.key.clone())
    }

    /// The raw value.
    pub(super) fn value(&self) -> &'t DeValue<'t> {
        self.value
    }

    /// A string.
    pub(super) fn string(&self) -> Option<&'t str> {
        self.value.as_str().or_else(|| self.mistyped("a string", "put it in quotes"))
    }

    /// One of the words of `choices`.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let fix = format!("write {}", words.join(" or "));
        let Some(text) = self.value.as_str() else { return self.mistyped("a string", &fix) };
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            self.problem(format!("`{text}` is not a valid value"), fix);
        }
        found.map(|&(_, value)| value)
    }

    /// The name of a target or a zone.
    pub(super) fn name(&self) -> Option<Name> {
        let text = self.string()?;
        let shape = "use 1 to 32 of a-z, 0-9 and `-`";
        Name::new(text).map_err(|why| self.problem(format!("`{text}`: {why}"), shape)).ok()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.mistyped("true or false", "write true or false without quotes"))
    }

    /// An integer of `range`, in `unit`.
    pub(super) fn integer(&self, range: RangeInclusive<u32>, unit: &str) -> Option<u32> {
        let bounds = format!("write a number from {} to {}, in {unit}", range.start(), range.end());
        let DeValue::Integer(number) = self.value else { return self.mistyped("a number", &bounds) };
        let value = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let found = value.filter(|value| range.contains(value));
        if found.is_none() {
            self.problem(format!("{number} is out of range"), bounds);
        }
        found
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        match self.value.as_array() {
            Some(items) => Some((0..).zip(items.iter()).map(|(n, item)| self.item(n, item)).collect()),
            None => self.mistyped("a list", "put it in brackets, as in `[\"one\", \"two\"]` or `[1, 2]`"),
        }
    }

    /// The tables of a list with at most `most` items. Accepts a single `[name]` after reporting it.
    pub(super) fn tables(&self, keys: Keys, most: usize) -> Option<Vec<Table<'t>>> {
        if self.value.is_table() {
            self.problem(
                format!("`{}` is a list of tables", self.key),
                format!("write `[[{}]]` with double brackets", self.key),
            );
            return self.table(keys).map(|table| vec![table]);
        }
        let items = self.items()?;
        if let Some(extra) = items.get(most) {
            let count = items.len();
            extra.problem(
                format!("{count} `[[{}]]` tables: this version handles at most {most}", self.key),
                "remove some",
            );
        }
        Some(items.iter().filter_map(|item| item.table(keys)).collect())
    }

    /// A table with keys from `keys` only.
    pub(super) fn table(&self, keys: Keys) -> Option<Table<'t>> {
        let Some(entries) = self.value.as_table() else {
            let header = match self.key.split_once('[') {
                Some((list, _)) => format!("[[{list}]]"),
                None => format!("[{}]", self.key),
            };
            return self.mistyped("a table", &format!("write its keys under a `{header}` header"));
        };
        let table = Table { reader: self.reader, key: self.key.clone(), at: self.at, entries, keys };
        table.check_keys();
        Some(table)
    }

    /// The entries of a table with free keys: each name with its place, and its value.
    pub(super) fn entries(&self, fix: &str) -> Option<Vec<(Named, Self)>> {
        let Some(entries) = self.value.as_table() else { return self.mistyped("a table", fix) };
        let mut read = Vec::new();
        for (name, value) in entries {
            let key = dotted(&self.key, name.get_ref());
            let at = place(self.reader.file, self.reader.text, name.span().start, key.clone());
            let node = Self { reader: self.reader, key, at: value.span().start, value: value.get_ref() };
            read.push((Named { name: name.get_ref().to_string(), place: at }, node));
        }
        Some(read)
    }

    /// Reports that the value has the wrong type.
    pub(super) fn mistyped<T>(&self, expected: &str, fix: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a decimal fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.problem(format!("expected {expected}, found {found}"), fix);
        None
    }

    fn item(&self, n: usize, item: &'t Spanned<DeValue<'t>>) -> Self {
        let (at, value) = (item.span().start, item.get_ref());
        Self { reader: self.reader, key: format!("{}[{n}]", self.key), at, value }
    }
}

impl<'t> Table<'t> {
    /// The value of `name`, if the table has that key.
    pub(super) fn get(&self, name: &str) -> Option<Node<'t>> {
        let value = self.entries.get(name)?;
        Some(Node {
            reader: self.reader,
            key: self.key_of(name),
            at: value.span().start,
            value: value.get_ref(),
        })
    }

    /// The choice at `name`, or the default without the key.
    pub(super) fn choice<T: Copy + Default>(&self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        self.get(name).map_or_else(|| Some(T::default()), |node| node.choice(choices))
    }

    /// The value of `name`; reports the key if it is missing.
    pub(super) fn required(&self, name: &str, fix: &str) -> Option<Node<'t>> {
        let node = self.get(name);
        if node.is_none() {
            self.missing(name, &format!("`{name}` is missing"), fix);
        }
        node
    }

    /// Reports that `name` is missing, unless a syntax error may have hidden it, or it is misspelt: both are
    /// reported already.
    pub(super) fn missing(&self, name: &str, message: &str, fix: &str) {
        if !self.reader.partial && !self.misspells(name) {
            let problem = Problem::at(self.place(name), message, fix);
            self.reader.problems.borrow_mut().push(problem);
        }
    }

    /// True if an unknown key of the table is most likely a misspelt `name`.
    pub(super) fn misspells(&self, name: &str) -> bool {
        let mut keys = self.entries.keys().map(|key| &**key.get_ref());
        keys.any(|key| !self.keys.known.contains(&key) && nearest(key, self.keys.known) == Some(name))
    }

    /// Reports a mistake in this table.
    pub(super) fn problem(&self, message: &str, fix: &str) {
        let place = place(self.reader.file, self.reader.text, self.at, self.key.clone());
        self.reader.problems.borrow_mut().push(Problem::at(place, message, fix));
    }

    /// Reports a mistake in the value of `name`, or in the table if the key is missing.
    pub(super) fn problem_at(&self, name: &str, message: &str, fix: &str) {
        let place = self.get(name).map_or_else(|| self.place(name), |node| node.place());
        self.reader.problems.borrow_mut().push(Problem::at(place, message, fix));
    }

    /// True if syntax errors cost parts of the file: then a missing key is no mistake.
    pub(super) fn is_partial(&self) -> bool {
        self.reader.partial
    }

    /// The dotted key of the table.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The place of the table, with the key `name`; the whole file for the top table.
    pub(super) fn place(&self, name: &str) -> Place {
        if self.key.is_empty() {
            return Place { file: self.reader.file.to_owned(), line: 0, column: 0, key: name.to_owned() };
        }
        place(self.reader.file, self.reader.text, self.at, self.key_of(name))
    }

    /// Reports every unknown key of the table.
    fn check_keys(&self) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if self.keys.known.contains(&name) {
                continue;
            }
            let (message, fix) = self.unknown(name);
            let place = place(self.reader.file, self.reader.text, key.span().start, self.key_of(name));
            self.reader.problems.borrow_mut().push(Problem::at(place, message, fix));
        }
    }

    fn unknown(&self, name: &str) -> (String, String) {
        let keys = self.keys;
        let unknown = format!("`{name}` is not a key of this table");
        if let Some((_, what)) = keys.later.iter().find(|(later, _)| *later == name) {
            (format!("{what} are not supported by this version"), format!("remove `{name}`"))
        } else if !self.key.is_empty() && WHOLE_FILE.contains(&name) {
            (unknown, "put it above the first `[table]`: it is for the whole file".to_owned())
        } else if let Some(nearest) = nearest(name, keys.known) {
            (unknown, format!("did you mean `{nearest}`?"))
        } else {
            (unknown, format!("the keys are {}", keys.known.join(", ")))
        }
    }

    fn key_of(&self, name: &str) -> String {
        dotted(&self.key, name)
    }
}

/// The dotted key `name` of the table `table`, which is empty for the top table.
fn dotted(table: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if table.is_empty() { name } else { format!("{table}.{name}") }
}

/// The word that `text` most likely means: it differs in at most a third of its letters, or in one.
pub(super) fn nearest<'k>(text: &str, words: &[&'k str]) -> Option<&'k str> {
    let text = text.to_lowercase().replace('_', "-");
    let distance = |word: &str| strsim::damerau_levenshtein(&text, word);
    let word = words.iter().copied().min_by_key(|word| distance(word))?;
    (distance(word) <= (word.len() / 3).max(1)).then_some(word)
}

/// The keys of the top table that are written as `key = value` above the first table.
pub(super) const WHOLE_FILE: &[&str] = &["catalogue", "reading", "mode", "on-exit", "management"];

/// Unique names, with the place of each.
#[derive(Default)]
pub(super) struct Unique(HashMap<String, String>);

impl Unique {
    /// Takes `name` at `node`; reports the name and returns false if it is taken.
    pub(super) fn take(&mut self, what: &str, name: &str, node: &Node<'_>) -> bool {
        let place = node.place();
        if let Some(other) = self.0.get(name) {
            node.problem(
                format!("{what} `{name}` already exists on {other}"),
                "remove or rename one of the two",
            );
            return false;
        }
        self.0.insert(name.to_owned(), format!("line {}", place.line));
        true
    }
}
