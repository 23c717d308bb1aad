//! The only place that prints: data on stdout, messages on stderr.
//!
//! Here, and nowhere else, the characters that could act on a terminal are written out: others choose process
//! names, interface names and the content of files.

pub(crate) mod log;

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Once;

use lyncwall::wire;
use lyncwall_api::client;
use lyncwall_api::{Problem, Refusal};
use lyncwall_policy::problem::Error;
use lyncwall_policy::text::{acts, printable};
use serde::Serialize;

/// Prints the error, if any, and returns the exit code: 0 for success, 1 for the user's mistakes, 2 for other
/// errors. With `json`, an error is one object on stderr, as the agent's refusals are.
pub(crate) fn exit(done: anyhow::Result<()>, json: bool) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    match End::of(error) {
        End::ReaderGone => ExitCode::SUCCESS,
        End::AlreadyPrinted => ExitCode::from(1),
        End::Mistakes(refusal) => {
            tell(&refusal, json);
            ExitCode::from(1)
        }
        End::Unexpected(error) => {
            tell(&refusal_of(format!("{error:#}"), ""), json);
            ExitCode::from(2)
        }
    }
}

/// Prints mistakes.
fn tell(refusal: &Refusal, json: bool) {
    if json {
        return say_json(refusal);
    }
    let error = Style::of(&io::stderr()).error("error:");
    for mistake in &refusal.problems {
        say(&format!("{error} {}", printable(&mistake.to_string())));
    }
}

fn refusal_of(message: String, fix: &str) -> Refusal {
    Refusal { problems: vec![Problem { place: String::new(), message, fix: fix.to_owned() }] }
}

/// JSON in which every character that could act on a terminal is an escape, with an unchanged meaning.
fn json_text(text: &str) -> String {
    // Outside its strings, JSON has ASCII only.
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter != '\n' && acts(letter) {
            let mut units = [0; 2];
            shown.extend(letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Prints a value as one line of JSON on stderr. The types that go there all have a form in JSON.
fn say_json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        say(&json_text(&text));
    }
}

/// What a command ended with that was not done.
enum End {
    /// Nobody reads on.
    ReaderGone,
    /// The user's mistakes are printed.
    AlreadyPrinted,
    /// The user's mistakes, found here or by the agent.
    Mistakes(Refusal),
    /// Anything else.
    Unexpected(anyhow::Error),
}

impl End {
    fn of(error: anyhow::Error) -> Self {
        if error.is::<ReaderGone>() {
            return Self::ReaderGone;
        }
        if error.is::<AlreadyPrinted>() {
            return Self::AlreadyPrinted;
        }
        match client::Error::from(error) {
            client::Error::Refused(refusal) => Self::Mistakes(refusal),
            client::Error::Failed(error) => match error.into() {
                Error::Mistakes(problems) => Self::Mistakes(wire::refusal(&problems)),
                Error::Unexpected(error) => Self::Unexpected(error),
            },
        }
    }
}

/// The error of a command that has already printed the user's mistakes as its data.
#[derive(Debug)]
pub(crate) struct AlreadyPrinted;

impl fmt::Display for AlreadyPrinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("see the problems above")
    }
}

impl std::error::Error for AlreadyPrinted {}

/// Prints clap's answer to the command line: help, version, or a mistake. `json` is true if the user asks for
/// JSON in it.
pub(crate) fn usage(message: &clap::Error, json: bool) -> ExitCode {
    if json && message.use_stderr() {
        let text = message.render().to_string();
        let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        tell(&refusal_of(said.replace('\n', " "), "`lyncwall help COMMAND` shows its options"), json);
    } else {
        // A failed print has no other channel to report itself.
        message.print().ok();
    }
    if message.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

/// Says on stderr, once, that nobody judges the packets of these interfaces.
pub(crate) fn unguarded(names: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let head = Style::of(&io::stderr()).error("UNGUARDED:");
        say(&format!("{head} nobody judges the packets of {names}; `lyncwall status` says why"));
    });
}

/// Prints data as text or JSON.
pub(crate) struct Output {
    json: bool,
    style: Style,
    /// True after the first print.
    begun: Cell<bool>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, style: Style::of(&io::stdout()), begun: Cell::new(false) }
    }

    /// True if the user wants JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Prints a whole answer as JSON.
    pub(crate) fn value<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        self.json_line(&serde_json::to_string_pretty(value)?)
    }

    /// Prints one object of several on a line.
    pub(crate) fn object<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        self.json_line(&serde_json::to_string(value)?)
    }

    /// Prints an object that is JSON already.
    pub(crate) fn json_line(&self, json: &str) -> anyhow::Result<()> {
        self.begun.set(true);
        print(format!("{}\n", json_text(json)))
    }

    /// Prints one line of text.
    pub(crate) fn line(&self, line: &str) -> anyhow::Result<()> {
        self.begun.set(true);
        print(format!("{}\n", printable(line)))
    }

    /// Prints a table under a heading, after an empty line; prints nothing for an empty table.
    pub(crate) fn section(&self, heading: &str, table: &Table) -> anyhow::Result<()> {
        if table.rows.is_empty() {
            return Ok(());
        }
        if self.begun.get() {
            self.line("")?;
        }
        self.begun.set(true);
        print(format!("{}\n", self.style.heading(&printable(heading))))?;
        self.table(table)
    }

    /// Prints a heading.
    pub(crate) fn heading(&self, heading: &str) -> anyhow::Result<()> {
        self.line(&self.style.heading(heading))
    }

    /// Prints a paragraph of at most `width` columns behind `first`; its further lines begin below the text.
    pub(crate) fn wrapped(&self, first: &str, text: &str, width: usize) -> anyhow::Result<()> {
        let indent = first.chars().count();
        let mut line = first.to_owned();
        let mut empty = true;
        for word in text.split_whitespace() {
            if !empty && line.chars().count() + 1 + word.chars().count() > width {
                self.line(line.trim_end())?;
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line += word;
            empty = false;
        }
        self.line(line.trim_end())
    }

    /// Prints a warning on stderr.
    pub(crate) fn warn(&self, text: &str) {
        if self.json {
            return say_json(&serde_json::json!({ "warning": text }));
        }
        say(&format!("{} {}", Style::of(&io::stderr()).error("warning:"), printable(text)));
    }

    /// Prints a note on stderr.
    pub(crate) fn say(&self, text: &str) {
        say(&printable(text));
    }

    /// Prints raw bytes.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        print(bytes)
    }

    /// Clears the screen of a terminal; elsewhere prints an empty line.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        self.begun.set(false);
        print(if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "\n" })
    }

    /// Prints a table alone.
    pub(crate) fn table(&self, table: &Table) -> anyhow::Result<()> {
        print(table.lines(self.style))
    }
}

/// Cells in aligned columns.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with named columns.
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// A table without a header.
    pub(crate) fn plain() -> Self {
        Self { header: Vec::new(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    fn lines(&self, style: Style) -> String {
        let shown = |row: &Vec<String>| row.iter().map(|cell| printable(cell).into_owned()).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(shown).collect();
        let mut widths: Vec<usize> = Vec::new();
        for row in rows.iter().chain([&self.header]) {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
        };
        let mut text = String::new();
        if !self.header.is_empty() {
            text += &style.quiet(&line(&self.header));
            text.push('\n');
        }
        for row in &rows {
            text += &line(row);
            text.push('\n');
        }
        text
    }
}

/// Whether to colour.
#[derive(Clone, Copy)]
struct Style {
    colour: bool,
}

impl Style {
    /// Colours text on a terminal, unless NO_COLOR is set (<https://no-color.org>).
    fn of(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: stream.is_terminal() && !refused }
    }

    fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn quiet(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The reader of stdout is gone, as `| head` goes when it has enough: not a failure, and nothing more to
/// print.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of stdout is gone")
    }
}

impl std::error::Error for ReaderGone {}

fn print(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        done => Ok(done?),
    }
}

fn say(message: &str) {
    // A closed stderr has no other channel to report itself.
    writeln!(io::stderr().lock(), "{message}").ok();
}

#[cfg(test)]
mod tests {
    use super::json_text;

    #[test]
    fn json_has_no_character_that_acts_on_a_terminal_and_an_unchanged_meaning() {
        let hostile = "a\u{1b}]0;b\u{7}\u{7f}\u{9b}31m\u{202e}\n\u{feff}ß\\";
        let text = json_text(&serde_json::to_string_pretty(&[hostile]).expect("JSON"));
        assert!(!text.contains(|letter: char| letter != '\n' && super::acts(letter)), "{text:?}");
        let read: Vec<String> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, [hostile]);
    }
}
