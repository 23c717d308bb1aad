//! The client of the agent's socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use nix::unistd::Uid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{ALIVE, Preview, Previewed, Problem, Refusal, Switch, Switched, UNGUARDED, root_socket};

/// Why a request was not carried out, for code that decides by it.
#[derive(Debug)]
pub enum Error {
    /// Nobody serves the socket, this user may not use it, or the agent refuses: the person at the keyboard can mend it.
    Refused(Refusal),
    /// Nobody expects it.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast() {
            Ok(refusal) => Self::Refused(refusal),
            Err(error) => Self::Failed(error),
        }
    }
}

/// How long to wait for an agent that is too busy to accept.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(5);
/// How long to wait for an answer before asking whether the agent answers anything.
const SILENCE: Duration = Duration::from_secs(3);
/// How long an agent may take for that. It does nothing else meanwhile.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long an agent may be silent that is not stopped: it serves its socket only after its start.
const STARTING: Duration = Duration::from_secs(90);
/// How long an agent that answers may work on one request.
const LONGEST: Duration = Duration::from_secs(300);

/// No agent answers, although the request was right. In the chain of such an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unheard {
    /// Nobody serves the socket.
    Nobody,
    /// The agent serves the socket but is stopped, hangs, or is busy for too long. Its process id, if known.
    Silent(Option<i32>),
}

impl Unheard {
    /// The cause of an error of a request; `None` if the agent answered.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Option<Self> {
        error.downcast_ref().copied()
    }
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no agent answers")
    }
}

impl std::error::Error for Unheard {}

/// An agent, by its socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    longest: Duration,
    /// Is told the interfaces that nobody judges, with each answer.
    warned: Option<fn(&str)>,
}

impl Client {
    /// The agent that serves `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), longest: LONGEST, warned: None }
    }

    /// Like this client, but waits at most this long for an agent that answers while it works on a request.
    #[must_use]
    pub fn waiting(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Like this client, and calls `warned` with the names of the interfaces that nobody judges, before it
    /// returns an answer, as long as there are any.
    #[must_use]
    pub fn warning(mut self, warned: fn(&str)) -> Self {
        self.warned = Some(warned);
        self
    }

    /// Sends a `GET` request.
    ///
    /// # Errors
    /// A [`Refusal`] if no agent serves the socket, or if the agent refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.heard(async { answer(self.send(Method::GET, path, Bytes::new()).await?).await }).await
    }

    /// Sends a `POST` request.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).context("writing the request")?;
        self.heard(async { answer(self.send(Method::POST, path, body.into()).await?).await }).await
    }

    /// Gives a target other roles.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn switch(&self, switch: &Switch) -> Result<Switched> {
        self.post("/v1/switch", switch).await
    }

    /// Asks for the effect of a change.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn preview(&self, preview: &Preview) -> Result<Previewed> {
        self.post("/v1/preview", preview).await
    }

    /// The lines of a stream.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn lines(&self, path: &str) -> Result<Lines> {
        let body = self.heard(self.begin(path)).await?;
        Ok(Lines { client: self.clone(), body, rest: Vec::new() })
    }

    /// The pieces of a binary answer, as they arrive.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn bytes(&self, path: &str) -> Result<Pieces> {
        let body = self.heard(self.begin(path)).await?;
        Ok(Pieces { client: self.clone(), body })
    }

    /// The beginning of a stream.
    async fn begin(&self, path: &str) -> Result<Incoming> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        if response.status().is_success() { Ok(response.into_body()) } else { Err(refusal(response).await) }
    }

    /// Waits for an answer, as long as the agent shows signs of life.
    async fn heard<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let end = Instant::now() + self.longest;
        self.alive_until(Some(end), answer).await.unwrap_or_else(Err)
    }

    /// Waits for something of the agent; an error in `Err` if the agent falls silent.
    async fn alive_until<T>(&self, end: Option<Instant>, wanted: impl Future<Output = T>) -> Result<T> {
        let mut wanted = pin!(wanted);
        let mut heard = Instant::now();
        loop {
            if let Ok(done) = timeout(SILENCE, &mut wanted).await {
                return Ok(done);
            }
            let alive = tokio::select! {
                done = &mut wanted => return Ok(done),
                alive = self.is_alive() => alive,
            };
            if alive {
                heard = Instant::now();
            }
            let process = self.process().await;
            let gives_up = if alive {
                end.is_some_and(|end| Instant::now() >= end)
            } else {
                process.is_some_and(is_stopped) || heard.elapsed() >= STARTING
            };
            if gives_up {
                return Err(self.silent(alive, process));
            }
        }
    }

    /// True if the agent answers anything, or at least takes and ends connections.
    async fn is_alive(&self) -> bool {
        timeout(SIGN_OF_LIFE, self.send(Method::GET, ALIVE, Bytes::new())).await.is_ok()
    }

    /// The process that serves the socket, as the kernel knows it, whatever the process does.
    async fn process(&self) -> Option<i32> {
        let stream = timeout(SIGN_OF_LIFE, self.connect()).await.ok()?.ok()?;
        stream.peer_cred().ok()?.pid()
    }

    fn silent(&self, alive: bool, process: Option<i32>) -> anyhow::Error {
        let who = process.map_or_else(|| "the agent".to_owned(), |pid| format!("the agent (process {pid})"));
        let socket = self.socket.display();
        let message = if alive {
            format!("{who} has worked on the request for {} s, and goes on", self.longest.as_secs())
        } else {
            format!("{who} serves {socket} but does not answer: it is stopped, or hangs")
        };
        let fix = match process {
            Some(pid) => format!(
                "the rules stay in force; `kill -CONT {pid}` lets a stopped process go on; after `kill -KILL {pid}`, \
                 start the agent again"
            ),
            None => "the rules stay in force; end the agent, and start it again".to_owned(),
        };
        anyhow::Error::from(refused(message, &fix)).context(Unheard::Silent(process))
    }

    /// A path with parameters.
    ///
    /// # Errors
    /// If a parameter is not a plain value.
    pub fn query(&self, path: &str, parameters: &impl Serialize) -> Result<String> {
        let query = serde_urlencoded::to_string(parameters).context("writing the request")?;
        Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let stream = self.connect().await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.context("speaking to the agent")?;
        tokio::spawn(async move {
            // The caller that waits for the answer sees every failure of this task.
            connection.await.ok();
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "lyncwall")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .context("making the request")?;
        let response = sender.send_request(request).await;
        let response = response.with_context(|| format!("waiting for {}", self.socket.display()))?;
        let unguarded = response.headers().get(UNGUARDED).and_then(|names| names.to_str().ok());
        if let (Some(names), Some(warned)) = (unguarded, self.warned) {
            warned(names);
        }
        Ok(response)
    }

    /// Connects: root through its own socket, without a queue of others; everybody else through the public
    /// one, with retries while its queue is full.
    async fn connect(&self) -> std::io::Result<UnixStream> {
        if Uid::effective().is_root() {
            // An agent of an earlier version has no root socket.
            if let Ok(stream) = UnixStream::connect(root_socket(&self.socket)).await {
                return Ok(stream);
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&self.socket).await {
                // The accept queue is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                    tokio::time::sleep(AGAIN).await;
                }
                connected => return connected,
            }
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> anyhow::Error {
        let socket = self.socket.display();
        let refusal = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                let nobody = refused(
                    format!("no agent serves {socket}"),
                    "start one with `lyncwall run`, or name its socket with --socket; `lyncwall doctor` tells whether \
                     an earlier agent left its rules in force",
                );
                return anyhow::Error::from(nobody).context(Unheard::Nobody);
            }
            ErrorKind::PermissionDenied => refused(
                format!("this user may not use {socket}"),
                "run the command as root, or add a group of this user to [api] in the configuration",
            ),
            _ => refused(format!("{socket}: {error}"), "name the agent's socket with --socket"),
        };
        refusal.into()
    }
}

/// True if a process is stopped or dead (proc_pid_stat(5)).
fn is_stopped(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may have any characters.
    let state = stat.rsplit_once(')').and_then(|(_, fields)| fields.trim_start().chars().next());
    matches!(state, Some('T' | 't' | 'Z' | 'X'))
}

/// The pieces of an answer, as they arrive.
pub struct Pieces {
    client: Client,
    body: Incoming,
}

impl Pieces {
    /// The next piece; `None` at its end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = self.client.alive_until(None, self.body.frame()).await?;
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(data) = frame.map_err(|_| ended())?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// The error of a stream that breaks off.
fn ended() -> Refusal {
    refused(
        "the agent ended, or closed the stream: this client was too slow, or lost its rights",
        "`lyncwall status` shows whether an agent runs; the rules may still be in force",
    )
}

/// The lines of a stream, as they come.
pub struct Lines {
    client: Client,
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line, without its line end; `None` after the agent ended.
    ///
    /// # Errors
    /// If the connection breaks, or a line is not text.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                return Ok(Some(String::from_utf8(line).context("a line that is not text")?));
            }
            match self.client.alive_until(None, self.body.frame()).await? {
                None => return Ok(None),
                // An agent that ends leaves its streams unfinished.
                Some(Err(_)) => return Err(ended().into()),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

async fn answer<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let body = response.into_body().collect().await.context("reading the agent's answer")?.to_bytes();
    serde_json::from_slice(&body).context("the answer is from another version of the agent")
}

/// Turns a refusal of the agent back into its error.
async fn refusal(response: Response<Incoming>) -> anyhow::Error {
    let status = response.status();
    let read = async {
        let body = response.into_body().collect().await.context("reading the agent's answer")?.to_bytes();
        let Ok(refusal) = serde_json::from_slice::<Refusal>(&body) else {
            bail!("the agent answered {status}: {}", String::from_utf8_lossy(&body));
        };
        if status.is_client_error() { Err(refusal.into()) } else { bail!("the agent failed: {refusal}") }
    };
    match read.await {
        Ok(()) => anyhow::anyhow!("the agent answered {status}"),
        Err(error) => error,
    }
}

/// What the client finds out by itself.
fn refused(message: impl Into<String>, fix: &str) -> Refusal {
    Refusal { problems: vec![Problem { place: String::new(), message: message.into(), fix: fix.to_owned() }] }
}
