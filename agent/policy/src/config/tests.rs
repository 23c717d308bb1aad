use std::path::Path;

use super::{Config, parse};
use crate::problem::Problems;

mod api;
mod documents;
mod groups;
mod limit;
mod rules;
mod syntax;
mod values;
mod zones;

/// The least that a good file has, for tests that add to it.
const LEAST: &str = "\
[management]
from = [\"10.0.0.0/8\"]
tcp = [22]

[[interface]]
name = \"eth0\"

[[target]]
roles = [\"director\"]
";

/// A good file, to test what it becomes.
fn good(text: &str) -> Config {
    parse(text, Path::new("test.toml")).unwrap_or_else(|problems| panic!("this is a good file:\n{problems}"))
}

fn problems(text: &str) -> Problems {
    parse(text, Path::new("test.toml")).expect_err("this is a bad file")
}

/// Each problem as `line:column key`.
fn places(problems: &Problems) -> Vec<String> {
    let place = |problem: &crate::problem::Problem| {
        let place = problem.place.as_ref().expect("a problem of a file has a place");
        assert_eq!(place.file, Path::new("test.toml"));
        format!("{}:{} {}", place.line, place.column, place.key)
    };
    problems.iter().map(place).collect()
}

/// Asserts that `text` has exactly one problem, at `line:column key`, with `message` and `fix` in its words.
#[track_caller]
fn one_problem(text: &str, place: &str, message: &str, fix: &str) {
    let found = problems(text);
    assert_eq!(places(&found), [place], "{found}");
    let problem = found.iter().next().expect("one problem");
    assert!(problem.message.contains(message), "{problem:?} does not say {message:?}");
    assert!(problem.fix.contains(fix), "{problem:?} does not say {fix:?}");
}

/// `LEAST` with `from` replaced by `to`.
#[track_caller]
fn changed(from: &str, to: &str) -> String {
    assert!(LEAST.contains(from), "{from:?} is in the least file");
    LEAST.replacen(from, to, 1)
}
