//! Finds all syntax errors of a file, not only the first, and returns the rest of the file without them.
//!
//! The TOML parser recovers from an error, but one mistake, such as a list without its end, makes it report
//! every line that follows. This module takes the first error, blanks the lines at fault, and parses again.
//! Blanking keeps every byte at its offset.

use toml::de::{DeTable, DeValue};

/// A syntax error.
pub(super) struct SyntaxError {
    /// Byte offset in the text.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) fix: String,
    /// False if the mistake cost no content: a duplicate key.
    pub(super) costs: bool,
}

/// The most errors to report.
const MOST: usize = 50;

/// The most bytes to parse for a further error: each error costs a parse of the whole text.
const BYTES: usize = 8 << 20;

/// `text` with every faulty statement blanked, and the errors.
pub(super) fn without_errors(text: &str) -> (String, Vec<SyntaxError>) {
    let mut sound = text.to_owned();
    let mut errors = Vec::new();
    while errors.len() < MOST && errors.len() * text.len() < BYTES {
        let (table, found) = DeTable::parse_recoverable(&sound);
        let Some(first) = found.iter().min_by_key(|error| error.span().map_or(0, |span| span.start)) else {
            break;
        };
        let at = first.span().map_or(0, |span| span.start);
        let list = multi_line_value(table.get_ref(), at, &sound);
        let blank = match list {
            Some(list) if list.is_array && starts_statement(line_at(&sound, at)) => {
                errors.push(SyntaxError {
                    at: list.start,
                    message: "not TOML: the list that starts here is not closed".to_owned(),
                    fix: "add the `]` that ends it".to_owned(),
                    costs: true,
                });
                line_start(&sound, list.start)..line_start(&sound, at)
            }
            Some(value) if !(value.is_array && at < value.end) => {
                errors.push(described(first.message(), at, &sound));
                line_start(&sound, value.start)..line_end(&sound, at)
            }
            _ => {
                errors.push(described(first.message(), at, &sound));
                line_start(&sound, at)..line_end(&sound, at)
            }
        };
        let Some(rest) = blanked(&sound, blank) else { break };
        sound = rest;
    }
    (sound, errors)
}

struct MultiLine {
    start: usize,
    end: usize,
    is_array: bool,
}

/// The outermost written value around `at`, or ending there, if it begins on an earlier line.
fn multi_line_value(table: &DeTable<'_>, at: usize, text: &str) -> Option<MultiLine> {
    for (_, value) in table {
        let span = value.span();
        // The span of a table under a header covers the header only, so its values are searched whatever the
        // span is.
        let inner = match value.get_ref() {
            DeValue::Table(inner) => multi_line_value(inner, at, text),
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| item.get_ref().as_table())
                .find_map(|inner| multi_line_value(inner, at, text)),
            _ => None,
        };
        let outer = (span.contains(&at) || span.end == at) && span.start < line_start(text, at);
        if outer {
            return Some(MultiLine {
                start: span.start,
                end: span.end,
                is_array: value.get_ref().is_array(),
            });
        }
        if inner.is_some() {
            return inner;
        }
    }
    None
}

/// True for a line like `key = …`, `[table]` or `[[table]]`, which cannot be in a list.
fn starts_statement(line: &str) -> bool {
    let line = line.trim_start();
    let bare = |text: &str| {
        let text = text.trim();
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match line.strip_prefix('[') {
        Some(header) => {
            let name = header.trim_start_matches('[').split(']').next().unwrap_or_default();
            bare(name) && name.bytes().any(|b| b.is_ascii_alphabetic())
        }
        None => line.split_once('=').is_some_and(|(key, _)| bare(key)),
    }
}

/// `text` with the bytes of `range` blanked, except line ends; `None` if nothing is left to blank. A table
/// header is blanked with its section, or the previous table would get the section's keys. An empty table
/// replaces it, so that later tables keep their numbers.
fn blanked(text: &str, range: std::ops::Range<usize>) -> Option<String> {
    let faulty = &text[range.clone()];
    if faulty.trim().is_empty() {
        return None;
    }
    let header = faulty.trim_start().strip_prefix("[").filter(|_| !faulty.trim_end().contains('\n'));
    let end = match header {
        Some(_) => next_header(text, range.end),
        None => range.end,
    };
    let mut bytes = text.as_bytes().to_vec();
    for byte in bytes[range.start..end].iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    if let Some(name) = header.and_then(|rest| rest.strip_prefix('[')) {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name: String = name.chars().skip_while(|&c| c == ' ').take_while(|&c| bare(c)).collect();
        let empty = format!("[[{name}]]");
        if !name.is_empty() && empty.len() < end - range.start {
            bytes[range.start..end - 1].fill(b' ');
            bytes[range.start..range.start + empty.len()].copy_from_slice(empty.as_bytes());
        }
    }
    String::from_utf8(bytes).ok()
}

/// The start of the next line that begins with `[`, from `at` on, or the end of the text.
fn next_header(text: &str, at: usize) -> usize {
    let mut start = at;
    for line in text[at..].split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            return start;
        }
        start += line.len();
    }
    text.len()
}

fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1)
}

/// The offset after the line end.
fn line_end(text: &str, at: usize) -> usize {
    text.as_bytes()[at..].iter().position(|&b| b == b'\n').map_or(text.len(), |newline| at + newline + 1)
}

fn line_at(text: &str, at: usize) -> &str {
    &text[line_start(text, at)..line_end(text, at)]
}

/// The parser's message, with a fix for common mistakes.
fn described(message: &str, at: usize, text: &str) -> SyntaxError {
    let rest = text[line_start(text, at)..].get(at - line_start(text, at)..).unwrap_or_default();
    let is_duplicate = message.starts_with("duplicate key");
    let value_is_missing = rest.is_empty() || rest.starts_with(['\n', '\r', '#']);
    let quotes = "put text, addresses and prefixes in quotes, as in `\"10.0.0.0/8\"`";
    let (message, fix) = if message.starts_with("string values must be quoted") {
        if value_is_missing {
            ("no value after the `=`", "write one, or remove the line")
        } else {
            ("this value needs quotes", quotes)
        }
    } else if ["invalid float", "invalid integer", "invalid date", "invalid time"]
        .iter()
        .any(|start| message.starts_with(start))
    {
        ("this is not a number", quotes)
    } else if message.starts_with("invalid boolean") {
        ("true and false are in lower case", "write `true` or `false`")
    } else if is_duplicate {
        let fix = "keep one; to repeat a table, use double brackets, as in `[[interface]]`";
        ("this key or table already exists", fix)
    } else if message.starts_with("key with no value") {
        ("a key has no value", "write `key = value`")
    } else {
        (message, "correct it; see https://toml.io for the syntax")
    };
    // A duplicate table loses its keys.
    let costs = !is_duplicate || line_at(text, at).trim_start().starts_with('[');
    SyntaxError { at, message: format!("not TOML: {message}"), fix: fix.to_owned(), costs }
}
