//! One guest: QEMU, watched until it says that it is done.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::output::{Ended, Event, Stream};
use super::requirements::{QEMU, SETPRIV};
use crate::process::Failure;

/// The memory of a guest, in MiB.
pub(crate) const MEMORY: u64 = 2048;

/// How long a guest may be silent; each test that ends is a line. An emulated processor is some twenty times slower
/// than this machine's, and shares it with other guests.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// How long a guest may take for everything.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// What to boot and where its output goes.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The kernel.
    pub(crate) image: PathBuf,
    /// Its first root folder.
    pub(crate) root: PathBuf,
    /// Where the kernel's messages go.
    pub(crate) console: PathBuf,
    /// Where the tests' output goes.
    pub(crate) log: PathBuf,
    /// Where QEMU's own messages go.
    pub(crate) errors: PathBuf,
}

/// How a guest ended.
#[derive(Debug)]
pub(crate) enum Boot {
    /// All steps ran.
    Complete(Vec<Ended>),
    /// It stopped before, for this reason.
    Lost(String),
}

impl Guest {
    /// Boots it and waits; `on_end` sees each step as it ends.
    ///
    /// # Errors
    /// When QEMU cannot be run or the files not be written.
    pub(crate) fn boot(&self, hardware: Hardware, on_end: &dyn Fn(&Ended)) -> Result<Boot> {
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut command = self.command(hardware);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&self.errors).with_context(|| self.errors.display().to_string())?)
            .spawn()
            .map_err(|error| {
                Failure::new(format!("{}: {error}", QEMU.name), super::requirements::install(&[&QEMU]))
            })?;
        let mut running = Running(child);
        let output = running.0.stdout.take().context("the output of QEMU")?;
        let (sender, lines) = channel();
        // Ends with QEMU, which holds the other end of the pipe.
        let reader = thread::spawn(move || copy_lines(output, log, &sender));
        let mut stream = Stream::default();
        let mut ended = Vec::new();
        let why = follow(&lines, &mut stream, &mut |step| {
            on_end(&step);
            ended.push(step);
        });
        running.end();
        // Its last lines are written when it has ended.
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("the reader of QEMU's output"))?
            .context("the tests' output")?;
        Ok(match why {
            None => Boot::Complete(ended),
            Some(why) => Boot::Lost(self.lost(&why, &stream)),
        })
    }

    fn command(&self, hardware: Hardware) -> Command {
        // The kernel sends the signal when the thread that started it has ended, which is the one that waits for it.
        let mut command = Command::new(SETPRIV.name);
        command.args(["--pdeathsig", "KILL", "--", QEMU.name]);
        command.args(["-M", "q35", "-smp", "1", "-m", &MEMORY.to_string()]);
        command.args(match hardware {
            Hardware::Virtual => ["-accel", "kvm", "-cpu", "host"],
            // With cx16, the emulation of QEMU 7.2 crashes 6.12 in one boot of fifteen.
            Hardware::Emulated => ["-accel", "tcg", "-cpu", "max,-cx16"],
        });
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(&self.image).arg("-initrd").arg(&self.root);
        command.args(["-append", "console=ttyS0 quiet panic=-1"]);
        // The second line stays free of the kernel's messages.
        command.arg("-serial").arg(format!("file:{}", self.console.display())).args(["-serial", "stdio"]);
        command
    }

    fn lost(&self, why: &str, stream: &Stream) -> String {
        let step = stream.running().unwrap_or("no program");
        let mut text = format!("{why} while it ran {step}");
        let mut part = |heading: &str, lines: &[String]| {
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            if !tail.is_empty() {
                text.push_str(&format!("\n  {heading}:\n    {}", tail.join("\n    ")));
            }
        };
        let lines = |file: &Path| {
            let bytes = fs::read(file).unwrap_or_default();
            String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        part("QEMU", &lines(&self.errors));
        part("the tests' last lines", stream.so_far());
        part("the console's last lines", &lines(&self.console));
        text
    }
}

/// Lines that are shown of what a lost guest said.
const TAIL: usize = 25;

/// Reads the steps until all are done; else says why not.
fn follow(lines: &Receiver<String>, stream: &mut Stream, on_end: &mut dyn FnMut(Ended)) -> Option<String> {
    let end = Instant::now() + LIMIT;
    loop {
        let wait = end.saturating_duration_since(Instant::now()).min(PATIENCE);
        match lines.recv_timeout(wait) {
            Ok(line) => match stream.push(&line) {
                None | Some(Event::Began) => {}
                Some(Event::Ended(step)) => on_end(step),
                Some(Event::Done) => return None,
            },
            Err(RecvTimeoutError::Timeout) => {
                return Some(format!("the guest said nothing for {} minutes", wait.as_secs() / 60));
            }
            Err(RecvTimeoutError::Disconnected) => return Some("the guest ended".to_owned()),
        }
        if Instant::now() >= end {
            return Some(format!("the guest was not done after {} minutes", LIMIT.as_secs() / 60));
        }
    }
}

fn copy_lines(output: ChildStdout, mut log: File, sender: &Sender<String>) -> std::io::Result<()> {
    for line in BufReader::new(output).split(b'\n') {
        let mut line = line?;
        // Nobody listens any more once the guest has said that it is done.
        sender.send(String::from_utf8_lossy(&line).into_owned()).unwrap_or_default();
        line.push(b'\n');
        log.write_all(&line)?;
    }
    Ok(())
}

/// A QEMU that does not outlive its watcher.
struct Running(Child);

impl Running {
    /// Waits for it to power off, not for ever.
    fn end(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && matches!(self.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        self.stop();
    }

    fn stop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Both fail only where it has ended by itself.
            self.0.kill().unwrap_or_default();
            self.0.wait().map(drop).unwrap_or_default();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hardware {
    /// This machine's processor.
    Virtual,
    /// QEMU.
    Emulated,
}

impl Hardware {
    /// What this machine has to offer. The device alone says nothing: nested in some clouds, it is there and boots
    /// nothing.
    pub(crate) fn find() -> Self {
        let opens = OpenOptions::new().read(true).write(true).open(Path::new("/dev/kvm")).is_ok();
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if opens && has_virtualisation(&processor) { Self::Virtual } else { Self::Emulated }
    }

    /// For people.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Virtual => "KVM",
            Self::Emulated => "QEMU's software emulation",
        }
    }
}

fn has_virtualisation(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "svm" || flag == "vmx")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtualisation_is_a_flag_of_the_processor() {
        assert!(has_virtualisation("model name : svm\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualisation("flags\t\t: fpu svm\n"));
        assert!(!has_virtualisation("model name : vmx\nflags\t\t: fpu sse svm_lock\n"));
        assert!(!has_virtualisation(""));
    }
}
