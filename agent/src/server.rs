//! The running agent: the firewall and its clients. Its sockets speak HTTP and JSON, see [`lyncwall_api`].

mod capture;
mod chores;
mod crowd;
mod listen;
mod peer;
mod routes;
mod told;
mod watching;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_stream::StreamExt as _;

use crate::events::{EventNames, Filter, FilterScope, describe};
use crate::firewall::{ChangeKind, Firewall};
use crate::metrics::{self, Exposed, Figures};
use chores::SWEEP;
use listen::Bound;
use lyncwall_api as api;
use lyncwall_datapath::host::interfaces;
use lyncwall_datapath::{LinkWatch, NetlinkWatch};
use lyncwall_policy::config::Listen;
use lyncwall_policy::plan::Plan;
use peer::{Access, Peer};
use watching::log_unguarded;

pub use listen::Socket;
pub use routes::openapi;
pub use told::Asker;

/// Events that a slow client may lag behind before it loses some.
const BACKLOG: usize = 1024;

/// The pause before the next attempt of a side feature that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// How long to collect further changes of the machine after following one.
const SETTLE: Duration = Duration::from_millis(50);

/// How long to reuse the metrics text and the interface names: frequent requests cost nothing.
const FRESH: Duration = Duration::from_millis(500);

/// How long not to look up an interface without a name: one that has gone may still have packets under way.
const UNKNOWN: Duration = Duration::from_millis(20);

/// The metrics as text, and the time of reading.
type Exposition = (Instant, Arc<str>);

/// The shortest time between two log lines about peers without a right.
const SHUT_OUT: Duration = Duration::from_secs(1);

/// A running agent: the firewall and its clients.
#[derive(Clone)]
pub struct Daemon {
    /// The firewall; `None` after a client opened the box. The lock is a fair queue, and a request whose client
    /// has gone leaves it. A call that panics leaves the kernel side consistent, as a switch is one word.
    firewall: Arc<tokio::sync::Mutex<Option<Firewall>>>,
    /// The configuration file.
    file: Arc<Path>,
    /// Held by a reload from before it reads the file until its end. Others need the firewall only for the change.
    reload: Arc<tokio::sync::Mutex<()>>,
    events: broadcast::Sender<Arc<EventLine>>,
    /// The names for events, outside the firewall's queue: a switch must not wait for a flood of events.
    known: Arc<Mutex<NameCache>>,
    /// True after a client opened the box.
    detached: Arc<watch::Sender<bool>>,
    /// True while a client opens the box: then nobody else took the programs off.
    detaching: Arc<AtomicBool>,
    /// The users of the socket.
    access: Arc<watch::Sender<Access>>,
    /// The wanted TCP addresses of the metrics.
    metrics: Arc<watch::Sender<Vec<Listen>>>,
    /// The served TCP addresses, and listeners that were bound in advance.
    bound: Arc<Mutex<(BTreeSet<SocketAddr>, Vec<Bound>)>>,
    /// When the refusal of a change was logged last: strangers must not fill the log.
    shut_out: Arc<Mutex<Option<Instant>>>,
    /// The agent's own measurements.
    figures: Arc<Figures>,
    /// The metrics text that was made last.
    exposed: Arc<tokio::sync::Mutex<Option<Exposition>>>,
    /// Serialises requests of users other than root, so that root never waits for all of them: at most for
    /// the next one, and for one whose client has gone.
    turn: Arc<Semaphore>,
    /// Held by the running capture.
    capture: Arc<tokio::sync::Mutex<()>>,
    /// Looks at the programs of the firewall, without its queue.
    links: LinkWatch,
    /// The interfaces that exist but whose packets nobody judges.
    unguarded: Arc<watch::Sender<Vec<api::Unguarded>>>,
    /// What failed besides enforcing, by side feature.
    failing: Arc<Mutex<BTreeMap<Side, Vec<String>>>>,
}

/// Something that the agent does besides enforcing. It fails alone, and the agent tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Metrics,
    Groups,
}

/// Ends the agent when dropped: as a client gets its answer, or has gone.
struct EndGuard(Arc<watch::Sender<bool>>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// The names for packets, and when the interface names were read.
struct NameCache {
    names: EventNames,
    read: Option<Instant>,
    /// The interfaces of the configuration.
    guarded: Vec<String>,
}

/// An event, and its line of JSON.
struct EventLine {
    event: api::Event,
    line: String,
}

impl Daemon {
    /// Takes ownership of a firewall, and starts to read its events.
    ///
    /// # Errors
    /// If the events have a reader already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(mut firewall: Firewall) -> Result<Self> {
        let mut stream = firewall.events()?;
        if let Some(lines) = firewall.program_log()? {
            tokio::spawn(async move {
                if let Err(error) = lines.follow().await {
                    tracing::error!("cannot read more log lines of the program: {error:#}");
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
        let metrics = firewall.metrics().to_vec();
        let links = firewall.link_watch()?;
        let daemon = Self {
            file: firewall.file().into(),
            reload: Arc::default(),
            firewall: Arc::new(tokio::sync::Mutex::new(Some(firewall))),
            events,
            known: Arc::new(Mutex::new(NameCache { names, read: None, guarded })),
            detached: Arc::new(watch::Sender::new(false)),
            detaching: Arc::default(),
            access: Arc::default(),
            metrics: Arc::new(watch::Sender::new(metrics)),
            bound: Arc::default(),
            shut_out: Arc::default(),
            figures: Arc::default(),
            exposed: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            capture: Arc::default(),
            links,
            unguarded: Arc::default(),
            failing: Arc::default(),
        };
        let reader = daemon.clone();
        daemon.follow_deadline();
        daemon.sweep();
        daemon.free_flows();
        daemon.follow_groups();
        daemon.follow_clock();
        tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                match event {
                    // The ring is drained even without listeners, so that a new listener gets current events
                    // only.
                    Ok(_) if reader.events.receiver_count() == 0 => {}
                    Ok(event) => reader.tell(&event),
                    Err(error) => {
                        tracing::error!("cannot read more events: {error:#}");
                        return;
                    }
                }
            }
        });
        Ok(daemon)
    }

    /// Reads the configuration again; with a time to `confirm`, for good only if a client confirms within it.
    ///
    /// # Errors
    /// As [`Firewall::reload`], and if an address of `[metrics]` cannot be bound.
    pub async fn reload(
        &self,
        asker: Asker,
        confirm: Option<Duration>,
        existing: Option<api::Existing>,
    ) -> Result<api::Switched> {
        let daemon = self.clone();
        // A reload takes effect in the turn in which it reads the file, or an older text could replace a newer one.
        let turn = Arc::clone(&self.reload).lock_owned().await;
        let file = Arc::clone(&self.file);
        let read =
            tokio::task::spawn_blocking(move || Plan::read(&file)).await.context("the call panicked")?;
        let switched = self.change(ChangeKind::Reload, asker, move |firewall| {
            let _turn = turn;
            let mut bound = Vec::new();
            let switched = firewall.reload(read, confirm, existing, |plan| {
                bound = listen::bind_metrics(&plan.config.metrics, &daemon.bound().0)?;
                Ok(())
            })?;
            daemon.bound().1 = bound;
            Ok(switched)
        });
        let switched = switched.await;
        // After the answer, as it takes some milliseconds.
        tokio::task::spawn_blocking(lyncwall_datapath::give_memory_back);
        switched
    }

    /// Makes a change with all its consequences, even if the client has gone meanwhile, and logs it.
    async fn change(
        &self,
        kind: ChangeKind,
        asker: Asker,
        make: impl FnOnce(&mut Firewall) -> Result<api::Switched> + Send + 'static,
    ) -> Result<api::Switched> {
        let daemon = self.clone();
        let switched = self.with(move |firewall| {
            // A change holds for packets that somebody judges.
            daemon.mend_first(firewall).inspect_err(|error| told::refused(kind, asker, error))?;
            let before = firewall.target_states();
            let mut switched = make(firewall).inspect_err(|error| told::refused(kind, asker, error))?;
            told::made(kind, asker, &before, &switched);
            match firewall.unguarded() {
                Ok(unguarded) => {
                    unguarded.iter().for_each(log_unguarded);
                    switched.unguarded = unguarded;
                }
                Err(error) => {
                    switched
                        .warnings
                        .push(format!("cannot tell whether the interfaces are guarded: {error:#}"));
                }
            }
            daemon.figures.switched(kind, Duration::from_micros(switched.micros));
            daemon.retire();
            daemon.follow_deadline();
            Ok(switched)
        });
        switched.await
    }

    /// Follows the machine for ever: attaches again to interfaces that were created anew, and adapts to the
    /// addresses of the box and to forwarding.
    ///
    /// # Errors
    /// If netlink does not answer.
    pub async fn follow_machine(&self) -> Result<()> {
        let mut watch = NetlinkWatch::listen()?;
        // Changes from before the subscription show at once.
        loop {
            if let Err(error) = self.with(Firewall::machine_changed).await {
                tracing::error!("the live rules do not fit the machine: {error:#}");
            }
            tokio::time::sleep(SETTLE).await;
            watch.next().await?;
        }
    }

    /// Notes, and logs, what a side feature cannot do from now on.
    fn fails(&self, side: Side, what: Vec<String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failing.get(&side).cloned().unwrap_or_default();
        what.iter().filter(|text| !before.contains(text)).for_each(|text| tracing::error!("{text}"));
        failing.insert(side, what);
    }

    /// What the agent cannot do besides enforcing.
    fn failing(&self) -> Vec<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.values().flatten().cloned().collect()
    }

    /// The status of the firewall, and of what the agent does beside it.
    async fn status(&self) -> Result<api::Status> {
        let mut status = self.with(|firewall| firewall.status()).await?;
        status.failing = self.failing();
        Ok(status)
    }

    /// Looks up the groups of `[api]` now and again: they may come after the agent, and get other numbers.
    fn follow_groups(&self) {
        let daemon = self.clone();
        tokio::spawn(async move {
            loop {
                let Ok(api) = daemon.with(|firewall| Ok(firewall.api().clone())).await else { return };
                let looked_up = tokio::task::spawn_blocking(move || Access::of(&api)).await;
                if let Ok(looked_up) = looked_up {
                    daemon.admit(looked_up);
                }
                let pause = if daemon.failing().is_empty() { SWEEP } else { AGAIN };
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Sets who may use the socket.
    fn admit(&self, (now, unknown): (Access, Vec<String>)) {
        self.fails(Side::Groups, unknown);
        self.access.send_if_modified(|access| {
            let other = *access != now;
            *access = now;
            other
        });
    }

    /// Returns when a client has opened the box.
    pub async fn detached(&self) {
        // The sender lives as long as `self`.
        self.detached.subscribe().wait_for(|detached| *detached).await.ok();
    }

    /// Takes the firewall out; `None` after a client opened the box.
    pub async fn into_firewall(self) -> Option<Firewall> {
        self.firewall.lock().await.take()
    }

    /// Logs that a peer without the right asked for a change, at most once a second.
    fn shut_out(&self, peer: &Peer, path: &str) {
        let mut last = self.shut_out.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= SHUT_OUT) {
            *last = Some(Instant::now());
            let asker = peer.asker();
            tracing::warn!(
                uid = asker.uid(),
                "refused {path}: {asker} has no right to it ([api] names who has)"
            );
        }
    }

    /// Opens the box, even if the client goes meanwhile. The agent ends when the guard is dropped, also if a pin cannot
    /// be removed: `lyncwall detach` removes the rest without an agent.
    async fn detach(&self, forget: bool, asker: Asker) -> Result<(Result<api::Detached>, EndGuard)> {
        let (ended, detaching) = (Arc::clone(&self.detached), Arc::clone(&self.detaching));
        self.blocking(move |firewall| {
            let firewall = firewall.take().context("the agent is stopping")?;
            let end = EndGuard(ended);
            detaching.store(true, Ordering::Relaxed);
            let detached =
                firewall.detach(forget).context("detach did not finish, and the agent stops: repeat it");
            if let Ok(detached) = &detached {
                match detached.guarded.as_slice() {
                    [] => tracing::warn!(uid = asker.uid(), "detached, asked by {asker}: the box is open"),
                    guarded => tracing::error!(
                        uid = asker.uid(),
                        "detach, asked by {asker}, did not open the box, and the agent stops; still guarded: {}",
                        guarded.join(", ")
                    ),
                }
                for failed in &detached.failed {
                    tracing::error!("detach did not finish: {failed}");
                }
            }
            Ok((detached, end))
        })
        .await
    }

    /// Calls the firewall on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Firewall) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let daemon = self.clone();
        self.blocking(move |firewall| {
            let firewall = firewall.as_mut().context("the agent is stopping")?;
            firewall.follow_deadline()?;
            let called = call(firewall);
            daemon.follow_plan(firewall);
            called
        })
        .await
    }

    /// Waits for the firewall, then makes a call that continues after its client has gone. Later calls wait
    /// for its end.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Option<Firewall>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut firewall = Arc::clone(&self.firewall).lock_owned().await;
        tokio::task::spawn_blocking(move || call(&mut firewall)).await.context("the call panicked")?
    }

    /// Takes over the agent's own settings from the firewall's plan.
    fn follow_plan(&self, firewall: &Firewall) {
        let mut known = self.known();
        let services = firewall.services();
        // Each plan creates these names anew.
        let same_plan = Arc::ptr_eq(&known.names.services, &services);
        known.names.services = services;
        known.names.locator = firewall.locator();
        known.guarded = firewall.guarded();
        drop(known);
        if same_plan {
            return;
        }
        self.admit(Access::of(firewall.api()));
        self.metrics.send_if_modified(|metrics| {
            let other = *metrics != firewall.metrics();
            *metrics = firewall.metrics().to_vec();
            other
        });
    }

    fn bound(&self) -> MutexGuard<'_, (BTreeSet<SocketAddr>, Vec<Bound>)> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds the addresses that are not served yet, and notes those that fail.
    fn take_bound(&self, wanted: &[Listen], served: &BTreeSet<SocketAddr>) -> Vec<Bound> {
        let mut listeners = std::mem::take(&mut self.bound().1);
        listeners.retain(|(address, _)| {
            wanted.iter().any(|listen| listen.address == *address) && !served.contains(address)
        });
        let mut known = served.clone();
        known.extend(listeners.iter().map(|(address, _)| *address));
        let mut failed = Vec::new();
        for listen in wanted {
            match listen::bind_metrics(std::slice::from_ref(listen), &known) {
                Ok(more) => listeners.extend(more),
                Err(problems) => failed.extend(problems.iter().map(ToString::to_string)),
            }
        }
        self.fails(Side::Metrics, failed);
        listeners
    }

    /// The TCP addresses that serve metrics now.
    fn serves_on(&self, addresses: BTreeSet<SocketAddr>) {
        self.bound().0 = addresses;
    }

    /// All metrics as OpenMetrics text.
    async fn expose(&self) -> Result<Arc<str>> {
        let daemon = self.clone();
        // The text helps the next reader even if the client has gone.
        tokio::spawn(async move { daemon.expose_now().await }).await.context("the call panicked")?
    }

    async fn expose_now(&self) -> Result<Arc<str>> {
        let mut last = self.exposed.lock().await;
        if let Some((when, text)) = last.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
            tracing::trace!(age = ?when.elapsed(), "reusing the metrics text");
            return Ok(Arc::clone(text));
        }
        let exposed = self.with(|firewall| {
            Ok(Exposed {
                status: firewall.status()?,
                counters: firewall.counters()?,
                changes: firewall.changes(),
            })
        });
        let mut exposed = exposed.await?;
        exposed.status.failing = self.failing();
        let text: Arc<str> = metrics::text(&exposed, &self.figures)?.into();
        *last = Some((Instant::now(), Arc::clone(&text)));
        Ok(text)
    }

    /// After the answer to a switch: waits until the unused slot is quiet.
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

    /// The names for a packet from this interface. Listing all interfaces for each packet would cost more
    /// than the packet.
    fn names_for(&self, ifindex: u32) -> EventNames {
        let mut known = self.known();
        let limit = if known.names.interfaces.contains_key(&ifindex) { FRESH } else { UNKNOWN };
        if known.read.is_none_or(|read| read.elapsed() >= limit) {
            known.names.interfaces = Arc::new(interface_names());
            known.read = Some(Instant::now());
        }
        known.names.clone()
    }

    /// The filter of a request.
    async fn filter(&self, wanted: api::Wanted) -> Result<Filter> {
        let (locator, guarded) = {
            let known = self.known();
            (known.names.locator.clone(), known.guarded.clone())
        };
        // It compares many names, and asks the kernel.
        let filter = tokio::task::spawn_blocking(move || {
            let interfaces = if wanted.interface.is_some() { with_members(guarded)? } else { Vec::new() };
            let there = FilterScope { interfaces, locator };
            Ok(Filter::of(&wanted, &there)?)
        });
        filter.await.context("the call panicked")?
    }

    fn tell(&self, event: &lyncwall_common::abi::Event) {
        let event = describe(event, &self.names_for(event.ifindex));
        match serde_json::to_string(&event) {
            // There may be no listener.
            Ok(line) => drop(self.events.send(Arc::new(EventLine { event, line: line + "\n" }))),
            Err(error) => tracing::error!("cannot encode an event: {error}"),
        }
    }
}

/// Interfaces by name; for a bond, with the members that its events name.
fn with_members(guarded: Vec<String>) -> Result<Vec<(String, Vec<String>)>> {
    let (all, members) = (interfaces::all()?, interfaces::members()?);
    let name = |number: u32| all.iter().find(|(_, known)| *known == number).map(|(name, _)| name);
    let of = |bond: &String| {
        let own = members.iter().filter(|(number, _)| name(*number) == Some(bond));
        own.filter_map(|(_, member)| name(*member).cloned()).collect()
    };
    Ok(guarded.into_iter().map(|bond| (bond.clone(), of(&bond))).collect())
}

/// Names of interfaces by number; empty if the kernel does not answer.
fn interface_names() -> HashMap<u32, String> {
    let known = interfaces::all().unwrap_or_default();
    known.into_iter().map(|(name, number)| (number, name)).collect()
}

/// Serves a daemon on `socket` until the returned future is dropped.
///
/// # Errors
/// If the socket fails.
pub async fn serve(daemon: Daemon, socket: Socket) -> Result<()> {
    let [shared, of_root] = socket.into_parts();
    tokio::select! {
        () = listen::serve_unix(&daemon, shared) => {}
        () = listen::serve_unix(&daemon, of_root) => {}
        () = listen::serve_metrics(&daemon) => {}
    }
    Ok(())
}
