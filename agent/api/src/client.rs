//! The client of the agent's socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

use crate::{Preview, Previewed, Problem, Refusal, Switch, Switched, root_socket};

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

/// An agent, by its socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The agent that serves `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Sends a `GET` request.
    ///
    /// # Errors
    /// A [`Refusal`] if no agent serves the socket, or if the agent refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        answer(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    /// Sends a `POST` request.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).context("writing the request")?;
        answer(self.send(Method::POST, path, body.into()).await?).await
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
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(Lines { body: response.into_body(), rest: Vec::new() })
    }

    /// The pieces of a binary answer, as they arrive.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn bytes(&self, path: &str) -> Result<Pieces> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(Pieces(response.into_body()))
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
        sender.send_request(request).await.with_context(|| format!("waiting for {}", self.socket.display()))
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

    fn unreachable(&self, error: &std::io::Error) -> Refusal {
        let socket = self.socket.display();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => refused(
                format!("no agent serves {socket}"),
                "start one with `lyncwall run`, or name its socket with --socket; `lyncwall doctor` tells whether an \
                 earlier agent left its rules in force",
            ),
            ErrorKind::PermissionDenied => refused(
                format!("this user may not use {socket}"),
                "run the command as root, or add a group of this user to [api] in the configuration",
            ),
            _ => refused(format!("{socket}: {error}"), "name the agent's socket with --socket"),
        }
    }
}

/// The pieces of an answer, as they arrive.
pub struct Pieces(Incoming);

impl Pieces {
    /// The next piece; `None` at its end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(frame) = self.0.frame().await else { return Ok(None) };
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
            match self.body.frame().await {
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
