//! What tests expect of a try, and how long they wait for it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use lyncwall_api::Refusal;

use crate::netns::Netns;
use crate::traffic::{self, Outcome};

/// For an answer that comes, on an emulated or a busy machine too.
pub const PATIENT: Duration = Duration::from_secs(60);

/// For an answer that does not come. Shorter than the second after which TCP repeats its opening, so that a try is one
/// packet.
pub const BRIEF: Duration = Duration::from_millis(250);

/// How long to wait for this outcome.
#[must_use]
pub fn patience(expected: Outcome) -> Duration {
    if expected == Outcome::TimedOut { BRIEF } else { PATIENT }
}

/// Tries to connect.
///
/// # Panics
/// Where the outcome is another.
#[track_caller]
pub fn expect_tcp(from: &Netns, to: impl Into<SocketAddr>, expected: Outcome) {
    let to = to.into();
    let outcome = traffic::tcp_connect(from, to, patience(expected)).expect("a try");
    assert_eq!(outcome, expected, "TCP to {to}");
}

/// Sends a datagram from the port `source` and waits for its echo.
///
/// # Panics
/// Where the outcome is another.
#[track_caller]
pub fn expect_udp(from: &Netns, source: u16, to: SocketAddr, expected: Outcome) {
    let outcome = traffic::udp_exchange(from, source, to, patience(expected)).expect("a try");
    assert_eq!(outcome, expected, "UDP from {source} to {to}");
}

/// Sends an echo request.
///
/// # Panics
/// Where the outcome is another.
#[track_caller]
pub fn expect_ping(from: &Netns, to: IpAddr, expected: Outcome) {
    let outcome = traffic::ping(from, to, patience(expected)).expect("a try");
    assert_eq!(outcome, expected, "a ping of {to}");
}

/// The sentence of a request that the agent refused as its user's mistake.
///
/// # Panics
/// Where the agent took it, and where something else went wrong.
#[track_caller]
pub fn refusal<T: std::fmt::Debug>(answer: Result<T>) -> String {
    let error = answer.expect_err("the agent refuses");
    error.downcast::<Refusal>().expect("a mistake of the user").to_string()
}
