//! The agent's Unix socket: HTTP and JSON, as [`crate::api`] has it.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::api;
use crate::datapath::changes;
use crate::events::{Names, describe};
use crate::firewall::Firewall;
use crate::problem::{Problem, Problems};
use crate::services::Services;

/// Events that a slow client may lag behind before it loses some.
const BACKLOG: usize = 1024;

/// How often is cleared away what has run out, on the block-list and of a takeover, and looked at which rules are used.
const SWEEP: Duration = Duration::from_secs(60);
/// How long further changes of the machine are left to come together after one was followed.
const SETTLE: Duration = Duration::from_millis(50);

/// The least pause before the clock is looked at again.
const TICK: Duration = Duration::from_millis(1);

/// A running agent: the firewall, and who listens to it.
#[derive(Clone)]
pub struct Daemon {
    firewall: Arc<Mutex<Option<Firewall>>>,
    events: broadcast::Sender<Arc<str>>,
    /// What events are told with, beside the firewall's lock: a switch must not wait for a flood of them.
    services: Arc<Mutex<Arc<Services>>>,
    /// Set to true when the box was opened by a client.
    detached: Arc<watch::Sender<bool>>,
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
        let (events, _) = broadcast::channel(BACKLOG);
        let services = Arc::new(Mutex::new(firewall.services()));
        let daemon = Self {
            firewall: Arc::new(Mutex::new(Some(firewall))),
            events,
            services,
            detached: Arc::new(watch::Sender::new(false)),
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
    /// As [`Firewall::reload`].
    pub async fn reload(&self, confirm: Option<Duration>, existing: api::Existing) -> Result<api::Switched> {
        let switched = self.with(move |firewall| firewall.reload(confirm, existing)).await?;
        self.changed();
        Ok(switched)
    }

    /// After a change was answered.
    fn changed(&self) {
        self.retire();
        self.follow_deadline();
    }

    /// Follows the machine, for ever: attaches again to interfaces that were destroyed and made again, and goes by the
    /// addresses that the box has, and by whether it forwards.
    ///
    /// # Errors
    /// Where netlink does not answer.
    pub async fn follow_machine(&self) -> Result<()> {
        let mut changes = changes()?;
        // What changed before somebody listened shows at once.
        loop {
            if let Err(error) = self.with(Firewall::machine_changed).await {
                tracing::error!("what is enforced does not fit the machine: {error:#}");
            }
            tokio::time::sleep(SETTLE).await;
            changes.next().await?;
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
        tokio::task::spawn_blocking(move || {
            // A call that panicked left the kernel side as it was: a switch is one word.
            let mut firewall = daemon.firewall.lock().unwrap_or_else(PoisonError::into_inner);
            let firewall = firewall.as_mut().context("the box was opened, and the agent is about to end")?;
            firewall.follow_deadline()?;
            let called = call(firewall);
            *daemon.services.lock().unwrap_or_else(PoisonError::into_inner) = firewall.services();
            called
        })
        .await
        .context("the call did not end well")?
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

    fn tell(&self, event: &lyncwall_common::abi::Event) {
        let services = Arc::clone(&self.services.lock().unwrap_or_else(PoisonError::into_inner));
        let names = Names { interfaces: interface_names(), services };
        match serde_json::to_string(&describe(event, &names)) {
            // Nobody may be listening any more.
            Ok(line) => drop(self.events.send(format!("{line}\n").into())),
            Err(error) => tracing::error!("an event that is no JSON: {error}"),
        }
    }
}

fn interface_names() -> HashMap<u32, String> {
    let known = nix::net::if_::if_nameindex();
    let names = known.iter().flat_map(|known| known.iter());
    names.map(|interface| (interface.index(), interface.name().to_string_lossy().into_owned())).collect()
}

/// The agent's socket. Dropping it removes the file.
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

impl Socket {
    /// Makes the socket, for root only. Whoever connects waits until [`serve`] answers: an agent binds its socket before
    /// it touches the wire, so that one which cannot be spoken to enforces nothing.
    ///
    /// # Errors
    /// [`Problems`] where another agent serves it, or where it cannot be made.
    pub fn bind(path: &Path) -> Result<Self> {
        Ok(Self { listener: listen(path)?, file: SocketFile(path.to_owned()) })
    }
}

/// Serves a daemon on `socket` until the returned future is dropped.
///
/// # Errors
/// Where the socket fails.
pub async fn serve(daemon: Daemon, socket: Socket) -> Result<()> {
    let Socket { listener, file } = socket;
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/counters", get(counters))
        .route("/v1/events", get(events))
        .route("/v1/preview", post(preview))
        .route("/v1/switch", post(switch))
        .route("/v1/mode", post(mode))
        .route("/v1/reload", post(reload))
        .route("/v1/confirm", post(confirm))
        .route("/v1/rollback", post(rollback))
        .route("/v1/blocked", get(blocked))
        .route("/v1/block", post(block))
        .route("/v1/unblock", post(unblock))
        .route("/v1/detach", post(detach))
        .with_state(daemon);
    let served = axum::serve(listener, router).await.context("serving the agent's socket");
    drop(file);
    served
}

/// Removes the socket when the agent ends.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!("removing {}: {error}", self.0.display());
        }
    }
}

fn listen(socket: &Path) -> Result<UnixListener> {
    let place = socket.display();
    if let Some(directory) = socket.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(|error| {
            Problem::new(format!("{}: {error}", directory.display()), "name another socket by --socket")
        })?;
    }
    match fs::symlink_metadata(socket) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(Problem::new(
                format!("{place} is there, and is no socket"),
                "name another socket by --socket",
            )
            .into());
        }
        Ok(_) if UnixStream::connect(socket).is_ok() => {
            return Err(Problem::new(
                format!("another agent serves {place}"),
                "name another socket by --socket, or end the other agent",
            )
            .into());
        }
        // What an agent that was killed left.
        Ok(_) => fs::remove_file(socket).with_context(|| format!("removing {place}"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(anyhow!(error).context(format!("looking at {place}"))),
    }
    let listener = UnixListener::bind(socket)
        .map_err(|error| Problem::new(format!("{place}: {error}"), "name another socket by --socket"))?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))
        .with_context(|| format!("closing {place} to others"))?;
    Ok(listener)
}

/// Why a request failed, as an answer.
struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, problems) = match self.0.downcast_ref::<Problems>() {
            Some(problems) => (StatusCode::BAD_REQUEST, problems.iter().map(api::Problem::from).collect()),
            None => {
                let problem = api::Problem {
                    place: String::new(),
                    message: format!("{:#}", self.0),
                    fix: String::new(),
                };
                (StatusCode::INTERNAL_SERVER_ERROR, vec![problem])
            }
        };
        (status, Json(api::Refusal { problems })).into_response()
    }
}

impl From<&Problem> for api::Problem {
    fn from(problem: &Problem) -> Self {
        let place = problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
        Self { place, message: problem.message.clone(), fix: problem.fix.clone() }
    }
}

type Answer<T> = Result<Json<T>, Failure>;

async fn status(State(daemon): State<Daemon>) -> Answer<api::Status> {
    Ok(Json(daemon.with(|firewall| firewall.status()).await?))
}

async fn counters(State(daemon): State<Daemon>) -> Answer<api::Counters> {
    Ok(Json(daemon.with(Firewall::counters).await?))
}

async fn preview(
    State(daemon): State<Daemon>,
    request: Result<Json<api::Preview>, JsonRejection>,
) -> Answer<api::Previewed> {
    let Json(wanted) = request.map_err(|error| unread(&error))?;
    Ok(Json(daemon.with(move |firewall| firewall.preview(&wanted)).await?))
}

/// The request names no roles.
fn unread(error: &JsonRejection) -> Problem {
    Problem::new(error.body_text(), "send {\"roles\": [\"…\"]}")
}

async fn switch(
    State(daemon): State<Daemon>,
    request: Result<Json<api::Switch>, JsonRejection>,
) -> Answer<api::Switched> {
    let Json(wanted) = request.map_err(|error| unread(&error))?;
    let time = wanted.confirm.map(Duration::from_secs);
    let switched = daemon
        .with(move |firewall| firewall.switch(wanted.target.as_deref(), &wanted.roles, time, wanted.existing))
        .await?;
    daemon.changed();
    tracing::info!(generation = switched.generation, micros = switched.micros, "switched");
    Ok(Json(switched))
}

async fn mode(
    State(daemon): State<Daemon>,
    request: Result<Json<api::SetMode>, JsonRejection>,
) -> Answer<api::Switched> {
    let Json(wanted) = request
        .map_err(|error| Problem::new(error.body_text(), "send {\"mode\": \"audit\"}, or \"enforce\""))?;
    let api::SetMode { target, mode, confirm, existing } = wanted;
    let time = confirm.map(Duration::from_secs);
    let switched =
        daemon.with(move |firewall| firewall.set_mode(target.as_deref(), mode, time, existing)).await?;
    daemon.changed();
    tracing::info!(generation = switched.generation, mode = mode.as_str(), "set the mode");
    Ok(Json(switched))
}

/// The body may be left out, or be `null`.
async fn reload(State(daemon): State<Daemon>, body: Bytes) -> Answer<api::Switched> {
    let wanted: Option<api::Reload> = match &*body {
        [] => None,
        body => serde_json::from_slice(body)
            .map_err(|error| Problem::new(error.to_string(), "send nothing, or {\"confirm\": 60}"))?,
    };
    let wanted = wanted.unwrap_or_default();
    let time = wanted.confirm.map(Duration::from_secs);
    Ok(Json(daemon.reload(time, wanted.existing).await?))
}

async fn confirm(State(daemon): State<Daemon>) -> Answer<api::Confirmed> {
    let confirmed = daemon.with(Firewall::confirm).await?;
    daemon.retire();
    tracing::info!(generation = confirmed.generation, "confirmed");
    Ok(Json(confirmed))
}

async fn rollback(State(daemon): State<Daemon>) -> Answer<api::Switched> {
    let switched = daemon.with(Firewall::rollback).await?;
    daemon.retire();
    tracing::info!(generation = switched.generation, "went back");
    Ok(Json(switched))
}

async fn blocked(State(daemon): State<Daemon>) -> Answer<api::Blocked> {
    Ok(Json(daemon.with(|firewall| firewall.blocked()).await?))
}

async fn block(
    State(daemon): State<Daemon>,
    request: Result<Json<api::Block>, JsonRejection>,
) -> Answer<api::BlockEdit> {
    let Json(wanted) =
        request.map_err(|error| Problem::new(error.body_text(), "send {\"prefixes\": [\"…\"]}"))?;
    let time = wanted.seconds.map(Duration::from_secs);
    let edit = daemon.with(move |firewall| firewall.block(&wanted.prefixes, time)).await?;
    tracing::info!(prefixes = edit.prefixes.len(), "blocked");
    Ok(Json(edit))
}

async fn unblock(
    State(daemon): State<Daemon>,
    request: Result<Json<api::Unblock>, JsonRejection>,
) -> Answer<api::BlockEdit> {
    let Json(wanted) =
        request.map_err(|error| Problem::new(error.body_text(), "send {\"prefixes\": [\"…\"]}"))?;
    let edit = daemon.with(move |firewall| firewall.unblock(&wanted.prefixes)).await?;
    tracing::info!(prefixes = edit.prefixes.len(), "unblocked");
    Ok(Json(edit))
}

async fn detach(State(daemon): State<Daemon>) -> Answer<api::Detached> {
    let firewall = daemon.firewall.lock().unwrap_or_else(PoisonError::into_inner).take();
    let firewall = firewall.context("the box was opened already")?;
    let detached = tokio::task::spawn_blocking(move || firewall.detach())
        .await
        .context("the call did not end well")??;
    tracing::warn!("detached: the box is open");
    daemon.detached.send_replace(true);
    Ok(Json(api::Detached { interfaces: detached.interfaces, maps: detached.maps.len() }))
}

async fn events(State(daemon): State<Daemon>) -> Response {
    let lines = BroadcastStream::new(daemon.events.subscribe()).map(|line| match line {
        Ok(line) => Ok::<_, std::convert::Infallible>(line.to_string()),
        Err(BroadcastStreamRecvError::Lagged(lost)) => Ok(format!("{{\"lost\":{lost}}}\n")),
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
