//! `cargo xtask doctor`: what the other tasks need, what is there, and how to get the rest.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::apt;
use crate::docs;
use crate::field;
use crate::process::{self, Failure, capture};
use crate::toolchain::version::Version;
use crate::toolchain::{debian, linker, nightly};
use crate::vm::guest::Hardware;
use crate::vm::requirements::{self, Program};

/// Nothing to choose.
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// Looks at everything, changes nothing but the fetched folder's own apt cache.
///
/// # Errors
/// A [`Failure`] when neither route to a BPF toolchain can work, or the host's Rust does not.
pub(crate) fn run(_options: &Options) -> Result<()> {
    let mut report = Report::default();
    println!("build");
    let host = report.check("stable Rust", host_rust());
    report.check("C compiler", c_compiler());

    println!("\nBPF toolchain, first way: nightly");
    let nightly = nightly_way(&mut report)?;

    println!("\nBPF toolchain, second way: Debian 12's packages");
    let debian = debian_way(&mut report)?;

    println!("\nrun and test");
    report.check("kernel", kernel());
    report.check("kernel BTF", btf());
    report.check("root", root());
    report.check("bpffs", bpffs());

    println!("\nprograms that `test` starts in namespaces of its own");
    report.check("Debian's packages", field_programs());

    println!("\nguests, for `vm` and for `test` on other kernels");
    for program in &requirements::PROGRAMS {
        report.check(program.name, guest_program(program));
    }
    report.check("accelerator", good(Hardware::find().describe()));

    println!("\nthe book of `docs`");
    report.check("mdBook", book()?);

    if !host {
        return Err(Failure::new("no Rust to build with", "install it from https://rustup.rs").into());
    }
    if !nightly && !debian {
        return Err(Failure::new(
            "neither way to a BPF toolchain can work",
            "install rustup from https://rustup.rs, or work on Debian 12 with its security suite in apt's sources",
        )
        .into());
    }
    if report.missing > 0 {
        println!("\n{} missing; see the fixes above", report.missing);
    }
    Ok(())
}

/// A state for people, with a fix where it is not good.
struct Finding {
    state: State,
    what: String,
    fix: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Not there, and the tasks do without it or fetch it.
    Absent,
    /// Not there, and needed.
    Missing,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Absent => "-",
            Self::Missing => "missing",
        })
    }
}

fn good(what: impl Into<String>) -> Finding {
    Finding { state: State::Good, what: what.into(), fix: String::new() }
}

fn absent(what: impl Into<String>) -> Finding {
    Finding { state: State::Absent, what: what.into(), fix: String::new() }
}

fn missing(what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { state: State::Missing, what: what.into(), fix: fix.into() }
}

#[derive(Default)]
struct Report {
    missing: u32,
}

impl Report {
    /// Prints a finding; true where nothing needed is missing.
    fn check(&mut self, name: &str, finding: Finding) -> bool {
        let Finding { state, what, fix } = finding;
        println!("  {state:<8} {name:<18} {what}");
        if !fix.is_empty() {
            println!("  {:<8} {:<18} fix: {fix}", "", "");
        }
        if state == State::Missing {
            self.missing += 1;
        }
        state != State::Missing
    }
}

fn host_rust() -> Finding {
    match Version::of(&mut Command::new("rustc")) {
        Ok(version) => good(format!("rustc {} of {}", version.release, version.commit_date)),
        Err(error) => missing(process::in_short(&error), "install it from https://rustup.rs"),
    }
}

fn book() -> Result<Finding> {
    Ok(match docs::mdbook()?.ready() {
        Some(program) => good(program.display().to_string()),
        None => absent("`cargo xtask docs` installs it the first time"),
    })
}

fn c_compiler() -> Finding {
    match capture(Command::new("cc").arg("--version")) {
        Ok(text) => good(text.lines().next().unwrap_or_default()),
        Err(_) => missing("no `cc`, which rustc links with", "`apt-get install gcc libc6-dev`"),
    }
}

fn nightly_way(report: &mut Report) -> Result<bool> {
    let rustup = nightly::require_rustup();
    let has_rustup = rustup.is_ok();
    report.check("rustup", rustup.map_or_else(|_| absent("does not run; https://rustup.rs has it"), good));
    let installed = nightly::installed()?;
    for candidate in &installed {
        report.check(
            "compiler",
            if candidate.is_usable() { good(candidate.describe()) } else { absent(candidate.describe()) },
        );
    }
    if has_rustup && !installed.iter().any(nightly::Candidate::is_usable) {
        report.check(
            "compiler",
            absent(format!("none complete; the build completes or fetches {}", nightly::PIN)),
        );
    }
    report.check(
        "bpf-linker",
        match linker::on_path() {
            Some(path) => match capture(Command::new(&path).arg("--version")) {
                Ok(version) => good(format!("{} ({})", path.display(), version.trim())),
                Err(error) => absent(format!("{}: {}", path.display(), process::in_short(&error))),
            },
            None => absent("none on PATH; it will be built under the target folder"),
        },
    );
    let ready = nightly::ready()?;
    report.check(
        "ready",
        match &ready {
            Some(toolchain) => good(toolchain.to_string()),
            None if has_rustup => absent("not yet; `cargo xtask build` completes it"),
            None => absent("not on this machine"),
        },
    );
    Ok(has_rustup || ready.is_some())
}

fn debian_way(report: &mut Report) -> Result<bool> {
    let unpacked = debian::Unpacked::find();
    if let Ok(Some(unpacked)) = &unpacked {
        report.check("packages", good(format!("unpacked: {}", unpacked.describe())));
    }
    let ready = debian::ready().ok().flatten();
    let possible = match apt::require_programs(debian::WITHOUT_APT).and_then(|()| debian::offered()) {
        Ok(Some(version)) => report.check("apt", good(format!("offers rustc-web {version}"))),
        Ok(None) => {
            // The lists may only be missing: the build then fetches its own.
            report.check(
                "apt",
                absent("its lists offer no rustc-web for BPF; the build fetches lists of its own"),
            );
            is_debian_12()
        }
        Err(error) => {
            report.check("apt", absent(process::in_short(&error)));
            false
        }
    };
    report.check(
        "ready",
        match &ready {
            Some(toolchain) => good(toolchain.to_string()),
            None if possible => absent("not yet; `cargo xtask build --toolchain debian` completes it"),
            None => absent("not on this machine"),
        },
    );
    Ok(possible || ready.is_some())
}

fn field_programs() -> Finding {
    match field::lack() {
        None => {
            let names: Vec<&str> = field::programs().iter().map(|program| program.name).collect();
            good(names.join(", "))
        }
        Some((what, fix)) => missing(what, fix),
    }
}

fn guest_program(program: &Program) -> Finding {
    match program.find() {
        Some(path) => good(path.display().to_string()),
        None => absent(format!("not installed; {} brings it", requirements::install(&[program]))),
    }
}

fn is_debian_12() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.contains("VERSION_CODENAME=bookworm"))
}

/// The oldest kernel whose verifier accepts the programs.
const KERNEL_FLOOR: (u32, u32) = (5, 10);

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match parse_kernel(release) {
        Some(version) if version >= KERNEL_FLOOR => good(release),
        _ => missing(
            format!("{release:?}"),
            format!("Linux {}.{} or later is needed", KERNEL_FLOOR.0, KERNEL_FLOOR.1),
        ),
    }
}

fn parse_kernel(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn btf() -> Finding {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        good("/sys/kernel/btf/vmlinux")
    } else {
        missing(
            "no /sys/kernel/btf/vmlinux",
            "use a kernel with CONFIG_DEBUG_INFO_BTF, as every distribution's is",
        )
    }
}

fn root() -> Finding {
    match process::effective_user() {
        Ok(0) => match capability_bpf() {
            true => good("root with CAP_BPF"),
            false => missing(
                "root without CAP_BPF",
                "leave the container, or give it CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN",
            ),
        },
        Ok(user) => {
            missing(format!("user {user}"), "demo, test and bench run as root; build and lint do not need it")
        }
        Err(error) => missing(format!("{error:#}"), ""),
    }
}

fn capability_bpf() -> bool {
    const CAP_BPF: u32 = 39;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_BPF & 1 == 1)
}

fn bpffs() -> Finding {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "bpf").then_some(point)
    });
    match found {
        Some(point) => good(point),
        None => missing("not mounted", "`mount -t bpf bpf /sys/fs/bpf`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        assert_eq!(parse_kernel("6.18.44-cloud"), Some((6, 18)));
        assert!(parse_kernel("5.9.0") < Some(KERNEL_FLOOR));
        assert!(parse_kernel("5.10.0-33-amd64") >= Some(KERNEL_FLOOR));
        assert!(parse_kernel("10.1") > Some(KERNEL_FLOOR));
        assert_eq!(parse_kernel("linux"), None);
    }
}
