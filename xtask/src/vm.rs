//! `cargo xtask vm`: the kernel tests on Debian's kernels, each booted in QEMU.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::process::{self, Failure, say};
use crate::programs;
use crate::{toolchain, workspace};

mod archive;
mod broken;
mod figures;
pub(crate) mod guest;
mod image;
pub(crate) mod kernels;
mod modules;
mod output;
pub(crate) mod requirements;
pub(crate) mod steps;

use guest::{Boot, Guest, Hardware};
use kernels::{KERNELS, Kernel, Unpacked};
use output::Ended;
use steps::Step;

/// What to run where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
    /// 5.10, 6.1, 6.12, newest, or a Debian suite [default: all]
    #[arg(value_name = "KERNEL", value_parser = kernels::parse)]
    kernels: Vec<Kernel>,
    /// Look for newer kernels in the archive
    #[arg(long)]
    update: bool,
    /// Run everything, not only what a kernel can make different
    #[arg(long, conflicts_with_all = ["filter", "broken"])]
    full: bool,
    /// Run the tests of this module only; may be given several times
    #[arg(long = "module", value_name = "NAME", value_parser = PossibleValuesParser::new(steps::names()))]
    modules: Vec<String>,
    /// Run only tests with this text in their names
    #[arg(long, value_name = "PART")]
    filter: Option<String>,
    /// Store the figures in docs/kernels.md
    #[arg(long, conflicts_with_all = ["kernels", "modules", "filter"])]
    table: bool,
    /// Prove instead that the tests detect a broken BPF program [default kernels: 5.10 and 6.1]
    #[arg(long, conflicts_with_all = ["modules", "filter", "table"])]
    broken: bool,
}

/// How much a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What a kernel can make different: verifier, helpers, hooks, drivers. Each frame once, in the plain form.
    ByKernel,
    /// Each frame in every mode and with every tag, too.
    All,
}

/// Builds, boots and reports.
///
/// # Errors
/// A [`Failure`] when something is missing, and when a test fails or a guest is lost.
pub(crate) fn run(options: &Options) -> Result<()> {
    requirements::check()?;
    if options.broken {
        let kernels = if options.kernels.is_empty() { &KERNELS[..2] } else { &options.kernels };
        return find_out(&options.toolchain, kernels, options.update);
    }
    let kernels = if options.kernels.is_empty() { &KERNELS[..] } else { &options.kernels };
    let extent = if options.full { Extent::All } else { Extent::ByKernel };
    let steps = steps::tests(extent, &options.modules, options.filter.as_deref());
    let tables = test(&options.toolchain, kernels, steps, options.update)?;
    if options.table {
        figures::keep(&tables.context("no figures")?)?;
    }
    Ok(())
}

/// Runs the tests on all kernels; for other tasks.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_tests(toolchain: &toolchain::Selection, extent: Extent) -> Result<()> {
    requirements::check()?;
    test(toolchain, &KERNELS, steps::tests(extent, &[], None), false).map(drop)
}

/// Shows that a broken BPF program is found out, where the issue is oldest; for other tasks.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_broken(toolchain: &toolchain::Selection) -> Result<()> {
    requirements::check()?;
    find_out(toolchain, &KERNELS[..2], false)
}

/// Where guests and what they are made of lie.
fn folder() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("vm"))
}

/// Runs `steps` on `kernels`; hands back the tables where the figures were among them.
fn test(
    toolchain: &toolchain::Selection,
    kernels: &[Kernel],
    steps: Vec<Step>,
    update: bool,
) -> Result<Option<String>> {
    let start = Instant::now();
    let guests = Guests::prepare(toolchain, kernels, steps, update, "tests", None)?;
    let reports = guests.boot(&|kernel, step| {
        print_lines(&report(kernel, step, &guests.log(kernel)));
    })?;
    let mut wrong = Vec::new();
    let mut rows = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    for Report { kernel, boot } in &reports {
        let ended = match boot {
            Boot::Complete(ended) => ended,
            Boot::Lost(why) => {
                wrong.push(format!("{}: {why}", kernel.name));
                continue;
            }
        };
        let sums: Vec<_> = ended.iter().map(Ended::sum).collect();
        let passed_here: u32 = sums.iter().map(|sum| sum.passed).sum();
        passed += passed_here;
        failed += sums.iter().map(|sum| sum.failed).sum::<u32>();
        for (step, sum) in ended.iter().zip(&sums) {
            if step.status != 0 {
                wrong.push(format!("{}: {} ended with {}", kernel.name, step.name, step.status));
            } else if sum.passed == 0 && guests.must_pass(&step.name) {
                wrong.push(format!("{}: no test of {} ran", kernel.name, step.name));
            }
        }
        match ended.iter().find(|step| step.name == steps::FIGURES) {
            Some(step) => match figures::of(step) {
                Some(row) => rows.push(row),
                None => wrong.push(format!("{}: {} printed no figures", kernel.name, step.name)),
            },
            None if passed_here == 0 => wrong.push(format!("{}: no test ran", kernel.name)),
            None => {}
        }
    }
    let tables = (!rows.is_empty()).then(|| figures::tables(&rows, guests.hardware));
    if let Some(tables) = &tables {
        println!("\n{tables}");
    }
    println!(
        "vm: {passed} passed, {failed} failed on {} kernels in {}",
        kernels.len(),
        process::elapsed(start)
    );
    if wrong.is_empty() {
        return Ok(tables);
    }
    Err(Failure::new(wrong.join("\n"), format!("the output is kept in {}", folder()?.display())).into())
}

/// Shows that the tests find out the broken program on `kernels`.
fn find_out(toolchain: &toolchain::Selection, kernels: &[Kernel], update: bool) -> Result<()> {
    let object = broken::object(toolchain)?;
    let guests = Guests::prepare(toolchain, kernels, steps::broken(), update, "broken", Some(&object))?;
    let reports = guests.boot(&|kernel, step| print_lines(&[line(kernel, step)]))?;
    let mut wrong = Vec::new();
    for Report { kernel, boot } in &reports {
        let found = match boot {
            Boot::Complete(ended) => broken::judge(ended),
            Boot::Lost(why) => Err(why.clone()),
        };
        match found {
            Ok(how) => println!("{:<7} the broken program is found out: {how}", kernel.name),
            Err(why) => wrong.push(format!("{}: the broken program is not found out: {why}", kernel.name)),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(wrong.join("\n"), format!("the output is kept in {}", folder()?.display())).into())
}

/// Kernels, what runs on them, and the programs for it.
struct Guests {
    kernels: Vec<Unpacked>,
    steps: Vec<Step>,
    /// The part of the first root folder that all share.
    common: Vec<u8>,
    hardware: Hardware,
    /// What the files of this run are called.
    name: &'static str,
    /// Two runs would write the same files.
    _lock: fs::File,
}

/// How it went on one kernel.
struct Report {
    kernel: Kernel,
    boot: Boot,
}

impl Guests {
    fn prepare(
        toolchain: &toolchain::Selection,
        kernels: &[Kernel],
        steps: Vec<Step>,
        update: bool,
        name: &'static str,
        broken: Option<&Path>,
    ) -> Result<Self> {
        let folder = folder()?;
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let lock = workspace::lock(&folder.join("lock"), "runs guests")?;
        // The kernels come first: without network, nobody should wait for a build.
        let kernels = kernels.iter().map(|kernel| kernel.provide(update)).collect::<Result<Vec<_>>>()?;
        let (built, tests) = programs::build(toolchain, &steps::programs())?;
        let common = image::common(&built, &tests, &steps, broken)?;
        Ok(Self { kernels, steps, common, hardware: Hardware::find(), name, _lock: lock })
    }

    /// Boots all of them, some at the same time; `on_end` sees each step as it ends.
    fn boot(&self, on_end: &(dyn Fn(Kernel, &Ended) + Sync)) -> Result<Vec<Report>> {
        let at_once = at_once().min(self.kernels.len());
        say(&format!(
            "boot {} guests, {at_once} at a time, with {}",
            self.kernels.len(),
            self.hardware.describe()
        ));
        let queue: Mutex<VecDeque<&Unpacked>> = Mutex::new(self.kernels.iter().collect());
        let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
        let worker =
            || std::iter::from_fn(next).map(|kernel| self.boot_one(kernel, on_end)).collect::<Vec<_>>();
        let mut reports = thread::scope(|scope| {
            let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
            let done = workers.into_iter().flat_map(|worker| match worker.join() {
                Ok(reports) => reports,
                Err(_) => vec![Err(anyhow::anyhow!("a thread that watched a guest"))],
            });
            done.collect::<Result<Vec<Report>>>()
        })?;
        let place = |report: &Report| self.kernels.iter().position(|one| one.kernel == report.kernel);
        reports.sort_by_key(place);
        Ok(reports)
    }

    fn boot_one(&self, kernel: &Unpacked, on_end: &(dyn Fn(Kernel, &Ended) + Sync)) -> Result<Report> {
        let folder = kernel.kernel.folder()?;
        let file = |what: &str| folder.join(format!("{}.{what}", self.name));
        let root = file("cpio");
        let runs = |step: &&Step| !step.ends_only || kernel.kernel.is_at_an_end();
        let own = image::own(kernel, &steps::init(self.steps.iter().filter(runs)))?;
        fs::write(&root, [self.common.as_slice(), &own].concat())
            .with_context(|| root.display().to_string())?;
        let guest = Guest {
            image: kernel.image.clone(),
            root,
            console: file("console"),
            log: file("log"),
            errors: file("qemu"),
        };
        let kernel = kernel.kernel;
        let watch = |step: &Ended| on_end(kernel, step);
        let mut boot = guest.boot(self.hardware, &watch)?;
        if let Boot::Lost(why) = &boot {
            // The emulation itself crashes a kernel now and then. Twice in a row is no accident.
            print_lines(&[format!("{:<7} lost, once more: {why}", kernel.name)]);
            boot = guest.boot(self.hardware, &watch)?;
        }
        fs::remove_file(&guest.root).with_context(|| guest.root.display().to_string())?;
        Ok(Report { kernel, boot })
    }

    /// True for a step where at least one test has to pass.
    fn must_pass(&self, step: &str) -> bool {
        self.steps.iter().any(|known| known.name == step && known.must_pass)
    }

    fn log(&self, kernel: Kernel) -> String {
        kernel
            .folder()
            .map(|folder| folder.join(format!("{}.log", self.name)).display().to_string())
            .unwrap_or_default()
    }
}

/// Guests to run at the same time: one for each processor, as far as there is memory for them.
fn at_once() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let guests = available_mib(&memory).map_or(processors, |mib| (mib / (guest::MEMORY + 256)) as usize);
    processors.min(guests).max(1)
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// Lines of an excerpt that are shown.
const EXCERPT: usize = 120;

/// The line of a step, and what its failing tests printed.
fn report(kernel: Kernel, step: &Ended, log: &str) -> Vec<String> {
    let mut lines = vec![line(kernel, step)];
    if step.status != 0 {
        lines.extend(step.excerpt(EXCERPT).iter().map(|line| format!("    {line}")));
        lines.push(format!("    (all of it: {log})"));
    }
    lines
}

fn line(kernel: Kernel, step: &Ended) -> String {
    let sum = step.sum();
    let counts = if sum.programs == 0 {
        if step.status == 0 { "ok".to_owned() } else { format!("ended with {}", step.status) }
    } else {
        format!("{} passed, {} failed, {} ignored", sum.passed, sum.failed, sum.ignored)
    };
    format!("{:<7} {:<10} {counts}, {:.0} s", kernel.name, step.name, step.took.as_secs_f64())
}

/// Prints lines together, while other guests print theirs.
fn print_lines(lines: &[String]) {
    println!("{}", lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_mib() {
        assert_eq!(available_mib("MemTotal: 9 kB\nMemAvailable:   20971520 kB\n"), Some(20480));
        assert_eq!(available_mib("MemTotal: 9 kB\n"), None);
    }
}
