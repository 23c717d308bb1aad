//! The time of a guarded box: chrony on both sides, from port 123 to port 123.

use std::fs;

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::programs::{self, Folder, Program};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::eventually;

/// Starts chronyd, which leaves the machine's clock alone (`-x`) and is asked by a socket in its folder.
fn chronyd(at: &Netns, folder: &Folder, lines: &str) -> Program {
    // chronyd demands that nobody else may enter its socket's folder.
    let socket = folder.file("run/chronyd.sock");
    let config = format!(
        "pidfile {}\nbindcmdaddress {socket}\ncmdport 0\nport 123\nacquisitionport 123\n{lines}\n",
        folder.file("chronyd.pid")
    );
    let config = folder.write("chrony.conf", &config).expect("a file");
    let config = config.to_str().expect("a path of text");
    let program = Program::start(at, folder, "chronyd", ["-d", "-x", "-u", "root", "-f", config]);
    program
        .expect("chronyd")
        .ready(PATIENT, |_| chronyc(at, folder, &["tracking"]).is_some())
        .expect("it answers")
}

/// What chronyd answers to a command, as lines of values with commas; `None` where it does not.
fn chronyc(at: &Netns, folder: &Folder, command: &[&str]) -> Option<String> {
    let socket = folder.file("run/chronyd.sock");
    let arguments = ["-n", "-c", "-h", &socket].into_iter().chain(command.iter().copied());
    programs::run(at, "chronyc", arguments, PATIENT).expect("chronyc").success().ok()
}

/// Local UDP ports in the namespace, in both families.
fn udp_ports(at: &Netns) -> Vec<u16> {
    let table = at.run(|| {
        ["udp", "udp6"]
            .map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("a table"))
    });
    let port = |line: &str| {
        let local = line.split_whitespace().nth(1)?;
        u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()
    };
    let mut ports: Vec<u16> = table.iter().flat_map(|table| table.lines().skip(1).filter_map(port)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[test]
fn a_time_source_is_reached_from_port_123_and_selected() {
    let scene = Scene::new().expect("a scene");
    let [outside, inside] = [(); 2].map(|()| Folder::new().expect("a folder"));
    let _server = chronyd(&scene.pair.client, &outside, "local stratum 2\nallow all");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let host = &scene.pair.host;
    let sources = Scene::CLIENT.map(|address| format!("server {address} iburst minpoll -4 maxpoll -4"));
    let client = chronyd(host, &inside, &sources.join("\n"));
    assert_eq!(udp_ports(host), [123]);

    // Columns: mode, state (`*` selected, `+` combined with it), name, stratum, poll, reach (octal), …
    let row = |address: &str| {
        let rows = chronyc(host, &inside, &["sources"]).unwrap_or_default();
        let rows = rows.lines().map(|row| row.split(',').map(str::to_owned).collect::<Vec<_>>());
        rows.into_iter().find(|row| row.get(2).is_some_and(|name| name == address)).unwrap_or_default()
    };
    for address in Scene::CLIENT.map(|address| address.to_string()) {
        let is_good = |row: Vec<String>| {
            let column = |at: usize| row.get(at).map(String::as_str).unwrap_or_default();
            ["*", "+"].contains(&column(1)) && column(5) == "377"
        };
        assert!(
            eventually(PATIENT, || is_good(row(&address))),
            "{:?} from {:?}\n{}",
            chronyc(host, &inside, &["sources"]),
            address,
            client.output()
        );
    }
    let tracking = chronyc(host, &inside, &["tracking"]).expect("an answer");
    // The stratum behind the server's.
    assert_eq!(tracking.split(',').nth(2), Some("3"), "{tracking}");
    let dropped = api.counters().expect("counters").port("udp", 123);
    assert_eq!(dropped, 0, "answers to port 123 were dropped");
}
