//! What a packet costs: CPU time by `BPF_PROG_TEST_RUN`, beside programs that do nothing and one that does the least. What
//! the figures say and what they do not stands in docs/benchmarks.md.

mod contenders;
mod output;
mod rounds;
mod switch;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use lyncwall_tests::bpffs::Bpffs;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::contenders::Contenders;
use crate::output::Report;

/// What a packet costs, beside programs that do nothing and one that does the least.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench --")]
struct Options {
    /// Rounds, each of which measures every program over every packet once
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// Runs of a program over a packet in one round
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    repeat: u32,
    /// The CPU to run on; the last one that this process may use if not given
    #[arg(long)]
    cpu: Option<usize>,
    /// Measure 1,000 switches 50 ms apart instead of 200 switches 5 ms apart
    #[arg(long)]
    long: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let cpu = pin(options.cpu)?;
    let bpffs = Bpffs::mount()?;
    let mut contenders = Contenders::load(&bpffs)?;
    contenders.verify()?;
    eprintln!("bench: {} rounds of {} runs on CPU {cpu}", options.rounds, options.repeat);
    let rows = rounds::measure(&contenders.all(), options.rounds, options.repeat)?;
    let loads = contenders.loads()?;
    eprintln!("bench: switches");
    let switches = switch::measure(&mut contenders, options.long)?;
    let report = Report::new(options, cpu, rows, &loads, switches)?;
    if options.json {
        return report.print_json();
    }
    report.print_table();
    Ok(())
}

/// Keeps this thread on one CPU, and says which.
fn pin(wanted: Option<usize>) -> Result<usize> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).context("the CPUs of this process")?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let cpu = wanted.or(last).context("this process may use no CPU")?;
    let mut only = CpuSet::new();
    only.set(cpu).with_context(|| format!("there is no CPU {cpu}"))?;
    sched_setaffinity(this, &only).with_context(|| format!("staying on CPU {cpu}"))?;
    Ok(cpu)
}
