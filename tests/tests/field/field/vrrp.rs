//! Two boxes that share a virtual address by keepalived, each behind its own firewall.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use lyncwall_tests::agent::{Agent, Api, Instance};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::{PATIENT, expect_tcp};
use lyncwall_tests::netns::{End, Netns, veth};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::programs::{Folder, Program};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{TcpEcho, eventually};

use super::ip;

/// The interface of each box and of the client.
const LINK: &str = "lan0";

/// How the two speak.
#[derive(Clone, Copy)]
struct Speech {
    /// The virtual address.
    address: IpAddr,
    /// The protocol's version.
    version: u8,
    /// The time between two advertisements.
    interval: Duration,
    /// From the one box's IPv4 address to the other's, instead of to the group of all.
    unicast: bool,
}

impl Speech {
    /// As most configurations have it: to 224.0.0.18, once a second.
    const USUAL: Self = Self {
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)),
        version: 2,
        interval: Duration::from_secs(1),
        unicast: false,
    };
    /// To ff02::12, from link-local addresses.
    const V6: Self = Self {
        address: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100)),
        version: 3,
        interval: Duration::from_millis(500),
        unicast: false,
    };
    /// As where a cloud's network has no multicast.
    const UNICAST: Self =
        Self { version: 3, interval: Duration::from_millis(500), unicast: true, ..Self::USUAL };

    /// After so long without an advertisement a backup takes over (RFC 5798, 6.1: three intervals and a part of one),
    /// with some more for a busy machine.
    fn takeover(self) -> Duration {
        4 * self.interval + Duration::from_millis(500)
    }
}

/// A client and two boxes on one switch.
struct Lan {
    switch: Netns,
    client: Netns,
    boxes: [Node; 2],
    speech: Speech,
    /// Agents pin there. Last, as fields are dropped in their order.
    _bpffs: Bpffs,
}

impl Lan {
    fn new(speech: Speech) -> Self {
        require_root();
        let bpffs = Bpffs::mount().expect("a BPF file system");
        let switch = Netns::new().expect("a namespace");
        switch.add_bridge("bridge0").expect("a bridge");
        let client = plug(&switch, 1);
        let boxes = [2, 3].map(|number| Node::new(&switch, number, &bpffs));
        Self { switch, client, boxes, speech, _bpffs: bpffs }
    }

    /// Waits until the box has the virtual address, the other one has not, and the client reaches it.
    #[track_caller]
    fn expect_served_by(&self, master: usize, port: u16) {
        let has = |node: usize| self.boxes[node].has(self.speech.address);
        assert!(
            eventually(PATIENT, || has(master) && !has(1 - master)),
            "box {master} is not the only one with the address: {:?} {:?}\n{}\n{}",
            has(0),
            has(1),
            self.boxes[0].log(),
            self.boxes[1].log()
        );
        expect_tcp(&self.client, (self.speech.address, port), Answered);
    }

    /// Lets the time pass that a backup would wait before it takes over, and demands that neither box changed its
    /// mind since keepalived began.
    #[track_caller]
    fn expect_quiet(&self, states: [&[&str]; 2]) {
        thread::sleep(self.speech.takeover());
        for (node, states) in self.boxes.iter().zip(states) {
            assert_eq!(node.states(), states, "{}", node.log());
        }
    }
}

/// A namespace with an interface in the switch, and its addresses by its number.
fn plug(switch: &Netns, number: u8) -> Netns {
    let namespace = Netns::new().expect("a namespace");
    let port = format!("port{number}");
    veth(
        End { namespace: &namespace, name: LINK, mac: [2, 0, 0, 0, 0x30, number] },
        End { namespace: switch, name: &port, mac: [2, 0, 0, 0, 0x31, number] },
    )
    .expect("a wire");
    switch.enslave(&port, "bridge0").expect("a port");
    for (namespace, link) in [(switch, port.as_str()), (&namespace, LINK)] {
        namespace.wait_until_up(link).expect("a carrier");
    }
    namespace.add_address(LINK, v4(number).into(), 24).expect("an address");
    namespace.add_address(LINK, v6(number).into(), 64).expect("an address");
    namespace
}

fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())
}

/// A box of the pair.
struct Node {
    number: u8,
    namespace: Netns,
    instance: Instance,
    folder: Folder,
    keepalived: Option<Program>,
    agent: Option<Agent>,
    /// Listens whether the box has the virtual address or not, on ports of two roles.
    _servers: [TcpEcho; 2],
}

impl Node {
    fn new(switch: &Netns, number: u8, bpffs: &Bpffs) -> Self {
        let namespace = plug(switch, number);
        let instance = Instance::new(&namespace, bpffs, &format!("box{number}")).expect("a place");
        let server = |port| TcpEcho::start(&namespace, (Ipv6Addr::UNSPECIFIED, port)).expect("a server");
        let _servers = [5061, 5067].map(server);
        let folder = Folder::new().expect("a folder");
        Self { number, namespace, instance, folder, keepalived: None, agent: None, _servers }
    }

    /// The other box's number.
    fn peer(&self) -> u8 {
        5 - self.number
    }

    fn start_keepalived(&mut self, speech: Speech) {
        let priority = if self.number == 2 { 150 } else { 100 };
        let unicast = match speech.unicast {
            true => format!("unicast_src_ip {}\nunicast_peer {{\n{}\n}}", v4(self.number), v4(self.peer())),
            false => String::new(),
        };
        let prefix = if speech.address.is_ipv4() { 24 } else { 64 };
        let config = format!(
            "global_defs {{\nrouter_id box{}\nvrrp_version {}\nvrrp_priority -20\n}}\nvrrp_instance vip {{\nstate BACKUP\n\
             interface {LINK}\nvirtual_router_id 51\npriority {priority}\nadvert_int {}\n{unicast}\n\
             virtual_ipaddress {{\n{}/{prefix}\n}}\n}}\n",
            self.number,
            speech.version,
            speech.interval.as_secs_f64(),
            speech.address,
        );
        let config = self.folder.write("keepalived.conf", &config).expect("a file");
        let file = |name| self.folder.file(name);
        let (pid, vrrp, checkers) = (file("keepalived.pid"), file("vrrp.pid"), file("checkers.pid"));
        let arguments = [
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--vrrp",
            "--use-file",
            config.to_str().expect("text"),
        ]
        .into_iter()
        .chain(["--pid", &pid, "--vrrp_pid", &vrrp, "--checkers_pid", &checkers]);
        let program = Program::start(&self.namespace, &self.folder, "keepalived", arguments);
        let ready = program.expect("keepalived").ready(PATIENT, |wrote| wrote.contains("Entering "));
        self.keepalived = Some(ready.expect("a state"));
    }

    fn stop_keepalived(&mut self) {
        let program = self.keepalived.take().expect("keepalived runs");
        program.stop(PATIENT).expect("it ends");
    }

    /// The states that it was in since it began.
    fn states(&self) -> Vec<String> {
        let log = self.log();
        let states = log.split("Entering ").skip(1).filter_map(|rest| rest.split_once(" STATE"));
        states.map(|(state, _)| state.to_owned()).collect()
    }

    /// Waits until it has been in these states, as what it writes is read a moment after it acts.
    #[track_caller]
    fn expect_states(&self, states: &[&str]) {
        eventually(PATIENT, || self.states().len() >= states.len());
        assert_eq!(self.states(), states, "{}", self.log());
    }

    fn log(&self) -> String {
        self.keepalived.as_ref().map(Program::output).unwrap_or_default()
    }

    fn has(&self, address: IpAddr) -> bool {
        ip(&self.namespace, &format!("-oneline address show dev {LINK}")).contains(&format!(" {address}/"))
    }

    /// Turns the firewall on. The virtual address is a target of its own; `rules` may let the other box's VRRP in.
    fn guard(&mut self, speech: Speech, rules: &str) -> Api {
        let file = format!(
            "[management]\nfrom = [\"203.0.113.0/24\"]\ntcp = [22]\n\n[[interface]]\nname = \"{LINK}\"\n\n\
             [[target]]\nname = \"vip\"\naddress = [\"{}\"]\nroles = [\"director-vip\"]\n\n\
             [[target]]\nname = \"box\"\naddress = \"host\"\nroles = []\n{rules}",
            speech.address
        );
        self.instance.configure(&file).expect("a file");
        self.agent = Some(self.instance.start().expect("an agent"));
        self.instance.api().expect("a client")
    }

    /// Lets the other box's VRRP in, by the address that it comes from.
    fn rule(&self, speech: Speech) -> String {
        let from = match speech.address {
            IpAddr::V4(_) => format!("{}/32", v4(self.peer())),
            // RFC 5798, 5.1.2.1: the source is a link-local address.
            IpAddr::V6(_) => "fe80::/64".to_owned(),
        };
        format!("\n[[allow]]\nname = \"vrrp\"\nprotocol = \"vrrp\"\nfrom = [\"{from}\"]\n")
    }

    fn switch(&self, role: &str) {
        let switched = self.instance.cli(["switch", "--target", "vip", role]).expect("it runs");
        switched.success().expect("a switch");
    }
}

/// The states that the two go through, and stay in: each begins as a backup.
const STEADY: [&[&str]; 2] = [&["BACKUP", "MASTER"], &["BACKUP"]];

/// Boxes with keepalived at work, then guarded; the first is the master. Neither changes its mind, nor with a switch.
fn boxes_that_stay_what_they_are(speech: Speech) -> Lan {
    let mut lan = Lan::new(speech);
    lan.boxes[0].start_keepalived(speech);
    lan.expect_served_by(0, 5061);
    lan.boxes[1].start_keepalived(speech);
    lan.expect_quiet(STEADY);

    let apis = [0, 1].map(|at| {
        let rule = lan.boxes[at].rule(speech);
        lan.boxes[at].guard(speech, &rule)
    });
    lan.expect_quiet(STEADY);
    lan.expect_served_by(0, 5061);
    expect_tcp(&lan.client, (speech.address, 5067), TimedOut);
    let heard = apis[1].counters().expect("counters").allow("vrrp");
    assert!(heard >= 3, "the backup heard {heard} advertisements by its rule");

    for node in &lan.boxes {
        node.switch("mediation");
    }
    lan.expect_quiet(STEADY);
    lan.expect_served_by(0, 5067);
    expect_tcp(&lan.client, (speech.address, 5061), TimedOut);
    lan
}

#[test]
fn multicast_vrrp_survives_turning_on_a_switch_and_a_failover() {
    let mut lan = boxes_that_stay_what_they_are(Speech::USUAL);
    lan.boxes[0].stop_keepalived();
    lan.expect_served_by(1, 5067);
    expect_tcp(&lan.client, (lan.speech.address, 5061), TimedOut);
    // It comes back and takes over again, as it has the higher priority.
    lan.boxes[0].start_keepalived(Speech::USUAL);
    lan.expect_served_by(0, 5067);
    lan.boxes[1].expect_states(&["BACKUP", "MASTER", "BACKUP"]);
}

#[test]
fn ipv6_vrrp_survives_a_box_that_loses_its_wire() {
    let lan = boxes_that_stay_what_they_are(Speech::V6);
    lan.switch.set_up("port2", false).expect("the wire is cut");
    let backup = &lan.boxes[1];
    assert!(eventually(PATIENT, || backup.has(lan.speech.address)), "{}", backup.log());
    expect_tcp(&lan.client, (lan.speech.address, 5067), Answered);
    backup.expect_states(&["BACKUP", "MASTER"]);
}

#[test]
fn unicast_vrrp_survives_turning_on_a_switch_and_a_failover() {
    let mut lan = boxes_that_stay_what_they_are(Speech::UNICAST);
    lan.boxes[0].stop_keepalived();
    lan.expect_served_by(1, 5067);
}

#[test]
fn without_a_rule_for_vrrp_both_boxes_become_master() {
    let mut lan = Lan::new(Speech::UNICAST);
    for speech in [Speech::USUAL, Speech::UNICAST] {
        for node in &mut lan.boxes {
            node.guard(speech, "");
            node.start_keepalived(speech);
        }
        let all = |lan: &Lan| lan.boxes.iter().all(|node| node.states().ends_with(&["MASTER".to_owned()]));
        assert!(eventually(PATIENT, || all(&lan)), "{}\n{}", lan.boxes[0].log(), lan.boxes[1].log());
        for node in &mut lan.boxes {
            assert!(node.has(speech.address));
            node.stop_keepalived();
            node.agent.take().expect("it runs").stop().expect("it ends");
        }
    }
}
