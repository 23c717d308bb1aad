//! Where log lines go, and which.

use std::env;
use std::io;
use std::os::linux::fs::MetadataExt as _;

use clap::{Args, ValueEnum};
use lyncwall::datapath::{LOG_TARGET, LogLevel};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{Directive, LevelFilter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use super::Style;
use crate::values;

/// What becomes of log lines.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Where log lines go: the journal where systemd connected stderr to it, else stderr.
    #[arg(long, value_name = "WHERE")]
    log: Option<Destination>,

    /// Have the program in the kernel write lines into the log as well: `debug` for each packet that makes an event, `warn` for what is
    /// lost. Costs a packet nothing where it is off.
    #[arg(long, value_name = "LEVEL", default_value = "off", value_parser = values::log_level())]
    program_log: LogLevel,
}

impl Options {
    /// For commands that are not the agent: people read them.
    pub(crate) const STDERR: Self = Self { log: Some(Destination::Stderr), program_log: LogLevel::Off };

    /// Which lines the program writes.
    pub(crate) fn program(&self) -> LogLevel {
        self.program_log
    }
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Destination {
    /// Text on stderr.
    Stderr,
    /// A JSON object in a line on stderr.
    Json,
    /// The journal of systemd, with fields.
    Journald,
}

/// Sends log lines where the options say. `RUST_LOG` chooses which; without it those of level INFO and above. Lines of the program
/// go along as they were asked for.
pub(crate) fn start(options: &Options) {
    let destination = options.log.unwrap_or_else(|| match is_journal() {
        true => Destination::Journald,
        false => Destination::Stderr,
    });
    let mut filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    if let Some(directive) = of_program(options.program_log) {
        filter = filter.add_directive(directive);
    }
    let registry = tracing_subscriber::registry();
    let refused = match destination {
        Destination::Stderr => {
            registry.with(text().with_filter(filter)).init();
            return;
        }
        Destination::Json => {
            let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr);
            registry.with(json.with_filter(filter)).init();
            return;
        }
        Destination::Journald => match tracing_journald::layer() {
            Ok(journal) => {
                let journal = journal.with_priority_mappings(PRIORITIES);
                registry.with(journal.with_filter(filter)).init();
                return;
            }
            Err(error) => error,
        },
    };
    registry.with(text().with_filter(filter)).init();
    tracing::warn!("the journal cannot be reached, so log lines go to stderr: {refused}");
}

/// Text for people.
fn text() -> Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync> {
    tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(Style::of(&io::stderr()).colour)
        .with_writer(io::stderr)
        .boxed()
}

/// As other programs use the journal's priorities: a notice is something unusual.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};

/// Lets lines of the program through, whatever else is let through.
fn of_program(level: LogLevel) -> Option<Directive> {
    if level == LogLevel::Off {
        return None;
    }
    // No name of a level makes it a mistake.
    format!("{LOG_TARGET}={}", level.name()).parse().ok()
}

/// True where stderr is the journal's: systemd says so by `JOURNAL_STREAM`, which holds the device and the inode of what it
/// connected stderr to. Who changed that since shows by comparing, as systemd.exec(5) has it.
fn is_journal() -> bool {
    let Some(said) = env::var("JOURNAL_STREAM").ok() else { return false };
    // Stderr may be closed.
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream_is(&said, stderr.st_dev(), stderr.st_ino())
}

/// True where `JOURNAL_STREAM` says this device and inode.
fn stream_is(said: &str, device: u64, inode: u64) -> bool {
    let Some((said_device, said_inode)) = said.split_once(':') else { return false };
    (said_device.parse() == Ok(device)) && (said_inode.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_journals_where_device_and_inode_are() {
        assert!(stream_is("8:4711", 8, 4711));
        for other in ["8:4712", "9:4711", "8", "", ":", "8:4711:1", "x:y", "-8:4711"] {
            assert!(!stream_is(other, 8, 4711), "{other:?}");
        }
    }

    #[test]
    fn every_level_makes_a_directive_and_off_makes_none() {
        for level in LogLevel::ALL {
            let directive = of_program(level).map(|directive| directive.to_string());
            let expected = (level != LogLevel::Off).then(|| format!("bpf={}", level.name()));
            assert_eq!(directive, expected);
        }
    }
}
