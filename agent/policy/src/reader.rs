//! Reads a TOML file: a typed walk over its values that knows the place of each value and reports every mistake.
//!
//! A failed read reports its mistake and returns `None`; the walk continues with the rest of the file.

mod syntax;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::net::{PortRange, PortRangeError, Transports};
use crate::problem::{Named, Place, Problem, Problems, did_you_mean, nearest};

/// The file to read, and its mistakes so far.
struct Reader<'t> {
    text: Text<'t>,
    format: Format,
    problems: RefCell<Problems>,
    /// True if syntax errors cost parts of the file: then a missing key is no mistake.
    partial: bool,
}

/// A text, and where its lines start.
struct Text<'t> {
    file: &'t Path,
    text: &'t str,
    lines: Vec<usize>,
    /// The characters before each chunk. A file may be one long line with a place in it for each value.
    characters: Vec<usize>,
}

/// The bytes of a chunk.
const CHUNK: usize = 1024;

/// One value, with its dotted key and its place.
#[derive(Clone)]
pub(crate) struct Node<'t> {
    reader: &'t Reader<'t>,
    key: String,
    at: usize,
    value: &'t DeValue<'t>,
}

/// One table, with its dotted key and its place.
pub(crate) struct Table<'t> {
    reader: &'t Reader<'t>,
    key: String,
    at: usize,
    entries: &'t DeTable<'t>,
    keys: Keys,
}

/// The most tables of a list that are read, far more than any list may have: each is compared with others.
const TABLES: usize = 1024;

/// The keys that a table may have.
pub(crate) type Keys = &'static [&'static str];

/// What a kind of file knows of keys that are not in their place.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// The keys of the top table.
    pub(crate) top: Keys,
    /// Those of them that are written as `key = value` above the first table.
    pub(crate) whole_file: Keys,
    /// The keys of later versions, dotted and without numbers, and their subject in the plural.
    pub(crate) later: &'static [(&'static str, &'static str)],
}

/// The text of `file`; `unreadable` makes a mistake of the error if it cannot be read.
pub(crate) fn text_of(
    file: &Path,
    unreadable: impl FnOnce(Place, &io::Error) -> Problem,
) -> Result<String, Problems> {
    let whole = Place { file: file.to_owned(), line: 0, column: 0, key: String::new() };
    let bytes = std::fs::read(file).map_err(|error| unreadable(whole, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let place = Text::of(file, &good).place(good.len(), String::new());
        Problem::at(place, "the file is not UTF-8 text", "save it as UTF-8: TOML requires that").into()
    })
}

/// Reads `text` with `walk`: its value, or every mistake of the parser and of `walk`, in the order of the
/// text.
pub(crate) fn read<T>(
    text: &str,
    file: &Path,
    format: Format,
    walk: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let sound: String;
    let (root, errors) = match DeTable::parse(text) {
        Ok(root) => (root.into_inner(), Vec::new()),
        Err(_) => {
            let errors;
            (sound, errors) = syntax::without_errors(text);
            // If the rest does not parse either, an empty table replaces it.
            (DeTable::parse(&sound).map_or_else(|_| DeTable::new(), Spanned::into_inner), errors)
        }
    };
    let reader = Reader {
        text: Text::of(file, text),
        format,
        problems: RefCell::default(),
        partial: errors.iter().any(|error| error.costs),
    };
    for error in errors {
        reader.problem(error.at, String::new(), error.message, error.fix);
    }
    let top = Table { reader: &reader, key: String::new(), at: 0, entries: &root, keys: format.top };
    top.check_keys();
    let value = walk(&top);
    let problems = reader.problems.into_inner().in_the_order_of(file);
    match value {
        Some(value) => problems.or(value),
        None if problems.is_empty() => unreachable!("a value is left out only where a problem is reported"),
        None => Err(problems),
    }
}

/// All values, or `None` if one is missing: a mistake does not hide those behind it.
pub(crate) fn all<T>(read: impl IntoIterator<Item = Option<T>>) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = read.into_iter().collect();
    read.into_iter().collect()
}

impl<'t> Text<'t> {
    fn of(file: &'t Path, text: &'t str) -> Self {
        let lines = [0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut before = 0;
        let chunks = text.as_bytes().chunks(CHUNK).map(|chunk| {
            before += characters(chunk);
            before
        });
        let characters = [0].into_iter().chain(chunks).collect();
        Self { file, text, lines, characters }
    }

    /// The characters before this offset.
    fn characters_before(&self, at: usize) -> usize {
        let chunk = at / CHUNK;
        self.characters[chunk] + characters(&self.text.as_bytes()[chunk * CHUNK..at])
    }

    fn place(&self, at: usize, key: String) -> Place {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|&start| start <= at);
        let start = self.lines[line - 1];
        let characters = self.characters_before(at) - self.characters_before(start);
        // A byte order mark takes no column.
        let mark = usize::from(self.text.as_bytes()[start..at].starts_with("\u{feff}".as_bytes()));
        Place { file: self.file.to_owned(), line, column: 1 + characters - mark, key }
    }
}

/// The characters that begin in these bytes of UTF-8: each has one byte that is not a continuation byte.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&b| b & 0xC0 != 0x80).count()
}

impl Reader<'_> {
    fn problem(&self, at: usize, key: String, message: impl Into<String>, fix: impl Into<String>) {
        self.problem_at(self.text.place(at, key), message, fix);
    }

    fn problem_at(&self, place: Place, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::at(place, message, fix));
    }
}

impl<'t> Node<'t> {
    /// Reports a mistake in this value.
    pub(crate) fn problem(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.reader.problem(self.at, self.key.clone(), message, fix);
    }

    /// Reports a mistake elsewhere in the file.
    pub(crate) fn problem_at(&self, place: &Place, message: impl Into<String>, fix: impl Into<String>) {
        self.reader.problem_at(place.clone(), message, fix);
    }

    /// The place of the value.
    pub(crate) fn place(&self) -> Place {
        self.reader.text.place(self.at, self.key.clone())
    }

    /// The raw value.
    pub(crate) fn value(&self) -> &'t DeValue<'t> {
        self.value
    }

    /// A string.
    pub(crate) fn string(&self) -> Option<&'t str> {
        self.value.as_str().or_else(|| self.mistyped("a string", "put it in quotes"))
    }

    /// A string, and its place.
    pub(crate) fn named(&self) -> Option<Named> {
        Some(Named { name: self.string()?.to_owned(), place: self.place() })
    }

    /// One of the words of `choices`.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.value.as_str();
        if let Some(&(_, value)) = choices.iter().find(|(word, _)| text == Some(word)) {
            return Some(value);
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let fix = format!("write {}", words.join(" or "));
        let Some(text) = text else { return self.mistyped("a string", &fix) };
        self.problem(format!("`{text}` is not a valid value"), fix);
        None
    }

    /// A transport, or both.
    pub(crate) fn transports(&self) -> Option<Transports> {
        self.choice(&[Transports::Tcp, Transports::Udp, Transports::Both].map(|word| (word.as_str(), word)))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.mistyped("true or false", "write true or false without quotes"))
    }

    /// An integer of `range`, in `unit`.
    pub(crate) fn integer(&self, range: RangeInclusive<u32>, unit: &str) -> Option<u32> {
        let bounds = || format!("write a number from {} to {}, in {unit}", range.start(), range.end());
        let DeValue::Integer(number) = self.value else { return self.mistyped("a number", &bounds()) };
        let value = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let found = value.filter(|value| range.contains(value));
        if found.is_none() {
            self.problem(format!("{number} is out of range"), bounds());
        }
        found
    }

    /// A port, or `"first-last"`.
    pub(crate) fn ports(&self) -> Option<PortRange> {
        let range = match self.value {
            DeValue::Integer(number) => {
                let port = u16::from_str_radix(number.as_str(), number.radix()).unwrap_or(0);
                PortRange::new(port, port).map_err(|_| (number.to_string(), PortRangeError::Bounds))
            }
            DeValue::String(text) if text.contains('-') => {
                text.parse().map_err(|error| (format!("`{text}`"), error))
            }
            DeValue::String(text) => {
                let fix = match text.parse::<PortRange>() {
                    Ok(port) => format!("write {port} without quotes"),
                    Err(_) => "write a port as a number and a range as \"first-last\"".to_owned(),
                };
                self.problem(format!("`{text}` in quotes is not a port range"), fix);
                return None;
            }
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                return self.mistyped("a port", "write a number, or a range in quotes, as \"49152-65535\"");
            }
        };
        range
            .map_err(|(text, error)| match error {
                PortRangeError::Bounds => {
                    self.problem(format!("{text} is out of range"), "a port is a number from 1 to 65535");
                }
                PortRangeError::Backwards => {
                    let (first, last) = text.trim_matches('`').split_once('-').unwrap_or_default();
                    let fix = format!("write \"{last}-{first}\"");
                    self.problem(format!("the range {text} ends before it starts"), fix);
                }
                PortRangeError::Syntax => {
                    let fix = "write it as \"49152-65535\", without spaces";
                    self.problem(format!("{text} is not a port range"), fix);
                }
            })
            .ok()
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        match self.value.as_array() {
            Some(items) => Some((0..).zip(items.iter()).map(|(n, item)| self.item(n, item)).collect()),
            None => self.mistyped("a list", "put it in brackets, as in `[\"one\", \"two\"]` or `[1, 2]`"),
        }
    }

    /// The items of a list, or the value itself if it is no list.
    pub(crate) fn one_or_more(&self) -> Option<Vec<Self>> {
        if self.value.is_array() { self.items() } else { Some(vec![self.clone()]) }
    }

    /// The items of a list, each by `read`.
    pub(crate) fn list<T>(&self, read: impl FnMut(&Self) -> Option<T>) -> Option<Vec<T>> {
        all(self.items()?.iter().map(read))
    }

    /// The tables of a list with at most `most` items, also those beyond, up to [`TABLES`]. Accepts a single `[name]` after reporting it.
    pub(crate) fn tables(&self, keys: Keys, most: usize) -> Option<Vec<Table<'t>>> {
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
        Some(items.iter().take(TABLES).filter_map(|item| item.table(keys)).collect())
    }

    /// A table with keys from `keys` only.
    pub(crate) fn table(&self, keys: Keys) -> Option<Table<'t>> {
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
    pub(crate) fn entries(&self, fix: &str) -> Option<Vec<(Named, Self)>> {
        let Some(entries) = self.value.as_table() else { return self.mistyped("a table", fix) };
        let mut read = Vec::new();
        for (name, value) in entries {
            let key = dotted(&self.key, name.get_ref());
            let place = self.reader.text.place(name.span().start, key.clone());
            let node = Self { reader: self.reader, key, at: value.span().start, value: value.get_ref() };
            read.push((Named { name: name.get_ref().to_string(), place }, node));
        }
        Some(read)
    }

    /// Reports that the value has the wrong type.
    pub(crate) fn mistyped<T>(&self, expected: &str, fix: &str) -> Option<T> {
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
    pub(crate) fn get(&self, name: &str) -> Option<Node<'t>> {
        let value = self.entries.get(name)?;
        Some(Node {
            reader: self.reader,
            key: self.key_of(name),
            at: value.span().start,
            value: value.get_ref(),
        })
    }

    /// The value of `name` by `read`, or `default` without the key.
    pub(crate) fn get_or<T>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&Node<'t>) -> Option<T>,
    ) -> Option<T> {
        self.get(name).map_or(Some(default), |node| read(&node))
    }

    /// The choice at `name`, or the default without the key.
    pub(crate) fn choice<T: Copy + Default>(&self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        self.get_or(name, T::default(), |node| node.choice(choices))
    }

    /// The value of `name`; reports the key if it is missing.
    pub(crate) fn required(&self, name: &str, fix: &str) -> Option<Node<'t>> {
        let node = self.get(name);
        if node.is_none() {
            self.missing(name, &format!("`{name}` is missing"), fix);
        }
        node
    }

    /// Reports that `name` is missing, unless a syntax error may have hidden it, or it is misspelt: both are
    /// reported already.
    pub(crate) fn missing(&self, name: &str, message: &str, fix: &str) {
        if !self.reader.partial && !self.misspells(name) {
            self.reader.problem_at(self.place(name), message, fix);
        }
    }

    /// True if an unknown key of the table is most likely a misspelt `name`.
    pub(crate) fn misspells(&self, name: &str) -> bool {
        let mut unknown =
            self.entries.keys().map(|key| &**key.get_ref()).filter(|key| !self.keys.contains(key));
        unknown.any(|key| nearest(key, self.keys.iter().copied()) == Some(name))
    }

    /// Reports a mistake in this table.
    pub(crate) fn problem(&self, message: &str, fix: &str) {
        self.reader.problem(self.at, self.key.clone(), message, fix);
    }

    /// Reports a mistake in the value of `name`, or in the table if the key is missing.
    pub(crate) fn problem_at(&self, name: &str, message: &str, fix: &str) {
        let place = self.get(name).map_or_else(|| self.place(name), |node| node.place());
        self.reader.problem_at(place, message, fix);
    }

    /// True if syntax errors cost parts of the file: then a missing key is no mistake.
    pub(crate) fn is_partial(&self) -> bool {
        self.reader.partial
    }

    /// The dotted key of the table.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The place of the table, with the key `name`; the whole file for the top table.
    pub(crate) fn place(&self, name: &str) -> Place {
        if self.key.is_empty() {
            let file = self.reader.text.file.to_owned();
            return Place { file, line: 0, column: 0, key: name.to_owned() };
        }
        self.reader.text.place(self.at, self.key_of(name))
    }

    /// The strings at `name` of all tables in the list at `list`; reports nothing. `None` if a mistake may have
    /// hidden some.
    pub(crate) fn names(&self, list: &str, name: &str) -> Option<Vec<&'t str>> {
        let tables = self.entries.get(list).map_or(Some(&[][..]), |list| Some(list.get_ref().as_array()?))?;
        let names = tables.iter().map(|table| table.get_ref().get(name)?.get_ref().as_str());
        names.collect::<Option<Vec<&str>>>().filter(|_| !self.is_partial())
    }

    /// Reports every unknown key of the table.
    fn check_keys(&self) {
        for key in self.entries.keys().filter(|key| !self.keys.contains(&&**key.get_ref())) {
            let (message, fix) = self.unknown(key.get_ref());
            self.reader.problem(key.span().start, self.key_of(key.get_ref()), message, fix);
        }
    }

    fn unknown(&self, name: &str) -> (String, String) {
        let Format { whole_file, later, .. } = self.reader.format;
        let unknown = format!("`{name}` is not a key of this table");
        let key = without_numbers(&self.key_of(name));
        if let Some((_, what)) = later.iter().find(|(later, _)| *later == key) {
            (format!("{what} are not supported by this version"), format!("remove `{name}`"))
        } else if !self.key.is_empty() && whole_file.contains(&name) {
            (unknown, "put it above the first `[table]`: it is for the whole file".to_owned())
        } else {
            let all = || format!("the keys are {}", self.keys.join(", "));
            (unknown, did_you_mean(name, self.keys.iter().copied(), all))
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

/// `role.row` of `role[0].row[1]`.
fn without_numbers(key: &str) -> String {
    key.split(']').map(|part| part.split('[').next().unwrap_or_default()).collect()
}

/// Unique names, with the place of each in the text.
#[derive(Default)]
pub(crate) struct Unique(HashMap<String, usize>);

impl Unique {
    /// Takes `name` at `node`; reports the name and returns false if it is taken.
    pub(crate) fn take(&mut self, what: &str, name: &str, node: &Node<'_>) -> bool {
        if let Some(&other) = self.0.get(name) {
            let line = node.reader.text.place(other, String::new()).line;
            node.problem(
                format!("{what} `{name}` already exists on line {line}"),
                "remove or rename one of the two",
            );
            return false;
        }
        self.0.insert(name.to_owned(), node.at);
        true
    }
}
