//! Existing connections: those of this box's sockets, and forwarded ones if the kernel tracks connections
//! anyway.

mod conntrack;
mod frame;
mod owner;
mod sockets;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use lyncwall_common::abi::PortTransport;

pub use frame::{Leg, Moment};

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP: a socket with a peer, or a conversation in conntrack.
    Udp,
    /// Echo requests of ICMP or ICMPv6 and their replies.
    IcmpEcho,
}

impl Protocol {
    /// The transport of its ports; `None` for [`Protocol::IcmpEcho`].
    #[must_use]
    pub fn transport(self) -> Option<PortTransport> {
        match self {
            Self::Tcp => Some(PortTransport::Tcp),
            Self::Udp => Some(PortTransport::Udp),
            Self::IcmpEcho => None,
        }
    }
}

/// A listening socket: one that accepts TCP connections, or a UDP socket without a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The transport of its port.
    pub transport: PortTransport,
    /// Its address; an unspecified one for any. Never an IPv4 address in IPv6 form.
    pub address: IpAddr,
    /// Its port, in host byte order.
    pub port: u16,
    /// Its inode, which [`name_processes`] finds its process by.
    pub inode: u32,
    /// The name of its process, if [`name_processes`] found it.
    pub process: Option<String>,
}

/// A connection as incoming packets show it: from `remote` to `local`. Both addresses have one family, and
/// IPv4 addresses are never in IPv6 form. For [`Protocol::IcmpEcho`] both ports are the identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Standing {
    /// The protocol.
    pub protocol: Protocol,
    /// The destination of its packets: a socket of this box, or a forwarded peer, as on the wire (source
    /// NAT).
    pub local: SocketAddr,
    /// The source of its packets.
    pub remote: SocketAddr,
}

impl Standing {
    /// Normalises the form of addresses; `None` for a connection that never leaves this box.
    fn new(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Option<Self> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (local, remote) = (canonical(local), canonical(remote));
        let inside = local.ip().is_loopback() || remote.ip().is_loopback();
        (!inside).then_some(Self { protocol, local, remote })
    }
}

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
pub fn sessions() -> Result<Vec<Standing>> {
    sockets::sessions()
}

/// Like [`sessions`], and from conntrack the inbound connections that this box forwards, and inbound UDP to
/// the box itself. Leaves out echo, and connections that are being opened from outside.
///
/// # Errors
/// As [`connections`].
pub fn inbound() -> Result<Vec<Standing>> {
    let mut all = sockets::inbound()?;
    all.extend(conntrack::both_ways()?);
    all.retain(|standing| standing.protocol != Protocol::IcmpEcho);
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
pub fn connections() -> Result<Vec<Standing>> {
    let mut all = sockets::connections()?;
    all.extend(conntrack::connections()?);
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
