//! What the command line calls the values of other crates' types. These crates know no command line.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use lyncwall_api::{Existing, Mode};
use lyncwall_datapath::LogLevel;
use lyncwall_policy::catalogue::Reading;

/// Whether packets are dropped.
pub(crate) fn mode() -> impl TypedValueParser<Value = Mode> {
    one_of(&[
        (Mode::Enforce, "enforce", "What no rule lets in is dropped"),
        (Mode::Audit, "audit", "Everything passes; what would have been dropped is counted and reported"),
    ])
}

/// What becomes of connections.
pub(crate) fn existing() -> impl TypedValueParser<Value = Existing> {
    one_of(&[
        (Existing::Cut, "cut", "Their packets are dropped from then on"),
        (Existing::Drain, "drain", "They go on until they end"),
    ])
}

/// How the printed tables are read.
pub(crate) fn reading() -> impl TypedValueParser<Value = Reading> {
    one_of(&[
        (Reading::Strict, "strict", "Directions and sources are honoured"),
        (Reading::Literal, "literal", "Every printed row opens its ports inbound, from anywhere"),
    ])
}

/// Which lines the programs write.
pub(crate) fn log_level() -> impl TypedValueParser<Value = LogLevel> {
    one_of(&[
        (LogLevel::Off, "off", "None. The verifier takes what would write them out of the programs"),
        (LogLevel::Error, "error", "Errors; there are none so far"),
        (LogLevel::Warn, "warn", "What is lost as well: at most one line a second from each CPU"),
        (LogLevel::Info, "info", "The same"),
        (LogLevel::Debug, "debug", "Each packet as well that makes an event"),
        (LogLevel::Trace, "trace", "The same"),
    ])
}

/// A value by its name, with a line of help.
fn one_of<T>(values: &'static [(T, &'static str, &'static str)]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync,
{
    let names = values.iter().map(|(_, name, help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(names).try_map(|text| {
        let named = values.iter().find(|(_, name, _)| *name == text);
        named.map(|(value, ..)| *value).ok_or("no such value")
    })
}
