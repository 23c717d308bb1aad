//! Audit mode for the whole box and for one target, by the file and at run time; and enforcement that is turned on while people
//! work.

use std::net::{IpAddr, Ipv6Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lyncwall_api::Mode::{self, Audit, Enforce};
use lyncwall_api::{Existing, Settled, Status};
use lyncwall_tests::agent::{Agent, Api};
use lyncwall_tests::expect::{BRIEF, PATIENT, refusal};
use lyncwall_tests::kernel::is_emulated;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Udp, Vlan, ip};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{FrameSocket, TcpEcho, eventually, tcp_connect, tcp_exchange, tcp_open};

/// What the role opens, and a server's port that it does not.
const ROLE: &str = "reverse-proxy";
const OPEN: u16 = 443;
const CLOSED: u16 = 1433;

/// Seconds for a test that lets them pass.
fn short() -> u64 {
    if is_emulated() { 20 } else { 3 }
}

/// Two targets: the box's IPv4 address and its IPv6 address.
fn two_targets(top: &str, v4: &str, v6: &str) -> String {
    format!(
        "{top}\n[management]\nfrom = [\"203.0.113.0/24\"]\ntcp = [22]\n[flows]\nlearn = 0\n\
         [[interface]]\nname = \"{}\"\n\
         [[target]]\nname = \"four\"\naddress = [\"{}\"]\nroles = [\"{ROLE}\"]\n{v4}\n\
         [[target]]\nname = \"six\"\naddress = [\"{}\"]\nroles = [\"{ROLE}\"]\n{v6}\n",
        Pair::HOST_LINK,
        Pair::HOST_V4,
        Pair::HOST_V6,
    )
}

/// A host with servers at both ports, and the agent that guards it.
struct Guarded {
    scene: Scene,
    agent: Option<Agent>,
    api: Api,
    _servers: [TcpEcho; 2],
}

impl Guarded {
    fn with(config: &str) -> Self {
        let scene = Scene::new().expect("a scene");
        let servers = [OPEN, CLOSED]
            .map(|port| TcpEcho::start(&scene.pair.host, (Ipv6Addr::UNSPECIFIED, port)).expect("a server"));
        scene.instance.configure(config).expect("a file");
        let agent = scene.instance.start().expect("an agent");
        let api = scene.instance.api().expect("a client");
        Self { scene, agent: Some(agent), api, _servers: servers }
    }

    fn is_open(&self, to: impl Into<IpAddr>, port: u16) -> bool {
        let to = (to.into(), port).into();
        tcp_connect(&self.scene.pair.client, to, BRIEF).expect("a try") == Answered
    }

    /// Which of the two addresses let everybody in; what the role opens is open at both.
    fn audited(&self) -> [bool; 2] {
        for address in Scene::HOST {
            let patient = tcp_connect(&self.scene.pair.client, (address, OPEN).into(), PATIENT);
            assert_eq!(patient.expect("a try"), Answered, "{address}");
        }
        Scene::HOST.map(|address| self.is_open(address, CLOSED))
    }

    fn connected(&self, port: u16) -> TcpStream {
        tcp_open(&self.scene.pair.client, (Pair::HOST_V4, port).into(), PATIENT).expect("a connection")
    }

    fn status(&self) -> Status {
        self.api.status().expect("a status")
    }

    /// What a command of the command line prints.
    fn said(&self, words: &[&str]) -> String {
        let finished = self.scene.instance.cli(words).expect("a command");
        finished.success().expect("a good end")
    }

    fn kill(&mut self) {
        self.agent.take().expect("an agent").kill().expect("a dead agent");
    }

    fn start(&mut self) {
        self.agent = Some(self.scene.instance.start().expect("the next agent"));
    }
}

fn goes_on(stream: &TcpStream) -> bool {
    tcp_exchange(stream, PATIENT).expect("a try") == Answered
}

fn is_cut(stream: &TcpStream) -> bool {
    tcp_exchange(stream, BRIEF).expect("a try") == TimedOut
}

fn modes(status: &Status) -> (Mode, Vec<Mode>) {
    (status.mode, status.targets.iter().map(|target| target.mode).collect())
}

#[test]
fn a_target_in_audit_mode_lets_all_in_and_its_neighbour_does_not() {
    let own = Guarded::with(&two_targets("", "", "mode = \"audit\""));
    assert_eq!(own.audited(), [false, true]);
    assert_eq!(modes(&own.status()), (Enforce, vec![Enforce, Audit]));
    let counters = own.api.counters().expect("counters");
    assert!(counters.of("closed", "pass") > 0 && counters.of("closed", "drop") > 0, "{counters:?}");
    // A packet that was let go is not among what was dropped at its port.
    let dropped: u64 = counters.0.ports.iter().filter(|at| at.port == CLOSED).map(|at| at.packets).sum();
    assert_eq!(dropped, counters.of("closed", "drop"), "{counters:?}");
    let warnings = own.status().warnings.join("\n");
    assert!(warnings.contains("does not drop packets to target six"), "{warnings}");
    assert!(own.said(&["status"]).contains("enforcing, but AUDIT for six"));
}

#[test]
fn priority_tags_carry_nothing_past_an_enforced_target_or_the_block_list() {
    const ASKED: u16 = 5000;
    const SHUT: u16 = 9999;
    let rule = format!("[[allow]]\nname = \"asked\"\ntransport = \"udp\"\nports = [{ASKED}]\n");
    let enforced = "mode = \"enforce\"";
    let own = Guarded::with(&(two_targets("mode = \"audit\"", enforced, enforced) + &rule));
    let sockets = [ASKED, SHUT].map(|port| {
        let bind = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a socket");
        let socket = own.scene.pair.host.run(bind);
        socket.set_read_timeout(Some(BRIEF)).expect("a time-out");
        (port, socket)
    });
    let sender = FrameSocket::open(&own.scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    // Which of the two ports a datagram in so many tags reaches.
    let reached = |tags: usize| {
        sockets.each_ref().map(|(port, socket)| {
            let tagged = (0..tags).fold(Pair::frame(), |frame, _| frame.with(Vlan::new(0)));
            let (from, to) = (Pair::CLIENT_V4.into(), Pair::HOST_V4.into());
            let datagram = tagged.with(ip(from, to)).with(Udp::new(4000, *port)).with(&[tags as u8; 4]);
            sender.send(&datagram.build()).expect("a frame");
            let mut bytes = [0; 8];
            let length = socket.recv(&mut bytes);
            length.is_ok_and(|length| bytes[..length] == [tags as u8; 4])
        })
    };
    for tags in [0, 1, 2, 3, 8] {
        assert_eq!(reached(tags), [true, false], "{tags} tags");
    }
    assert_eq!(reached(9), [false, false], "nobody knows the target");
    for target in ["four", "six"] {
        own.said(&["mode", "audit", "--target", target]);
    }
    for tags in [0, 3, 9] {
        assert_eq!(reached(tags), [true, true], "{tags} tags, and nothing is enforced");
    }
    own.said(&["block", &Pair::CLIENT_V4.to_string()]);
    for tags in [0, 2, 3, 8, 9] {
        assert_eq!(reached(tags), [false, false], "{tags} tags, from a blocked source");
    }
}

#[test]
fn a_mode_is_set_at_run_time_for_one_target_and_for_all() {
    let own = Guarded::with(&two_targets("", "", ""));
    assert_eq!(own.audited(), [false, false]);
    let told = own.said(&["mode", "audit", "--target", "four"]);
    assert!(told.contains("mode of target four: enforce to audit"), "{told}");
    assert_eq!(own.audited(), [true, false]);
    own.said(&["mode", "audit"]);
    assert_eq!(own.audited(), [true, true]);
    let told = own.said(&["status"]);
    assert!(told.contains("AUDIT: drops nothing (changed at run time; file: enforce)"), "{told}");
    own.said(&["mode", "enforce", "--target", "six"]);
    assert_eq!(own.audited(), [true, false]);
    assert_eq!(modes(&own.status()), (Audit, vec![Audit, Enforce]));
    own.said(&["mode", "enforce"]);
    assert_eq!(own.audited(), [false, false]);

    let refused = refusal(own.api.set_mode_with(Some("seven"), Audit, 0, Existing::Cut));
    assert!(
        refused.contains("unknown target seven") && refused.contains("not a valid time to confirm"),
        "{refused}"
    );
    assert_eq!(own.audited(), [false, false]);
}

#[test]
fn a_mode_of_the_run_time_outlives_the_agent_a_reload_and_a_boot_until_the_file_says_another() {
    let mut own = Guarded::with(&two_targets("", "", ""));
    own.api.set_mode(Some("six"), Audit).expect("a mode");
    assert_eq!(own.audited(), [false, true]);
    own.kill();
    own.start();
    assert_eq!(modes(&own.status()), (Enforce, vec![Enforce, Audit]));
    assert_eq!(own.audited(), [false, true]);
    own.api.reload().expect("a reload");
    // After a boot, too: without any map.
    own.said(&["detach"]);
    own.agent.take().expect("an agent").wait().expect("it ends");
    own.start();
    assert_eq!(own.audited(), [false, true]);

    // The file changes its mind about one, and then about the box.
    own.scene.instance.configure(&two_targets("", "mode = \"audit\"", "")).expect("a file");
    let changes = own.api.reload().expect("a reload").changes;
    assert_eq!(changes, ["mode of target four: enforce to audit"]);
    assert_eq!(own.audited(), [true, true]);
    own.scene.instance.configure(&two_targets("mode = \"audit\"", "mode = \"enforce\"", "")).expect("a file");
    own.api.reload().expect("a reload");
    assert_eq!(modes(&own.status()), (Audit, vec![Enforce, Audit]));
    assert_eq!(own.audited(), [false, true]);
}

#[test]
fn enforcement_is_turned_on_and_cuts_only_what_the_role_does_not_allow() {
    let own = Guarded::with(&Config::roles(&[ROLE]).top("mode = \"audit\"").toml());
    let _far = TcpEcho::start(&own.scene.pair.client, (Ipv6Addr::UNSPECIFIED, 8443)).expect("a server");
    let (allowed, other) = (own.connected(OPEN), own.connected(CLOSED));
    let called =
        tcp_open(&own.scene.pair.host, (Pair::CLIENT_V4, 8443).into(), PATIENT).expect("a connection");
    assert!(goes_on(&allowed) && goes_on(&other) && goes_on(&called));

    // What it would cut, before it does.
    let told = own.api.preview_mode(None, Enforce).expect("a preview");
    assert_eq!((told.mode, told.targets[0].mode), (Enforce, Enforce));
    assert_eq!((told.cut.count, told.cut.first.len()), (1, 1));
    assert!(told.cut.first[0].local.ends_with(&format!(":{CLOSED}")), "{:?}", told.cut);
    let unreached: Vec<u16> = told.unreached.iter().map(|listener| listener.port).collect();
    assert_eq!(unreached, [CLOSED]);
    assert!(own.said(&["preview", "--mode", "enforce"]).contains("1 connection"));
    assert!(goes_on(&other), "nothing has changed");

    let switched = own.api.set_mode(None, Enforce).expect("a mode");
    assert_eq!(switched.changes, ["mode: audit to enforce"]);
    assert_eq!(switched.settled, Some(Settled { existing: Existing::Cut, connections: 1 }));
    assert!(is_cut(&other));
    assert!(goes_on(&allowed) && goes_on(&called));
    assert!(!own.is_open(Pair::HOST_V4, CLOSED));
}

#[test]
fn what_is_drained_goes_on_under_enforcement() {
    let own = Guarded::with(&Config::roles(&[ROLE]).top("mode = \"audit\"").toml());
    let other = own.connected(CLOSED);
    assert!(goes_on(&other));
    let switched = own.api.set_mode_with(None, Enforce, None, Existing::Drain).expect("a mode");
    assert_eq!(switched.settled, Some(Settled { existing: Existing::Drain, connections: 1 }));
    assert!(goes_on(&other));
    assert!(!own.is_open(Pair::HOST_V4, CLOSED), "new ones are refused");
}

#[test]
fn a_mode_that_nobody_confirms_goes_back_without_the_agent() {
    let mut own = Guarded::with(&Config::roles(&[ROLE]).top("mode = \"audit\"").toml());
    let asked = Instant::now();
    own.api.set_mode_with(None, Enforce, short(), Existing::Cut).expect("a mode");
    own.kill();
    assert!(!own.is_open(Pair::HOST_V4, CLOSED));
    assert!(eventually(PATIENT, || own.is_open(Pair::HOST_V4, CLOSED)), "it does not go back");
    assert!(asked.elapsed() >= Duration::from_secs(short()) - Duration::from_millis(50));
    own.start();
    assert_eq!(modes(&own.status()), (Audit, vec![Audit]));

    // With the agent: what waits is told, and kept.
    own.api.set_mode_with(None, Enforce, 600, Existing::Cut).expect("a mode");
    let waiting = own.status().waiting.expect("it waits");
    assert_eq!((waiting.mode, waiting.changes), (Audit, vec!["mode: enforce to audit".to_owned()]));
    assert_eq!(own.api.rollback().expect("a way back").changes, ["mode: enforce to audit"]);
    assert!(own.is_open(Pair::HOST_V4, CLOSED));
    own.api.set_mode_with(None, Enforce, 600, Existing::Cut).expect("a mode");
    own.api.confirm().expect("a confirmation");
    assert!(!own.is_open(Pair::HOST_V4, CLOSED));
}

#[test]
fn enforcement_that_shuts_a_management_session_out_wants_to_be_confirmed() {
    // Management is for another network than that of whoever is here.
    let own = Guarded::with(&Config::roles(&[ROLE]).top("mode = \"audit\"").toml());
    let _sshd = TcpEcho::start(&own.scene.pair.host, (Ipv6Addr::UNSPECIFIED, 22)).expect("a server");
    let session = own.connected(22);
    let from = session.local_addr().expect("an address").to_string();
    let refused = refusal(own.api.set_mode(None, Enforce));
    assert!(refused.contains(&from) && refused.contains("would cut the management session"), "{refused}");
    assert!(goes_on(&session), "nothing has changed");
    // By the file likewise.
    own.scene.instance.configure(&Config::roles(&[ROLE]).toml()).expect("a file");
    let refused = refusal(own.api.reload());
    assert!(refused.contains(&from) && refused.contains("would cut the management session"), "{refused}");
    own.api.set_mode_with(None, Enforce, 600, Existing::Cut).expect("a trial");
    assert!(is_cut(&session));
    own.api.rollback().expect("a way back");
    assert!(goes_on(&session));
}

/// The port of an SSH server that no rule opens, while `[management]` names 22.
const SSH: u16 = 2222;

/// Managed from the client's network.
fn managed() -> Config {
    Config::roles(&[ROLE]).management(&["192.0.2.0/24"])
}

/// A box in audit mode, with a session to [`SSH`].
fn managed_at_another_port() -> (Guarded, TcpEcho, TcpStream) {
    let own = Guarded::with(&managed().top("mode = \"audit\"").toml());
    let sshd = TcpEcho::start(&own.scene.pair.host, (Ipv6Addr::UNSPECIFIED, SSH)).expect("a server");
    let session = own.connected(SSH);
    (own, sshd, session)
}

#[test]
fn a_session_from_a_management_source_to_any_port_is_not_cut_unasked() {
    let (own, _sshd, session) = managed_at_another_port();
    let from = session.local_addr().expect("an address").to_string();
    let refused = refusal(own.api.set_mode(None, Enforce));
    for text in
        [&*from, "would cut the management session", "add 2222 to `tcp`", "--confirm", "--existing cut"]
    {
        assert!(refused.contains(text), "no {text:?} in {refused}");
    }
    assert!(goes_on(&session), "nothing has changed");
    let finished = own.scene.instance.cli(["mode", "enforce"]).expect("it runs");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    // By the file likewise.
    own.scene.instance.configure(&managed().toml()).expect("a file");
    assert!(refusal(own.api.reload()).contains(&from));
    assert!(goes_on(&session) && own.status().mode == Audit);
    // On trial, and told.
    let switched = own.api.set_mode_with(None, Enforce, 600, None).expect("a trial");
    assert!(switched.warnings.iter().any(|warning| warning.contains(&from)), "{switched:?}");
    assert!(is_cut(&session));
    own.api.rollback().expect("a way back");
    assert!(goes_on(&session));
    // Kept, and nobody new gets in.
    own.api.set_mode_with(None, Enforce, None, Existing::Drain).expect("a mode");
    assert!(goes_on(&session) && !own.is_open(Pair::HOST_V4, SSH));
}

#[test]
fn an_explicit_cut_cuts_a_session_from_a_management_source() {
    let (own, _sshd, session) = managed_at_another_port();
    let finished = own.scene.instance.cli(["mode", "enforce", "--existing", "cut"]).expect("it runs");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(is_cut(&session));
}

const KEPT: &str = "management sessions to tcp 2222 continue until they end";

#[test]
fn a_first_start_keeps_the_sessions_of_management_sources_and_lets_nobody_new_in() {
    let scene = Scene::new().expect("a scene");
    let host = &scene.pair.host;
    let _servers =
        [SSH, CLOSED].map(|port| TcpEcho::start(host, (Ipv6Addr::UNSPECIFIED, port)).expect("a server"));
    let session = tcp_open(&scene.pair.client, (Pair::HOST_V4, SSH).into(), PATIENT).expect("a session");
    let stranger = tcp_open(&scene.pair.client, (Pair::HOST_V6, CLOSED).into(), PATIENT).expect("a session");
    let (agent, _api) = scene.start(&managed()).expect("an agent");
    agent.wait_for_log(KEPT).expect("the log says so");
    assert!(goes_on(&session));
    assert!(is_cut(&stranger), "its source is not in [management]");
    let new = tcp_connect(&scene.pair.client, (Pair::HOST_V4, SSH).into(), BRIEF).expect("a try");
    assert_eq!(new, TimedOut);
}

#[test]
fn a_restart_with_another_file_keeps_the_sessions_of_management_sources() {
    let (mut own, _sshd, session) = managed_at_another_port();
    own.scene.instance.configure(&managed().toml()).expect("a file");
    drop(own.agent.take());
    let agent = own.scene.instance.start().expect("the next agent");
    agent.wait_for_log(KEPT).expect("the log says so");
    assert!(goes_on(&session) && own.status().mode == Enforce);
    assert!(!own.is_open(Pair::HOST_V4, SSH));
}
