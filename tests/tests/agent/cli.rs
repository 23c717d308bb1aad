//! The command line with bad input and without an agent, and the JSON of the commands that speak to one.

mod doctor;
mod json;
mod mistakes;
mod privilege;

use std::ffi::OsStr;

use lyncwall_tests::agent::Finished;
use lyncwall_tests::scene::Scene;

/// A command that the user has to mend: exit code 1, nothing on stdout, and each of these on stderr.
#[track_caller]
fn expect_refused(finished: &Finished, said: &[&str]) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stdout, "", "data beside the mistake");
    for text in said {
        assert!(finished.stderr.contains(text), "no {text:?} in:\n{}", finished.stderr);
    }
}

/// Runs a command in the agent's place.
#[track_caller]
fn cli<A: AsRef<OsStr>>(scene: &Scene, arguments: impl IntoIterator<Item = A>) -> Finished {
    scene.instance.cli(arguments).expect("it runs")
}

/// The lines of stderr that report a mistake.
fn errors(finished: &Finished) -> Vec<&str> {
    finished.stderr.lines().filter(|line| line.starts_with("error:")).collect()
}
