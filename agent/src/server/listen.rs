//! Sockets, and the loops that accept connections on them, with limits to what one client can take.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::{Gid, Uid};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_io_timeout::TimeoutStream;

use super::peer::{Access, Peer, Right};
use super::{Daemon, routes};
use crate::api;
use crate::config::Listen;
use crate::problem::{Problem, Problems};

/// For the head of a request, from the moment on that it could come.
const HEAD: Duration = Duration::from_secs(10);
/// How long an answer may find no room in the socket.
const STALLED: Duration = Duration::from_secs(60);
/// What of a connection is kept in memory, each way, in bytes.
const BUFFER: usize = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// After a connection could not be accepted, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a socket's path at most: `sun_path` without the zero behind it, unix(7).
const LONGEST: usize = 107;

/// Connections of root at once.
const OF_ROOT: usize = 64;
/// Connections of any other user at once.
const OF_USER: usize = 16;
/// Connections of all other users together.
const OF_USERS: usize = 128;
/// Connections to one TCP address at once.
const OF_TCP: usize = 32;

/// The agent's sockets. Dropping them removes their files.
pub struct Socket {
    doors: [Door; 2],
    metrics: Vec<Bound>,
}

/// One of the agent's Unix sockets.
pub(super) struct Door {
    listener: UnixListener,
    file: SocketFile,
    /// True for the one that never opens to anybody but root: whoever fills the queue of the other keeps nobody out here.
    for_root: bool,
}

/// An address that metrics are to be served on.
pub(super) type Bound = (SocketAddr, TcpListener);

impl Socket {
    /// Makes the socket and [root's own](api::root_socket) beside it, both for root only, and binds the TCP addresses of metrics.
    /// Whoever connects waits until [`serve`](super::serve) answers: an agent binds its sockets before it touches the wire, so that
    /// one which cannot be spoken to enforces nothing.
    ///
    /// # Errors
    /// [`Problems`] where another agent serves it, or where one of them cannot be made.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(path: &Path, metrics: &[Listen]) -> Result<Self> {
        if api::root_socket(path).as_os_str().len() > LONGEST {
            let most = LONGEST - api::root_socket(Path::new("")).as_os_str().len();
            return Err(Problem::new(
                format!("the path {} is too long for a socket", path.display()),
                format!("name one of at most {most} bytes by --socket"),
            )
            .into());
        }
        let metrics = bind_metrics(metrics, &BTreeSet::new())?;
        let door = |path: &Path, for_root| -> Result<Door> {
            Ok(Door { listener: listen(path)?, file: SocketFile(path.to_owned()), for_root })
        };
        let doors = [door(path, false)?, door(&api::root_socket(path), true)?];
        Ok(Self { doors, metrics })
    }

    pub(super) fn into_parts(self) -> ([Door; 2], Vec<Bound>) {
        (self.doors, self.metrics)
    }
}

/// Removes the socket when the agent ends.
struct SocketFile(PathBuf);

impl SocketFile {
    /// Who may connect. What they may do is judged by who they are, for each request.
    fn open_to(&self, access: &Access) {
        let mode = if access.is_open() { 0o666 } else { 0o600 };
        if let Err(error) = fs::set_permissions(&self.0, Permissions::from_mode(mode)) {
            tracing::warn!("{} stays as open as it was: {error}", self.0.display());
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
        Ok(_) if StdUnixStream::connect(socket).is_ok() => {
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
    let bound = UnixSocket::new_stream().and_then(|unix| {
        unix.bind(socket)?;
        // Before it listens, nobody can connect.
        fs::set_permissions(socket, Permissions::from_mode(0o600))?;
        unix.listen(BACKLOG)
    });
    let listener = bound
        .map_err(|error| Problem::new(format!("{place}: {error}"), "name another socket by --socket"))?;
    Ok(listener)
}

/// Binds those of the addresses that are not bound already.
///
/// # Errors
/// [`Problems`] for each that cannot be.
pub(super) fn bind_metrics(wanted: &[Listen], bound: &BTreeSet<SocketAddr>) -> Result<Vec<Bound>, Problems> {
    let mut problems = Problems::default();
    let mut listeners = Vec::new();
    for Listen { address, place } in wanted.iter().filter(|listen| !bound.contains(&listen.address)) {
        match bind_tcp(*address) {
            Ok(listener) => listeners.push((*address, listener)),
            Err(error) => problems.push(Problem::at(
                place.clone(),
                format!("metrics cannot be served on {address}: {error}"),
                "name an address and a port from 1024 on that nobody else uses; `ss -ltnp` shows who does",
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
        // So that 0.0.0.0 and [::] do not get in each other's way.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    // The agent starts before the network does, and an address of a pair of boxes comes and goes.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the API to whoever connects, for ever.
pub(super) async fn serve_unix(daemon: &Daemon, door: Door) {
    let Door { listener, file, for_root } = door;
    let open = |access: &Access| {
        if !for_root {
            file.open_to(access);
        }
    };
    let router = routes::router(daemon.clone());
    let mut access = daemon.access.subscribe();
    let crowd = Crowd::default();
    let mut connections = JoinSet::new();
    open(&access.borrow_and_update());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Some((uid, gid)) = credentials(&stream) else { continue };
                    // Whoever has too many gets no more; the others are not closed for it.
                    let Some(place) = crowd.enter(uid) else { continue };
                    let (router, access) = (router.clone(), access.clone());
                    connections.spawn(async move {
                        serve_peer(stream, (uid, gid), router, access).await;
                        drop(place);
                    });
                }
                Err(error) => pause(&error).await,
            },
            changed = access.changed() => match changed {
                Ok(()) => open(&access.borrow_and_update()),
                // The daemon that was given keeps the sender.
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn credentials(stream: &UnixStream) -> Option<(Uid, Gid)> {
    let credentials = stream.peer_cred().inspect_err(|error| tracing::debug!("whose connection: {error}"));
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
    tokio::select! {
        () = serve_http(stream, router) => {}
        () = shut_out(access, &peer) => {}
    }
}

/// Ends where somebody who could read, or change, no longer may: streams end with it.
async fn shut_out(mut access: watch::Receiver<Access>, peer: &Peer) {
    let rights = |access: &Access| [Right::Read, Right::Change].map(|right| peer.may(right, access));
    let before = rights(&access.borrow());
    let lost = |access: &Access| before.iter().zip(rights(access)).any(|(before, now)| *before && !now);
    if access.wait_for(lost).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Serves metrics on the addresses of the configuration, for ever. Those in `bound` are taken where they are wanted.
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
            tracing::info!(%address, "serving metrics");
            servers
                .insert(address, running.spawn(serve_tcp(listener, routes::metrics_router(daemon.clone()))));
        }
        daemon.serves_on(servers.keys().copied().collect());
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

async fn serve_tcp(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(OF_TCP));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
                    let router = router.clone();
                    connections.spawn(async move {
                        serve_http(stream, router).await;
                        drop(place);
                    });
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
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn pause(error: &std::io::Error) {
    tracing::debug!("a connection cannot be accepted: {error}");
    // That of a client which is gone already says nothing about the next one.
    if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who is connected, by user.
#[derive(Debug, Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<Uid, usize>>>);

/// One of the places that a user has. Dropping it makes room.
#[derive(Debug)]
struct Taken {
    crowd: Crowd,
    uid: Uid,
}

impl Crowd {
    /// A place for one more connection; `None` where there is none for this user. Root has its own.
    fn enter(&self, uid: Uid) -> Option<Taken> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_others: usize = users.iter().filter(|(user, _)| !user.is_root()).map(|(_, count)| count).sum();
        let here = users.get(&uid).copied().unwrap_or_default();
        let room = if uid.is_root() { here < OF_ROOT } else { here < OF_USER && of_others < OF_USERS };
        room.then(|| {
            users.insert(uid, here + 1);
            Taken { crowd: self.clone(), uid }
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut users = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        match users.get_mut(&self.uid) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(users.remove(&self.uid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Uid;

    use super::{Crowd, OF_ROOT, OF_USER, OF_USERS};

    #[test]
    fn each_user_has_so_many_places_and_root_has_its_own() {
        let crowd = Crowd::default();
        let enter = |uid| crowd.enter(Uid::from_raw(uid));
        let one: Vec<_> = (0..OF_USER).map(|_| enter(70_000).expect("a place")).collect();
        assert!(enter(70_000).is_none());
        let others: Vec<_> = (0..OF_USERS - OF_USER).map(|n| enter(70_001 + n as u32)).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(enter(80_000).is_none(), "all users together have no more");
        let root: Vec<_> = (0..OF_ROOT).map(|_| enter(0).expect("a place")).collect();
        assert!(enter(0).is_none());
        drop((one, others, root));
        assert!(crowd.0.lock().expect("no panic").is_empty());
        assert!(enter(70_000).is_some());
    }
}
