//! Builds a packet of a connection, to ask a policy or the program for a verdict.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Protocol, Standing};
use crate::frame::{self, Payload};

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

impl Standing {
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
    /// As [`Standing::outgoing`].
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
