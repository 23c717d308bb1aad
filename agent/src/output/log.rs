//! Log lines: destination and filter.

use std::env;
use std::fmt;
use std::io;
use std::os::linux::fs::MetadataExt as _;

use clap::{Args, ValueEnum};
use lyncwall_datapath::{LOG_TARGET, LogLevel};
use lyncwall_policy::text::printable;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{Directive, LevelFilter};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use super::Style;
use crate::values;

/// The options of the log.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Where to log [default: the journal if systemd connected stderr to it, else stderr]
    #[arg(long, value_name = "WHERE")]
    log: Option<Destination>,

    /// Let the program in the kernel log too: `debug` logs each packet with an event, `warn` logs losses.
    #[arg(long, value_name = "LEVEL", default_value = "off", value_parser = values::log_level())]
    program_log: LogLevel,
}

impl Options {
    /// The options of all commands but `run`: people read their log.
    pub(crate) const STDERR: Self = Self { log: Some(Destination::Stderr), program_log: LogLevel::Off };

    /// Which lines the kernel program writes.
    pub(crate) fn program(&self) -> LogLevel {
        self.program_log
    }
}

/// The destination of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Destination {
    /// Text on stderr.
    Stderr,
    /// One JSON object a line on stderr.
    Json,
    /// The systemd journal, with fields.
    Journald,
}

/// Sends log lines to the chosen destination. `RUST_LOG` selects lines; the default is INFO and above. The
/// filter lets the program's own lines through at the chosen level.
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
    tracing::warn!("cannot reach the journal, logging to stderr: {refused}");
}

/// Lines for people: the time, the level and the message, which is a sentence that has all fields of our own
/// events. Those of libraries have fields that their messages do not repeat.
struct Sentences {
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Sentences
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let colour = match *metadata.level() {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            Level::DEBUG => "34",
            Level::TRACE => "35",
        };
        let mut said = Said::default();
        event.record(&mut said);
        let own = metadata.target() == LOG_TARGET || metadata.target().starts_with("lyncwall");
        SystemTime.format_time(&mut to)?;
        let level = format!("{:>5}", metadata.level());
        let level = if self.colour { Style { colour: true }.paint(colour, &level) } else { level };
        write!(to, " {level} {}", printable(&said.message))?;
        if !own {
            write!(to, "{}", printable(&said.fields))?;
        }
        writeln!(to)
    }
}

/// The message of an event, and its other fields.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields += &format!(" {}={value:?}", field.name());
        }
    }
}

/// Text for people.
fn text() -> Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync> {
    tracing_subscriber::fmt::layer()
        .event_format(Sentences { colour: Style::of(&io::stderr()).colour })
        .with_writer(io::stderr)
        .boxed()
}

/// Maps levels to journal priorities like other programs: a notice is something unusual.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};

/// A directive that lets the program's lines through, whatever `RUST_LOG` says.
fn of_program(level: LogLevel) -> Option<Directive> {
    if level == LogLevel::Off {
        return None;
    }
    // A level's name always makes a valid directive.
    format!("{LOG_TARGET}={}", level.name()).parse().ok()
}

/// True if stderr is the journal. systemd sets `JOURNAL_STREAM` to the device and inode that it connected
/// stderr to; comparing them shows a later redirection, as systemd.exec(5) recommends.
fn is_journal() -> bool {
    let Some(said) = env::var("JOURNAL_STREAM").ok() else { return false };
    // Stderr may be closed.
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream_is(&said, stderr.st_dev(), stderr.st_ino())
}

/// True if `JOURNAL_STREAM` names this device and inode.
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
