//! A capture: dropped packets as a pcapng file, while a client reads it.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes};
use lyncwall_common::abi::LONGEST_CAPTURE;
use lyncwall_common::reason::{Action, Reason};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::Daemon;
use crate::events::{Filter, Observed};
use crate::firewall::Firewall;
use crate::pcapng::Pcapng;
use lyncwall_api as api;
use lyncwall_datapath::{CapturedPacket, Captures, SHORTEST};
use lyncwall_policy::problem::{Error, Problem, Problems};

/// Packets to queue for a slow client. Further packets wait in the kernel's buffers, and count as lost if
/// those are full.
const BACKLOG: usize = 64;
/// The longest capture, and the default.
const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;

/// The parameters of a capture.
struct Wanted {
    snap: u16,
    count: Option<u64>,
    time: Duration,
    filter: Filter,
}

impl Wanted {
    async fn of(daemon: &Daemon, asked: &api::Capture) -> Result<Self> {
        let mut problems = Problems::default();
        let filter = match daemon.filter(asked.wanted()).await {
            Ok(filter) => filter,
            Err(error) => match error.into() {
                Error::Mistakes(found) => {
                    problems.append(found);
                    Filter::default()
                }
                Error::Unexpected(error) => return Err(error),
            },
        };
        if asked.snap.is_some_and(|snap| u32::from(snap) > LONGEST_CAPTURE) {
            problems
                .push(Problem::new("`snap` is too large", format!("take {LONGEST_CAPTURE} bytes at most")));
        }
        if asked.snap.is_some_and(|snap| usize::from(snap) < SHORTEST) {
            problems.push(Problem::new("`snap` is too small", format!("take {SHORTEST} bytes or more")));
        }
        if asked.seconds.is_some_and(|seconds| !(1..=DAY).contains(&seconds)) {
            problems.push(Problem::new(
                "the time of a capture must be from a second to a day",
                "change `seconds`",
            ));
        }
        if asked.count == Some(0) {
            problems.push(Problem::new("`count` is 0", "take 1 or more"));
        }
        Ok(problems.or(Self {
            snap: asked.snap.unwrap_or(LONGEST_CAPTURE as u16),
            count: asked.count,
            time: Duration::from_secs(asked.seconds.unwrap_or(HOUR)),
            filter,
        })?)
    }
}

/// Starts a capture. It ends at its limits, or when the client leaves.
///
/// # Errors
/// [`Problems`] for bad parameters, and while another capture runs.
pub(super) async fn begin(daemon: &Daemon, asked: &api::Capture) -> Result<Body> {
    let (daemon, wanted) = (daemon.clone(), Wanted::of(daemon, asked).await?);
    // A client that leaves meanwhile must not leave half a capture behind.
    tokio::spawn(async move { begin_one(daemon, wanted).await }).await.context("the call panicked")?
}

async fn begin_one(daemon: Daemon, wanted: Wanted) -> Result<Body> {
    let Ok(turn) = std::sync::Arc::clone(&daemon.capture).try_lock_owned() else {
        return Err(Problem::new("another capture is running", "stop it, or wait for its end").into());
    };
    let mut file = Pcapng::new(wanted.snap.into())?;
    let (snap, reasons) = (wanted.snap, wanted.filter.reasons());
    let captures = daemon.with(move |firewall| firewall.capture(snap, reasons)).await?;
    tracing::info!(snap, "capturing dropped packets, at most {snap} bytes of each");
    let (pieces, read) = mpsc::channel(BACKLOG);
    let start = file.take();
    let task = Task { daemon: daemon.clone(), wanted, file, captures, pieces };
    tokio::spawn(async move {
        // In its own task: whatever happens to it, the program learns that the capture is over.
        let run = tokio::spawn(async move {
            if task.pieces.send(start).await.is_ok() { task.run().await } else { Ok(()) }
        });
        match run.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the capture failed: {error:#}"),
            Err(error) => tracing::error!("the capture panicked: {error}"),
        }
        let stopped = daemon.with(|firewall| {
            firewall.end_capture();
            Ok(())
        });
        if let Err(error) = stopped.await {
            tracing::debug!("{error:#}");
        }
        tracing::info!("the capture has ended");
        drop(turn);
    });
    let bytes = ReceiverStream::new(read).map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    Ok(Body::from_stream(bytes))
}

/// A running capture.
struct Task {
    daemon: Daemon,
    wanted: Wanted,
    file: Pcapng,
    captures: Captures,
    pieces: mpsc::Sender<Vec<u8>>,
}

impl Task {
    async fn run(mut self) -> Result<()> {
        let end = Instant::now() + self.wanted.time;
        let mut renewal = tokio::time::interval(Firewall::CAPTURE_RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = 0;
        while self.wanted.count.is_none_or(|count| taken < count) {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                () = self.pieces.closed() => return Ok(()),
                _ = renewal.tick() => {
                    self.go_on().await?;
                }
                packet = self.captures.next() => {
                    let packet = packet.context("no more packets")??;
                    if self.write(&packet)? {
                        taken += 1;
                        let piece = self.file.take();
                        if !self.hand_out(piece, end, &mut renewal).await? {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Renews the capture in the program.
    async fn go_on(&self) -> Result<()> {
        let (snap, reasons) = (self.wanted.snap, self.wanted.filter.reasons());
        self.daemon.with(move |firewall| firewall.go_on_capturing(snap, reasons)).await
    }

    /// Sends the client a piece; false if it has gone, or the time is over. A slow client stalls this task,
    /// but not the renewal: the program counts what is lost then.
    async fn hand_out(&self, piece: Vec<u8>, end: Instant, renewal: &mut Interval) -> Result<bool> {
        let sent = self.pieces.send(piece);
        tokio::pin!(sent);
        loop {
            tokio::select! {
                sent = &mut sent => return Ok(sent.is_ok()),
                () = tokio::time::sleep_until(end) => return Ok(false),
                _ = renewal.tick() => {
                    self.go_on().await?;
                }
            }
        }
    }

    /// Adds a packet to the file if it matches the filter.
    fn write(&mut self, packet: &CapturedPacket) -> Result<bool> {
        let CapturedPacket { what, bytes } = packet;
        let reason = Reason::from_value(what.reason);
        let time = wall_time(what.time)?;
        let observed = Observed {
            time: time.as_secs_f64(),
            ifindex: what.ifindex,
            reason,
            action: if what.action == Action::Pass as u8 { Action::Pass } else { Action::Drop },
            bytes,
            length: what.length,
        };
        let event = observed.describe(&self.daemon.names_for(what.ifindex));
        if !self.wanted.filter.wants(&event) {
            return Ok(false);
        }
        self.file.packet(&event.interface, time, what.length, bytes, comment(&event, reason))?;
        Ok(true)
    }
}

/// The reason of the drop, in a line.
fn comment(event: &api::Event, reason: Option<Reason>) -> String {
    let done = if event.action == "pass" { "would be dropped" } else { "dropped" };
    let mut text = format!("{done}: {}", event.reason);
    if let Some(reason) = reason {
        text += &format!(". {}", reason.meaning());
    }
    for (what, value) in [("target", &event.target), ("service", &event.service), ("note", &event.note)] {
        if let Some(value) = value {
            text += &format!(" {what}: {value};");
        }
    }
    text.trim_end_matches(';').to_owned()
}

/// Converts nanoseconds of the monotonic clock to the time since 1970.
fn wall_time(monotonic: u64) -> Result<Duration> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).context("the monotonic clock")?);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(wall.saturating_sub(now.saturating_sub(Duration::from_nanos(monotonic))))
}
