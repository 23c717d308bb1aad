//! Which connections stand already: those of this box's sockets, and those that it forwards where the kernel tracks
//! connections anyway.

mod conntrack;
mod owner;
mod sockets;

use std::collections::BTreeSet;

use anyhow::Result;
use lyncwall_policy::connection::{Connection, Listener, Protocol};

/// TCP ports that some socket of the calling thread's network namespace accepts connections at: what stands at one of them
/// was most likely opened by the far side.
///
/// # Errors
/// As [`connections`].
pub fn accepting() -> Result<BTreeSet<u16>> {
    sockets::accepting()
}

/// The sockets of the calling thread's network namespace that anybody may send to, each address and port once, in order.
/// Those that only this box itself reaches, over loopback, are left out.
///
/// # Errors
/// As [`connections`].
pub fn listeners() -> Result<Vec<Listener>> {
    let mut all = sockets::listeners()?;
    all.sort_unstable();
    all.dedup_by_key(|listener| (listener.transport, listener.address, listener.port));
    Ok(all)
}

/// Finds the processes of these sockets, as far as `/proc` tells them.
pub fn name_processes<'a>(listeners: impl IntoIterator<Item = &'a mut Listener>) {
    let mut listeners: Vec<&mut Listener> = listeners.into_iter().collect();
    let names = owner::names(&listeners.iter().map(|listener| listener.inode).collect());
    for listener in &mut listeners {
        listener.process = names.get(&listener.inode).cloned();
    }
}

/// TCP connections of sockets of the calling thread's network namespace, in order; those that are being opened from outside are left
/// out, as anybody can begin one.
///
/// # Errors
/// As [`connections`].
pub fn sessions() -> Result<Vec<Connection>> {
    sockets::sessions()
}

/// As [`connections`], with what others began of those that this box forwards, and of UDP that is for the box itself, where
/// conntrack knows it. Echo is left out, and so is what is only being opened from outside.
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

/// The connections of the calling thread's network namespace, each once, in order: TCP sockets that are open or on
/// the way to it, UDP sockets with a peer, and what conntrack knows of TCP, UDP and echo that was begun here or behind
/// this box. Those over loopback are left out. Sockets that wait for anybody have no peer to tell and are not among
/// them. Conntrack is asked only where it is loaded; nothing makes it begin to track.
///
/// # Errors
/// Where the kernel cannot list sockets (`inet_diag`), or has conntrack and does not tell: it wants `CAP_NET_ADMIN`.
pub fn connections() -> Result<Vec<Connection>> {
    let mut all = sockets::connections()?;
    all.extend(conntrack::connections()?);
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
