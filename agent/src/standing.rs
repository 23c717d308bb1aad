//! Which connections stand already: those of this box's sockets, and those that it forwards where the kernel tracks
//! connections anyway.

mod conntrack;
mod sockets;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Result;

/// What a connection is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP: a socket with a peer, or what conntrack takes for a conversation.
    Udp,
    /// Echo requests of ICMP or ICMPv6 and their replies.
    IcmpEcho,
}

/// A connection as the packets show it that come in: from `remote` to `local`. Both addresses are of one family, and
/// IPv4 ones are never written as IPv6. For [`Protocol::IcmpEcho`] both ports are the identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Standing {
    /// What it is.
    pub protocol: Protocol,
    /// Where its packets go to: a socket of this box, or for whom it forwards, as written on the wire (source NAT).
    pub local: SocketAddr,
    /// Where its packets come from.
    pub remote: SocketAddr,
}

impl Standing {
    /// In one form of address; `None` for what never leaves this box.
    fn new(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Option<Self> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (local, remote) = (canonical(local), canonical(remote));
        let inside = local.ip().is_loopback() || remote.ip().is_loopback();
        (!inside).then_some(Self { protocol, local, remote })
    }
}

/// TCP ports that some socket of the calling thread's network namespace accepts connections at: what stands at one of them
/// was most likely opened by the far side.
///
/// # Errors
/// As [`connections`].
pub fn accepting() -> Result<BTreeSet<u16>> {
    sockets::accepting()
}

/// The connections of the calling thread's network namespace, each once, in order: TCP sockets that are open or on
/// the way to it, UDP sockets with a peer, and what conntrack knows of TCP, UDP and echo that was begun here or behind
/// this box. Those over loopback are left out. Sockets that wait for anybody have no peer to tell and are not among
/// them. Conntrack is asked only where it is loaded; nothing makes it begin to track.
///
/// # Errors
/// Where the kernel cannot list sockets (`inet_diag`), or has conntrack and does not tell: it wants `CAP_NET_ADMIN`.
pub fn connections() -> Result<Vec<Standing>> {
    let mut all = sockets::connections()?;
    all.extend(conntrack::connections()?);
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
