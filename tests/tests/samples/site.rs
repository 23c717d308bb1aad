//! The box of a sample with the interfaces that the sample names, and hosts at the other end of each.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use lyncwall_tests::agent::{Agent, Api, Instance};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::netns::{End, Netns, veth};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::programs;
use lyncwall_tests::traffic::{Outcome, TcpEcho, UdpEcho, tcp_connect, udp_exchange};

use super::{BRIEF, PATIENT};

/// The samples.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/examples")
}

/// A box, not guarded yet.
pub(crate) struct Site {
    pub(crate) host: Netns,
    instance: Instance,
    /// Where the agent's pins lie.
    _bpffs: Bpffs,
}

impl Site {
    pub(crate) fn new() -> Self {
        require_root();
        let bpffs = Bpffs::mount().expect("a BPF file system");
        let host = Netns::new().expect("a namespace");
        let instance = Instance::new(&host, &bpffs, "lyncwall").expect("a place for the agent");
        Self { host, instance, _bpffs: bpffs }
    }

    /// An interface of the box, with its addresses as `192.0.2.10/24`.
    pub(crate) fn leg(&self, interface: &'static str, addresses: &[&str]) -> Leg<'_> {
        let switch = Netns::new().expect("a namespace");
        switch.add_bridge(BRIDGE).expect("a bridge");
        switch.set_up(BRIDGE, true).expect("a bridge");
        wire(&self.host, interface, &switch, "box");
        for address in addresses {
            let (address, prefix) = address.split_once('/').expect("an address with its prefix");
            let (address, prefix) = (address.parse().expect("an address"), prefix.parse().expect("a length"));
            self.host.add_address(interface, address, prefix).expect("an address");
        }
        let own = addresses.iter().map(|own| own.split('/').next().unwrap_or_default().to_owned()).collect();
        Leg { host: &self.host, interface, own, switch, hosts: Cell::new(0) }
    }

    #[expect(dead_code, reason = "for the samples that forward")]
    /// Makes the box forward.
    pub(crate) fn forward(&self) {
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            self.host.sysctl(key, "1").expect("forwarding");
        }
    }

    /// Guards the box by a sample, to the letter.
    pub(crate) fn guard(&self, sample: &str) -> (Agent, Api) {
        let text = fs::read_to_string(folder().join(sample)).expect("the sample");
        self.instance.configure(&text).expect("a file");
        let agent = self.instance.start().expect("an agent");
        (agent, self.instance.api().expect("its socket"))
    }
}

const BRIDGE: &str = "br0";
const LINK: &str = "net0";

/// What is at the other end of an interface: a switch with hosts.
pub(crate) struct Leg<'a> {
    host: &'a Netns,
    interface: &'static str,
    own: Vec<String>,
    switch: Netns,
    hosts: Cell<u8>,
}

impl Leg<'_> {
    /// A host with these addresses, wherever they belong. It sends everything by the box, and the box finds it here.
    pub(crate) fn host(&self, addresses: &[&str]) -> Netns {
        let host = Netns::new().expect("a namespace");
        let number = self.hosts.replace(self.hosts.get() + 1);
        wire(&host, LINK, &self.switch, &format!("port{number}"));
        for address in addresses {
            let address: IpAddr = address.parse().expect("an address");
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            host.add_address(LINK, address, prefix).expect("an address");
            ip(self.host, &format!("route add {address}/{prefix} dev {}", self.interface));
            let own =
                |own: &&String| own.parse::<IpAddr>().is_ok_and(|own| own.is_ipv4() == address.is_ipv4());
            let own = self.own.iter().find(own).expect("the box has an address of the family");
            ip(&host, &format!("route replace default via {own} dev {LINK} onlink"));
        }
        host
    }
}

/// A wire to a port of a switch.
fn wire(one: &Netns, name: &str, switch: &Netns, port: &str) {
    static WIRES: AtomicU16 = AtomicU16::new(0);
    let [high, low] = WIRES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let end = |namespace, name, side| End { namespace, name, mac: [2, 0, 0, side, high, low] };
    veth(end(one, name, 1), end(switch, port, 2)).expect("a wire");
    switch.enslave(port, BRIDGE).expect("a port of the switch");
}

#[track_caller]
fn ip(at: &Netns, words: &str) {
    programs::run(at, "ip", words.split(' '), PATIENT).expect("ip").success().expect("ip does it");
}

/// Programs that answer at these ports of both families.
pub(crate) fn tcp(at: &Netns, ports: &[u16]) -> Vec<TcpEcho> {
    let start = |port: &u16| TcpEcho::start(at, (Ipv6Addr::UNSPECIFIED, *port)).expect("a server");
    ports.iter().map(start).collect()
}

/// The same over UDP.
pub(crate) fn udp(at: &Netns, ports: &[u16]) -> Vec<UdpEcho> {
    let start = |port: &u16| UdpEcho::start(at, (Ipv6Addr::UNSPECIFIED, *port)).expect("a server");
    ports.iter().map(start).collect()
}

/// Each of these has to come about.
#[track_caller]
pub(crate) fn expect_tcp(from: &Netns, to: &str, ports: &[u16], expected: Outcome) {
    for port in ports {
        let patience = if expected == Outcome::TimedOut { BRIEF } else { PATIENT };
        let to = SocketAddr::new(to.parse().expect("an address"), *port);
        assert_eq!(tcp_connect(from, to, patience).expect("a try"), expected, "TCP to {to}");
    }
}

/// Each of these has to come about.
#[track_caller]
pub(crate) fn expect_udp(from: &Netns, to: &str, ports: &[u16], expected: Outcome) {
    for port in ports {
        let patience = if expected == Outcome::TimedOut { BRIEF } else { PATIENT };
        let to = SocketAddr::new(to.parse().expect("an address"), *port);
        assert_eq!(udp_exchange(from, 0, to, patience).expect("a try"), expected, "UDP to {to}");
    }
}
