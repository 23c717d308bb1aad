//! Builds, tests and measures lyncwall: `cargo xtask <task>`, one file per task.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod apt;
mod bench;
mod build;
mod demo;
mod docs;
mod doctor;
mod environment;
mod field;
mod install;
mod lint;
mod process;
mod programs;
mod run;
mod sum;
mod test;
mod toolchain;
mod vm;
mod workspace;

/// Builds, tests and measures lyncwall.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the BPF object, and the agent with the object inside
    Build(build::Options),
    /// Build, then run `lyncwall` with the arguments after `--`
    Run(run::Options),
    /// Build, then show the firewall at work between two network namespaces (needs root)
    Demo(demo::Options),
    /// Build, then run all tests (needs root)
    Test(test::Options),
    /// Build, then run the kernel tests on Debian's kernels in QEMU
    Vm(vm::Options),
    /// Build optimised, then measure the cost of a packet (needs root)
    Bench(bench::Options),
    /// Build the pages as a book in `target/book`
    Docs(docs::Options),
    /// Check formatting, clippy, the documentation, the documents, lint inheritance and unsafe code
    Lint(lint::Options),
    /// Show the programs that the other tasks need, and how to get missing ones
    Doctor(doctor::Options),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let mistake = error.use_stderr();
            return match error.print() {
                Ok(()) => ExitCode::from(u8::from(mistake)),
                Err(_) => ExitCode::from(2),
            };
        }
    };
    let done = match cli.task {
        Task::Build(options) => build::run(&options),
        Task::Run(options) => run::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Docs(options) => docs::run(&options),
        Task::Lint(options) => lint::run(&options),
        Task::Doctor(options) => doctor::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            // Exit code 1 for problems that the user can fix, 2 for unexpected errors.
            ExitCode::from(if error.is::<process::Failure>() { 1 } else { 2 })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
