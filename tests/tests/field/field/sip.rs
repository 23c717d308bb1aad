//! Calls over SIP on TCP, by SIPp, to the ports of a Front End with its Mediation service.

use std::net::Ipv4Addr;

use lyncwall_tests::agent::Finished;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::{Netns, Pair};
use lyncwall_tests::programs::{Folder, Program, run_in};
use lyncwall_tests::scene::{Config, Scene};

use super::serve;

/// Calls of one try.
pub(crate) const CALLS: u32 = 20;
/// SIPp wants as many files as it might have sockets, 50,000 where nothing is said.
const SOCKETS: &str = "1000";

/// A server that takes calls at a port.
pub(crate) fn answering(at: &Netns, folder: &Folder, port: u16) -> Program {
    // On all addresses, so that it can be asked whether it is there.
    let arguments = format!("-sn uas -t t1 -i 0.0.0.0 -p {port} -nostdin -max_socket {SOCKETS}");
    let arguments: Vec<&str> = arguments.split(' ').collect();
    serve(at, folder, "sipp", &arguments, &[port])
}

/// Places the calls from outside, on one connection (`t1`) or one each (`tn`), and gives up after so many seconds.
fn call(scene: &Scene, transport: &str, port: u16, seconds: &str) -> Finished {
    place(&scene.pair.client, [Pair::CLIENT_V4, Pair::HOST_V4], transport, port, seconds)
}

/// Places the calls from an address to another.
pub(crate) fn place(
    at: &Netns,
    [from, to]: [Ipv4Addr; 2],
    transport: &str,
    port: u16,
    seconds: &str,
) -> Finished {
    let folder = Folder::new().expect("a folder");
    let (to, from) = (format!("{to}:{port}"), from.to_string());
    let calls = CALLS.to_string();
    let calling = ["-sn", "uac", &to, "-i", &from, "-t", transport, "-m", &calls, "-r", "40", "-d", "100"];
    let limits = ["-nostdin", "-max_socket", SOCKETS, "-timeout", seconds, "-timeout_error"];
    let arguments = calling.into_iter().chain(limits);
    run_in(at, folder.path(), "sipp", arguments, PATIENT).expect("sipp")
}

/// The number in the last table that SIPp printed: `Successful call | period | total`.
pub(crate) fn successful(finished: &Finished) -> Option<u32> {
    let line = finished.stdout.lines().rev().find(|line| line.trim_start().starts_with("Successful call"))?;
    line.rsplit('|').next()?.trim().parse().ok()
}

#[test]
fn calls_come_in_at_the_roles_ports_and_at_no_other() {
    let scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    let (_agent, api) =
        scene.start(&Config::roles(&["front-end", "collocated-mediation"])).expect("an agent");
    let _servers = [5061, 5068].map(|port| answering(&scene.pair.host, &folder, port));
    for transport in ["t1", "tn"] {
        for port in [5061, 5068] {
            let finished = call(&scene, transport, port, "15");
            assert_eq!(
                (finished.code, successful(&finished)),
                (Some(0), Some(CALLS)),
                "{port}: {finished:?}"
            );
        }
    }
    assert!(api.counters().expect("counters").rule("tcp", "5068") > u64::from(CALLS));

    // A Mediation Server of its own takes calls at 5068 only.
    api.switch(&["mediation"]).expect("a switch");
    let finished = call(&scene, "t1", 5068, "15");
    assert_eq!((finished.code, successful(&finished)), (Some(0), Some(CALLS)), "{finished:?}");
    let finished = call(&scene, "t1", 5061, "3");
    assert!(finished.code != Some(0), "{finished:?}");
    assert!(matches!(successful(&finished), None | Some(0)), "{finished:?}");
    assert!(api.counters().expect("counters").port("tcp", 5061) >= 1);
}

#[test]
fn a_guarded_gateway_calls_the_mediation_server() {
    let scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    let _server = answering(&scene.pair.client, &folder, 5068);
    let (_agent, api) = scene.start(&Config::roles(&["pstn-gateway"])).expect("an agent");
    for transport in ["t1", "tn"] {
        let finished = place(&scene.pair.host, [Pair::HOST_V4, Pair::CLIENT_V4], transport, 5068, "15");
        assert_eq!(
            (finished.code, successful(&finished)),
            (Some(0), Some(CALLS)),
            "{transport}: {finished:?}"
        );
    }
    assert_eq!(api.status().expect("a status").dropped, 0);
}
