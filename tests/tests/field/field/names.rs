//! Questions of a guarded box to a name server: dnsmasq serves, dig asks.

use std::net::IpAddr;

use lyncwall_tests::agent::Finished;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::programs::{self, Folder, Program};
use lyncwall_tests::scene::{Config, Scene};

/// Strings of the large answer, of 200 bytes each: more than two packets of 1,500 bytes.
const STRINGS: usize = 17;

/// A server for `pool.example.net`, which has an address, and for `large.example.net`, which has text.
fn dnsmasq(at: &Netns, folder: &Folder) -> Program {
    let large: Vec<String> = (0..STRINGS).map(|number| format!("{number:03}").repeat(66) + "--").collect();
    let large = format!("--txt-record=large.example.net,{}", large.join(","));
    let arguments = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        "--no-resolv",
        "--no-hosts",
        "--edns-packet-max=4096",
        "--host-record=pool.example.net,198.51.100.10",
        &large,
    ];
    let program = Program::start(at, folder, "dnsmasq", arguments).expect("dnsmasq");
    let asks = || dig(at, &["@127.0.0.1", "+time=1", "+tries=1", "pool.example.net"]);
    program.ready(PATIENT, |_| asks().stdout.contains("198.51.100.10")).expect("it answers")
}

fn dig(from: &Netns, arguments: &[&str]) -> Finished {
    programs::run(from, "dig", arguments, PATIENT).expect("dig")
}

#[track_caller]
fn expect_address(from: &Netns, arguments: &[&str]) {
    let answer = dig(from, arguments).success().expect("an answer");
    assert!(answer.contains("198.51.100.10"), "{arguments:?}: {answer}");
}

#[test]
fn questions_are_answered_over_udp_and_tcp() {
    let scene = Scene::new().expect("a scene");
    let (folder, host) = (Folder::new().expect("a folder"), &scene.pair.host);
    let _server = dnsmasq(&scene.pair.client, &folder);
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    for server in Scene::CLIENT {
        let at = format!("@{server}");
        let any = if server.is_ipv4() { "0.0.0.0" } else { "::" };
        for transport in ["+notcp", "+tcp"] {
            expect_address(host, &[&at, transport, "pool.example.net"]);
            // A resolver may have a port of its own, below the range that the kernel takes from.
            expect_address(host, &[&at, transport, "-b", &format!("{any}#2053"), "pool.example.net"]);
        }
    }
}

#[test]
fn large_answers_come_in_fragments_or_over_tcp() {
    let scene = Scene::new().expect("a scene");
    let (folder, host) = (Folder::new().expect("a folder"), &scene.pair.host);
    let _server = dnsmasq(&scene.pair.client, &folder);
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    for server in Scene::CLIENT {
        let ask = |options: &[&str]| {
            let at = format!("@{server}");
            let arguments: Vec<&str> =
                [&at, "TXT", "large.example.net"].iter().chain(options).copied().collect();
            dig(host, &arguments).success().expect("an answer")
        };
        let later = || api.counters().expect("counters").of("fragment", "pass");
        let before = later();
        let answer = ask(&["+bufsize=4096", "+ignore"]);
        expect_large(&answer, "(UDP)", server);
        assert!(later() >= before + 2, "{} later fragments from {server}", later() - before);
        // Too small a buffer: the answer says that it is cut off, and dig asks again over TCP.
        let answer = ask(&["+bufsize=512"]);
        expect_large(&answer, "(TCP)", server);
        assert!(answer.contains("Truncated, retrying in TCP mode"), "{answer}");
    }
}

#[track_caller]
fn expect_large(answer: &str, over: &str, server: IpAddr) {
    let strings = (0..STRINGS).filter(|number| answer.contains(&format!("{number:03}").repeat(66))).count();
    assert_eq!(strings, STRINGS, "from {server}: {answer}");
    assert!(answer.contains(over), "not {over} from {server}: {answer}");
}

#[test]
fn a_name_server_on_the_box_answers_itself_and_nobody_else() {
    let scene = Scene::new().expect("a scene");
    let (folder, client) = (Folder::new().expect("a folder"), &scene.pair.client);
    let _server = dnsmasq(&scene.pair.host, &folder);
    for server in Scene::HOST {
        expect_address(client, &[&format!("@{server}"), "pool.example.net"]);
    }
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    for server in Scene::HOST {
        for transport in ["+notcp", "+tcp"] {
            let arguments = [&format!("@{server}"), transport, "+time=1", "+tries=1", "pool.example.net"];
            let finished = dig(client, &arguments);
            // dig's own code for "nobody answered".
            assert_eq!(finished.code, Some(9), "{server} {transport}: {finished:?}");
        }
    }
    expect_address(&scene.pair.host, &[&format!("@{}", Pair::HOST_V4), "pool.example.net"]);
}
