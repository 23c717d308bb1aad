//! A connection and a socket that waits for one, and the packets that such a connection has: made up, to ask a policy or the
//! program what it makes of one.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use lyncwall_common::abi::PortTransport;

use crate::frame::{self, Payload};

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
    /// Of which port it is.
    pub transport: PortTransport,
    /// Its address; an unspecified one for any. Never an IPv4 address in IPv6 form.
    pub address: IpAddr,
    /// Its port, in host byte order.
    pub port: u16,
    /// Its inode, by which the datapath finds its process.
    pub inode: u32,
    /// The name of its process, where that was found.
    pub process: Option<String>,
}

/// A connection as incoming packets show it: from `remote` to `local`. Both addresses have one family, and
/// IPv4 addresses are never in IPv6 form. For [`Protocol::IcmpEcho`] both ports are the identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection {
    /// What it is.
    pub protocol: Protocol,
    /// The destination of its packets: a socket of this box, or a forwarded peer, as on the wire (source
    /// NAT).
    pub local: SocketAddr,
    /// The source of its packets.
    pub remote: SocketAddr,
}

impl Connection {
    /// Normalises the form of addresses; `None` for a connection that never leaves this box.
    #[must_use]
    pub fn new(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Option<Self> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (local, remote) = (canonical(local), canonical(remote));
        let inside = local.ip().is_loopback() || remote.ip().is_loopback();
        (!inside).then_some(Self { protocol, local, remote })
    }

    /// A packet that this side sends by `leg`.
    ///
    /// # Errors
    /// If the ends are of different families.
    pub fn outgoing(&self, moment: Moment, leg: Leg) -> Result<Vec<u8>> {
        self.frame(self.local, self.remote, moment, leg)
    }

    /// A packet from the far side that arrives by `leg`.
    ///
    /// # Errors
    /// As [`Connection::outgoing`].
    pub fn incoming(&self, moment: Moment, leg: Leg) -> Result<Vec<u8>> {
        self.frame(self.remote, self.local, moment, leg)
    }

    fn frame(&self, from: SocketAddr, to: SocketAddr, moment: Moment, leg: Leg) -> Result<Vec<u8>> {
        let payload = match (self.protocol, moment) {
            (Protocol::Tcp, Moment::Opening) => Payload::Tcp(from.port(), to.port(), frame::SYN),
            (Protocol::Tcp, Moment::Middle) => Payload::Tcp(from.port(), to.port(), frame::ACK),
            (Protocol::Udp, _) => Payload::Udp(from.port(), to.port()),
            (Protocol::IcmpEcho, _) => Payload::echo_request(from.is_ipv4(), from.port()),
        };
        frame::build(from.ip(), to.ip(), payload, &[leg.vlan])
    }
}

/// The position of a packet in a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The first packet: SYN for TCP.
    Opening,
    /// Any later packet.
    Middle,
}

/// A way in and out of the box: an interface and a VLAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leg {
    /// The number of the interface; 0 if it does not matter.
    pub ifindex: u32,
    /// The VLAN on it; 0 for untagged frames.
    pub vlan: u16,
}
