//! Real programs of Debian's packages, at work in a test's namespaces.
//!
//! `tests/programs.tsv` lists them with their packages. One that is missing is a failure that names its package.

mod folder;
#[cfg(test)]
mod tests;

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

pub use folder::Folder;

use crate::agent::{Finished, Running, finish};
use crate::netns::Netns;
use crate::traffic::eventually;

/// Each program with its package, one in a line.
const LIST: &str = include_str!("../programs.tsv");

/// Where Debian has programs for administrators, which not every `PATH` names, and systemd its own.
const FURTHER_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/lib/systemd"];

/// A program that runs in a namespace, in the foreground. Dropping it kills it and what it started, as its process
/// group; after a panic that also prints what it wrote.
#[derive(Debug)]
pub struct Program {
    name: String,
    running: Running,
}

impl Program {
    /// Starts it with `folder` as its working directory. It dies with the calling **thread**, see
    /// [`Netns::command`]; so let it run as root, because the kernel forgets that when a process changes its user.
    ///
    /// # Errors
    /// Where it is not in the list or not installed, which the message says with the package, and where it cannot be
    /// started.
    pub fn start<A: AsRef<OsStr>>(
        namespace: &Netns,
        folder: &Folder,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let mut command = command(namespace, folder.path(), name)?;
        command.args(arguments).process_group(0);
        Ok(Self { name: name.to_owned(), running: Running::spawn(&mut command)? })
    }

    /// The same once it is ready, which `ready` tells from all that it wrote so far, or better by asking it.
    ///
    /// # Errors
    /// As [`Program::start`] and [`Program::wait_until`].
    pub fn ready(mut self, patience: Duration, ready: impl FnMut(&str) -> bool) -> Result<Self> {
        self.wait_until("ready", patience, ready)?;
        Ok(self)
    }

    /// Waits until `holds` says so, which is given all that the program wrote so far.
    ///
    /// # Errors
    /// Where the program ends without that, or it takes longer; the message has `what` and what the program wrote.
    pub fn wait_until(
        &mut self,
        what: &str,
        patience: Duration,
        mut holds: impl FnMut(&str) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + patience;
        while !holds(&self.output()) {
            if let Some(status) = self.running.child.try_wait()? {
                // Its last words may not have been read yet.
                if eventually(Duration::from_secs(1), || holds(&self.output())) {
                    return Ok(());
                }
                bail!("{} ended with {status} before it was {what}:\n{}", self.name, self.output());
            }
            ensure!(
                Instant::now() < end,
                "{} was not {what} within {patience:?}:\n{}",
                self.name,
                self.output()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What it has written so far, to its standard output and then to its standard error.
    pub fn output(&self) -> String {
        format!("{}{}", self.running.stdout.text(), self.running.stderr.text())
    }

    /// Sends it a signal; not to what it started.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        ensure!(self.running.child.try_wait()?.is_none(), "{} has ended:\n{}", self.name, self.output());
        nix::sys::signal::kill(self.pid(), signal)
            .with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Asks it to end (SIGTERM) and waits. Programs differ in how they say that they were asked, so its exit code is
    /// of no interest.
    ///
    /// # Errors
    /// Where it has ended before, or does not within `patience`.
    pub fn stop(mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let end = Instant::now() + patience;
        while self.running.child.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "{} does not end:\n{}", self.name, self.output());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.running.child.id().cast_signed())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // While it has not been waited for, nobody else can have its number.
        if matches!(self.running.child.try_wait(), Ok(None)) {
            killpg(self.pid(), Signal::SIGKILL).ok();
        }
        if thread::panicking() {
            eprintln!("{} wrote:\n{}", self.name, self.output());
        }
    }
}

/// Runs a program in a namespace to its end.
///
/// # Errors
/// As [`Program::start`], and where it still runs after `patience`; it is killed then.
pub fn run<A: AsRef<OsStr>>(
    namespace: &Netns,
    name: &str,
    arguments: impl IntoIterator<Item = A>,
    patience: Duration,
) -> Result<Finished> {
    run_in(namespace, &env::temp_dir(), name, arguments, patience)
}

/// As [`run`], with a working directory for programs that leave files there.
///
/// # Errors
/// As [`run`].
pub fn run_in<A: AsRef<OsStr>>(
    namespace: &Netns,
    directory: &Path,
    name: &str,
    arguments: impl IntoIterator<Item = A>,
    patience: Duration,
) -> Result<Finished> {
    let mut command = command(namespace, directory, name)?;
    finish(Running::spawn(command.args(arguments))?, patience).with_context(|| format!("{command:?}"))
}

fn command(namespace: &Netns, directory: &Path, name: &str) -> Result<Command> {
    let mut command = namespace.command(find(name)?);
    // What is read here is what the programs write, in English.
    command.current_dir(directory).env("LC_ALL", "C").env("TERM", "dumb");
    Ok(command)
}

/// Programs and their packages.
fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    LIST.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'))
}

fn find(name: &str) -> Result<PathBuf> {
    let entry = list().find(|(program, _)| *program == name);
    let (_, package) = entry.with_context(|| format!("tests/programs.tsv does not list {name}"))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FURTHER_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file()).with_context(|| {
        format!(
            "{name} is not installed: it is in Debian's package {package}; \
             `apt-get install --no-install-recommends {package}`"
        )
    })
}
