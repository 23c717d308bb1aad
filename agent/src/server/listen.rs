//! Sockets and their accept loops, with limits for each client.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::{Gid, Uid};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_io_timeout::TimeoutStream;

use super::crowd::Crowd;
use super::peer::{Access, Peer, Right};
use super::{AGAIN, Daemon, routes};
use lyncwall_api as api;
use lyncwall_policy::config::Listen;
use lyncwall_policy::problem::{Problem, Problems};

/// The time for the head of a request, once it may come.
const HEAD: Duration = Duration::from_secs(10);
/// How long an answer may stall.
const STALLED: Duration = Duration::from_secs(60);
/// The buffer for each direction of a connection, in bytes.
const BUFFER: usize = 64 * 1024;
/// The accept queue.
const BACKLOG: u32 = 1024;
/// The pause after a failed accept, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The most bytes in a socket's path: `sun_path` without its final zero, unix(7).
const LONGEST: usize = 107;

/// The agent's sockets. Dropping them removes their files.
pub struct Socket {
    doors: [Door; 2],
}

/// One of the agent's Unix sockets.
pub(super) struct Door {
    listener: UnixListener,
    file: SocketFile,
    /// True for the socket that is always root's own: a full queue of the other one keeps nobody out here.
    for_root: bool,
}

/// A TCP address for metrics.
pub(super) type Bound = (SocketAddr, TcpListener);

impl Socket {
    /// Creates the socket and [root's own](api::root_socket), both for root only. Clients wait until [`serve`](super::serve) answers: an agent binds its sockets before
    /// it touches the wire, so that an agent without sockets enforces nothing.
    ///
    /// # Errors
    /// [`Problems`] if another agent serves a socket, or if one cannot be created.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self> {
        if api::root_socket(path).as_os_str().len() > LONGEST {
            let most = LONGEST - api::root_socket(Path::new("")).as_os_str().len();
            return Err(Problem::new(
                format!("the path {} is too long for a socket", path.display()),
                format!("use at most {most} bytes for --socket"),
            )
            .into());
        }
        let door = |path: &Path, for_root| -> Result<Door> {
            Ok(Door { listener: listen(path)?, file: SocketFile(path.to_owned()), for_root })
        };
        let doors = [door(path, false)?, door(&api::root_socket(path), true)?];
        Ok(Self { doors })
    }

    pub(super) fn into_parts(self) -> [Door; 2] {
        self.doors
    }
}

/// Removes the socket when the agent ends.
struct SocketFile(PathBuf);

impl SocketFile {
    /// Sets who may connect. Each request is checked against the rights of its user.
    fn open_to(&self, access: &Access) {
        let mode = if access.is_open() { 0o666 } else { 0o600 };
        if let Err(error) = fs::set_permissions(&self.0, Permissions::from_mode(mode)) {
            tracing::warn!("cannot change the access to {}: {error}", self.0.display());
        }
    }
}

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
            Problem::new(format!("{}: {error}", directory.display()), "name another socket with --socket")
        })?;
    }
    match fs::symlink_metadata(socket) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(Problem::new(
                format!("{place} exists and is not a socket"),
                "name another socket with --socket",
            )
            .into());
        }
        Ok(_) if StdUnixStream::connect(socket).is_ok() => {
            return Err(Problem::new(
                format!("another agent serves {place}"),
                "name another socket with --socket, or stop the other agent",
            )
            .into());
        }
        // A leftover of a killed agent.
        Ok(_) => fs::remove_file(socket).with_context(|| format!("removing {place}"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(anyhow!(error).context(format!("looking at {place}"))),
    }
    let bound = UnixSocket::new_stream().and_then(|unix| {
        unix.bind(socket)?;
        // Nobody can connect before the socket listens.
        fs::set_permissions(socket, Permissions::from_mode(0o600))?;
        unix.listen(BACKLOG)
    });
    let listener = bound
        .map_err(|error| Problem::new(format!("{place}: {error}"), "name another socket with --socket"))?;
    Ok(listener)
}

/// Binds the addresses that are not bound yet.
///
/// # Errors
/// [`Problems`] for each address that cannot be bound.
pub(super) fn bind_metrics(wanted: &[Listen], bound: &BTreeSet<SocketAddr>) -> Result<Vec<Bound>, Problems> {
    let mut problems = Problems::default();
    let mut listeners = Vec::new();
    for Listen { address, place } in wanted.iter().filter(|listen| !bound.contains(&listen.address)) {
        match bind_tcp(*address) {
            Ok(listener) => listeners.push((*address, listener)),
            Err(error) => problems.push(Problem::at(
                place.clone(),
                format!("cannot serve metrics on {address}: {error}"),
                "use a free address and port, from 1024 on; `ss -ltnp` shows the used ones",
            )),
        }
    }
    problems.or(listeners)
}

fn bind_tcp(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        // So that 0.0.0.0 and [::] do not conflict.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    // The agent starts before the network, and an address of a failover pair comes and goes.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the API for ever.
pub(super) async fn serve_unix(daemon: &Daemon, door: Door) {
    let Door { listener, file, for_root } = door;
    let open = |access: &Access| {
        if !for_root {
            file.open_to(access);
        }
    };
    let router = routes::router(daemon.clone());
    let mut access = daemon.access.subscribe();
    let crowd = Crowd::<Uid>::default();
    let mut connections = JoinSet::new();
    open(&access.borrow_and_update());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Some((uid, gid)) = credentials(&stream) else { continue };
                    // A user at the limit gets no more; other connections stay open.
                    let Some(place) = crowd.enter(uid) else { continue };
                    let (router, access) = (router.clone(), access.clone());
                    let router = router.layer(Extension(place.asked.clone()));
                    connections.spawn(async move {
                        tokio::select! {
                            () = serve_peer(stream, (uid, gid), router, access) => {}
                            () = place.ended() => {}
                        }
                    });
                    // Lets the connection go that made room.
                    tokio::task::yield_now().await;
                }
                Err(error) => pause(&error).await,
            },
            changed = access.changed() => match changed {
                Ok(()) => open(&access.borrow_and_update()),
                // The given daemon keeps the sender alive.
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn credentials(stream: &UnixStream) -> Option<(Uid, Gid)> {
    let credentials = stream
        .peer_cred()
        .inspect_err(|error| tracing::debug!("cannot read the peer's credentials: {error}"));
    credentials.ok().map(|of| (Uid::from_raw(of.uid()), Gid::from_raw(of.gid())))
}

async fn serve_peer(
    stream: UnixStream,
    (uid, gid): (Uid, Gid),
    router: Router,
    access: watch::Receiver<Access>,
) {
    let Ok(peer) = tokio::task::spawn_blocking(move || Peer::of(uid, gid)).await else { return };
    let router = router.layer(Extension(peer.clone()));
    let gone = gone(&stream);
    tokio::select! {
        () = serve_http(stream, router) => {}
        () = shut_out(access, &peer) => {}
        () = gone => {}
    }
}

/// Returns when the peer has closed the connection in both directions. A peer that closed only its own still
/// waits for an answer, and HTTP cannot tell the two apart.
fn gone(stream: &UnixStream) -> impl Future<Output = ()> + Send + use<> {
    // A descriptor of its own, as the stream is HTTP's. Without one, the next write finds out.
    let watched = stream
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stream| UnixStream::from_std(stream.into()))
        .inspect_err(|error| tracing::debug!("cannot watch a connection: {error}"));
    async move {
        let Ok(watched) = watched else { return std::future::pending().await };
        loop {
            match watched.ready(Interest::WRITABLE).await {
                // EPOLLHUP, which a peer that only ended its own direction does not cause.
                Ok(ready) if ready.is_write_closed() => return,
                // Waits for the next change of the connection, not for room to write.
                Ok(_) => {
                    let again = || Err::<(), _>(ErrorKind::WouldBlock.into());
                    watched.try_io(Interest::WRITABLE, again).ok();
                }
                Err(error) => {
                    tracing::debug!("cannot watch a connection: {error}");
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// Returns when a user who could read, or change, no longer may: streams end with it.
async fn shut_out(mut access: watch::Receiver<Access>, peer: &Peer) {
    let rights = |access: &Access| [Right::Read, Right::Change].map(|right| peer.may(right, access));
    let before = rights(&access.borrow());
    let lost = |access: &Access| before.iter().zip(rights(access)).any(|(before, now)| *before && !now);
    if access.wait_for(lost).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Serves metrics on the configured addresses for ever. Uses listeners of `bound` where they match.
pub(super) async fn serve_metrics(daemon: &Daemon) {
    let mut wanted = daemon.metrics.subscribe();
    let mut servers: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    let mut running = JoinSet::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        let addresses: BTreeSet<SocketAddr> = now.iter().map(|listen| listen.address).collect();
        for (_, server) in servers.extract_if(|address, _| !addresses.contains(address)) {
            server.abort();
            running.join_next().await;
        }
        for (address, listener) in daemon.take_bound(&now, &servers.keys().copied().collect()) {
            tracing::info!(%address, "serving metrics on {address}");
            servers
                .insert(address, running.spawn(serve_tcp(listener, routes::metrics_router(daemon.clone()))));
        }
        daemon.serves_on(servers.keys().copied().collect());
        // An address that somebody else uses may become free.
        let complete = addresses.iter().all(|address| servers.contains_key(address));
        let again = tokio::time::sleep(if complete { Duration::MAX } else { AGAIN });
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

async fn serve_tcp(listener: TcpListener, router: Router) {
    let crowd = Crowd::<IpAddr>::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let place = crowd.enter(from.ip());
                    let router = router.clone().layer(Extension(place.asked.clone()));
                    connections.spawn(async move {
                        tokio::select! {
                            () = serve_http(stream, router) => {}
                            () = place.ended() => {}
                        }
                    });
                    // Lets the connection go that made room.
                    tokio::task::yield_now().await;
                }
                Err(error) => pause(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Speaks HTTP on one connection until it ends, is idle, or stalls.
async fn serve_http(stream: impl AsyncRead + AsyncWrite + Send + 'static, router: Router) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALLED));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // A client that has sent all may close its direction before the answer, as `nc -N` does.
        .half_close(true)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn pause(error: &std::io::Error) {
    tracing::debug!("cannot accept a connection: {error}");
    // A client that is already gone says nothing about the next one.
    if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
        tokio::time::sleep(PAUSE).await;
    }
}
