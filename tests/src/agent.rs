//! The `lyncwall` binary as its users meet it: a process with a configuration, a socket and signals.

mod api;
#[cfg(test)]
mod tests;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use api::{Api, Events, Tally};

use crate::bpffs::Bpffs;
use crate::netns::Netns;

/// For anything that the binary has to do before it can be waited for in vain. On an emulated machine among others a
/// start takes up to a minute.
const PATIENCE: Duration = Duration::from_secs(300);

/// The path of the built binary, from the environment variable `LYNCWALL_BIN`.
///
/// # Panics
/// Where the variable is not set or names no file; the message says how to run the tests.
pub fn binary() -> PathBuf {
    let path = env::var_os("LYNCWALL_BIN").map(PathBuf::from);
    let path = path.expect(
        "LYNCWALL_BIN is not set: run the tests by `cargo xtask test`, which builds the agent with its BPF object \
         and sets it",
    );
    assert!(
        path.is_file(),
        "LYNCWALL_BIN names {}, which is no file: build it by `cargo xtask build`",
        path.display()
    );
    path
}

/// Runs a command of the binary that needs no agent, as `roles` or `check`, where the caller is.
///
/// # Errors
/// Where it cannot be started, or has not ended after five minutes.
pub fn lyncwall<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Finished> {
    let mut command = Command::new(binary());
    command.args(arguments);
    finish(Running::spawn(&mut command)?, PATIENCE)
}

/// What a process left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The standard output as JSON.
    ///
    /// # Errors
    /// Where it is none; the message has the standard error.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON in {self:?}"))
    }

    /// The standard output of a process that ended with 0.
    ///
    /// # Errors
    /// Where it ended otherwise; the message has all it wrote.
    pub fn success(self) -> Result<String> {
        ensure!(self.code == Some(0), "the command did not succeed: {self:?}");
        Ok(self.stdout)
    }
}

/// A place for one agent: a namespace, a configuration file, a socket, a pin directory. Agents may be started in it
/// one after the other, which then find what their predecessors pinned.
#[derive(Debug)]
pub struct Instance {
    binary: PathBuf,
    namespace: Netns,
    pins: PathBuf,
    /// Removed on drop. Where the test is killed, this small directory is all that stays.
    directory: TempDir,
}

impl Instance {
    /// A place in `namespace` with the pin directory `name` on `bpffs`, and an empty configuration.
    ///
    /// # Errors
    /// Where a directory cannot be made.
    ///
    /// # Panics
    /// As [`binary`].
    pub fn new(namespace: &Netns, bpffs: &Bpffs, name: &str) -> Result<Self> {
        Self::of_binary(binary(), namespace, bpffs.directory(name)?)
    }

    fn of_binary(binary: PathBuf, namespace: &Netns, pins: PathBuf) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("lyncwall-").tempdir()?;
        let instance = Self { binary, namespace: namespace.clone(), pins, directory };
        instance.configure("")?;
        Ok(instance)
    }

    /// Has another program run the binary from now on: one that takes its arguments.
    pub fn run_by(&mut self, wrapper: &Path) {
        wrapper.clone_into(&mut self.binary);
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("lyncwall.toml")
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("lyncwall.sock")
    }

    /// The agent's state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// A client of the socket.
    ///
    /// # Errors
    /// As [`Api::new`].
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.socket())
    }

    /// The pin directory.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Replaces the configuration file. A running agent reads it at [`Agent::reload`].
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn configure(&self, toml: &str) -> Result<()> {
        fs::write(self.config(), toml).context("writing the configuration")
    }

    /// Starts an agent and waits until its socket answers. The agent dies with the calling **thread**: see
    /// [`Netns::command`].
    ///
    /// # Errors
    /// Where it ends first or does not answer within five minutes; the message has what it wrote.
    pub fn start(&self) -> Result<Agent> {
        let running = Running::spawn(self.command().arg("run").arg("--config").arg(self.config()))?;
        let mut agent = Agent { running, socket: self.socket() };
        let end = Instant::now() + PATIENCE;
        while !answers(&agent.socket) {
            if let Some(status) = agent.running.child.try_wait()? {
                bail!("the agent ended with {status}: {:?}", agent.running.collect(status)?);
            }
            ensure!(Instant::now() < end, "the agent does not answer on its socket:\n{}", agent.stderr());
            thread::sleep(Duration::from_millis(2));
        }
        Ok(agent)
    }

    /// Starts an agent that is expected to refuse its configuration or its surroundings, and waits until it ends.
    ///
    /// # Errors
    /// Where it still runs after five minutes; it is killed then.
    pub fn start_in_vain(&self) -> Result<Finished> {
        finish(Running::spawn(self.command().arg("run").arg("--config").arg(self.config()))?, PATIENCE)
    }

    /// Runs another command of the binary with this place's socket and pin directory, in its namespace.
    ///
    /// # Errors
    /// Where it cannot be started, or has not ended after five minutes.
    pub fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Finished> {
        finish(Running::spawn(self.command().args(arguments))?, PATIENCE)
    }

    /// A command of the binary with this place's socket and directories, in its namespace, for what [`Self::cli`]
    /// does not do: an endless stream, a pipe.
    pub fn command(&self) -> Command {
        let mut command = self.namespace.command(&self.binary);
        command.arg("--socket").arg(self.socket()).arg("--pin-dir").arg(&self.pins);
        command.arg("--state-dir").arg(self.state());
        command
    }
}

/// A running agent. Dropping it kills it, and leaves what it pinned.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    socket: PathBuf,
}

impl Agent {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.running.child.id().cast_signed())
    }

    /// The memory that it occupies, in KiB.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("an agent that runs")?;
        line.split_whitespace().next().and_then(|number| number.parse().ok()).context("a number of KiB")
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        self.running.stderr.text()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        ensure!(self.running.child.try_wait()?.is_none(), "the agent has ended:\n{}", self.stderr());
        kill(self.pid(), signal).with_context(|| format!("sending {signal} to the agent"))
    }

    /// Makes it read its configuration again (SIGHUP). It does so in its own time: wait for what must follow.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn reload(&mut self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Waits until its standard error contains `text`.
    ///
    /// # Errors
    /// Where it does not within five minutes.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        let found = crate::traffic::eventually(PATIENCE, || self.stderr().contains(text));
        ensure!(found, "the agent did not log {text:?}:\n{}", self.stderr());
        Ok(())
    }

    /// Waits until it has ended by itself, or by a signal that was sent before.
    ///
    /// # Errors
    /// Where it still runs after five minutes; it is killed then.
    pub fn wait(self) -> Result<Finished> {
        finish(self.running, PATIENCE)
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// Where it has ended before, or does not within five minutes.
    pub fn stop(mut self) -> Result<Finished> {
        self.signal(Signal::SIGTERM)?;
        finish(self.running, PATIENCE)
    }

    /// Ends it without a chance to do anything about it (SIGKILL) and waits.
    ///
    /// # Errors
    /// Where it has ended before.
    pub fn kill(mut self) -> Result<Finished> {
        self.signal(Signal::SIGKILL)?;
        finish(self.running, PATIENCE)
    }
}

/// True when somebody speaks HTTP on the socket. The page need not exist: an answer of "not found" is one.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<[u8; 5]> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 5];
        stream.read_exact(&mut start)?;
        Ok(start)
    };
    ask().is_ok_and(|start| start == *b"HTTP/")
}

/// A child whose output is read while it runs, so that a full pipe never stops it. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

impl Running {
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdout = Output::of(child.stdout.take().context("a piped output")?);
        let stderr = Output::of(child.stderr.take().context("a piped output")?);
        Ok(Self { child, stdout, stderr })
    }

    fn collect(&mut self, status: ExitStatus) -> Result<Finished> {
        Ok(Finished { code: status.code(), stdout: self.stdout.all()?, stderr: self.stderr.all()? })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits until the child ends.
pub(crate) fn finish(mut running: Running, patience: Duration) -> Result<Finished> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = running.child.try_wait()? {
            return running.collect(status);
        }
        if Instant::now() >= end {
            bail!("still running after {patience:?}; it wrote:\n{}", running.stderr.text());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// One output of a child, read by a thread.
#[derive(Debug)]
pub(crate) struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = thread::spawn({
            let bytes = Arc::clone(&bytes);
            move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                    bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
                }
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    /// What came so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// All of it, once the child has ended.
    fn all(&mut self) -> Result<String> {
        if let Some(Err(_)) = self.reader.take().map(JoinHandle::join) {
            bail!("the reader of a child's output panicked");
        }
        Ok(self.text())
    }
}
