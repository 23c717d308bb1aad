use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;

use super::*;
use crate::prerequisites::require_root;
use crate::traffic::eventually;

/// Names of the interfaces that the calling thread's namespace has.
fn interfaces() -> Vec<String> {
    let all = nix::net::if_::if_nameindex().expect("a list of interfaces");
    all.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_new_namespace_has_a_usable_lo_and_nothing_of_the_machine() {
    require_root();
    let namespace = Netns::new().expect("a namespace");
    let outside = interfaces();
    let inside = namespace.run(interfaces);
    // A kernel with tunnel drivers built in makes their fallback devices in each namespace.
    assert!(inside.contains(&"lo".to_owned()) && !inside.contains(&"eth0".to_owned()), "{inside:?}");
    assert_eq!(interfaces(), outside, "the caller stayed where it was");
    for address in ["127.0.0.1:0", "[::1]:0"] {
        namespace.run(|| {
            let listener = TcpListener::bind(address).expect("lo has its addresses");
            TcpStream::connect(listener.local_addr().expect("an address")).expect("lo is up");
        });
    }
}

#[test]
fn a_panic_inside_comes_out() {
    require_root();
    let namespace = Netns::new().expect("a namespace");
    let caught = std::panic::catch_unwind(|| namespace.run(|| panic!("as expected")));
    let message = caught.expect_err("the panic is passed on");
    assert_eq!(message.downcast_ref::<&str>(), Some(&"as expected"));
}

#[test]
fn a_command_runs_inside_and_dies_with_the_thread_that_spawned_it() {
    require_root();
    let pair = Pair::new().expect("a pair");
    let output = pair.host.command("cat").arg("/proc/self/net/dev").output().expect("cat runs");
    let listed = String::from_utf8(output.stdout).expect("text");
    assert!(listed.contains(Pair::HOST_LINK) && !listed.contains(Pair::CLIENT_LINK), "{listed}");

    let mut command = pair.host.command("sleep");
    command.arg("60").stdout(Stdio::null());
    let mut child = thread::spawn(move || command.spawn().expect("sleep runs")).join().expect("a thread");
    assert!(
        eventually(Duration::from_secs(5), || child.try_wait().expect("our child").is_some()),
        "the child outlived its thread"
    );
}

#[test]
fn nothing_is_left_of_a_dropped_pair() {
    require_root();
    let pair = Pair::new().expect("a pair");
    let client = pair.client.clone();
    client.index(Pair::CLIENT_LINK).expect("the wire is there");
    drop(pair);
    // One end of a veth cannot be without the other, so this shows the end of the host's namespace.
    assert!(
        eventually(Duration::from_secs(5), || client.index(Pair::CLIENT_LINK).is_err()),
        "the wire outlived the namespace of its end"
    );
}

#[test]
fn addresses_are_usable_at_once() {
    require_root();
    let pair = Pair::new().expect("a pair");
    for address in [IpAddr::from(Pair::HOST_V4), Pair::HOST_V6.into()] {
        pair.host.run(|| UdpSocket::bind((address, 0))).expect("an address without detection of duplicates");
    }
}

#[test]
fn macs_mtu_and_counts_are_what_was_asked_for() {
    require_root();
    let pair = Pair::new().expect("a pair");
    pair.introduce().expect("neighbours");
    pair.introduce().expect_err("they know each other already");
    pair.host.set_mtu(Pair::HOST_LINK, 1400).expect("an MTU");
    pair.host.set_mtu("nothing0", 1400).expect_err("no such interface");
    // /sys shows the namespace that it was mounted in, so the kernel is asked in another way.
    let list = pair.host.run(|| fs::read_to_string("/proc/thread-self/net/dev_mcast")).expect("a list");
    assert!(list.contains(Pair::HOST_LINK), "{list}");
    let before = pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_packets;
    pair.client.run(|| {
        let socket = UdpSocket::bind((Pair::CLIENT_V4, 0)).expect("a socket");
        socket.send_to(&[0; 100], (Pair::HOST_V4, 9)).expect("a datagram");
    });
    let after = pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_packets;
    assert!(after > before, "{before} then {after}");
}

#[test]
fn packets_are_forwarded_between_three_namespaces() {
    require_root();
    let pair = Pair::new().expect("a pair");
    let inside = Netns::new().expect("a namespace");
    veth(
        End { namespace: &pair.host, name: "inside0", mac: [2, 0, 0, 0, 0x20, 1] },
        End { namespace: &inside, name: "server0", mac: [2, 0, 0, 0, 0x20, 2] },
    )
    .expect("a wire");
    let server = IpAddr::from([198, 51, 100, 2]);
    let gateway = IpAddr::from([198, 51, 100, 1]);
    pair.host.add_address("inside0", gateway, 24).expect("an address");
    inside.add_address("server0", server, 24).expect("an address");
    pair.host.sysctl("net.ipv4.ip_forward", "1").expect("forwarding");
    pair.client.add_route(server, 24, Pair::HOST_V4.into()).expect_err("host bits in a prefix");
    pair.client.add_route([198, 51, 100, 0].into(), 24, Pair::HOST_V4.into()).expect("a route");
    inside.add_route([0; 4].into(), 0, gateway).expect("a default route");
    let outcome = crate::traffic::ping(&pair.client, server, Duration::from_secs(2)).expect("a ping");
    assert_eq!(outcome, crate::traffic::Outcome::Answered);
    pair.host.delete_link("inside0").expect("a link to destroy");
    inside.index("server0").expect_err("the other end went as well");
}
