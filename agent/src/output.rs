//! The only place that prints: data on stdout, messages on stderr.

pub(crate) mod log;

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use lyncwall_api::Refusal;
use lyncwall_api::client;
use lyncwall_policy::problem::Error;
use serde::Serialize;

/// Prints the error, if any, and returns the exit code: 0 for success, 1 for the user's mistakes, 2 for other
/// errors.
pub(crate) fn exit(done: anyhow::Result<()>) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    let style = Style::of(&io::stderr());
    let say = |what: &str| say(&format!("{} {what}", style.error("error:")));
    match End::of(error) {
        End::ReaderGone => ExitCode::SUCCESS,
        End::AlreadyPrinted => ExitCode::from(1),
        End::Mistakes(mistakes) => {
            mistakes.iter().for_each(|mistake| say(mistake));
            ExitCode::from(1)
        }
        End::Unexpected(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// What a command ended with that was not done.
enum End {
    /// Nobody reads on.
    ReaderGone,
    /// The user's mistakes are printed.
    AlreadyPrinted,
    /// The user's mistakes, found here or by the agent.
    Mistakes(Vec<String>),
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
            client::Error::Refused(Refusal { problems }) => {
                Self::Mistakes(problems.iter().map(ToString::to_string).collect())
            }
            client::Error::Failed(error) => match error.into() {
                Error::Mistakes(problems) => {
                    Self::Mistakes(problems.iter().map(ToString::to_string).collect())
                }
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

/// Prints clap's answer to the command line: help, version, or a mistake.
pub(crate) fn usage(message: &clap::Error) -> ExitCode {
    // A failed print has no other channel to report itself.
    message.print().ok();
    if message.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS }
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
        self.line(&serde_json::to_string_pretty(value)?)
    }

    /// Prints one line of text.
    pub(crate) fn line(&self, line: &str) -> anyhow::Result<()> {
        self.begun.set(true);
        print(format!("{line}\n"))
    }

    /// Prints a table under a heading, after an empty line; prints nothing for an empty table.
    pub(crate) fn section(&self, heading: &str, table: &Table) -> anyhow::Result<()> {
        if table.rows.is_empty() {
            return Ok(());
        }
        if self.begun.get() {
            self.line("")?;
        }
        self.line(&self.style.heading(heading))?;
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
        say(&format!("{} {text}", Style::of(&io::stderr()).error("warning:")));
    }

    /// Prints a note on stderr.
    pub(crate) fn say(&self, text: &str) {
        say(text);
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
        let mut widths: Vec<usize> = Vec::new();
        for row in self.rows.iter().chain([&self.header]) {
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
        for row in &self.rows {
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
