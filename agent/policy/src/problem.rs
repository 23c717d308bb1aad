//! Mistakes of the user: what is wrong, where, and the remedy.
//!
//! A command collects all mistakes into [`Problems`] and returns that as its error; `main` prints them and
//! exits with 1. Every other error is unexpected and exits with 2.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::text::{counted, printable};

/// The place of a mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: PathBuf,
    /// Line, counted from 1; 0 for the whole file.
    pub line: usize,
    /// Column in characters, counted from 1; 0 for the whole line or file.
    pub column: usize,
    /// The dotted key, as `target[0].roles[1]`; empty without a key.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file.to_string_lossy()))?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        if self.key.is_empty() { Ok(()) } else { write!(f, ": {}", printable(&self.key)) }
    }
}

/// A name that refers to something, and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// As written.
    pub name: String,
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place; `None` for the command line and the machine.
    pub place: Option<Place>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The remedy, in one sentence without a full stop; empty if the message names it.
    pub fix: String,
}

impl Problem {
    /// A mistake without a place in a file.
    pub fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { place: None, message: message.into(), fix: fix.into() }
    }

    /// A mistake at a place in a file.
    pub fn at(place: Place, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { place: Some(place), message: message.into(), fix: fix.into() }
    }
}

/// A message may quote a file: its control characters are written out.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&printable(&self.message))?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", printable(&self.fix)) }
    }
}

/// The most mistakes to tell one by one.
const MOST: usize = 100;

/// All mistakes that one check found; never empty as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one mistake.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds all of `other`.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Sorts the mistakes: first those in `file`, in the order of its text.
    #[must_use]
    pub fn in_the_order_of(mut self, file: &Path) -> Self {
        self.0.sort_by_key(|problem| match &problem.place {
            Some(place) if place.file == *file => (false, place.line, place.column),
            Some(_) | None => (true, 0, 0),
        });
        self
    }

    /// Adds several mistakes.
    pub fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.0.extend(problems);
    }

    /// The first mistakes, and a last one that counts the rest: many are often one mistake, and a file can
    /// have as many as it has lines.
    #[must_use]
    pub fn first(mut self) -> Self {
        if let Some(more) = self.0.len().checked_sub(MOST).filter(|more| *more > 1) {
            self.0.truncate(MOST);
            let more = counted(more, "more mistake", "more mistakes");
            self.0.push(Problem::new(format!("and {more}"), "correct these first, then check again"));
        }
        self
    }

    /// True if there are no mistakes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mistakes, in the order of their discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// `value` if there are no mistakes, else the mistakes as the error.
    ///
    /// # Errors
    /// The mistakes, if there are any.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    /// One mistake to a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for anyhow::Error {
    fn from(problem: Problem) -> Self {
        Problems::from(problem).into()
    }
}

/// The one of `words` that `text` most likely means: it differs in at most a third of its letters, or in one.
/// Capitals, and `_` for `-`, do not count.
pub fn nearest<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let text = plain(text);
    let near = words.into_iter().filter_map(|word| {
        let (plain, most) = (plain(word), (word.len() / 3).max(1));
        // Clients of the socket may ask with long names: the lengths alone rule out most words.
        let possible = text.chars().count().abs_diff(plain.chars().count()) <= most;
        let distance = possible.then(|| strsim::damerau_levenshtein(&text, &plain))?;
        (distance <= most).then_some((distance, word))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// The fix for the unknown name `text`: the [`nearest`] of `words`, or `otherwise`.
pub fn did_you_mean<'w>(
    text: &str,
    words: impl IntoIterator<Item = &'w str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(text, words).map_or_else(otherwise, |word| format!("did you mean `{word}`?"))
}

/// Why something was not done, for code that decides by it.
#[derive(Debug)]
pub enum Error {
    /// The person at the keyboard can mend it.
    Mistakes(Problems),
    /// Nobody expects it.
    Unexpected(anyhow::Error),
}

impl Error {
    /// Merges the problems of both, or returns the unexpected error.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Mistakes(mut problems), Self::Mistakes(more)) => {
                problems.append(more);
                Self::Mistakes(problems)
            }
            (Self::Unexpected(error), _) | (_, Self::Unexpected(error)) => Self::Unexpected(error),
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::Mistakes(problems)
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast() {
            Ok(problems) => Self::Mistakes(problems),
            Err(error) => Self::Unexpected(error),
        }
    }
}

impl From<Error> for anyhow::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Mistakes(problems) => problems.into(),
            Error::Unexpected(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::{Error, Problem, Problems, did_you_mean, nearest};

    #[test]
    fn the_nearest_word_differs_in_at_most_a_third_of_its_letters() {
        let words = ["on-exit", "mode", "management", "tcp"];
        for (text, word) in [
            ("On_Exit", Some("on-exit")),
            ("oneexti", Some("on-exit")),
            ("onexti-", None),
            ("mdoe", Some("mode")),
            ("made", Some("mode")),
            ("maed", None),
            ("managment", Some("management")),
            ("mangmnt", Some("management")),
            ("mangmt", None),
            ("tc", Some("tcp")),
            ("", None),
        ] {
            assert_eq!(nearest(text, words), word, "{text}");
        }
        assert_eq!(nearest("mode", []), None);
        assert_eq!(did_you_mean("mdoe", words, || "no".to_owned()), "did you mean `mode`?");
        assert_eq!(did_you_mean("x", words, || "no".to_owned()), "no");
    }

    #[test]
    fn mistakes_are_told_from_what_is_unexpected_also_under_a_context() {
        let mistake = || Problems::from(Problem::new("it is wrong", "mend it"));
        let under = Err::<(), _>(anyhow::Error::from(mistake())).context("doing it").expect_err("it is one");
        assert!(matches!(Error::from(under), Error::Mistakes(problems) if problems == mistake()));
        let unexpected = Error::from(anyhow!("it broke").context("doing it"));
        assert_eq!(format!("{:#}", anyhow::Error::from(unexpected)), "doing it: it broke");
    }

    #[test]
    fn the_first_mistakes_are_told_and_the_rest_is_counted() {
        let of = |count: usize| {
            let mut problems = Problems::default();
            problems.extend((1..=count).map(|n| Problem::new(format!("number {n}"), "mend it")));
            problems
        };
        for few in [1, 100, 101] {
            assert_eq!(of(few).first(), of(few));
        }
        let told = of(40_000).first();
        assert_eq!(told.iter().count(), 101);
        assert_eq!(told.iter().last().expect("one").message, "and 39900 more mistakes");
        assert_eq!(told.clone().first(), told, "nothing is counted twice");
    }

    #[test]
    fn mistakes_come_together_and_what_is_unexpected_comes_first() {
        let mistake = |message: &str| Error::from(Problems::from(Problem::new(message, "")));
        let both = anyhow::Error::from(mistake("one").and(mistake("two")));
        assert_eq!(both.to_string(), "one\ntwo");
        for error in
            [mistake("one").and(anyhow!("broke").into()), Error::from(anyhow!("broke")).and(mistake("one"))]
        {
            assert!(matches!(error, Error::Unexpected(error) if error.to_string() == "broke"));
        }
    }
}
