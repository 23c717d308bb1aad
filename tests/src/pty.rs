//! A pseudo-terminal to run a program in, as if somebody sat there.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};

use anyhow::{Context as _, Result};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};

use crate::sys;

/// A pseudo-terminal. It stays when the program in it has ended.
#[derive(Debug)]
pub struct Pty {
    master: File,
    slave: OwnedFd,
}

impl Pty {
    /// One of so many rows and columns.
    ///
    /// # Errors
    /// Where the kernel has none left.
    pub fn open(rows: u16, columns: u16) -> Result<Self> {
        let pair = openpty(&size(rows, columns), None).context("a pseudo-terminal")?;
        Ok(Self { master: pair.master.into(), slave: pair.slave })
    }

    /// Starts a program in it, which leads a session there.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, command: &mut Command) -> Result<Child> {
        let end = || self.slave.try_clone().context("a descriptor");
        command.stdin(end()?).stdout(end()?).stderr(end()?);
        sys::take_terminal_before_exec(command);
        command.spawn().with_context(|| format!("starting {command:?}"))
    }

    /// Types.
    ///
    /// # Errors
    /// Where the kernel does not take it.
    pub fn press(&self, keys: &str) -> Result<()> {
        (&self.master).write_all(keys.as_bytes()).context("typing")
    }

    /// Makes it another size.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        sys::set_terminal_size(self.master.as_fd(), &size(rows, columns)).context("resizing a terminal")
    }

    /// What is to be read of what the program writes. A read fails once the terminal is gone.
    ///
    /// # Errors
    /// Where this process has no descriptor left.
    pub fn written(&self) -> Result<File> {
        self.master.try_clone().context("a descriptor")
    }

    /// How it is set: echo, lines, signals.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn settings(&self) -> Result<Termios> {
        tcgetattr(&self.slave).context("asking a terminal for its settings")
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
