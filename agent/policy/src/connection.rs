//! A connection and a socket that waits for one, and the packets that such a connection has: made up, to ask a policy or the
//! program what it makes of one.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use lyncwall_common::abi::PortTransport;

use crate::frame::{self, Payload};

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

impl Protocol {
    /// The transport whose ports it has; `None` for [`Protocol::IcmpEcho`].
    #[must_use]
    pub fn transport(self) -> Option<PortTransport> {
        match self {
            Self::Tcp => Some(PortTransport::Tcp),
            Self::Udp => Some(PortTransport::Udp),
            Self::IcmpEcho => None,
        }
    }
}

/// A socket that anybody may send to: one that accepts TCP connections, or one of UDP without a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Of which port it is.
    pub transport: PortTransport,
    /// The address that it is bound to; an unspecified one for any. IPv4 is never written as IPv6.
    pub address: IpAddr,
    /// Its port, in host byte order.
    pub port: u16,
    /// Its inode, by which the datapath finds its process.
    pub inode: u32,
    /// The name of its process, where that was found.
    pub process: Option<String>,
}

/// A connection as the packets show it that come in: from `remote` to `local`. Both addresses are of one family, and
/// IPv4 ones are never written as IPv6. For [`Protocol::IcmpEcho`] both ports are the identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection {
    /// What it is.
    pub protocol: Protocol,
    /// Where its packets go to: a socket of this box, or for whom it forwards, as written on the wire (source NAT).
    pub local: SocketAddr,
    /// Where its packets come from.
    pub remote: SocketAddr,
}

impl Connection {
    /// In one form of address; `None` for what never leaves this box.
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
    /// Where the ends are of different families.
    pub fn outgoing(&self, moment: Moment, leg: Leg) -> Result<Vec<u8>> {
        self.frame(self.local, self.remote, moment, leg)
    }

    /// A packet that the far side sends, which comes in by `leg`.
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

/// Where in a connection a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Its first packet: SYN, where it is TCP.
    Opening,
    /// Any packet after that.
    Middle,
}

/// A way in and out of the box: by which interface a packet comes or goes, and in which VLAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leg {
    /// The number of the interface; 0 where it does not matter.
    pub ifindex: u32,
    /// The VLAN on it; 0 for untagged frames.
    pub vlan: u16,
}
