//! Several destinations on one box, each with its roles; and what an interface is told to be.

use std::net::IpAddr;

use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::{BRIEF, PATIENT, expect_ping, expect_tcp};
use lyncwall_tests::netns::{End, Pair, veth};
use lyncwall_tests::packet::{Ipv4, Udp};
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{FrameSocket, eventually};

use super::{cli_switch, expect_count, tcp_servers};

const HEAD: &str =
    "[management]\nfrom = [\"203.0.113.0/24\"]\ntcp = [22]\n\n[[interface]]\nname = \"host0\"\n";

/// A virtual address beside the host's own, in both families.
const VIRTUAL: [&str; 2] = ["192.0.2.100", "2001:db8::100"];

fn with_virtual_address() -> (Scene, [IpAddr; 2]) {
    let scene = Scene::new().expect("a scene");
    let addresses = VIRTUAL.map(|text| text.parse::<IpAddr>().expect("an address"));
    for (address, prefix) in addresses.into_iter().zip([24, 64]) {
        scene.pair.host.add_address(Pair::HOST_LINK, address, prefix).expect("a further address");
    }
    (scene, addresses)
}

#[test]
fn each_destination_has_its_own_roles() {
    let (scene, virtual_addresses) = with_virtual_address();
    let file = format!(
        "{HEAD}\n[[target]]\nname = \"vip\"\naddress = {VIRTUAL:?}\nroles = [\"director-vip\"]\n\n\
         [[target]]\nname = \"box\"\naddress = \"host\"\nroles = []\n\n\
         [[allow]]\nname = \"exporter\"\ntransport = \"tcp\"\nports = [9100]\ntarget = \"box\"\n"
    );
    scene.instance.configure(&file).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443, 5061, 5067, 9100]);
    for (vip, host) in virtual_addresses.into_iter().zip(Scene::HOST) {
        expect_tcp(client, (vip, 5061), Answered);
        expect_tcp(client, (host, 5061), TimedOut);
        expect_tcp(client, (vip, 9100), TimedOut);
        expect_tcp(client, (host, 9100), Answered);
        expect_ping(client, vip, Answered);
    }
    // Which target is meant has to be said.
    let refused = scene.instance.cli(["switch", "mediation"]).expect("it runs");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--target") && refused.stderr.contains("vip, box"), "{refused:?}");
    cli_switch(&scene, &["--target", "vip", "mediation"]);
    for (vip, host) in virtual_addresses.into_iter().zip(Scene::HOST) {
        expect_tcp(client, (vip, 5061), TimedOut);
        expect_tcp(client, (vip, 5067), Answered);
        expect_tcp(client, (host, 5067), TimedOut);
    }
    cli_switch(&scene, &["--target", "box", "mediation"]);
    expect_tcp(client, Scene::v4(5067), Answered);
}

#[test]
fn destinations_in_no_target_go_by_the_zone() {
    let (scene, virtual_addresses) = with_virtual_address();
    let target = format!("\n[[target]]\naddress = {VIRTUAL:?}\nroles = [\"director-vip\"]\n");
    scene.instance.configure(&format!("{HEAD}{target}")).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443, 445]);
    for (vip, host) in virtual_addresses.into_iter().zip(Scene::HOST) {
        expect_tcp(client, (vip, 443), Answered);
        expect_tcp(client, (host, 443), TimedOut);
    }
    expect_count(&api, "unmatched", "drop", 2);

    let zone = "\n[[zone]]\nname = \"outside\"\nunmatched = \"pass\"\n";
    scene.instance.configure(&format!("{HEAD}{target}{zone}")).expect("a file");
    api.reload().expect("a reload");
    for (vip, host) in virtual_addresses.into_iter().zip(Scene::HOST) {
        expect_tcp(client, (vip, 445), TimedOut);
        expect_tcp(client, (host, 445), Answered);
    }
    assert!(api.counters().expect("counters").of("unmatched", "pass") >= 2);
}

/// Whether a reply of a DHCP server gets in.
fn leases(scene: &Scene, api: &Api) -> bool {
    let sender = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    let receiver = FrameSocket::open(&scene.pair.host, Pair::HOST_LINK).expect("a socket");
    let before = api.counters().expect("counters").of("dhcp", "pass");
    let ip = Ipv4::new(Pair::CLIENT_V4, [255, 255, 255, 255]);
    let frame = Pair::frame().with(ip).with(Udp::new(67, 68)).with(b"offer").build();
    sender.send(&frame).expect("a frame");
    let arrived = receiver.receive(BRIEF, |received| received == frame).expect("a socket").is_some();
    let counted = || api.counters().expect("counters").of("dhcp", "pass") - before;
    assert_eq!(counted(), u64::from(arrived));
    arrived
}

#[test]
fn a_dhcp_client_gets_its_lease_also_on_an_interface_that_was_made_again() {
    let scene = Scene::new().expect("a scene");
    let pair = &scene.pair;
    let target = "\n[[target]]\nroles = []\n";
    scene.instance.configure(&format!("{HEAD}{target}")).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    assert!(!leases(&scene, &api));
    scene.instance.configure(&format!("{HEAD}dhcp-client = true\n{target}")).expect("a file");
    api.reload().expect("a reload");
    assert!(leases(&scene, &api));

    pair.client.delete_link(Pair::CLIENT_LINK).expect("it was there");
    let generation = api.status().expect("a status").generation;
    veth(
        End { namespace: &pair.client, name: Pair::CLIENT_LINK, mac: Pair::CLIENT_MAC },
        End { namespace: &pair.host, name: Pair::HOST_LINK, mac: Pair::HOST_MAC },
    )
    .expect("a new wire");
    // The new interface has another number, which only a new generation knows.
    assert!(eventually(PATIENT, || api.status().expect("a status").generation > generation));
    assert!(leases(&scene, &api));
}
