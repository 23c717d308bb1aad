//! Servers that send back what they get.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::socket::{Shutdown as Direction, shutdown};

use crate::netns::Netns;

/// How often a server looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A TCP server on one address; dropping it closes the port and every connection.
#[derive(Debug)]
pub struct TcpEcho {
    listener: TcpListener,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl TcpEcho {
    /// Listens in the namespace; connections are taken when this returns. An unspecified address means all of them
    /// (`[::]` takes IPv4 as well), port 0 a free one.
    ///
    /// # Errors
    /// Where the address is not there or the port is taken.
    pub fn start(namespace: &Netns, address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let listener = namespace
            .run(|| TcpListener::bind(address))
            .with_context(|| format!("listening on TCP {address}"))?;
        let connections = Arc::new(Mutex::new(Vec::new()));
        let thread = thread::spawn({
            let (listener, connections) = (listener.try_clone()?, Arc::clone(&connections));
            move || accept_all(&listener, &connections)
        });
        Ok(Self { listener, connections, thread: Some(thread) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        // On Linux this wakes a thread that waits in accept(), with an error.
        let stopped = shutdown(self.listener.as_raw_fd(), Direction::Both);
        if stopped.is_ok() {
            join(self.thread.take());
        }
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // The client may have closed it before.
            connection.shutdown(Shutdown::Both).ok();
        }
    }
}

fn accept_all(listener: &TcpListener, connections: &Mutex<Vec<TcpStream>>) {
    while let Ok((stream, _)) = listener.accept() {
        let Ok(kept) = stream.try_clone() else { continue };
        connections.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        thread::spawn(move || send_back(stream));
    }
}

fn send_back(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The list of connections holds the socket open, so that the client would not see the end.
    stream.shutdown(Shutdown::Both).ok();
}

/// A UDP server on one address; dropping it closes the port.
#[derive(Debug)]
pub struct UdpEcho {
    socket: Arc<UdpSocket>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Receives in the namespace from the moment this returns. An unspecified address means all of them, port 0 a
    /// free one.
    ///
    /// # Errors
    /// Where the address is not there or the port is taken.
    pub fn start(namespace: &Netns, address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let socket = namespace
            .run(|| UdpSocket::bind(address))
            .with_context(|| format!("receiving on UDP {address}"))?;
        // To be woken by shutdown() instead, std cannot take: nothing was received then, from an address that is none.
        socket.set_read_timeout(Some(LOOK))?;
        let (socket, stopping) = (Arc::new(socket), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (socket, stopping) = (Arc::clone(&socket), Arc::clone(&stopping));
            move || answer_all(&socket, &stopping)
        });
        Ok(Self { socket, stopping, thread: Some(thread) })
    }

    /// Where it receives.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        join(self.thread.take());
    }
}

fn answer_all(socket: &UdpSocket, stopping: &AtomicBool) {
    let mut buffer = [0; 65_536];
    while !stopping.load(Ordering::Acquire) {
        // An error here is an ICMP message about an earlier answer, or that nothing came: no reason to stop.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], peer).ok();
        }
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(Err(_)) = thread.map(JoinHandle::join) {
        eprintln!("an echo server panicked");
    }
}
