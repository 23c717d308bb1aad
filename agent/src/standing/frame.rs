//! A packet of a connection, made up: to ask a policy or the program what it makes of one.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Protocol, Standing};
use crate::frame::{self, Payload};

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

impl Standing {
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
