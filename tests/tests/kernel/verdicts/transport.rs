//! TCP and UDP headers, and what may be a reply.

use lyncwall_common::reason::Reason;
use lyncwall_tests::packet::{Payload, Tcp, Udp, protocol};

use crate::verdicts::fixture::{Expected, Fixture, List, allowed, at_tcp, at_udp, both};
use crate::verdicts::world::World;

pub(crate) fn fixtures() -> Vec<Fixture> {
    [tcp_headers(), udp_headers(), tcp_flags(), ports()].concat()
}

fn tcp_headers() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, ip) in both() {
        let syn = ip.clone().with(Tcp::syn(40_000, 443)).build();
        let header = syn[syn.len() - 20..].to_vec();
        for room in 0..20 {
            let packet = ip.clone().with(Payload::of_protocol(protocol::TCP, &header[..room]));
            list.add(format!("{room} bytes of TCP over {family}"), &packet, Reason::MalformedTcp);
            list.add(
                format!("{room} bytes of TCP over {family}, padded"),
                &packet.padded(),
                Reason::MalformedTcp,
            );
        }
        for words in (0..5).chain(6..16) {
            let tcp = Tcp { data_offset: Some(words), ..Tcp::syn(40_000, 443) };
            let what = format!("a TCP header of {words} words in 20 bytes over {family}");
            list.add(what, &ip.clone().with(tcp), Reason::MalformedTcp);
        }
        let tcp = Tcp { options: vec![1; 40], ..Tcp::syn(40_000, 443) };
        let packet = ip.clone().with(tcp);
        list.add(format!("TCP with 40 bytes of options over {family}"), &packet, allowed("https"));
        let cut = Tcp { options: vec![1; 36], data_offset: Some(15), ..Tcp::syn(40_000, 443) };
        let packet = ip.clone().with(cut);
        list.add(format!("TCP options without their last word over {family}"), &packet, Reason::MalformedTcp);
        let packet = ip.with(Tcp { checksum: Some(1), ..Tcp::syn(0, 443) }).with(&[7; 1400]);
        list.add(format!("TCP with data from port 0 over {family}"), &packet, allowed("https"));
    }
    list.fixtures
}

fn udp_headers() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, ip) in both() {
        let datagram = ip.clone().with(Udp::new(40_000, 3478)).build();
        let header = datagram[datagram.len() - 8..].to_vec();
        for room in 0..8 {
            let packet = ip.clone().with(Payload::of_protocol(protocol::UDP, &header[..room]));
            list.add(format!("{room} bytes of UDP over {family}"), &packet, Reason::MalformedUdp);
        }
        for length in (0..8).chain([13, 100, u16::MAX]) {
            let udp = Udp { length: Some(length), ..Udp::new(40_000, 3478) };
            let packet = ip.clone().with(udp).with(&[1; 4]);
            list.add(
                format!("UDP that claims {length} of 12 bytes over {family}"),
                &packet,
                Reason::MalformedUdp,
            );
        }
        for length in 8..=12 {
            let udp = Udp { length: Some(length), ..Udp::new(40_000, 3478) };
            let packet = ip.clone().with(udp).with(&[1; 4]);
            let what = format!("UDP of {length} bytes in 12 over {family}");
            list.add(what, &packet, allowed("stun"));
        }
        let unsummed = ip.with(Udp { checksum: Some(0), ..Udp::new(0, 3478) });
        list.add(format!("UDP without a checksum over {family}"), &unsummed, allowed("stun"));
    }
    list.fixtures
}

/// All 256 sets of flags. What a set means is spelled out here by RFC 9293's names.
fn tcp_flags() -> Vec<Fixture> {
    let mut list = List::untagged(World::Host);
    for (family, ip) in both() {
        for flags in 0..=0xff {
            let has = |flag| flags & flag != 0;
            let control = [Tcp::FIN, Tcp::SYN, Tcp::RST, Tcp::PSH, Tcp::ACK, Tcp::URG];
            let none = !control.into_iter().any(has);
            let contradiction = has(Tcp::SYN) && (has(Tcp::FIN) || has(Tcp::RST));
            let opens = has(Tcp::SYN) && !has(Tcp::ACK);
            for port in [443, 445] {
                let expected: Expected = if none || contradiction {
                    at_tcp(Reason::TcpFlags, port)
                } else if port == 443 {
                    allowed("https")
                } else if opens {
                    at_tcp(Reason::Closed, port)
                } else {
                    at_tcp(Reason::NoFlow, port)
                };
                let packet = ip.clone().with(Tcp { flags, ..Tcp::new(40_000, port) });
                list.add(format!("flags {flags:#04x} to {port} over {family}"), &packet, expected);
            }
        }
        for reserved in [0x100, 0x200, 0x400, 0x800, 0xf00] {
            let packet = ip.clone().with(Tcp { flags: reserved, ..Tcp::new(40_000, 443) });
            let what = format!("only reserved bits {reserved:#05x} over {family}");
            list.add(what, &packet, at_tcp(Reason::TcpFlags, 443));
            let packet = ip.clone().with(Tcp { flags: reserved | Tcp::SYN, ..Tcp::new(40_000, 443) });
            list.add(format!("SYN with reserved bits {reserved:#05x}"), &packet, allowed("https"));
        }
    }
    list.fixtures
}

fn ports() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (family, ip) in both() {
        let open = [
            (443, "https"),
            (5061, "sip"),
            (50_000, "media-tcp"),
            (50_005, "media-tcp"),
            (50_010, "media-tcp"),
        ];
        for (port, rule) in open {
            for source in [0, 53, 1024, port, u16::MAX] {
                let packet = ip.clone().with(Tcp::syn(source, port));
                list.add(format!("TCP {source} to {port} over {family}"), &packet, allowed(rule));
            }
            let ack = ip.clone().with(Tcp::ack(40_000, port));
            list.add(format!("TCP {port} without SYN over {family}"), &ack, allowed(rule));
        }
        // 47,873 is 443 with its bytes swapped.
        for port in [0, 1, 22, 442, 444, 3478, 5060, 5062, 47_873, 49_999, 50_011, 60_000, u16::MAX] {
            // What replies would come from makes no difference to a SYN.
            for source in [53, 123, 40_000] {
                let packet = ip.clone().with(Tcp::syn(source, port));
                let what = format!("a closed TCP port: {source} to {port} over {family}");
                list.add(what, &packet, at_tcp(Reason::Closed, port));
            }
            for flags in [Tcp::ACK, Tcp::SYN | Tcp::ACK, Tcp::RST, Tcp::RST | Tcp::ACK, Tcp::FIN | Tcp::ACK] {
                let packet = ip.clone().with(Tcp { flags, ..Tcp::new(443, port) });
                let what = format!("flags {flags:#04x} to {port} over {family}");
                list.add(what, &packet, at_tcp(Reason::NoFlow, port));
            }
        }
        let open = [(3478, "stun"), (50_000, "media-udp"), (50_010, "media-udp"), (65_535, "last")];
        for (port, rule) in open {
            for source in [0, 53, 123, 5000] {
                let packet = ip.clone().with(Udp::new(source, port)).with(b"data");
                list.add(format!("UDP {source} to {port} over {family}"), &packet, allowed(rule));
            }
        }
        // What a reply would come from makes no difference without a flow.
        for port in [0, 1, 53, 123, 443, 3477, 3479, 38_413, 49_999, 50_011, 60_000, 65_534] {
            for source in [53, 123, 40_000] {
                let packet = ip.clone().with(Udp::new(source, port)).with(b"data");
                let what = format!("a closed UDP port: {source} to {port} over {family}");
                list.add(what, &packet, at_udp(Reason::Closed, port));
            }
        }
    }
    list.fixtures
}
