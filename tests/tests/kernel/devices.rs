//! The firewall on interfaces that only a machine of one's own has: VLANs, a bond, a bridge, tunnels. They are made in
//! namespaces of real kernels; a machine that is shared seldom has their modules, so `cargo xtask vm` runs these.

mod bond;
mod bridge;
mod dummy;
mod tunnel;
mod vlan;
mod vrf;

use std::net::{IpAddr, Ipv4Addr};

use lyncwall_common::abi::{Generation, Interface, PortTransport};
use lyncwall_common::reason::{Action, Reason};
use lyncwall_datapath::{Attach, Attached, Datapath, Mode};
use lyncwall_policy::problem::Problems;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::object::object;
use lyncwall_tests::packet::Mac;
use lyncwall_tests::policy::open_tcp;
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::traffic::{Outcome, TcpEcho, eventually, tcp_connect};

/// The port that the policy opens, and one that it does not. Servers listen on both.
const OPEN: u16 = 443;
const CLOSED: u16 = 444;

/// The addresses of the interface that is made, in 198.51.100.0/24 (documentation prefix of RFC 5737).
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// A pair of namespaces and a data path with its policy, attached to nothing.
struct Bench {
    pair: Pair,
    datapath: Datapath,
    bpffs: Bpffs,
    _servers: Vec<TcpEcho>,
}

impl Bench {
    fn new() -> Self {
        require_root();
        let bpffs = Bpffs::mount().expect("a BPF file system");
        let pair = Pair::new().expect("a pair");
        let datapath = Self::open(&bpffs);
        let start = |port| TcpEcho::start(&pair.host, (IpAddr::from([0; 4]), port)).expect("a server");
        let _servers = [OPEN, CLOSED].map(start).into();
        Self { pair, datapath, bpffs, _servers }
    }

    fn open(bpffs: &Bpffs) -> Datapath {
        let mut datapath =
            Datapath::open(object(), &bpffs.path().join("lyncwall")).expect("the data path opens");
        datapath.install(&open_tcp(&[OPEN])).expect("a generation");
        datapath
    }

    /// Makes the policy reject at closed ports, by an interface with this address.
    fn reject(&mut self, interface: &str, mac: Mac) {
        let ifindex = self.pair.host.index(interface).expect("an index");
        let mut policy = open_tcp(&[OPEN]);
        policy.generation.answers = 1;
        let bucket = Generation::bucket(policy.generation.interface_seed, ifindex);
        policy.generation.interfaces[bucket] = Interface { ifindex, ..Interface::default() };
        let [a, b, c, d, e, f] = mac;
        policy.generation.ethernet[bucket] = [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes);
        self.datapath.install(&policy).expect("a generation");
    }

    /// The next agent, which adopts what is there.
    fn reopened(self) -> Self {
        let Self { pair, datapath, bpffs, _servers } = self;
        drop(datapath);
        let datapath = Self::open(&bpffs);
        Self { pair, datapath, bpffs, _servers }
    }

    /// Gives the interface that was made on both sides its addresses.
    fn address(&self, client: &str, host: &str) {
        self.pair.client.add_address(client, CLIENT.into(), 24).expect("an address");
        self.pair.host.add_address(host, HOST.into(), 24).expect("an address");
    }

    fn attach(&mut self, interface: &str, mode: Attach) -> anyhow::Result<Attached> {
        let Self { pair, datapath, .. } = self;
        pair.host.run(|| datapath.attach(interface, mode))
    }

    /// Attaches in a way that must be taken, and says how it is.
    #[track_caller]
    fn attached(&mut self, interface: &str, mode: Attach) -> Mode {
        let attached = self.attach(interface, mode).unwrap_or_else(|error| panic!("{interface}: {error:#}"));
        println!("{interface}, {mode:?}: {}, {:?}", attached.mode, attached.native_refused);
        attached.mode
    }

    /// Attaches where the driver takes no native program: by itself in generic mode, with the reason at hand.
    #[track_caller]
    fn attached_generic_for_want_of_native(&mut self, interface: &str) {
        let error = self.attach(interface, Attach::Native).expect_err("no native mode");
        let text = problem(&error);
        println!("{interface}, native: {text}");
        assert!(text.contains(&format!("`{interface}` refused a native XDP program")), "{text}");
        assert!(text.contains("\"auto\" or \"generic\""), "{text}");
        let attached = self.attach(interface, Attach::Auto).expect("generic mode is for all");
        assert_eq!(attached.mode, Mode::Generic);
        assert!(attached.native_refused.as_ref().is_some_and(|why| !why.is_empty()), "{attached:?}");
    }

    fn detach(&mut self) -> Vec<String> {
        let Self { pair, datapath, .. } = self;
        pair.host.run(|| datapath.detach_interfaces_except(&[])).expect("it comes off")
    }

    fn closed_drops(&self) -> u64 {
        self.datapath.counters().expect("counters").of(Reason::Closed, Action::Drop)
    }

    fn drops_at(&self, port: u16) -> u64 {
        let drops = self.datapath.port_drops().expect("counters").into_iter();
        drops.filter(|drop| (drop.0, drop.1) == (PortTransport::Tcp, port)).map(|drop| drop.2).sum()
    }

    /// The open port answers, the closed one is dropped and counted.
    #[track_caller]
    fn expect_guarded(&self, from: &Netns, address: Ipv4Addr) {
        let before = (self.closed_drops(), self.drops_at(CLOSED));
        self.expect(from, address, OPEN, Outcome::Answered);
        self.expect(from, address, CLOSED, Outcome::TimedOut);
        let counted = eventually(PATIENT, || self.drops_at(CLOSED) > before.1);
        assert!(counted, "the drop is not counted: {:?}", self.datapath.counters());
        assert!(self.closed_drops() > before.0);
    }

    /// Both ports answer, and nothing is counted.
    #[track_caller]
    fn expect_open(&self, from: &Netns, address: Ipv4Addr) {
        let before = self.closed_drops();
        self.expect(from, address, OPEN, Outcome::Answered);
        self.expect(from, address, CLOSED, Outcome::Answered);
        assert_eq!(self.closed_drops(), before);
    }

    #[track_caller]
    fn expect(&self, from: &Netns, address: Ipv4Addr, port: u16, expected: Outcome) {
        let patience = if expected == Outcome::TimedOut { BRIEF } else { PATIENT };
        let outcome = tcp_connect(from, (address, port).into(), patience).expect("a try");
        assert_eq!(outcome, expected, "{address} port {port}");
    }
}

/// The sentence of the only problem in an error: what is wrong, and behind the semicolon how to mend it.
#[track_caller]
fn problem(error: &anyhow::Error) -> String {
    let problems =
        error.downcast_ref::<Problems>().unwrap_or_else(|| panic!("no problem of the user: {error:#}"));
    assert_eq!(problems.iter().count(), 1, "{problems}");
    let text = problems.to_string();
    assert!(text.contains("; "), "no fix in {text}");
    text
}
