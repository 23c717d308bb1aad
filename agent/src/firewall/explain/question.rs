//! Builds the frame of the packet in question.

use lyncwall_api as api;
use lyncwall_policy::config;
use lyncwall_policy::frame::{self, Payload};
use lyncwall_policy::net::{self, PrefixError};
use lyncwall_policy::problem::{Problem, Problems};

/// The default source port.
const SOURCE_PORT: u16 = 40_000;

/// The frame in question.
pub(super) fn frame_of(wanted: &api::Explain) -> Result<Vec<u8>, Problems> {
    let mut problems = Problems::default();
    if let Some(hexadecimal) = &wanted.frame {
        let alone = api::Explain {
            frame: wanted.frame.clone(),
            interface: wanted.interface.clone(),
            ..api::Explain::default()
        };
        if *wanted != alone {
            problems.push(Problem::new(
                "`frame` excludes all other fields but the interface",
                "leave the other fields out",
            ));
        }
        let frame = bytes(hexadecimal).map_err(|problem| problems.push(problem)).unwrap_or_default();
        return problems.or(frame);
    }
    let mut address =
        |what: &str, text: &Option<String>| match text.as_deref().map(|text| (text, net::address(text))) {
            Some((_, Ok(address))) => Some(address),
            Some((text, Err(error))) => {
                let message = match error {
                    PrefixError::Compatible { .. } => format!("{what}: `{text}`: {error}"),
                    _ => format!("{what}: `{text}` is not an address"),
                };
                problems.push(Problem::new(message, "write it as 192.0.2.1 or 2001:db8::1"));
                None
            }
            None => {
                problems.push(Problem::new(format!("{what} is missing"), "name an address"));
                None
            }
        };
    let (from, to) = (address("from", &wanted.from), address("to", &wanted.to));
    if let (Some(from), Some(to)) = (from, to)
        && from.is_ipv4() != to.is_ipv4()
    {
        problems.push(Problem::new(
            format!("{from} and {to} are of different families"),
            "name two IPv4 or two IPv6 addresses",
        ));
    }
    if wanted.vlan.len() > 2 || wanted.vlan.iter().any(|id| !(1..4095).contains(id)) {
        problems.push(Problem::new("this is not a VLAN", "name one or two identifiers from 1 to 4094"));
    }
    let payload = payload(wanted, to.is_none_or(|to| to.is_ipv4()), &mut problems);
    problems.or(())?;
    let (Some(from), Some(to), Some(payload)) = (from, to, payload) else {
        return Err(Problem::new("no packet to explain", "describe a packet").into());
    };
    frame::build(from, to, payload, &wanted.vlan)
        .map_err(|error| Problem::new(format!("{error:#}"), "describe another packet").into())
}

/// The payload of the packet.
fn payload(wanted: &api::Explain, ipv4: bool, problems: &mut Problems) -> Option<Payload> {
    let missing = |problems: &mut Problems| {
        problems.push(Problem::new(
            "the destination port is missing",
            "name it, as `tcp/5061` or as \"port\": 5061",
        ));
    };
    let source = wanted.source_port.unwrap_or(SOURCE_PORT);
    let Some(protocol) = wanted.protocol.as_deref() else {
        problems.push(Problem::new(
            "the protocol is missing",
            "name one, as `tcp/5061`, `udp/3478`, `icmp` or `vrrp`",
        ));
        return None;
    };
    let unfit = |problems: &mut Problems, what: &str, there: bool| {
        if there {
            problems.push(Problem::new(format!("{protocol} has no {what}"), "leave it out"));
        }
    };
    let is = |name: &str| protocol.eq_ignore_ascii_case(name);
    unfit(problems, "TCP flags", wanted.tcp_flags.is_some() && !is("tcp"));
    unfit(problems, "ICMP type", wanted.icmp.is_some() && !is("icmp"));
    unfit(
        problems,
        "ports",
        (wanted.port.is_some() || wanted.source_port.is_some()) && !is("tcp") && !is("udp"),
    );
    if is("tcp") || is("udp") {
        let Some(port) = wanted.port else {
            missing(problems);
            return None;
        };
        if is("udp") {
            return Some(Payload::Udp(source, port));
        }
        let flags = wanted.tcp_flags.as_deref().map_or(Some(frame::SYN), |text| flags(text, problems));
        return Some(Payload::Tcp(source, port, flags?));
    }
    if is("icmp") {
        return Some(match wanted.icmp {
            Some(kind) => Payload::Icmp(kind, [0; 4]),
            None => Payload::echo_request(ipv4, 1),
        });
    }
    match config::protocol_number(&protocol.to_ascii_lowercase()) {
        Some(1 | 6 | 17 | 58) => {
            problems.push(Problem::new(
                format!("protocol {protocol} needs its name"),
                "write `tcp`, `udp` or `icmp`",
            ));
            None
        }
        Some(number) => Some(Payload::Other(number)),
        None => {
            let fix = "write `tcp/5061`, `udp/3478`, `icmp`, a protocol as `vrrp`, or its number";
            problems.push(Problem::new(format!("unknown protocol `{protocol}`"), fix));
            None
        }
    }
}

/// Parses TCP flags from their names; an empty text has none.
fn flags(text: &str, problems: &mut Problems) -> Option<u8> {
    let mut flags = 0;
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match frame::TCP_FLAGS.iter().position(|known| known.eq_ignore_ascii_case(name)) {
            Some(bit) => flags |= 1 << bit,
            None => {
                let fix = format!("the flags are {}", frame::TCP_FLAGS.join(", "));
                problems.push(Problem::new(format!("`{name}` is not a TCP flag"), fix));
                return None;
            }
        }
    }
    Some(flags)
}

/// Parses bytes from hexadecimal digits.
fn bytes(text: &str) -> Result<Vec<u8>, Problem> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
        u8::from_str_radix(digits, 16).ok()
    };
    pairs
        .map(byte)
        .collect::<Option<_>>()
        .ok_or_else(|| Problem::new("the frame is not hexadecimal", "write two digits for each byte"))
}
