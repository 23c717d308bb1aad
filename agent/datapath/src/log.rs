//! Log lines of the programs, in the agent's log.
//!
//! They come through a ring buffer that is not pinned: lines of an earlier agent's programs, which judge
//! until this agent replaces them, are lost.

use anyhow::{Context as _, Result};
use aya::{Ebpf, EbpfLoader};
use aya_log::{EbpfLogger, LEVEL};
use log::{Level, Log, Metadata, Record};
use lyncwall_common::abi::{Lost, map};
use lyncwall_common::reason::{Action, Reason};
use nix::net::if_::if_indextoname;
use tokio::io::unix::AsyncFd;

use super::sys;

/// The target of the lines, for log filters.
pub const TARGET: &str = lyncwall_common::abi::LOG_TARGET;

/// Which lines the programs write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// None. The verifier removes the code that logs from the programs.
    #[default]
    Off,
    /// Errors; there are none so far.
    Error,
    /// Losses as well: at most one line a second from each CPU.
    Warn,
    /// Currently equal to `Warn`.
    Info,
    /// Each packet with an event as well.
    Debug,
    /// Currently equal to `Debug`.
    Trace,
}

impl LogLevel {
    /// All levels, the quietest first.
    pub const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The name in log filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The number in the programs.
    pub(super) const fn number(self) -> &'static u8 {
        match self {
            Self::Off => &0,
            Self::Error => &1,
            Self::Warn => &2,
            Self::Info => &3,
            Self::Debug => &4,
            Self::Trace => &5,
        }
    }
}

/// Makes the programs log lines of this level and more severe ones.
pub(super) fn ask_for<'a>(loader: &mut EbpfLoader<'a>, level: LogLevel) {
    loader.override_global(LEVEL, level.number(), true);
    if level == LogLevel::Off {
        // The programs keep the empty map; aya gives it one page.
        loader.map_max_entries(map::LOGS, 1);
    }
}

/// Takes the ring buffer of the lines out of the object; `None` without logging.
pub(super) fn take(ebpf: &mut Ebpf, level: LogLevel) -> Result<Option<EbpfLogger<Forward>>> {
    if level == LogLevel::Off {
        return Ok(None);
    }
    let lines = EbpfLogger::init_with_logger(ebpf, Forward);
    Ok(Some(lines.with_context(|| format!("taking the map {}", map::LOGS))?))
}

/// The lines of the programs, to be written to the log.
pub struct ProgramLog {
    lines: AsyncFd<EbpfLogger<Forward>>,
}

impl ProgramLog {
    /// Must be called within a tokio runtime.
    pub(super) fn new(lines: EbpfLogger<Forward>) -> Result<Self> {
        let lines = sys::watch_log(lines).with_context(|| format!("waiting for the map {}", map::LOGS))?;
        Ok(Self { lines })
    }

    /// Writes the lines to the log, for ever.
    ///
    /// # Errors
    /// If the buffer cannot be polled.
    pub async fn follow(mut self) -> Result<()> {
        loop {
            let ready = self.lines.readable_mut().await;
            let mut ready = ready.with_context(|| format!("waiting for the map {}", map::LOGS))?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}

/// Turns lines into events of `tracing`, with names instead of the program's numbers.
pub(super) struct Forward;

impl Log for Forward {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        match Line::of(&line) {
            Some(Line::Packet { reason, action, ifindex, length }) => {
                let reason = reason.name();
                let interface = if_indextoname(ifindex).ok();
                let interface = interface.and_then(|name| name.into_string().ok());
                let interface = interface.unwrap_or_else(|| ifindex.to_string());
                let said = match action {
                    Action::Drop => "dropped",
                    Action::Pass => "would be dropped",
                };
                tracing::debug!(target: TARGET, reason, interface, length, "{said}: {reason}, {length} bytes on {interface}");
            }
            Some(Line::Lost(what)) => tracing::warn!(target: TARGET, "lost {}", what.name()),
            // A line from a program of another version.
            None => match record.level() {
                Level::Error => tracing::error!(target: TARGET, "{line}"),
                Level::Warn => tracing::warn!(target: TARGET, "{line}"),
                Level::Info => tracing::info!(target: TARGET, "{line}"),
                Level::Debug => tracing::debug!(target: TARGET, "{line}"),
                Level::Trace => tracing::trace!(target: TARGET, "{line}"),
            },
        }
    }

    fn flush(&self) {}
}

/// The content of a line.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A packet with an event.
    Packet { reason: Reason, action: Action, ifindex: u32, length: u32 },
    /// A loss that is counted.
    Lost(Lost),
}

impl Line {
    /// Parses a line as `ebpf/src/log.rs` writes it: a word, and numbers with their names.
    fn of(line: &str) -> Option<Self> {
        let (word, values) = line.split_once(' ')?;
        let value = |name: &str| -> Option<u32> {
            let values = values.split(' ').filter_map(|value| value.split_once('='));
            values.filter(|(other, _)| *other == name).find_map(|(_, value)| value.parse().ok())
        };
        match word {
            "packet" => Some(Self::Packet {
                reason: Reason::from_value(value("reason")?.try_into().ok()?)?,
                action: *Action::ALL.get(value("action")? as usize)?,
                ifindex: value("ifindex")?,
                length: value("length")?,
            }),
            "lost" => Some(Self::Lost(*Lost::ALL.get(value("what")? as usize)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_program_are_read_and_others_left_as_they_are() {
        let reason = Reason::Closed;
        let line = format!("packet reason={} action=1 ifindex=7 length=60", reason as u8);
        let packet = Line::Packet { reason, action: Action::Drop, ifindex: 7, length: 60 };
        assert_eq!(Line::of(&line), Some(packet));
        assert_eq!(Line::of("lost what=1"), Some(Line::Lost(Lost::Capture)));
        for other in ["", "lost", "lost what=99", "packet reason=255 action=1 ifindex=7 length=60", "a line"]
        {
            assert_eq!(Line::of(other), None, "{other:?}");
        }
    }

    #[test]
    fn losses_have_the_numbers_that_their_place_says() {
        for (number, lost) in Lost::ALL.into_iter().enumerate() {
            assert_eq!(lost as usize, number);
        }
    }
}
