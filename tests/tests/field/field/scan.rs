//! nmap from outside: it finds the role's ports where somebody listens, and learns nothing of the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use lyncwall_tests::agent::{Agent, Api};
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::programs;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{TcpEcho, UdpEcho};

/// Where somebody listens: three ports of the role, and three that are closed to the outside.
const OPEN: [u16; 3] = [443, 4443, 5061];
const HIDDEN: [u16; 3] = [22, 1433, 40_000];
/// A port of the role where nobody listens, so that the box itself says so.
const EMPTY: [u16; 1] = [444];

/// A role that opens the first and the last of these.
const ROLE: &str = "director-lb-hlb";

/// What nmap reports.
#[derive(Debug)]
struct Report {
    /// Ports by their state, of those that it lists one by one.
    ports: BTreeMap<String, Vec<u16>>,
    /// The state that the many ports which it does not list are in, and how many they are.
    rest: Option<(String, usize)>,
}

impl Report {
    /// Ports in this state that are listed.
    fn ports(&self, state: &str) -> &[u16] {
        self.ports.get(state).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many ports are in this state, listed or not.
    fn count(&self, state: &str) -> usize {
        let rest = self.rest.as_ref().filter(|(name, _)| name == state);
        self.ports(state).len() + rest.map_or(0, |(_, count)| *count)
    }
}

/// Scans an address of the box from the client.
fn scan(scene: &Scene, address: IpAddr, arguments: &[&str]) -> Report {
    scan_from(&scene.pair.client, address, arguments)
}

fn scan_from(from: &Netns, address: IpAddr, arguments: &[&str]) -> Report {
    let family = address.is_ipv6().then_some("-6");
    let address = address.to_string();
    let pace = ["-Pn", "-n", "-T5", "--min-rate", "20000", "--max-retries", "1", "-oG", "-", &address];
    let arguments = family.into_iter().chain(arguments.iter().copied()).chain(pace);
    let text = programs::run(from, "nmap", arguments, PATIENT).expect("nmap");
    let text = text.success().expect("a scan");
    // One line says all: "Host: …<tab>Ports: 443/open/tcp//https///, …<tab>Ignored State: filtered (65531)<tab>…".
    let fields = || text.lines().flat_map(|line| line.split('\t'));
    let mut ports: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    let listed = fields().find_map(|field| field.strip_prefix("Ports: ")).unwrap_or_default();
    for port in listed.split(", ").filter(|port| !port.is_empty()) {
        let mut parts = port.split('/');
        let number = parts.next().and_then(|number| number.trim().parse().ok());
        let state = parts.next().unwrap_or_else(|| panic!("no state in {text}"));
        ports
            .entry(state.to_owned())
            .or_default()
            .push(number.unwrap_or_else(|| panic!("no port in {text}")));
    }
    let rest = fields().find_map(|field| field.strip_prefix("Ignored State: ")).map(|rest| {
        let (state, count) = rest.trim_end_matches(')').split_once(" (").expect("a state and its number");
        (state.to_owned(), count.parse().expect("a number"))
    });
    Report { ports, rest }
}

fn guarded(config: &Config) -> (Scene, Vec<TcpEcho>, Agent, Api) {
    let scene = Scene::new().expect("a scene");
    let start =
        |port: &u16| TcpEcho::start(&scene.pair.host, (Ipv6Addr::UNSPECIFIED, *port)).expect("a server");
    let servers = OPEN.iter().chain(&HIDDEN).map(start).collect();
    let (agent, api) = scene.start(config).expect("an agent");
    (scene, servers, agent, api)
}

#[test]
fn a_scan_of_all_ports_finds_the_roles_and_no_other() {
    let (scene, _servers, _agent, api) = guarded(&Config::roles(&[ROLE]));
    for (address, ports, all) in
        [(Scene::HOST[0], "1-65535", 65_535), (Scene::HOST[1], "1-10000,40000", 10_001)]
    {
        let report = scan(&scene, address, &["-sS", "-p", ports]);
        assert_eq!(report.ports("open"), OPEN, "{report:?}");
        assert_eq!(report.ports("closed"), EMPTY, "{report:?}");
        assert_eq!(report.count("filtered"), all - OPEN.len() - EMPTY.len(), "{report:?}");
        let counters = api.counters().expect("counters");
        assert!(HIDDEN.iter().all(|port| counters.port("tcp", *port) >= 1), "{counters:?}");
    }
}

/// Segments that open nothing: where the role opens a port, the box's stack answers them, and nowhere else.
#[test]
fn segments_of_no_connection_get_in_at_open_ports_alone() {
    let (scene, _servers, _agent, _api) = guarded(&Config::roles(&[ROLE]));
    const PORTS: &str = "1000-2000,443,444,4443,5061";
    const ALL: usize = 1001 + 4;
    for address in Scene::HOST {
        // No flags at all: nobody sends that but scanners.
        let report = scan(&scene, address, &["-sN", "-p", PORTS]);
        assert_eq!(report.count("open|filtered"), ALL, "{report:?}");

        let report = scan(&scene, address, &["-sA", "-p", PORTS]);
        assert_eq!(report.ports("unfiltered"), [443, 444, 4443, 5061], "{report:?}");
        assert_eq!(report.count("filtered"), ALL - 4, "{report:?}");
        // A stack answers these where nobody listens.
        for kind in ["-sF", "-sX"] {
            let report = scan(&scene, address, &[kind, "-p", PORTS]);
            assert_eq!(report.ports("closed"), EMPTY, "{kind}: {report:?}");
            assert_eq!(report.count("open|filtered"), ALL - EMPTY.len(), "{kind}: {report:?}");
        }
    }
}

#[test]
fn a_udp_scan_finds_what_a_rule_opens_and_no_other() {
    let rule = "[[allow]]\nname = \"stun\"\ntransport = \"udp\"\nports = [3478, 3479]\n";
    let (scene, _servers, _agent, _api) = guarded(&Config::roles(&[ROLE]).further(rule));
    let start = |port| UdpEcho::start(&scene.pair.host, (Ipv6Addr::UNSPECIFIED, port)).expect("a server");
    let _udp = [53, 161, 1434, 3478].map(start);
    for address in Scene::HOST {
        // The port that resolvers answer from opens nothing either.
        for source in ["40000", "53", "123"] {
            let report =
                scan(&scene, address, &["-sU", "-g", source, "-p", "53,67,123,161,1434,3478,3479,5060"]);
            assert_eq!(
                (report.ports("open"), report.ports("closed")),
                ([3478].as_slice(), [3479].as_slice()),
                "from {source}: {report:?}"
            );
            assert_eq!(
                report.ports("open|filtered"),
                [53, 67, 123, 161, 1434, 5060],
                "from {source}: {report:?}"
            );
        }
    }
}

/// Thousands of openings of the box's own, by a raw socket: each answer gets in, be it a yes or a no.
#[test]
fn a_scan_by_the_box_itself_sees_every_answer() {
    let scene = Scene::new().expect("a scene");
    let start = |port| TcpEcho::start(&scene.pair.client, (Ipv6Addr::UNSPECIFIED, port)).expect("a server");
    let _servers = [443, 5061].map(start);
    let (_agent, _api) = scene.start(&Config::default()).expect("an agent");
    for address in Scene::CLIENT {
        let report = scan_from(&scene.pair.host, address, &["-sS", "-p", "1-6000"]);
        assert_eq!(report.ports("open"), [443, 5061], "{report:?}");
        assert_eq!(report.count("closed"), 5998, "{report:?}");
    }
}
