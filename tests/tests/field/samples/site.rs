//! The box of a sample with the interfaces that the sample names, and hosts at the other end of each.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, ScopedJoinHandle};

use anyhow::Result;
use lyncwall_tests::agent::{Agent, Api, Instance};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::{PATIENT, patience};
use lyncwall_tests::netns::{End, Netns, veth};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::programs;
use lyncwall_tests::traffic::{
    Outcome, TcpEcho, UdpEcho, ping, tcp_connect, tcp_exchange, tcp_open, udp_exchange,
};

/// The samples.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/examples")
}

/// The text of a sample.
pub(crate) fn text(sample: &str) -> String {
    fs::read_to_string(folder().join(sample)).expect("the sample")
}

/// A box, not guarded yet.
pub(crate) struct Site {
    pub(crate) host: Netns,
    instance: Instance,
    /// Where agents pin.
    bpffs: Rc<Bpffs>,
}

impl Site {
    pub(crate) fn new() -> Self {
        require_root();
        Self::pinned(Rc::new(Bpffs::mount().expect("a BPF file system")), "lyncwall")
    }

    /// Another box.
    pub(crate) fn twin(&self) -> Self {
        Self::pinned(Rc::clone(&self.bpffs), "twin")
    }

    fn pinned(bpffs: Rc<Bpffs>, name: &str) -> Self {
        let host = Netns::new().expect("a namespace");
        let instance = Instance::new(&host, &bpffs, name).expect("a place for the agent");
        Self { host, instance, bpffs }
    }

    /// An interface of the box, with its addresses as `192.0.2.10/24`.
    pub(crate) fn leg(&self, interface: &'static str, addresses: &[&str]) -> Leg<'_> {
        let switch = Netns::new().expect("a namespace");
        switch.add_bridge(BRIDGE).expect("a bridge");
        switch.set_up(BRIDGE, true).expect("a bridge");
        let mut leg = Leg { boxes: Vec::new(), interface, own: Vec::new(), switch, hosts: Cell::new(0) };
        leg.join(self, addresses);
        leg
    }

    /// Makes the box forward.
    pub(crate) fn forward(&self) {
        self.host.forward(true).expect("forwarding");
    }

    /// Guards the box by a sample, to the letter.
    pub(crate) fn guard(&self, sample: &str) -> (Agent, Api) {
        self.guard_by(&text(sample))
    }

    /// Guards the box by a sample that was changed where its comment says so.
    pub(crate) fn guard_by(&self, text: &str) -> (Agent, Api) {
        self.instance.configure(text).expect("a file");
        let agent = self.instance.start().expect("an agent");
        (agent, self.instance.api().expect("its socket"))
    }
}

const BRIDGE: &str = "br0";
/// The interface of a host.
pub(crate) const LINK: &str = "net0";

/// What is at the other end of an interface: a switch with hosts.
pub(crate) struct Leg<'a> {
    boxes: Vec<&'a Netns>,
    interface: &'static str,
    own: Vec<IpAddr>,
    switch: Netns,
    hosts: Cell<u8>,
}

impl<'a> Leg<'a> {
    /// Another box of the same kind, at the same switch. Hosts that come later know it.
    pub(crate) fn join(&mut self, site: &'a Site, addresses: &[&str]) {
        wire(&site.host, self.interface, &self.switch, &format!("box{}", self.boxes.len()));
        for address in addresses {
            let (address, prefix) = address.split_once('/').expect("an address with its prefix");
            let (address, prefix) = (address.parse().expect("an address"), prefix.parse().expect("a length"));
            site.host.add_address(self.interface, address, prefix).expect("an address");
            self.own.push(address);
        }
        self.boxes.push(&site.host);
    }

    /// A host with these addresses, wherever they belong. It finds the boxes' addresses here and sends all else by the
    /// first one, and the boxes find it here.
    pub(crate) fn host(&self, addresses: &[&str]) -> Netns {
        let host = Netns::new().expect("a namespace");
        let number = self.hosts.replace(self.hosts.get() + 1);
        wire(&host, LINK, &self.switch, &format!("port{number}"));
        for address in addresses {
            let address: IpAddr = address.parse().expect("an address");
            host.add_address(LINK, address, whole(address)).expect("an address");
            for at in &self.boxes {
                ip(at, &format!("route add {address}/{} dev {}", whole(address), self.interface));
            }
            let own = || self.own.iter().filter(|own| own.is_ipv4() == address.is_ipv4());
            for own in own() {
                ip(&host, &format!("route replace {own}/{} dev {LINK}", whole(*own)));
            }
            let first = own().next().expect("the box has an address of the family");
            ip(&host, &format!("route replace default via {first} dev {LINK} onlink"));
        }
        host
    }
}

/// The prefix length of one address.
pub(crate) const fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
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
pub(crate) fn ip(at: &Netns, words: &str) {
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

/// Each of these has to come about. They are tried at once, as silence takes its time.
#[track_caller]
pub(crate) fn expect_tcp(from: &Netns, to: &str, ports: &[u16], expected: Outcome) {
    let outcomes = each(to, ports, |to| tcp_connect(from, to, patience(expected)));
    assert_eq!(outcomes, ports.iter().map(|port| (*port, expected)).collect::<Vec<_>>(), "TCP to {to}");
}

/// The same over UDP.
#[track_caller]
pub(crate) fn expect_udp(from: &Netns, to: &str, ports: &[u16], expected: Outcome) {
    let outcomes = each(to, ports, |to| udp_exchange(from, 0, to, patience(expected)));
    assert_eq!(outcomes, ports.iter().map(|port| (*port, expected)).collect::<Vec<_>>(), "UDP to {to}");
}

/// An echo request and its reply.
#[track_caller]
pub(crate) fn expect_ping(from: &Netns, to: &str, expected: Outcome) {
    let to = to.parse().expect("an address");
    assert_eq!(ping(from, to, patience(expected)).expect("a try"), expected, "a ping of {to}");
}

/// The outcome of a try at each port.
#[track_caller]
fn each(
    to: &str,
    ports: &[u16],
    attempt: impl Fn(SocketAddr) -> Result<Outcome> + Sync,
) -> Vec<(u16, Outcome)> {
    let to: IpAddr = to.parse().expect("an address");
    let attempt = &attempt;
    thread::scope(|scope| {
        let tries: Vec<_> =
            ports.iter().map(|port| (*port, scope.spawn(move || attempt((to, *port).into())))).collect();
        let outcome = |tried: ScopedJoinHandle<'_, Result<Outcome>>| {
            tried.join().expect("a try does not panic").expect("a try")
        };
        tries.into_iter().map(|(port, tried)| (port, outcome(tried))).collect()
    })
}

/// A connection that stands for several questions and their answers.
#[track_caller]
pub(crate) fn expect_call(from: &Netns, to: &str, port: u16) {
    let to = SocketAddr::new(to.parse().expect("an address"), port);
    let call = tcp_open(from, to, PATIENT).expect("a connection");
    for _ in 0..3 {
        assert_eq!(tcp_exchange(&call, PATIENT).expect("a try"), Outcome::Answered, "a call to {to}");
    }
}
