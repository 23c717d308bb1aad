//! What the demonstration prints, and whether all was as it should be.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

/// The lines so far, and the checks.
pub(crate) struct Report {
    colour: bool,
    steps: usize,
    held: usize,
    failed: usize,
}

impl Report {
    pub(crate) fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: std::io::stdout().is_terminal() && !refused, steps: 0, held: 0, failed: 0 }
    }

    pub(crate) fn title(&self, text: &str) {
        println!("\n{}\n", self.paint("1", text));
    }

    /// Begins a part.
    pub(crate) fn step(&mut self, text: &str) {
        self.steps += 1;
        println!("\n{}", self.paint("1", &format!("{}. {text}", self.steps)));
    }

    pub(crate) fn line(&self, text: &str) {
        println!("   {text}");
    }

    /// Aligned columns; numbers to the right.
    pub(crate) fn table<const N: usize>(&self, header: [&str; N], rows: &[[String; N]]) {
        let header = header.map(str::to_owned);
        let all = || std::iter::once(&header).chain(rows);
        let widths: [usize; N] =
            std::array::from_fn(|n| all().map(|row| row[n].chars().count()).max().unwrap_or_default());
        let is_number = |cell: &str| cell.chars().all(|c| c.is_ascii_digit() || c == ',');
        let numbers: [bool; N] = std::array::from_fn(|n| rows.iter().all(|row| is_number(&row[n])));
        for (at, row) in all().enumerate() {
            let cells = row.iter().zip(widths).zip(numbers).map(|((cell, width), number)| {
                if number { format!("{cell:>width$}") } else { format!("{cell:width$}") }
            });
            let text = cells.collect::<Vec<_>>().join("  ");
            let text = text.trim_end();
            let text = if at == 0 { self.paint("2", text) } else { self.words(text) };
            println!("   {text}");
        }
    }

    /// Says whether something was as it should be.
    pub(crate) fn check(&mut self, held: bool, what: &str) {
        if held {
            self.held += 1;
            println!("   {} {what}", self.paint("32", "ok"));
        } else {
            self.failed(&format!("this should hold, and does not: {what}"));
        }
    }

    /// Something that should not have happened.
    pub(crate) fn failed(&mut self, what: &str) {
        self.failed += 1;
        println!("   {} {what}", self.paint("1;31", "FAILED"));
    }

    /// The last line, and the exit code.
    pub(crate) fn verdict(&self, took: Duration) -> ExitCode {
        let seconds = took.as_secs_f64();
        if self.failed == 0 && self.held > 0 {
            let verdict = self.paint("1;32", "PASSED");
            println!(
                "\n{verdict}: {} checks held in {seconds:.1} s, and all that was made is gone again",
                self.held
            );
            return ExitCode::SUCCESS;
        }
        let verdict = self.paint("1;31", "FAILED");
        println!("\n{verdict}: {} checks held, {} did not, in {seconds:.1} s", self.held, self.failed);
        ExitCode::FAILURE
    }

    /// Colours the words that an eye looks for.
    fn words(&self, text: &str) -> String {
        let text = text.replace("answers", &self.paint("32", "answers"));
        text.replace("silent", &self.paint("31", "silent"))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A service's name, cut where a line would be too long.
pub(crate) fn short(service: &str) -> String {
    const LENGTH: usize = 44;
    if service.chars().count() <= LENGTH {
        return service.to_owned();
    }
    let cut: String = service.chars().take(LENGTH - 1).collect();
    format!("{}…", cut.trim_end())
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{grouped, short};

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0, 999, 1000, 60_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "60,000", "1,234,567"]
        );
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(short("HTTPS"), "HTTPS");
        assert_eq!(short(&"x".repeat(50)).chars().count(), 44);
    }
}
