//! The agent that runs: the firewall and who listens to it. Its sockets speak HTTP and JSON, as [`crate::api`] has it.

mod capture;
mod listen;
mod peer;
mod routes;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_stream::StreamExt as _;

use crate::api;
use crate::config::Listen;
use crate::datapath::NetlinkWatch;
use crate::datapath::host::interfaces;
use crate::events::{EventNames, Filter, FilterScope, describe};
use crate::firewall::{ChangeKind, Firewall};
use crate::metrics::{self, Exposed, Figures};
use listen::Bound;
use peer::Access;

pub use listen::Socket;
pub use routes::openapi;

/// Events that a slow client may lag behind before it loses some.
const BACKLOG: usize = 1024;

/// How often is cleared away what has run out, on the block-list and of a takeover, and looked at which rules are used.
const SWEEP: Duration = Duration::from_secs(60);
/// How long further changes of the machine are left to come together after one was followed.
const SETTLE: Duration = Duration::from_millis(50);

/// The least pause before the clock is looked at again.
const TICK: Duration = Duration::from_millis(1);

/// For how long an exposition of the metrics, and the names of interfaces, are good enough: whoever asks more often costs nothing.
const FRESH: Duration = Duration::from_millis(500);

/// For how long an interface without a name is not looked up again: one that has gone may still have packets on their way.
const UNKNOWN: Duration = Duration::from_millis(20);

/// Metrics as text, and when they were read.
type Exposition = (Instant, Arc<str>);

/// A running agent: the firewall, and who listens to it.
#[derive(Clone)]
pub struct Daemon {
    firewall: Arc<Mutex<Option<Firewall>>>,
    events: broadcast::Sender<Arc<EventLine>>,
    /// What events are told with, beside the firewall's lock: a switch must not wait for a flood of them.
    known: Arc<Mutex<NameCache>>,
    /// Set to true when the box was opened by a client.
    detached: Arc<watch::Sender<bool>>,
    /// Who may use the socket.
    access: Arc<watch::Sender<Access>>,
    /// Where metrics are to be served by TCP.
    metrics: Arc<watch::Sender<Vec<Listen>>>,
    /// Where they are, and what was bound for it before it was wanted.
    bound: Arc<Mutex<(BTreeSet<SocketAddr>, Vec<Bound>)>>,
    /// What the agent measures of itself.
    figures: Arc<Figures>,
    /// The exposition that was made last.
    exposed: Arc<tokio::sync::Mutex<Option<Exposition>>>,
    /// Requests of others than root come one after the other, so that root's never wait for all of them: at most for the next, and for
    /// what is being carried out though its client has gone.
    turn: Arc<Semaphore>,
    /// Taken in turn by whoever calls the firewall. A request whose client has gone leaves the queue.
    gate: Arc<Semaphore>,
    /// Held by the capture that runs.
    capture: Arc<tokio::sync::Mutex<()>>,
}

/// What packets are told with, and when the names of interfaces in it were read.
struct NameCache {
    names: EventNames,
    read: Option<Instant>,
    /// The interfaces of the configuration.
    guarded: Vec<String>,
}

/// An event, and its line.
struct EventLine {
    event: api::Event,
    line: String,
}

impl Daemon {
    /// Takes a firewall over, and begins to read its events.
    ///
    /// # Errors
    /// Where the events have a reader already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(mut firewall: Firewall) -> Result<Self> {
        let mut stream = firewall.events()?;
        if let Some(lines) = firewall.program_log()? {
            tokio::spawn(async move {
                if let Err(error) = lines.follow().await {
                    tracing::error!("no more lines of the program: {error:#}");
                }
            });
        }
        let (events, _) = broadcast::channel(BACKLOG);
        let guarded = firewall.guarded();
        let names = EventNames {
            interfaces: Arc::default(),
            services: firewall.services(),
            locator: firewall.locator(),
        };
        let (access, metrics) = (Access::of(firewall.api()), firewall.metrics().to_vec());
        let daemon = Self {
            firewall: Arc::new(Mutex::new(Some(firewall))),
            events,
            known: Arc::new(Mutex::new(NameCache { names, read: None, guarded })),
            detached: Arc::new(watch::Sender::new(false)),
            access: Arc::new(watch::Sender::new(access)),
            metrics: Arc::new(watch::Sender::new(metrics)),
            bound: Arc::default(),
            figures: Arc::default(),
            exposed: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            gate: Arc::new(Semaphore::new(1)),
            capture: Arc::default(),
        };
        let reader = daemon.clone();
        daemon.follow_deadline();
        daemon.sweep();
        tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                match event {
                    // The ring is emptied also while nobody listens, so that a listener gets what happens now.
                    Ok(_) if reader.events.receiver_count() == 0 => {}
                    Ok(event) => reader.tell(&event),
                    Err(error) => {
                        tracing::error!("no more events: {error:#}");
                        return;
                    }
                }
            }
        });
        Ok(daemon)
    }

    /// Reads the configuration again; with a time to `confirm`, for good only where a client confirms within it.
    ///
    /// # Errors
    /// As [`Firewall::reload`], and where an address of `[metrics]` cannot be bound.
    pub async fn reload(&self, confirm: Option<Duration>, existing: api::Existing) -> Result<api::Switched> {
        let daemon = self.clone();
        let switched = self.change(ChangeKind::Reload, move |firewall| {
            let mut bound = Vec::new();
            let switched = firewall.reload_where(confirm, existing, |plan| {
                bound = listen::bind_metrics(&plan.config.metrics, &daemon.bound().0)?;
                Ok(())
            })?;
            daemon.bound().1 = bound;
            Ok(switched)
        });
        switched.await
    }

    /// Makes a change, and what follows from it, which it does also where the client has gone meanwhile.
    async fn change(
        &self,
        kind: ChangeKind,
        make: impl FnOnce(&mut Firewall) -> Result<api::Switched> + Send + 'static,
    ) -> Result<api::Switched> {
        let daemon = self.clone();
        let switched = self.with(move |firewall| {
            let switched = make(firewall)?;
            daemon.figures.switched(kind, Duration::from_micros(switched.micros));
            daemon.retire();
            daemon.follow_deadline();
            Ok(switched)
        });
        switched.await
    }

    /// Follows the machine, for ever: attaches again to interfaces that were destroyed and made again, and goes by the
    /// addresses that the box has, and by whether it forwards.
    ///
    /// # Errors
    /// Where netlink does not answer.
    pub async fn follow_machine(&self) -> Result<()> {
        let mut watch = NetlinkWatch::listen()?;
        // What changed before somebody listened shows at once.
        loop {
            if let Err(error) = self.with(Firewall::machine_changed).await {
                tracing::error!("what is enforced does not fit the machine: {error:#}");
            }
            tokio::time::sleep(SETTLE).await;
            watch.next().await?;
        }
    }

    /// Ends when a client opened the box.
    pub async fn detached(&self) {
        // The sender lives as long as `self`.
        self.detached.subscribe().wait_for(|detached| *detached).await.ok();
    }

    /// Takes the firewall out; `None` once a client opened the box.
    #[must_use]
    pub fn into_firewall(self) -> Option<Firewall> {
        self.take()
    }

    fn take(&self) -> Option<Firewall> {
        self.firewall.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Where a change waits to be confirmed: goes along with the program when that goes back.
    fn follow_deadline(&self) {
        let daemon = self.clone();
        tokio::spawn(async move {
            // Each call follows a deadline that has passed, and leaves none.
            loop {
                match daemon.with(|firewall| firewall.time_left()).await {
                    Ok(Some(left)) => tokio::time::sleep(left.max(TICK)).await,
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!("{error:#}");
                        return;
                    }
                }
            }
        });
    }

    /// Clears away, now and again, what has run out.
    fn sweep(&self) {
        let daemon = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let swept = daemon.with(|firewall| {
                    firewall.note_usage();
                    firewall.end_takeover()?;
                    firewall.forget_expired()
                });
                if let Err(error) = swept.await {
                    tracing::debug!("{error:#}");
                }
            }
        });
    }

    /// Calls the firewall on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Firewall) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let daemon = self.clone();
        // Nobody closes the semaphore.
        let turn = Arc::clone(&self.gate).acquire_owned().await.context("the agent is about to end")?;
        tokio::task::spawn_blocking(move || {
            // It goes on where nobody waits for it any more, and so do those behind it.
            let _turn = turn;
            // A call that panicked left the kernel side as it was: a switch is one word.
            let mut firewall = daemon.firewall.lock().unwrap_or_else(PoisonError::into_inner);
            let firewall = firewall.as_mut().context("the box was opened, and the agent is about to end")?;
            firewall.follow_deadline()?;
            let called = call(firewall);
            daemon.follow_plan(firewall);
            called
        })
        .await
        .context("the call did not end well")?
    }

    /// Takes from the firewall what its plan says of the agent itself.
    fn follow_plan(&self, firewall: &Firewall) {
        let mut known = self.known();
        let services = firewall.services();
        // They are made anew with each plan.
        let same_plan = Arc::ptr_eq(&known.names.services, &services);
        known.names.services = services;
        known.names.locator = firewall.locator();
        known.guarded = firewall.guarded();
        drop(known);
        if same_plan {
            return;
        }
        self.access.send_if_modified(|access| {
            let now = Access::of(firewall.api());
            let other = *access != now;
            *access = now;
            other
        });
        self.metrics.send_if_modified(|metrics| {
            let other = *metrics != firewall.metrics();
            *metrics = firewall.metrics().to_vec();
            other
        });
    }

    fn bound(&self) -> MutexGuard<'_, (BTreeSet<SocketAddr>, Vec<Bound>)> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listeners for those addresses that are not served on yet. One that cannot be bound now, as after a change that went
    /// back, is said in the log.
    fn take_bound(&self, wanted: &[Listen], served: &BTreeSet<SocketAddr>) -> Vec<Bound> {
        let mut listeners = std::mem::take(&mut self.bound().1);
        listeners.retain(|(address, _)| {
            wanted.iter().any(|listen| listen.address == *address) && !served.contains(address)
        });
        let mut known = served.clone();
        known.extend(listeners.iter().map(|(address, _)| *address));
        for listen in wanted {
            match listen::bind_metrics(std::slice::from_ref(listen), &known) {
                Ok(more) => listeners.extend(more),
                Err(problems) => tracing::error!("{problems}"),
            }
        }
        listeners
    }

    /// Where metrics are served now.
    fn serves_on(&self, addresses: BTreeSet<SocketAddr>) {
        self.bound().0 = addresses;
    }

    /// All metrics as OpenMetrics text.
    async fn expose(&self) -> Result<Arc<str>> {
        let daemon = self.clone();
        // What is begun is good for whoever comes next, though the client has gone.
        tokio::spawn(async move { daemon.expose_now().await }).await.context("the call did not end well")?
    }

    async fn expose_now(&self) -> Result<Arc<str>> {
        let mut last = self.exposed.lock().await;
        if let Some((when, text)) = last.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
            tracing::trace!(age = ?when.elapsed(), "the same metrics once more");
            return Ok(Arc::clone(text));
        }
        let exposed = self.with(|firewall| {
            Ok(Exposed {
                status: firewall.status()?,
                counters: firewall.counters()?,
                changes: firewall.changes(),
            })
        });
        let text: Arc<str> = metrics::text(&exposed.await?, &self.figures)?.into();
        *last = Some((Instant::now(), Arc::clone(&text)));
        Ok(text)
    }

    /// After a switch was answered: waits until the slot that went out of use is quiet.
    fn retire(&self) {
        let daemon = self.clone();
        tokio::spawn(async move {
            let retired = daemon.with(|firewall| {
                firewall.retire();
                firewall.note_usage();
                Ok(())
            });
            if let Err(error) = retired.await {
                tracing::debug!("{error:#}");
            }
        });
    }

    fn known(&self) -> MutexGuard<'_, NameCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a packet is told with that came in by this interface. To list all interfaces for each packet would cost more than the
    /// packet.
    fn names_for(&self, ifindex: u32) -> EventNames {
        let mut known = self.known();
        let limit = if known.names.interfaces.contains_key(&ifindex) { FRESH } else { UNKNOWN };
        if known.read.is_none_or(|read| read.elapsed() >= limit) {
            known.names.interfaces = Arc::new(interface_names());
            known.read = Some(Instant::now());
        }
        known.names.clone()
    }

    /// The filter that a request asks for.
    async fn filter(&self, wanted: api::Wanted) -> Result<Filter> {
        let (locator, guarded) = {
            let known = self.known();
            (known.names.locator.clone(), known.guarded.clone())
        };
        // It compares names with many others, and asks the kernel.
        let filter = tokio::task::spawn_blocking(move || {
            let interfaces = if wanted.interface.is_some() { with_members(guarded)? } else { Vec::new() };
            let there = FilterScope { interfaces, locator };
            Ok(Filter::of(&wanted, &there)?)
        });
        filter.await.context("the call did not end well")?
    }

    fn tell(&self, event: &lyncwall_common::abi::Event) {
        let event = describe(event, &self.names_for(event.ifindex));
        match serde_json::to_string(&event) {
            // Nobody may be listening any more.
            Ok(line) => drop(self.events.send(Arc::new(EventLine { event, line: line + "\n" }))),
            Err(error) => tracing::error!("an event that is no JSON: {error}"),
        }
    }
}

/// Interfaces by name, each with the members that stand for it in events where it is a bond.
fn with_members(guarded: Vec<String>) -> Result<Vec<(String, Vec<String>)>> {
    let (all, members) = (interfaces::all()?, interfaces::members()?);
    let name = |number: u32| all.iter().find(|(_, known)| *known == number).map(|(name, _)| name);
    let of = |bond: &String| {
        let own = members.iter().filter(|(number, _)| name(*number) == Some(bond));
        own.filter_map(|(_, member)| name(*member).cloned()).collect()
    };
    Ok(guarded.into_iter().map(|bond| (bond.clone(), of(&bond))).collect())
}

/// Names of interfaces by number; none where the kernel does not tell.
fn interface_names() -> HashMap<u32, String> {
    let known = interfaces::all().unwrap_or_default();
    known.into_iter().map(|(name, number)| (number, name)).collect()
}

/// Serves a daemon on `socket` until the returned future is dropped.
///
/// # Errors
/// Where the socket fails.
pub async fn serve(daemon: Daemon, socket: Socket) -> Result<()> {
    let ([shared, of_root], bound) = socket.into_parts();
    daemon.bound().1 = bound;
    tokio::select! {
        () = listen::serve_unix(&daemon, shared) => {}
        () = listen::serve_unix(&daemon, of_root) => {}
        () = listen::serve_metrics(&daemon) => {}
    }
    Ok(())
}
