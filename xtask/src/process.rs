//! Other programs: said before they run, timed, and shown in full when they fail.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Something that the reader can mend: what went wrong, the command if one failed, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    command: Option<String>,
    fix: String,
}

impl Failure {
    /// A failure that no command made.
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), command: None, fix: fix.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(command) = &self.command {
            write!(f, "\n  command: {command}")?;
        }
        if self.fix.is_empty() { Ok(()) } else { write!(f, "\n  fix: {}", self.fix) }
    }
}

impl std::error::Error for Failure {}

/// Runs `command` with its output on the terminal; says `what` before it and how long it took.
///
/// # Errors
/// A [`Failure`] with the command and `fix` when it cannot start or does not end with 0.
pub(crate) fn run(what: &str, command: &mut Command, fix: &str) -> Result<()> {
    say(what);
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).status();
    judge(what, command, status, fix)?;
    if start.elapsed() >= Duration::from_secs(1) {
        say(&format!("{what}: {}", elapsed(start)));
    }
    Ok(())
}

/// Runs `command` unseen and hands back what it printed on stdout.
///
/// # Errors
/// A [`Failure`] with the command and the last of its stderr when it cannot start or does not end with 0.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let tail: Vec<&str> = said.trim_end().lines().rev().take(5).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n    ");
            Err(failed(&what, command, &format!("{}\n    {tail}", output.status), "").into())
        }
        Err(error) => Err(failed(&what, command, &error.to_string(), "").into()),
    }
}

/// Becomes `command`: signals and the exit status are then its own.
///
/// # Errors
/// Always, as it comes back only when the command cannot start.
pub(crate) fn become_command(what: &str, command: &mut Command, fix: &str) -> Result<()> {
    let error = command.exec();
    Err(failed(what, command, &error.to_string(), fix).into())
}

/// Turns how a command ended into a [`Failure`] where it did not end with 0.
pub(crate) fn judge(
    what: &str,
    command: &Command,
    status: std::io::Result<ExitStatus>,
    fix: &str,
) -> Result<()> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(what, command, &status.to_string(), fix).into()),
        Err(error) => Err(failed(what, command, &error.to_string(), fix).into()),
    }
}

/// The first line of an error: what went wrong, without the command and the fix.
pub(crate) fn in_short(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// Prints a line about the progress of the task.
pub(crate) fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// The time since `start`, as `12.3 s`.
pub(crate) fn elapsed(start: Instant) -> String {
    format!("{:.1} s", start.elapsed().as_secs_f64())
}

/// Refuses to go on without root.
///
/// # Errors
/// A [`Failure`] that names `task` when the effective user is another.
pub(crate) fn require_root(task: &str) -> Result<()> {
    if effective_user()? == 0 {
        return Ok(());
    }
    Err(Failure::new(
        format!("{task} needs root: it makes network namespaces and loads BPF programs"),
        format!("run it as root, for example `sudo -E env PATH=\"$PATH\" cargo xtask {task}`"),
    )
    .into())
}

/// The number of the effective user.
pub(crate) fn effective_user() -> Result<u32> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1))
        .and_then(|id| id.parse().ok())
        .context("/proc/self/status has no effective user")
}

fn failed(what: &str, command: &Command, how: &str, fix: &str) -> Failure {
    Failure { what: format!("{what}: {how}"), command: Some(shown(command)), fix: fix.to_owned() }
}

/// The command as one would type it, with the variables that were set for it.
fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some(assignment(name, value?)));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    let line = set.chain(words).collect::<Vec<_>>().join(" ");
    match command.get_current_dir() {
        Some(dir) => format!("cd {} && {line}", quoted(dir.as_os_str())),
        None => line,
    }
}

fn assignment(name: &OsStr, value: &OsStr) -> String {
    let name = name.to_string_lossy();
    // Search paths are put before those of the shell, which knows them.
    if let Some(own) = env::var_os(&*name).filter(|own| !own.is_empty()) {
        let end = format!(":{}", own.display());
        if let Some(start) = value.to_string_lossy().strip_suffix(&end) {
            return format!("{name}={}:\"${name}\"", quoted(start.as_ref()));
        }
    }
    format!("{name}={}", quoted(value))
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+/.,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    // Compiler flags that cargo reads from one variable are separated by this control character.
    if word.contains('\u{1f}') {
        return format!("$'{}'", word.replace('\u{1f}', "\\x1f"));
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_typed() {
        let mut command = Command::new("cargo");
        command.args(["build", "--features", "a b"]).env("FLAGS", "-Ca\u{1f}-Cb").env_remove("CARGO");
        assert_eq!(shown(&command), r"FLAGS=$'-Ca\x1f-Cb' cargo build --features 'a b'");
    }

    #[test]
    fn a_search_path_is_shown_without_the_part_that_the_shell_has() {
        let path = env::var("PATH").expect("tests have a PATH");
        let mut command = Command::new("cargo");
        command.env("PATH", format!("/x/bin:{path}"));
        assert_eq!(shown(&command), "PATH=/x/bin:\"$PATH\" cargo");
    }

    #[test]
    fn a_failed_command_is_shown_with_its_fix() {
        let error = run("to fail", Command::new("false").arg("x"), "do not").expect_err("false fails");
        let text = error.to_string();
        assert!(text.contains("command: false x"), "{text}");
        assert!(text.contains("fix: do not"), "{text}");
        assert!(error.is::<Failure>());
    }

    #[test]
    fn a_captured_failure_carries_what_the_command_said() {
        let error =
            capture(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).expect_err("it ends with 3");
        assert!(error.to_string().contains("why"), "{error}");
    }
}
