//! The ports that this box gives to its own sockets.

use std::fs;

use anyhow::{Context as _, Result};
use lyncwall_policy::net::PortRange;

/// The first and the last port for sockets without a chosen port.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The ports in that range that are left out.
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The ports that this network namespace gives to sockets without a chosen port, for IPv6 too: ascending and
/// joined.
///
/// # Errors
/// If the kernel does not answer.
pub fn ephemeral() -> Result<Vec<PortRange>> {
    let read = |file| fs::read_to_string(file).with_context(|| format!("reading {file}"));
    let text = read(EPHEMERAL)?;
    let range = pair(&text).with_context(|| format!("{EPHEMERAL} holds {text:?}, not two ports"))?;
    let text = read(RESERVED)?;
    let reserved = list(&text).with_context(|| format!("{RESERVED} holds {text:?}, not a list of ports"))?;
    Ok(PortRange::without(&[range], &reserved))
}

/// As `32768\t60999`.
fn pair(text: &str) -> Option<PortRange> {
    let mut ports = text.split_whitespace().map(|port| port.parse().ok());
    Some(PortRange::between(ports.next()??, ports.next()??))
}

/// Parses `8080,49152-65535`, or nothing.
fn list(text: &str) -> Option<Vec<PortRange>> {
    let stretches = text.trim().split(',').filter(|stretch| !stretch.is_empty());
    stretches
        .map(|stretch| {
            let (first, last) = stretch.split_once('-').unwrap_or((stretch, stretch));
            Some(PortRange::between(first.parse().ok()?, last.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{PortRange, ephemeral, list, pair};

    #[test]
    fn the_kernel_writes_ports_in_pairs_and_lists() {
        assert_eq!(pair("32768\t60999\n"), Some(PortRange::between(32768, 60999)));
        assert_eq!(pair("32768"), None);
        assert_eq!(pair("32768 70000"), None);
        assert_eq!(list("\n"), Some(vec![]));
        let listed = [PortRange::one(8080), PortRange::between(49152, 65535)];
        assert_eq!(list("8080,49152-65535\n"), Some(listed.to_vec()));
        assert_eq!(list("a-b"), None);
    }

    #[test]
    fn this_machine_gives_ports_to_its_sockets() {
        let given = ephemeral().expect("the kernel tells");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        assert!(
            given.iter().any(|ports| (ports.first()..=ports.last()).contains(&port)),
            "{port} of {given:?}"
        );
    }
}
