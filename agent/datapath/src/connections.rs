//! Existing connections: those of this box's sockets, and forwarded ones if the kernel tracks connections
//! anyway.

mod conntrack;
mod owner;
mod sockets;

use std::collections::BTreeSet;

use anyhow::Result;
use lyncwall_common::abi::PortTransport;
use lyncwall_policy::connection::{Connection, Listener, Protocol};

/// TCP ports with a listening socket in the calling thread's network namespace: the far side most likely
/// opened the connections to them.
///
/// # Errors
/// As [`connections`].
pub fn accepting() -> Result<BTreeSet<u16>> {
    sockets::accepting()
}

/// The listening sockets of the calling thread's network namespace, each address and port once, sorted.
/// Leaves out sockets on loopback addresses.
///
/// # Errors
/// As [`connections`].
pub fn listeners() -> Result<Vec<Listener>> {
    let mut all = sockets::listeners()?;
    all.sort_unstable();
    all.dedup_by_key(|listener| (listener.transport, listener.address, listener.port));
    Ok(all)
}

/// True if a UDP socket may wait for an answer. Leaves out loopback, and clients of DHCP, whose answers need
/// no flow.
///
/// # Errors
/// As [`connections`].
pub fn asks_by_udp() -> Result<bool> {
    const DHCP_CLIENTS: [u16; 2] = [68, 546];
    let sockets = sockets::listeners()?;
    Ok(sockets
        .iter()
        .any(|socket| socket.transport == PortTransport::Udp && !DHCP_CLIENTS.contains(&socket.port)))
}

/// Finds the processes of these sockets, as far as `/proc` shows them.
pub fn name_processes<'a>(listeners: impl IntoIterator<Item = &'a mut Listener>) {
    let mut listeners: Vec<&mut Listener> = listeners.into_iter().collect();
    let names = owner::names(&listeners.iter().map(|listener| listener.inode).collect());
    for listener in &mut listeners {
        listener.process = names.get(&listener.inode).cloned();
    }
}

/// The sorted TCP connections of sockets in the calling thread's network namespace. Leaves out connections
/// that are being opened from outside, as anybody can begin one.
///
/// # Errors
/// As [`connections`].
pub fn sessions() -> Result<Vec<Connection>> {
    sockets::sessions()
}

/// Like [`sessions`], and from conntrack the inbound connections that this box forwards, and inbound UDP to
/// the box itself. Leaves out echo, and connections that are being opened from outside.
///
/// # Errors
/// As [`connections`].
pub fn inbound() -> Result<Vec<Connection>> {
    let mut all = sockets::inbound()?;
    all.extend(conntrack::both_ways()?);
    all.retain(|connection| connection.protocol != Protocol::IcmpEcho);
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The connections of the calling thread's network namespace, each once, sorted: TCP sockets that are open or
/// opening, UDP sockets with a peer, and from conntrack TCP, UDP and echo that began here or behind this box.
/// Leaves out loopback, and listening sockets, which have no peer. Asks conntrack only if it is loaded;
/// nothing makes it start to track.
///
/// # Errors
/// If the kernel cannot list sockets (`inet_diag`), or refuses to list conntrack, which needs
/// `CAP_NET_ADMIN`.
pub fn connections() -> Result<Vec<Connection>> {
    let mut all = sockets::connections()?;
    all.extend(conntrack::connections()?);
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
