//! `cargo xtask test`: the tests, with the BPF object and the agent at hand.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build::{self, Built};
use crate::field;
use crate::process::{self, Failure};
use crate::programs::{self, Program};
use crate::sum::Sum;
use crate::toolchain;
use crate::vm;
use crate::vm::requirements;

/// What to test.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
    /// Run the tests of this package only, as `lyncwall-policy`; may be given several times
    #[arg(short, long = "package", value_name = "NAME")]
    packages: Vec<String>,
    /// Build and run this test program only: `kernel`, `agent`, `field`, …, or `lib` for unit tests
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// Then run the tests that a kernel can make different on each of Debian's kernels
    #[arg(long, conflicts_with_all = ["packages", "tests", "arguments"])]
    kernels: bool,
    /// Run everything, on each of Debian's kernels too, as in a run every night
    #[arg(long, conflicts_with_all = ["packages", "tests", "arguments", "kernels"])]
    full: bool,
    /// Arguments of the test programs: parts of tests' names, `--nocapture`, …
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds everything, runs the tests and sums them up; then runs those that need a kernel on other kernels.
///
/// # Errors
/// A [`Failure`] without root or the programs of [`field`], when a test fails, and when no test ran.
pub(crate) fn run(options: &Options) -> Result<()> {
    process::require_root("test")?;
    if let Some(misplaced) = options.arguments.iter().find(|argument| is_selection(argument)) {
        return Err(Failure::new(
            format!("{} is no argument of a test program", misplaced.display()),
            "put it before `--`, as in `cargo xtask test --test kernel -- verdicts::`",
        )
        .into());
    }
    if options.kernels || options.full {
        // Before the work of minutes.
        requirements::check()?;
    }
    require_programs(options)?;
    here(options)?;
    if options.kernels || options.full {
        let extent = if options.full { vm::Extent::All } else { vm::Extent::ByKernel };
        vm::run_tests(&options.toolchain, extent)?;
        return vm::run_broken(&options.toolchain);
    }
    if options.packages.is_empty() && options.tests.is_empty() && options.arguments.is_empty() {
        println!("not run: other kernels (`cargo xtask vm`)");
    }
    Ok(())
}

/// True for an option that chooses programs, which belongs before the `--`.
fn is_selection(argument: &OsString) -> bool {
    let Some(argument) = argument.to_str() else { return false };
    let option = argument.split('=').next().unwrap_or(argument);
    ["-p", "--package", "--test", "--lib", "--bin", "--full", "--kernels"].contains(&option)
        || (argument.starts_with("-p") && !argument.starts_with("--"))
}

/// Demands the real programs that tests start, before the work of minutes. Where other tests are chosen, it says what
/// is missing and goes on: nobody needs nginx for the rest.
fn require_programs(options: &Options) -> Result<()> {
    let Some((what, fix)) = field::lack() else { return Ok(()) };
    let all = options.packages.is_empty() && options.tests.is_empty() && options.arguments.is_empty();
    if all || options.tests.iter().any(|test| test == "field") {
        return Err(Failure::new(what, fix).into());
    }
    println!("{what}; {fix} brings it");
    Ok(())
}

/// Runs the tests on this machine's kernel.
fn here(options: &Options) -> Result<()> {
    let start = Instant::now();
    let (built, mut programs) = programs::build(&options.toolchain, &options.tests)?;
    programs.retain(|program| {
        (options.packages.is_empty() || options.packages.contains(&program.package))
            && (options.tests.is_empty() || options.tests.contains(&program.name))
    });
    programs.sort_by_key(Program::title);
    let mut sum = Sum::default();
    let mut rows = Vec::new();
    for turn in programs.iter().flat_map(|program| turns(program, &options.arguments)) {
        let begin = Instant::now();
        process::say(&format!("run {}", turn.title));
        let (own, succeeded) = turn.run(&built)?;
        rows.push((turn.title, own, succeeded, begin.elapsed()));
        sum += own;
    }
    if options.packages.is_empty() && options.tests.is_empty() && options.arguments.is_empty() {
        rows.push(documented(&built)?);
        sum += rows[rows.len() - 1].1;
    }
    let wrong = rows.iter().filter(|(_, own, succeeded, _)| !succeeded || own.failed > 0).count();
    println!();
    for (title, own, succeeded, took) in &rows {
        if own.passed + own.failed > 0 || !succeeded {
            println!("{}", row(title, own, *succeeded, *took));
        }
    }
    println!("{} in {}", sum.line(), process::elapsed(start));
    if wrong > 0 {
        return Err(Failure::new(
            format!("tests: {wrong} programs failed"),
            "the failures are listed above, each under its test's name",
        )
        .into());
    }
    if sum.passed == 0 {
        return Err(Failure::new("no test ran", "give arguments that match a test, or none for all").into());
    }
    Ok(())
}

/// What one program says of itself at the end.
fn row(title: &str, sum: &Sum, succeeded: bool, took: Duration) -> String {
    let Sum { passed, failed, ignored, .. } = sum;
    let end = if succeeded { "" } else { "  FAILED" };
    let took = took.as_secs_f64();
    format!("  {title:<26} {passed:>4} passed {failed:>3} failed {ignored:>3} ignored {took:>7.1} s{end}")
}

/// One run of a test program.
#[derive(Debug)]
struct Turn<'a> {
    title: String,
    program: &'a Program,
    arguments: Vec<OsString>,
    /// Tests at the same time.
    threads: usize,
}

/// The module of `kernel` that measures time, which runs alone.
const ALONE: &str = "streams";

/// How often a program of the crate `lyncwall-tests` runs. Its tests wait most of the time, for answers that must not
/// come and for deadlines, so more of them run at a time than there are processors.
fn turns<'a>(program: &'a Program, arguments: &[OsString]) -> Vec<Turn<'a>> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let turn = |title: String, threads, more: &[&str]| Turn {
        title,
        program,
        arguments: more.iter().map(OsString::from).chain(arguments.iter().cloned()).collect(),
        threads,
    };
    let title = program.title();
    if program.package != TESTS {
        return vec![turn(title, processors, &[])];
    }
    match program.name.as_str() {
        "kernel" => {
            let alone = format!("{ALONE}::");
            let others = vm::steps::kernel_modules().filter(|name| *name != ALONE);
            // Arguments may hold a filter, and a program takes what any of its filters names: so both turns leave out.
            let others: Vec<String> =
                others.flat_map(|name| ["--skip".to_owned(), format!("{name}::")]).collect();
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            vec![
                turn(title.clone(), AT_ONCE * processors, &["--skip", &alone]),
                turn(format!("{title} {ALONE}"), 1, &others),
            ]
        }
        _ => vec![turn(title, AT_ONCE * processors, &[])],
    }
}

/// The package of the tests that need a kernel.
const TESTS: &str = "lyncwall-tests";

/// Its tests for each processor.
const AT_ONCE: usize = 3;

impl Turn<'_> {
    /// Runs it, and shows what it prints.
    fn run(&self, built: &Built) -> Result<(Sum, bool)> {
        let mut command = self.program.command(built);
        command.args(&self.arguments).env("RUST_TEST_THREADS", self.threads.to_string());
        summed(&mut command)
    }
}

/// Examples in the documentation.
fn documented(built: &Built) -> Result<(String, Sum, bool, Duration)> {
    let begin = Instant::now();
    let mut command = build::host("test")?;
    built.export_to(&mut command);
    let (sum, succeeded) = summed(command.args(["--doc", "--quiet"]))?;
    Ok(("examples in documentation".to_owned(), sum, succeeded, begin.elapsed()))
}

/// Runs a command that prints results of tests, shows them, and adds them up; true where it ends with 0.
fn summed(command: &mut Command) -> Result<(Sum, bool)> {
    let shown = format!("{command:?}");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| shown.clone())?;
    let stdout = child.stdout.take().context("the output of tests")?;
    let mut sum = Sum::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("the output of tests")?;
        let mut out = std::io::stdout().lock();
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).context("stdout")?;
        sum.add(&String::from_utf8_lossy(&line));
    }
    Ok((sum, child.wait().context(shown)?.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_choose_programs_are_not_for_the_programs() {
        for argument in ["-p", "-plyncwall", "--package=lyncwall", "--test", "--lib"] {
            assert!(is_selection(&argument.into()), "{argument}");
        }
        for argument in ["verdicts::", "--nocapture", "--test-threads=1", "--skip"] {
            assert!(!is_selection(&argument.into()), "{argument}");
        }
    }

    #[test]
    fn what_measures_time_runs_alone_whatever_is_asked_for() {
        let program = |name: &str| Program {
            package: TESTS.to_owned(),
            name: name.to_owned(),
            file: "/t/kernel".into(),
            folder: "/r/tests".into(),
        };
        let kernel = program("kernel");
        let turns_of_kernel = turns(&kernel, &["a_part".into()]);
        let [most, alone] = &turns_of_kernel[..] else { panic!("{turns_of_kernel:?}") };
        let words = |turn: &Turn<'_>| turn.arguments.join(" ".as_ref()).into_string().expect("text");
        assert_eq!(words(most), "--skip streams:: a_part");
        assert!(most.threads > 1 && alone.threads == 1);
        let words = words(alone);
        assert!(words.contains("--skip verdicts::") && words.ends_with(" a_part"), "{words}");
        assert!(!words.contains("streams"), "{words}");
        assert_eq!(turns(&program("agent"), &[]).len(), 1);
    }
}
