//! Real traffic, each exchange with a time-out of its own.
//!
//! Sockets are made inside the namespace that is given and stay in it. Where the answer that is expected is silence,
//! the patience is what the test waits: keep it at a few hundred milliseconds.

mod echo;
mod frames;
mod stream;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

pub use echo::{TcpEcho, UdpEcho};
pub use frames::FrameSocket;
pub use stream::{Received, Sent, StreamReceiver, send_streams, send_streams_until};

use crate::netns::Netns;

/// How the other side took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It answered: the connection stands, the bytes or the echo came back.
    Answered,
    /// It said no: a TCP reset, or an ICMP error.
    Refused,
    /// Nothing came back in time, which is what a drop looks like.
    TimedOut,
}

impl Outcome {
    /// What an I/O error says about the other side; `None` where it is about this side.
    fn of_error(error: &io::Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Some(Self::TimedOut),
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::HostUnreachable
            | ErrorKind::PermissionDenied => Some(Self::Refused),
            _ => None,
        }
    }

    fn of(result: io::Result<()>, what: impl FnOnce() -> String) -> Result<Self> {
        match result {
            Ok(()) => Ok(Self::Answered),
            Err(error) => Self::of_error(&error).ok_or(error).with_context(what),
        }
    }
}

/// Opens a TCP connection and closes it.
///
/// # Errors
/// Where this side cannot even try, as without a route.
pub fn tcp_connect(from: &Netns, to: SocketAddr, patience: Duration) -> Result<Outcome> {
    let tried = from.run(|| TcpStream::connect_timeout(&to, patience)).map(drop);
    Outcome::of(tried, || format!("connecting to {to}"))
}

/// Opens a TCP connection to keep, for [`tcp_exchange`].
///
/// # Errors
/// Where it does not come to stand.
pub fn tcp_open(from: &Netns, to: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let stream = from
        .run(|| TcpStream::connect_timeout(&to, patience))
        .with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a few bytes over a standing connection to a [`TcpEcho`] and waits for them to come back. After a time-out
/// the connection is good for nothing more, as the answer may still come.
///
/// # Errors
/// Where this side fails.
pub fn tcp_exchange(mut stream: &TcpStream, patience: Duration) -> Result<Outcome> {
    stream.set_read_timeout(Some(patience))?;
    let mut answer = [0; MESSAGE.len()];
    let tried = stream.write_all(MESSAGE).and_then(|()| stream.read_exact(&mut answer));
    Outcome::of(tried, || "an exchange over TCP".to_owned())
}

/// Sends one datagram to a [`UdpEcho`] and waits for it to come back. `source` is the port to send from, 0 for any.
///
/// # Errors
/// Where this side cannot even try, as when `source` is taken.
pub fn udp_exchange(from: &Netns, source: u16, to: SocketAddr, patience: Duration) -> Result<Outcome> {
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let tried = || -> io::Result<()> {
        let socket = from.run(|| UdpSocket::bind((any, source)))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(MESSAGE)?;
        // A connected socket takes datagrams from its peer only, so the first one is the answer.
        socket.recv(&mut [0; MESSAGE.len()]).map(drop)
    };
    Outcome::of(tried(), || format!("an exchange over UDP with {to}"))
}

/// Sends one echo request and waits for its reply.
///
/// # Errors
/// Where this side cannot even try, as without a route.
pub fn ping(from: &Netns, to: IpAddr, patience: Duration) -> Result<Outcome> {
    let tried = || -> io::Result<()> {
        let socket = from.run(|| echo_socket(to))?;
        socket.connect((to, 0))?;
        socket.set_read_timeout(Some(patience))?;
        let kind = if to.is_ipv4() { 8 } else { 128 };
        // The kernel fills in the identifier and the checksum, and hands over replies to that identifier only.
        socket.send(&[kind, 0, 0, 0, 0, 0, 0, 1])?;
        socket.recv(&mut [0; 8]).map(drop)
    };
    Outcome::of(tried(), || format!("a ping of {to}"))
}

/// Asks `condition` every few milliseconds until it holds; false where it does not within `patience`.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

const MESSAGE: &[u8] = b"are you there?";

/// An ICMP echo socket, which Linux gives the shape of a UDP socket: connect, send, receive.
fn echo_socket(to: IpAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    Ok(socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?.into())
}
