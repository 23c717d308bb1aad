//! `cargo xtask test`: all tests, with the BPF object and the agent at hand.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build::{self, Profile};
use crate::field;
use crate::process::{self, Failure};
use crate::toolchain;
use crate::vm;
use crate::vm::kernels::KERNELS;
use crate::vm::requirements::{self, QEMU};

/// What to test.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
    /// Also run the tests on all of Debian's kernels, and prove that they detect a broken BPF program
    #[arg(long, conflicts_with = "arguments")]
    full: bool,
    /// Arguments of `cargo test`, as `-p lyncwall-tests --test verdicts` or `-- a_part_of_a_name`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds everything, runs the tests and sums them up; then runs those that need a kernel on other kernels.
///
/// # Errors
/// A [`Failure`] without root or the programs of [`field`], when a test fails, and when no test ran.
pub(crate) fn run(options: &Options) -> Result<()> {
    process::require_root("test")?;
    if options.full {
        // Before the work of minutes.
        requirements::check()?;
    }
    require_programs(options)?;
    here(options)?;
    if options.full {
        vm::run_tests(&options.toolchain, &KERNELS)?;
        return vm::run_broken(&options.toolchain);
    }
    if !options.arguments.is_empty() {
        return Ok(());
    }
    if QEMU.find().is_none() {
        let all = requirements::PROGRAMS.iter().collect::<Vec<_>>();
        println!("not run on Linux 6.1: no {}; {} brings it", QEMU.name, requirements::install(&all));
        return Ok(());
    }
    vm::run_tests(&options.toolchain, &[vm::kernels::parse("6.1").map_err(anyhow::Error::msg)?])
}

/// Demands the real programs that tests start, before the work of minutes. Where arguments choose other tests, it
/// says what is missing and goes on: nobody needs nginx for the rest.
fn require_programs(options: &Options) -> Result<()> {
    let Some((what, fix)) = field::lack() else { return Ok(()) };
    let chosen = options.arguments.iter().any(|argument| argument.to_string_lossy().contains("field"));
    if options.arguments.is_empty() || chosen {
        return Err(Failure::new(what, fix).into());
    }
    println!("{what}; {fix} brings it");
    Ok(())
}

/// Runs the tests on this machine's kernel.
fn here(options: &Options) -> Result<()> {
    let start = Instant::now();
    let built = build::build(&options.toolchain, Profile::Debug)?;

    process::say("run the tests");
    let mut command = if selects_packages(&options.arguments) {
        build::host_selected("test")?
    } else {
        build::host("test")?
    };
    built.export_to(&mut command);
    command.arg("--no-fail-fast").args(&options.arguments);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format!("cargo test: {error}"), "install Rust by rustup"))?;
    let stdout = child.stdout.take().context("the output of cargo test")?;
    let mut sum = Sum::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("the output of cargo test")?;
        let mut out = std::io::stdout().lock();
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).context("stdout")?;
        sum.add(&String::from_utf8_lossy(&line));
    }
    let status = child.wait();
    println!("{} in {}", sum.line(), process::elapsed(start));
    process::judge("tests", &command, status, "the failures are listed above, each under its test's name")?;
    if sum.passed == 0 {
        return Err(Failure::new("no test ran", "give arguments that match a test, or none for all").into());
    }
    Ok(())
}

/// True where the arguments of `cargo test` name packages.
fn selects_packages(arguments: &[OsString]) -> bool {
    let of_cargo = arguments.iter().take_while(|argument| *argument != "--");
    of_cargo
        .filter_map(|argument| argument.to_str())
        .any(|argument| argument.starts_with("--package") || argument.starts_with("-p"))
}

/// The results of all test programs together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Programs that have said their result.
    pub(crate) programs: u32,
    /// Tests that passed.
    pub(crate) passed: u32,
    /// Tests that failed.
    pub(crate) failed: u32,
    /// Tests that were not run.
    pub(crate) ignored: u32,
}

impl Sum {
    /// Adds the line, if it is the result of one test program.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        let count = |what: &str| {
            let part = counts.1.split("; ").find_map(|part| part.strip_suffix(what));
            part.and_then(|number| number.trim().parse::<u32>().ok()).unwrap_or(0)
        };
        self.programs += 1;
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
    }

    fn line(&self) -> String {
        let Self { programs, passed, failed, ignored } = self;
        format!("tests: {passed} passed, {failed} failed, {ignored} ignored in {programs} programs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arguments_of_cargo_select_packages() {
        let selects = |line: &str| selects_packages(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in ["-p lyncwall", "-plyncwall", "--package=lyncwall", "--test cli -p lyncwall-tests -- a"] {
            assert!(selects(line), "{line}");
        }
        for line in ["--test cli", "-- -p", "--profile dev"] {
            assert!(!selects(line), "{line}");
        }
    }

    #[test]
    fn results_of_several_programs_are_added() {
        let mut sum = Sum::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.20s",
        ] {
            sum.add(line);
        }
        assert_eq!(sum, Sum { programs: 2, passed: 13, failed: 2, ignored: 1 });
    }
}
