//! `lyncwall explain` and the request behind it: the program's own verdict, with rule, row and group, and without a trace.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lyncwall_api::{Explain, Explanation};
use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::programs::{Folder, Program};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{TcpEcho, UdpEcho, eventually, tcp_connect, udp_exchange};

/// A Director whose web services are for a reverse proxy, with a rule of its own and another for VRRP.
fn director() -> Config {
    Config::roles(&["director"]).management(&["203.0.113.0/24"]).further(
        "[groups]\nreverse-proxy = [\"192.0.2.64/28\"]\n\
         [[allow]]\nname = \"exporter\"\ntransport = \"tcp\"\nports = [9100]\nfrom = [\"192.0.2.0/28\"]\n\
         [[allow]]\nname = \"vrrp\"\nprotocol = \"vrrp\"\n",
    )
}

/// A packet from somewhere to the host.
fn asked(from: &str, protocol: &str, port: impl Into<Option<u16>>) -> Explain {
    Explain {
        from: Some(from.to_owned()),
        to: Some(Pair::HOST_V4.to_string()),
        protocol: Some(protocol.to_owned()),
        port: port.into(),
        ..Explain::default()
    }
}

fn explain(api: &Api, asked: &Explain) -> Explanation {
    let mut explained = api.explain(asked).expect("an explanation");
    assert_eq!(explained.verdicts.len(), 1, "one interface is guarded: {explained:?}");
    explained.verdicts.remove(0)
}

#[test]
fn a_verdict_names_its_reason_rule_row_and_group() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&director()).expect("an agent");

    let open = explain(&api, &asked("198.51.100.7", "tcp", 5061));
    assert_eq!((&*open.event.action, &*open.event.reason), ("pass", "allowed"));
    assert_eq!((open.event.target.as_deref(), &open.roles[..]), (Some("host"), &["director".to_owned()][..]));
    let rule = open.rule.expect("the rule");
    assert_eq!((&*rule.transport, &*rule.ports, rule.groups.len()), ("tcp", "5061", 0));
    let row = rule.rows.iter().find(|row| row.id == "director.06").expect("the Director's row");
    assert!(row.service.contains("SIP"), "{row:?}");
    assert!(row.printed.iter().all(|printed| printed.line > 0 && !printed.title.is_empty()), "{row:?}");

    for (from, action, reason, matches) in
        [("192.0.2.70", "pass", "allowed", true), ("192.0.2.7", "drop", "source", false)]
    {
        let told = explain(&api, &asked(from, "tcp", 4443));
        assert_eq!((&*told.event.action, &*told.event.reason), (action, reason), "{from}");
        let groups = told.rule.expect("the rule").groups;
        assert_eq!(groups.len(), 1, "{from}");
        assert_eq!((&*groups[0].name, groups[0].matches), ("reverse-proxy", matches), "{from}");
        assert_eq!(groups[0].holds, "192.0.2.64/28");
        // What would let it in.
        let advised = told.notes.iter().any(|note| note.contains(&format!("add {from} to `reverse-proxy`")));
        assert_eq!(advised, !matches, "{:?}", told.notes);
    }

    let closed = explain(&api, &asked("192.0.2.7", "udp", 3478));
    assert_eq!((&*closed.event.reason, closed.rule), ("closed", None));
    assert!(
        closed.elsewhere.iter().any(|row| row.why.is_some()),
        "another role has it: {:?}",
        closed.elsewhere
    );

    let management = explain(&api, &asked("203.0.113.5", "tcp", 22));
    assert_eq!(&*management.event.reason, "management");
    let not_from_here = explain(&api, &asked("192.0.2.7", "tcp", 22));
    assert_eq!(&*not_from_here.event.reason, "closed");
    assert!(
        not_from_here.notes.iter().any(|note| note.contains("not from here")),
        "{:?}",
        not_from_here.notes
    );
    let mend = "add 192.0.2.7 to `from` under [management]";
    assert!(not_from_here.notes.iter().any(|note| note.contains(mend)), "{:?}", not_from_here.notes);
    let offer = explain(&api, &Explain { source_port: Some(67), ..asked("192.0.2.7", "udp", 68) });
    assert!(offer.notes.iter().any(|note| note.contains("dhcp-client = true")), "{:?}", offer.notes);

    let exporter = explain(&api, &asked("192.0.2.7", "tcp", 9100));
    assert_eq!((&*exporter.event.reason, exporter.allow.as_deref()), ("allow", Some("exporter")));
    let stranger = explain(&api, &asked("198.51.100.7", "tcp", 9100));
    assert_eq!((&*stranger.event.reason, stranger.allow), ("closed", None));
    let excluded =
        |note: &String| note.contains("exporter") && note.contains("add 198.51.100.7 to its `from`");
    assert!(stranger.notes.iter().any(excluded), "{:?}", stranger.notes);
    let vrrp = explain(&api, &asked("192.0.2.7", "vrrp", None));
    assert_eq!((&*vrrp.event.reason, vrrp.allow.as_deref()), ("allow", Some("vrrp")));
    let middle = Explain { tcp_flags: Some("ACK".to_owned()), ..asked("192.0.2.7", "tcp", 3389) };
    assert_eq!(&*explain(&api, &middle).event.reason, "no-flow");
    let tagged = Explain { vlan: vec![7, 100], ..asked("192.0.2.7", "tcp", 5061) };
    assert_eq!(explain(&api, &tagged).event.vlan, [7, 100]);
    let echo = explain(&api, &asked("192.0.2.7", "icmp", None));
    assert_eq!(&*echo.event.reason, "icmp-echo");
}

#[test]
fn nothing_is_left_of_what_was_explained() {
    let scene = Scene::new().expect("a scene");
    let _server = TcpEcho::start(&scene.pair.host, (Pair::HOST_V4, 443)).expect("a server");
    let config = Config::roles(&["reverse-proxy"]).further("[limit]\nopenings-per-second = 1\nburst = 3\n");
    let (_agent, api) = scene.start(&config).expect("an agent");
    let mut events = api.events().expect("events");
    assert!(eventually(PATIENT, || api.counters().is_ok()));
    let client = Pair::CLIENT_V4.to_string();
    let before = (api.counters().expect("counters").0, api.status().expect("a status").flows);
    for (port, flags) in [(443, "SYN"), (443, "ACK"), (1433, "SYN"), (1433, "ACK"), (443, "SYN,FIN")] {
        for _ in 0..20 {
            let packet = Explain { tcp_flags: Some(flags.to_owned()), ..asked(&client, "tcp", port) };
            explain(&api, &packet);
        }
    }
    let after = api.counters().expect("counters").0;
    // The wire itself is not quiet: the client's stack speaks of its multicast groups.
    let of = |counters: &lyncwall_api::Counters, reason: &str| {
        let counts = counters.reasons.iter().filter(|count| count.reason == reason);
        counts.map(|count| count.packets).sum::<u64>()
    };
    for reason in ["allowed", "closed", "no-flow", "tcp-flags", "limit"] {
        assert_eq!(of(&after, reason), of(&before.0, reason), "{reason}");
    }
    assert_eq!((&after.rules, &after.ports), (&before.0.rules, &before.0.ports));
    assert_eq!(api.status().expect("a status").flows, before.1);
    assert_eq!(events.next(BRIEF).expect("a stream"), None, "no event");
    // All three openings of the burst are there still, and the fourth is not.
    for n in 0..3 {
        let answer = tcp_connect(&scene.pair.client, Scene::v4(443), PATIENT).expect("a try");
        assert_eq!(answer, Answered, "opening {n}");
    }
    let packet = asked(&client, "tcp", 443);
    let limited = eventually(PATIENT, || {
        let taken = tcp_connect(&scene.pair.client, Scene::v4(443), BRIEF).expect("a try");
        explain(&api, &packet).event.reason == "limit" && taken != Answered
    });
    assert!(limited, "it tells what the limit has come to");
}

#[test]
fn it_knows_what_this_side_opened() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::default()).expect("an agent");
    let server = UdpEcho::start(&scene.pair.client, (Pair::CLIENT_V4, 5353)).expect("a server");
    let to: SocketAddr = server.address().expect("an address");
    let reply = Explain { source_port: Some(5353), ..asked(&Pair::CLIENT_V4.to_string(), "udp", 7001) };
    assert_eq!(&*explain(&api, &reply).event.reason, "closed");
    assert_eq!(udp_exchange(&scene.pair.host, 7001, to, PATIENT).expect("a try"), Answered);
    assert_eq!(&*explain(&api, &reply).event.reason, "established");
    let other = Explain { source_port: Some(5354), ..reply };
    assert_eq!(&*explain(&api, &other).event.reason, "closed");
}

#[test]
fn audit_mode_is_told_with_what_enforcing_would_do() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) =
        scene.start(&Config::roles(&["reverse-proxy"]).top("mode = \"audit\"")).expect("an agent");
    let told = explain(&api, &asked("192.0.2.7", "tcp", 1433));
    assert_eq!((&*told.event.action, &*told.judged, &*told.event.reason), ("pass", "drop", "closed"));
    let finished = scene.instance.cli([
        "explain",
        "--from",
        "192.0.2.7",
        "--to",
        &Pair::HOST_V4.to_string(),
        "tcp/1433",
    ]);
    let text = finished.expect("a command").success().expect("an explanation");
    assert!(text.contains("enforcing would drop it"), "{text}");
}

#[test]
fn mistakes_are_told_together() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _) = scene.start(&Config::default()).expect("an agent");
    let arguments =
        ["explain", "--from", "192.0.2.300", "--to", "2001:db8::1", "tcp", "--in", "eth7", "--vlan", "4095"];
    let finished = scene.instance.cli(arguments).expect("a command");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for part in [
        "`192.0.2.300` is not an address",
        "destination port is missing",
        "eth7 is not guarded",
        "not a VLAN",
    ] {
        assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
    }
    assert!(finished.stderr.contains(Pair::HOST_LINK), "it names what is guarded: {}", finished.stderr);
}

#[test]
fn packets_of_a_file_are_explained_as_they_were_judged() {
    let scene = Scene::new().expect("a scene");
    let _server = TcpEcho::start(&scene.pair.host, (Pair::HOST_V4, 443)).expect("a server");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let folder = Folder::new().expect("a folder");
    let file = folder.file("wire.pcap");
    let mut tcpdump = Program::start(
        &scene.pair.client,
        &folder,
        "tcpdump",
        // 60 bytes of each packet: what is cut off does not change a verdict.
        ["-i", Pair::CLIENT_LINK, "-Q", "out", "-s", "60", "-U", "-w", &file, "tcp[tcpflags] == tcp-syn"],
    )
    .expect("tcpdump");
    tcpdump.wait_until("listening", PATIENT, |text| text.contains("listening on")).expect("it listens");
    let ports = [(443, Answered), (1433, TimedOut), (3389, TimedOut)];
    for (port, expected) in ports {
        let answer = tcp_connect(&scene.pair.client, Scene::v4(port), BRIEF.max(Duration::from_secs(1)));
        assert_eq!(answer.expect("a try"), expected, "{port}");
    }
    let seen = || std::fs::metadata(&file).map_or(0, |file| file.len());
    assert!(eventually(PATIENT, || seen() > 24 + 3 * 60), "three packets are in the file");
    drop(tcpdump);
    let counted = api.counters().expect("counters");
    let finished = scene.instance.cli(["--json", "explain", "--packet", &file]).expect("a command");
    let lines = finished.success().expect("explanations");
    let told: Vec<(IpAddr, u64, String)> = lines
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let event = &value["verdicts"][0]["event"];
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            (
                text("destination").parse().expect("an address"),
                event["destination_port"].as_u64().expect("a port"),
                text("reason"),
            )
        })
        .collect();
    let host = IpAddr::from(Pair::HOST_V4);
    assert_eq!(told[0], (host, 443, "allowed".to_owned()));
    // A SYN that is dropped is sent again.
    for (port, reason) in [(1433, "closed"), (3389, "closed")] {
        let own = told.iter().filter(|(_, told, _)| *told == port);
        assert!(own.clone().count() > 0 && own.clone().all(|(.., told)| told == reason), "{told:?}");
    }
    let after = api.counters().expect("counters");
    assert_eq!(after.of("closed", "drop"), counted.of("closed", "drop"), "explaining counts nothing");
    let broken = folder.write("broken.pcap", "not a capture").expect("a file");
    let finished =
        scene.instance.cli(["explain", "--packet", &broken.display().to_string()]).expect("a command");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("broken.pcap"), "{}", finished.stderr);
}

#[test]
fn it_goes_by_the_interface_also_for_dhcp() {
    let scene = Scene::new().expect("a scene");
    let marked = |dhcp: bool| {
        let text = Config::default().toml();
        let line = format!("name = {:?}\n", Pair::HOST_LINK);
        text.replace(&line, &format!("{line}dhcp-client = {dhcp}\n"))
    };
    scene.instance.configure(&marked(true)).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    let offer = Explain { source_port: Some(67), ..asked("192.0.2.7", "udp", 68) };
    assert_eq!(&*explain(&api, &offer).event.reason, "dhcp");
    scene.instance.configure(&marked(false)).expect("a file");
    api.reload().expect("a reload");
    assert_eq!(&*explain(&api, &offer).event.reason, "closed");
}
