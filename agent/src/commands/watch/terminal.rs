//! The terminal, the second place that writes to stdout. `watch` restores it however it ends.

use std::io::{self, Stdout};
use std::panic;

use anyhow::{Context as _, Result};
use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ratatui::backend::CrosstermBackend;

/// A terminal in raw mode with its alternate screen. Dropping the value restores the terminal.
pub(super) struct Terminal(ratatui::Terminal<CrosstermBackend<Stdout>>);

impl Terminal {
    /// Takes the terminal over.
    pub(super) fn take() -> Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // Restore the terminal first, so that the user can read the panic message.
            leave().ok();
            before(panic);
        }));
        let terminal = ratatui::Terminal::new(CrosstermBackend::new(io::stdout()));
        let terminal = Self(terminal.context("asking the terminal for its size")?);
        enter().context("taking the terminal over")?;
        Ok(terminal)
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> Result<()> {
        self.0.draw(draw).context("writing to the terminal")?;
        Ok(())
    }

    /// Makes the next draw complete. Takes the terminal over again after a shell had it.
    pub(super) fn refresh(&mut self) -> Result<()> {
        enter().context("taking the terminal over")?;
        let size = self.0.size().context("asking the terminal for its size")?;
        // `clear` would ask for the cursor position, and read the answer from among the keys.
        self.0.resize(size.into()).context("writing to the terminal")
    }

    /// Gives the terminal to the shell until `fg`.
    pub(super) fn suspend(&mut self) -> Result<()> {
        leave().context("giving the terminal back")?;
        // Signals the whole process group, like the terminal does: a wrapper such as sudo must stop too.
        // Without a shell to continue the group, the kernel stops no process.
        kill(Pid::from_raw(0), Signal::SIGTSTP).context("stopping")?;
        self.refresh()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        leave().ok();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

fn leave() -> io::Result<()> {
    let shown = execute!(io::stdout(), LeaveAlternateScreen, Show);
    disable_raw_mode().and(shown)
}
