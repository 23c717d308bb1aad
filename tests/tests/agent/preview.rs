//! What a switch would do, told before it is made; and what it does with connections that stand: cut them, or let them go
//! on until they end.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use lyncwall_api::Refusal;
use lyncwall_api::{Connection, Existing, Listener, PortChange, Previewed, Settled};
use lyncwall_tests::agent::{Api, Finished};
use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::{End, Netns, Pair, veth};
use lyncwall_tests::packet::{Ethernet, Ipv4, Packet, Tcp};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{FrameSocket, TcpEcho, eventually, tcp_connect, tcp_exchange, tcp_open};

/// A role, and a port that only it opens; its other ports are TCP, too, and one stretch of them.
const DIRECTOR: &str = "director-vip";
const PORT: u16 = 5061;
const ONLY_DIRECTOR: [(u16, u16); 5] = [(80, 80), (4443, 4443), (5061, 5061), (8080, 8080), (50_001, 50_003)];
/// A role that opens nothing but this.
const PROXY: &str = "reverse-proxy";
const BOTH: u16 = 443;
/// A role that opens this, and UDP in the range.
const MEDIATION: &str = "mediation";
const SIP: u16 = 5067;
const MEDIA: &str = "49152-57500";

/// As a switch from the proxy to the director, or back, tells its ports.
fn director_ports(changes: &[PortChange]) -> bool {
    let told: Vec<_> = changes.iter().map(|change| (change.first, change.last)).collect();
    changes.iter().all(|change| change.target == "host" && change.transport == "tcp") && told == ONLY_DIRECTOR
}

fn server(at: &Netns, port: u16) -> TcpEcho {
    TcpEcho::start(at, (Ipv6Addr::UNSPECIFIED, port)).expect("a server")
}

fn opened(scene: &Scene, to: SocketAddr) -> TcpStream {
    tcp_open(&scene.pair.client, to, PATIENT).expect("a connection")
}

fn answers(stream: &TcpStream) -> bool {
    tcp_exchange(stream, PATIENT).expect("a try") == Answered
}

fn connection(stream: &TcpStream) -> Connection {
    let end = |end: std::io::Result<SocketAddr>| end.expect("an address").to_string();
    Connection {
        transport: "tcp".to_owned(),
        remote: end(stream.local_addr()),
        local: end(stream.peer_addr()),
    }
}

fn own_name() -> Option<String> {
    Some(fs::read_to_string("/proc/self/comm").expect("a name").trim_end().to_owned())
}

/// A preview during which nothing was counted but what it did itself: other packets may come at any time.
#[track_caller]
fn preview(api: &Api, roles: &[&str]) -> Previewed {
    let state = || (api.status().expect("a status"), api.counters().expect("counters").0);
    let mut previewed = None;
    let unchanged = eventually(PATIENT, || {
        let before = state();
        previewed = Some(api.preview(roles).expect("a preview"));
        before == state()
    });
    assert!(unchanged, "the status or the counters differ after each preview");
    previewed.expect("one was made")
}

#[test]
fn a_preview_names_ports_listeners_and_connections_and_changes_nothing() {
    let scene = Scene::new().expect("a scene");
    let _servers = [BOTH, PORT].map(|port| server(&scene.pair.host, port));
    let _far = server(&scene.pair.client, 8443);
    let (_agent, api) = scene.start(&Config::roles(&[DIRECTOR])).expect("an agent");
    let mut cut = [opened(&scene, Scene::v4(PORT)), opened(&scene, Scene::v6(PORT))];
    let stays = opened(&scene, Scene::v4(BOTH));
    let own = tcp_open(&scene.pair.host, (Pair::CLIENT_V4, 8443).into(), PATIENT).expect("a connection");

    let told = preview(&api, &[PROXY]);
    assert!(director_ports(&told.closed) && told.opened.is_empty(), "{told:?}");
    assert!(told.closed[2].service.contains("SIP/MTLS"), "{:?}", told.closed);
    assert_eq!(told.targets[0].roles, [PROXY]);
    let listener = Listener {
        target: "host".to_owned(),
        transport: "tcp".to_owned(),
        address: "::".to_owned(),
        port: PORT,
        process: own_name(),
        still: vec![],
    };
    assert_eq!(told.unreached, [listener]);
    assert!(told.unheard.is_empty(), "{:?}", told.unheard);
    assert_eq!((told.cut.count, told.cut.first), (2, cut.each_ref().map(connection).to_vec()));
    assert_eq!(told.flows, 1, "that of the connection which the host opened");

    // It does what it says.
    let switched = api.switch(&[PROXY]).expect("a switch");
    assert_eq!((switched.opened, switched.closed), (told.opened, told.closed));
    assert_eq!(switched.settled, Some(Settled { existing: Existing::Cut, connections: 2 }));
    assert!(answers(&stays) && answers(&own));
    for stream in &mut cut {
        assert_eq!(tcp_exchange(stream, BRIEF).expect("a try"), TimedOut);
    }

    let told = preview(&api, &[DIRECTOR]);
    assert!(director_ports(&told.opened) && told.closed.is_empty(), "{told:?}");
    let unheard: Vec<_> = told.unheard.iter().map(|ports| (ports.first, ports.last)).collect();
    assert_eq!(unheard, [(80, 80), (4443, 4443), (8080, 8080), (50_001, 50_003)]);
    assert!(told.unheard[1].service.contains("HTTPS"), "{:?}", told.unheard);
    assert_eq!((told.unreached.len(), told.cut.count), (0, 0));
    assert_eq!(preview(&api, &[PROXY]).opened, []);
}

#[test]
fn what_is_wrong_with_a_preview_is_said_at_once_as_of_a_switch() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&[PROXY])).expect("an agent");
    let wrong = ["no-such-role", "directr-vip", "collocated-mediation"];
    let said =
        |answer: anyhow::Error| answer.downcast::<Refusal>().expect("a mistake of the user").to_string();
    let previewed = said(api.preview(&wrong).expect_err("a refusal"));
    assert_eq!(previewed, said(api.switch(&wrong).expect_err("a refusal")));
    for text in ["no-such-role", "did you mean `director-vip`", "is an add-on of `front-end`"] {
        assert!(previewed.contains(text), "no {text:?} in {previewed}");
    }
    let finished = scene.instance.cli(["preview", "--target", "nobody", "no-such-role"]).expect("it runs");
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{finished:?}");
    assert!(finished.stderr.contains("unknown target nobody") && finished.stderr.contains("no-such-role"));
    assert_eq!(api.status().expect("a status").generation, 1);
}

/// Asks again and again until told to stop; counts questions, and panics at the first that has no answer.
fn talk(stop: &AtomicBool, count: &AtomicU32, stream: &TcpStream) {
    while !stop.load(Ordering::Relaxed) {
        assert!(answers(stream), "question {} has no answer", count.load(Ordering::Relaxed));
        count.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(2));
    }
}

/// Ends the talk also where a test fails in the middle of it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_drained_goes_on_packet_by_packet_and_nobody_new_gets_in() {
    let scene = Scene::new().expect("a scene");
    let host = &scene.pair.host;
    let _server = server(host, SIP);
    let (_agent, api) = scene.start(&Config::roles(&[MEDIATION])).expect("an agent");
    let busy = [opened(&scene, Scene::v4(SIP)), opened(&scene, Scene::v6(SIP))];
    let silent = opened(&scene, Scene::v4(SIP));
    // Media that only comes in.
    let sink = host.run(|| UdpSocket::bind(Scene::v4(50_000)).expect("a socket"));
    let source = scene.pair.client.run(|| UdpSocket::bind((Pair::CLIENT_V4, 6000)).expect("a socket"));
    sink.connect((Pair::CLIENT_V4, 6000)).expect("a peer");
    source.connect(Scene::v4(50_000)).expect("a peer");
    sink.set_read_timeout(Some(PATIENT)).expect("a timeout");
    assert_eq!(preview(&api, &[DIRECTOR]).cut.count, 4);

    let stop = AtomicBool::new(false);
    let counts = [const { AtomicU32::new(0) }; 2];
    thread::scope(|scope| {
        let ended = Stop(&stop);
        for (stream, count) in busy.iter().zip(&counts) {
            scope.spawn(|| talk(&stop, count, stream));
        }
        let more =
            |than: [u32; 2]| counts.iter().zip(than).all(|(count, n)| count.load(Ordering::Relaxed) > n + 20);
        assert!(eventually(PATIENT, || more([0, 0])), "they talk");
        let switched = api.switch_with(&[DIRECTOR], None, Existing::Drain).expect("a switch");
        let at = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert!(eventually(PATIENT, || more(at)), "they go on");
        drop(ended);
        assert_eq!(switched.settled, Some(Settled { existing: Existing::Drain, connections: 4 }));
    });
    assert!(answers(&silent));
    source.send(b"media").expect("it is sent");
    sink.recv(&mut [0; 16]).expect("it gets in");
    let counters = api.counters().expect("counters");
    for reason in ["no-flow", "closed"] {
        assert_eq!(counters.of(reason, "drop"), 0, "{reason}: {counters:?}");
    }
    // Nobody else.
    for to in [Scene::v4(SIP), Scene::v6(SIP)] {
        assert_eq!(tcp_connect(&scene.pair.client, to, BRIEF).expect("a try"), TimedOut);
    }
    let other = scene.pair.client.run(|| UdpSocket::bind((Pair::CLIENT_V4, 6001)).expect("a socket"));
    other.send_to(b"media", Scene::v4(50_000)).expect("it is sent");
    assert!(eventually(PATIENT, || api.counters().expect("counters").port("udp", 50_000) == 1));
    // They are flows now, which no switch cuts.
    assert_eq!(preview(&api, &[]).cut.count, 0);
    let switched = api.switch(&[]).expect("a switch");
    assert_eq!(switched.settled, Some(Settled { existing: Existing::Cut, connections: 0 }));
    assert!(answers(&silent) && busy.iter().all(answers));
    // Nor does a further interface, for which what stands is looked at once more.
    veth(
        End { namespace: host, name: "more0", mac: [2, 0, 0, 0, 2, 1] },
        End { namespace: &scene.pair.client, name: "more1", mac: [2, 0, 0, 0, 2, 2] },
    )
    .expect("a wire");
    scene.instance.configure(&Config::roles(&[]).interface("more0").toml()).expect("a file");
    api.reload().expect("a reload");
    assert_eq!(api.status().expect("a status").interfaces.len(), 2);
    assert!(answers(&silent) && busy.iter().all(answers));
}

/// The server goes on sending into a connection that was cut: an agent that starts then must not take that for one which
/// the box opened.
#[test]
fn what_was_cut_stays_cut_when_the_agent_starts_again() {
    let scene = Scene::new().expect("a scene");
    let listener = scene.pair.host.run(|| TcpListener::bind(Scene::v4(PORT)).expect("a listener"));
    let (agent, api) = scene.start(&Config::roles(&[DIRECTOR])).expect("an agent");
    let client = opened(&scene, Scene::v4(PORT));
    let (_served, _) = listener.accept().expect("a connection");
    let far = client.local_addr().expect("an address").port();
    // As it would itself, but more and more rarely where no answer comes.
    let again = Packet::ethernet(Ethernet::new(Pair::HOST_MAC, Pair::CLIENT_MAC))
        .with(Ipv4::new(Pair::HOST_V4, Pair::CLIENT_V4))
        .with(Tcp { flags: Tcp::ACK, ..Tcp::new(PORT, far) })
        .build();
    let wire = FrameSocket::open(&scene.pair.host, Pair::HOST_LINK).expect("a socket");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                wire.send(&again).expect("it is sent");
                thread::sleep(Duration::from_micros(200));
            }
        });
        let switched = api.switch(&[PROXY]).expect("a switch");
        assert_eq!(switched.settled, Some(Settled { existing: Existing::Cut, connections: 1 }));
        agent.kill().expect("it ends");
        for _ in 0..5 {
            let agent = scene.instance.start().expect("the next agent");
            assert_eq!(api.status().expect("a status").flows.v4, 0);
            agent.kill().expect("it ends");
        }
        drop(ended);
    });
    drop(client);
}

#[test]
fn what_is_drained_for_a_trial_goes_on_whatever_becomes_of_it() {
    let scene = Scene::new().expect("a scene");
    let _server = server(&scene.pair.host, PORT);
    let (_agent, api) = scene.start(&Config::roles(&[DIRECTOR])).expect("an agent");
    let passes = || tcp_connect(&scene.pair.client, Scene::v4(PORT), BRIEF).expect("a try") == Answered;
    let drained = opened(&scene, Scene::v4(PORT));
    let switched = api.switch_with(&[PROXY], 600, Existing::Drain).expect("a switch");
    assert_eq!(switched.settled, Some(Settled { existing: Existing::Drain, connections: 1 }));
    assert!(answers(&drained) && !passes());
    api.rollback().expect("a way back");
    assert!(answers(&drained) && passes());

    // One that is not among the flows is cut for the time of the trial, and comes back.
    let cut = opened(&scene, Scene::v4(PORT));
    let switched = api.switch_with(&[PROXY], 600, Existing::Cut).expect("a switch");
    assert_eq!(switched.settled, Some(Settled { existing: Existing::Cut, connections: 1 }));
    let told = api.preview(&[DIRECTOR]).expect("a preview");
    assert!(told.warnings.iter().any(|warning| warning.contains("waits for confirmation")), "{told:?}");
    assert!(answers(&drained));
    api.rollback().expect("a way back");
    assert!(answers(&cut), "TCP sends again what got lost");

    // A reload does the same, and what it confirms stays drained.
    scene.instance.configure(&Config::roles(&[PROXY]).toml()).expect("a file");
    let reload = ["reload", "--existing", "drain", "--confirm", "10min"];
    let said = scene.instance.cli(reload).expect("it runs").success().expect("a reload");
    assert!(said.contains("1 connection to closed ports: may continue until they end"), "{said}");
    api.confirm().expect("a confirmation");
    assert!(answers(&drained) && answers(&cut) && !passes());
}

/// A server behind the box, which forwards to it and tracks that.
fn tracked(scene: &Scene) -> Netns {
    let inside = scene.pair.behind().expect("a server behind");
    let rules = "table ip tracked {
        chain seen {
            type filter hook prerouting priority 0
            ct state invalid drop
        }
    }";
    let done = scene.pair.host.command("nft").arg(rules).output();
    let done = done.expect("nft of Debian's package nftables runs: `apt-get install nftables`");
    assert!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr));
    inside
}

#[test]
fn what_others_began_with_a_server_behind_the_box_is_found_and_drained_or_cut() {
    let scene = Scene::new().expect("a scene");
    let inside = tracked(&scene);
    let _server = server(&inside, PORT);
    let at = Pair::BEHIND_V4;
    let vip = format!("[[target]]\nname = \"vip\"\naddress = [\"{at}\"]\nroles = [\"{DIRECTOR}\"]\n");
    let named = "[[target]]\nname = \"host\"\naddress = \"host\"\n";
    let config = Config::roles(&[PROXY]).toml().replacen("[[target]]\n", named, 1) + &vip;
    scene.instance.configure(&config).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    let to: SocketAddr = (at, PORT).into();
    let cli = |words: &[&str]| -> serde_json::Value {
        let words = [&["--json"], words].concat();
        scene.instance.cli(words).expect("it runs").json().expect("JSON")
    };
    let open = opened(&scene, to);
    assert!(answers(&open));
    let told = cli(&["preview", "--target", "vip", PROXY]);
    assert_eq!(told["cut"]["count"], 1, "{told}");
    assert_eq!(told["cut"]["first"][0]["local"], to.to_string());
    assert_eq!(told["cut"]["first"][0]["remote"], open.local_addr().expect("an address").to_string());
    assert_eq!((&told["unreached"], &told["unheard"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!(cli(&["preview", "--target", "host", "--none"])["cut"]["count"], 0);

    let switched = cli(&["switch", "--target", "vip", "--existing", "drain", PROXY]);
    assert_eq!(switched["settled"], serde_json::json!({"existing": "drain", "connections": 1}));
    assert!(answers(&open));
    assert_eq!(tcp_connect(&scene.pair.client, to, BRIEF).expect("a try"), TimedOut);
    assert_eq!(api.counters().expect("counters").of("no-flow", "drop"), 0);

    cli(&["switch", "--target", "vip", DIRECTOR]);
    let other = opened(&scene, to);
    let switched = cli(&["switch", "--target", "vip", PROXY]);
    assert_eq!(switched["settled"], serde_json::json!({"existing": "cut", "connections": 1}));
    assert_eq!(tcp_exchange(&other, BRIEF).expect("a try"), TimedOut);
    assert!(answers(&open), "it was drained before");
}

#[test]
fn servers_and_own_ports_in_a_media_range_are_named() {
    let scene = Scene::new().expect("a scene");
    let host = &scene.pair.host;
    host.sysctl("net/ipv4/ip_local_port_range", "32768 60999").expect("a sysctl");
    // Two servers, and one on loopback.
    let exposed = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 49_500)).expect("a socket"));
    let _inner = host.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 49_501)).expect("a socket"));
    let _tcp = server(host, 49_502);
    let (agent, api) = scene.start(&Config::roles(&[MEDIATION])).expect("an agent");
    let name = own_name().expect("a name");
    let server = format!("udp 49500 of process {name} lies in the open range udp {MEDIA} of role mediation");
    let own = "the ports 32768-60999 (net.ipv4.ip_local_port_range) are for outgoing sockets of this box, and tcp 49152-50000 50004-57500, udp 49152-57500 of them are open";
    let fix = "`sysctl -w net.ipv4.ip_local_port_range=\"32768 49151\"` keeps them apart";
    for text in [&server, own, fix] {
        agent.wait_for_log(text).expect("it is said at the start");
    }
    let config = scene.instance.config();
    let check = || -> Vec<String> {
        let words = ["check", "--json", "--config", config.to_str().expect("a path")];
        let checked = scene.instance.cli(words).expect("it runs").json().expect("JSON");
        let warnings = checked["warnings"].as_array().expect("a list");
        warnings.iter().map(|warning| warning.as_str().expect("text").to_owned()).collect()
    };
    let status = || api.status().expect("a status").warnings;
    let found = |warnings: &[String], text: &str| warnings.iter().any(|warning| warning.contains(text));
    for warnings in [check(), status()] {
        assert!([&server, own, fix].iter().all(|text| found(&warnings, text)), "{warnings:?}");
        assert!(!found(&warnings, "49501") && found(&warnings, "tcp 49502 of process"), "{warnings:?}");
    }

    // Mended, each by itself.
    host.sysctl("net/ipv4/ip_local_port_range", "32768 49151").expect("a sysctl");
    for warnings in [check(), status()] {
        assert!(found(&warnings, &server) && !found(&warnings, "ip_local_port_range"), "{warnings:?}");
    }
    host.sysctl("net/ipv4/ip_local_port_range", "32768 60999").expect("a sysctl");
    host.sysctl("net/ipv4/ip_local_reserved_ports", "49152-57500").expect("a sysctl");
    drop(exposed);
    for warnings in [check(), status()] {
        assert!(!found(&warnings, "udp 49500") && !found(&warnings, "ip_local_port_range"), "{warnings:?}");
    }

    // A role without such a range is asked nothing; a preview of one that has it says so.
    host.sysctl("net/ipv4/ip_local_reserved_ports", "\n").expect("a sysctl");
    api.switch(&[PROXY]).expect("a switch");
    assert!(!found(&status(), "ip_local_port_range"), "{:?}", status());
    assert!(found(&api.preview(&[MEDIATION]).expect("a preview").warnings, fix));
}

#[test]
fn the_command_line_tells_a_preview() {
    let scene = Scene::new().expect("a scene");
    let _server = server(&scene.pair.host, PORT);
    let allowed = format!(
        "[[allow]]\nname = \"peers\"\ntransport = \"tcp\"\nports = [{PORT}]\nfrom = [\"203.0.113.0/24\"]\n"
    );
    let (_agent, _api) = scene.start(&Config::roles(&[DIRECTOR]).further(&allowed)).expect("an agent");
    let cli = |words: &[&str]| -> Finished { scene.instance.cli(words).expect("a command") };
    let open: Vec<TcpStream> = (0..25).map(|_| opened(&scene, Scene::v4(PORT))).collect();
    let said = cli(&["preview", PROXY]).success().expect("a preview");
    let first = open.iter().map(|stream| stream.local_addr().expect("an address").to_string());
    let listed = first.filter(|from| said.contains(from)).count();
    assert_eq!(listed, 20, "{said}");
    for text in [
        "nothing has changed",
        "host: reverse-proxy",
        "Closes",
        "tcp 50001-50003",
        "Would be reached by these rules only",
        "allow rule peers",
        &own_name().expect("a name"),
        "Would be cut (unless drained): 25 connections",
        "and 5 more",
        "would continue: 0 flows in the flow table",
    ] {
        assert!(said.contains(text), "no {text:?} in:\n{said}");
    }
    assert!(!said.contains("Would become unreachable"), "an allow rule still lets packets in:\n{said}");
    let said = cli(&["preview", DIRECTOR]).success().expect("a preview");
    for text in ["no port would open or close", "no existing connection would be cut"] {
        assert!(said.contains(text), "no {text:?} in:\n{said}");
    }
    let json = cli(&["preview", "--json", "--none"]).json().expect("JSON");
    assert_eq!((&json["cut"]["count"], &json["unreached"][0]["port"]), (&25.into(), &PORT.into()));
    assert_eq!(json["targets"][0]["roles"], serde_json::json!([]));
    let said = cli(&["switch", "--none"]).success().expect("a switch");
    assert!(said.contains("25 connections to closed ports: cut"), "{said}");
    assert_eq!(cli(&["switch", "--existing", "keep", PROXY]).code, Some(1));
}

/// What a gateway forwards has no socket there, and connection tracking may not be loaded.
#[test]
fn what_is_forwarded_is_known_by_its_flows() {
    let scene = Scene::new().expect("a scene");
    let behind = scene.pair.behind().expect("a server behind");
    let _near = server(&behind, PORT);
    let file = format!(
        "management = \"none\"\n[flows]\nlearn = 0\n[[zone]]\nname = \"outside\"\n[[zone]]\nname = \"inside\"\n\
         [[interface]]\nname = \"host0\"\nzone = \"outside\"\n[[interface]]\nname = \"inner0\"\nzone = \"inside\"\n\
         [[target]]\nname = \"pool\"\nzone = \"outside\"\naddress = [\"10.1.0.2\", \"fd00:1::2\"]\nroles = [\"{DIRECTOR}\"]\n"
    );
    scene.instance.configure(&file).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    let through =
        [IpAddr::from(Pair::BEHIND_V4), Pair::BEHIND_V6.into()].map(|to| opened(&scene, (to, PORT).into()));
    assert!(through.iter().all(answers));
    let told = preview(&api, &[PROXY]);
    assert_eq!((told.cut.count, told.cut.first), (2, through.each_ref().map(connection).to_vec()));
    let switched = api.switch_with(&[PROXY], None, Existing::Drain).expect("a switch");
    assert_eq!(switched.settled, Some(Settled { existing: Existing::Drain, connections: 2 }));
    assert!(through.iter().all(answers), "they go on");
    let new = tcp_connect(&scene.pair.client, (Pair::BEHIND_V4, PORT).into(), BRIEF).expect("a try");
    assert_eq!(new, TimedOut);
}
