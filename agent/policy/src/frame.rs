//! Builds frames, to ask a policy or the program for a verdict.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use etherparse::{IpNumber, PacketBuilder, TcpHeader};

/// TCP flags by their bits in the header (RFC 9293, 3.1).
pub const TCP_FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// SYN: opens a connection.
pub const SYN: u8 = 1 << 1;

/// ACK: any later packet of a connection.
pub const ACK: u8 = 1 << 4;

/// ICMPv6 neighbour discovery (RFC 4861): its packets come from the link only.
const NEIGHBOUR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// The payload of a packet. Ports are in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A TCP segment without data: source port, destination port, flags.
    Tcp(u16, u16, u8),
    /// An empty datagram: source port, destination port.
    Udp(u16, u16),
    /// ICMP, or ICMPv6 for IPv6 addresses: type and code, and the four bytes after the checksum.
    Icmp([u8; 2], [u8; 4]),
    /// Four bytes of another IP protocol.
    Other(u8),
}

impl Payload {
    /// An echo request.
    #[must_use]
    pub fn echo_request(ipv4: bool, identifier: u16) -> Self {
        let [high, low] = identifier.to_be_bytes();
        Self::Icmp([if ipv4 { 8 } else { 128 }, 0], [high, low, 0, 0])
    }

    /// The hop limit that receivers require.
    fn hops(self, ipv4: bool) -> u8 {
        match self {
            Self::Icmp([kind, _], _) if !ipv4 && NEIGHBOUR_DISCOVERY.contains(&kind) => 255,
            // VRRP (RFC 9568, 5.1.1.3) and similar protocols stay on the link.
            Self::Other(_) => 255,
            Self::Icmp(..) | Self::Tcp(..) | Self::Udp(..) => 64,
        }
    }
}

/// An Ethernet frame with these VLAN tags, outer first; 0 for no tag.
///
/// # Errors
/// If the addresses are of different families, or the protocol needs a specific header.
pub fn build(from: IpAddr, to: IpAddr, payload: Payload, vlan: &[u16]) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], hardware_address(to));
    let hops = payload.hops(from.is_ipv4());
    let packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), hops),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), hops),
        _ => bail!("{from} and {to} are of different families"),
    };
    let mut frame = Vec::new();
    match payload {
        Payload::Tcp(from, to, flags) => packet.tcp_header(segment(from, to, flags)).write(&mut frame, &[]),
        Payload::Udp(from, to) => packet.udp(from, to).write(&mut frame, &[]),
        Payload::Icmp([kind, code], rest) if to.is_ipv4() => {
            packet.icmpv4_raw(kind, code, rest).write(&mut frame, &[])
        }
        Payload::Icmp([kind, code], rest) => packet.icmpv6_raw(kind, code, rest).write(&mut frame, &[]),
        Payload::Other(protocol) => packet.write(&mut frame, IpNumber(protocol), &[0; 4]),
    }
    .context("building a packet")?;
    for (inner, id) in vlan.iter().rev().enumerate().filter(|(_, id)| **id != 0) {
        let [high, low] = id.to_be_bytes();
        // 802.1Q for the inner tag, 802.1ad for the outer ones.
        let [kind, protocol] = if inner == 0 { [0x81, 0x00] } else { [0x88, 0xa8] };
        frame.splice(12..12, [kind, protocol, high, low]);
    }
    Ok(frame)
}

fn segment(from: u16, to: u16, flags: u8) -> TcpHeader {
    let has = |bit: u32| flags >> bit & 1 != 0;
    TcpHeader {
        fin: has(0),
        syn: has(1),
        rst: has(2),
        psh: has(3),
        ack: has(4),
        urg: has(5),
        ece: has(6),
        cwr: has(7),
        ..TcpHeader::new(from, to, 0, 1024)
    }
}

/// The destination MAC address for an IP address (RFC 1112, 6.4; RFC 2464, 7).
fn hardware_address(to: IpAddr) -> [u8; 6] {
    match to {
        IpAddr::V4(to) if to.is_broadcast() => [0xff; 6],
        IpAddr::V4(to) if to.is_multicast() => {
            let [_, b, c, d] = to.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(to) if to.is_multicast() => {
            let [.., a, b, c, d] = to.octets();
            [0x33, 0x33, a, b, c, d]
        }
        IpAddr::V4(_) | IpAddr::V6(_) => [2, 0, 0, 0, 0, 2],
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use lyncwall_common::abi::PortTransport;
    use lyncwall_common::parse::{Headers, parse};

    use super::{ACK, Payload, SYN, build};

    fn read(from: &str, to: &str, payload: Payload, vlan: &[u16]) -> Headers {
        let [from, to] = [from, to].map(|address| address.parse::<IpAddr>().expect("an address"));
        let frame = build(from, to, payload, vlan).expect("a frame");
        let mut headers = Headers::UNREAD;
        let _kind = parse(&frame[..], &mut headers);
        headers
    }

    #[test]
    fn the_programs_parser_reads_what_is_built() {
        let headers = read("192.0.2.1", "198.51.100.1", Payload::Tcp(40_000, 5061, SYN | ACK), &[7, 100]);
        assert_eq!(headers.ports, Some(PortTransport::Tcp));
        assert_eq!((headers.source_port.number(), headers.destination_port.number()), (40_000, 5061));
        assert_eq!((headers.flags, headers.vlan.map(|tag| tag & 0xfff)), (SYN | ACK, [7, 100]));
        let headers = read("2001:db8::1", "2001:db8::2", Payload::Udp(500, 3478), &[]);
        assert_eq!(headers.ports, Some(PortTransport::Udp));
        assert_eq!(headers.destination_port.number(), 3478);
        let headers = read("2001:db8::1", "ff02::1", Payload::Icmp([134, 0], [0; 4]), &[]);
        assert_eq!((headers.protocol, headers.flags), (58, 134));
        let headers = read("192.0.2.1", "224.0.0.18", Payload::Other(112), &[]);
        assert_eq!(headers.protocol, 112);
    }
}
