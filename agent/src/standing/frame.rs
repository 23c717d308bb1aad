//! A packet of a connection, made up: to ask a policy or the program what it makes of one.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use etherparse::{PacketBuilder, PacketBuilderStep};

use super::{Protocol, Standing};

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
        tagged(frame(self.protocol, self.local, self.remote, moment)?, leg)
    }

    /// A packet that the far side sends, which comes in by `leg`.
    ///
    /// # Errors
    /// As [`Standing::outgoing`].
    pub fn incoming(&self, moment: Moment, leg: Leg) -> Result<Vec<u8>> {
        tagged(frame(self.protocol, self.remote, self.local, moment)?, leg)
    }
}

/// With a tag behind the addresses where the leg is a VLAN, as 802.1Q has it.
fn tagged(mut frame: Vec<u8>, leg: Leg) -> Result<Vec<u8>> {
    if leg.vlan != 0 {
        let [high, low] = leg.vlan.to_be_bytes();
        frame.splice(12..12, [0x81, 0, high, low]);
    }
    Ok(frame)
}

fn frame(protocol: Protocol, from: SocketAddr, to: SocketAddr, moment: Moment) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut frame = Vec::new();
    let hops = 64;
    let packet: PacketBuilderStep<_> = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), hops),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), hops),
        _ => bail!("{from} and {to} are of different families"),
    };
    let is_ipv4 = from.is_ipv4();
    match protocol {
        Protocol::Tcp => {
            let segment = packet.tcp(from.port(), to.port(), 0, 1024);
            let segment = if moment == Moment::Opening { segment.syn() } else { segment.ack(0) };
            segment.write(&mut frame, &[])
        }
        Protocol::Udp => packet.udp(from.port(), to.port()).write(&mut frame, &[]),
        Protocol::IcmpEcho if is_ipv4 => packet.icmpv4_echo_request(from.port(), 0).write(&mut frame, &[]),
        Protocol::IcmpEcho => packet.icmpv6_echo_request(from.port(), 0).write(&mut frame, &[]),
    }
    .context("building a packet")?;
    Ok(frame)
}
