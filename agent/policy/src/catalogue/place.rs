//! Finds the place of a value in a TOML text.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::Place;

/// A file's text, to find places in.
pub(super) struct Text<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Text<'_> {
    /// Line, column and dotted key of a byte range.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place { file: self.file.to_owned(), line, column, key: self.key(span.start) }
    }

    fn key(&self, offset: usize) -> String {
        let (root, _) = DeTable::parse_recoverable(self.text);
        let mut found = Innermost { offset, width: usize::MAX, key: String::new() };
        found.table(root.get_ref(), "");
        found.key
    }
}

/// The narrowest key or value over an offset.
struct Innermost {
    offset: usize,
    width: usize,
    key: String,
}

impl Innermost {
    fn table(&mut self, table: &DeTable<'_>, path: &str) {
        for (name, value) in table {
            let name_span = name.span();
            let name = name.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            self.offer(&name_span, &path);
            self.value(value, &path);
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, path: &str) {
        self.offer(&value.span(), path);
        match value.get_ref() {
            DeValue::Table(table) => self.table(table, path),
            DeValue::Array(array) => {
                for (index, value) in array.iter().enumerate() {
                    self.value(value, &format!("{path}[{index}]"));
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    fn offer(&mut self, span: &Range<usize>, path: &str) {
        if span.contains(&self.offset) && span.len() <= self.width {
            self.width = span.len();
            self.key = path.to_owned();
        }
    }
}
