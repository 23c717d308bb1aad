//! Frames that no socket of the stack sends: tags, other protocols, forms that cannot be judged.

use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ipv4, Packet, Payload, Tcp, Vlan, ether_type, ip, protocol};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::FrameSocket;

use super::expect_count;

/// Frames in, by a packet socket; whether they get past the firewall, by another behind it.
struct Tap {
    sender: FrameSocket,
    receiver: FrameSocket,
}

impl Tap {
    fn on(pair: &Pair) -> Self {
        Self {
            sender: FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a socket"),
            receiver: FrameSocket::open(&pair.host, Pair::HOST_LINK).expect("a socket"),
        }
    }

    #[track_caller]
    fn expect(&self, packet: &Packet, passes: bool) {
        let frame = packet.build();
        self.sender.send(&frame).expect("a frame to send");
        let patience = if passes { PATIENT } else { BRIEF };
        let arrived = self.receiver.receive(patience, |received| received == frame).expect("a socket");
        assert_eq!(arrived.is_some(), passes, "{packet:?}");
    }
}

fn tagged_frames_are_judged_by_what_is_in_them(attach: &'static str) {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let config = Config::roles(&["reverse-proxy"]).attach(attach);
    let (_agent, api) = scene.start(&config).expect("an agent");
    let tap = Tap::on(&scene.pair);
    let tags: [&[Vlan]; 5] = [
        &[],
        &[Vlan::new(7)],
        &[Vlan::service(9), Vlan::new(7)],
        &[Vlan::new(9), Vlan::new(7)],
        &[Vlan::new(0), Vlan::new(0), Vlan::service(0), Vlan::new(7)],
    ];
    let tagged = |tags: &[Vlan]| tags.iter().fold(Pair::frame(), |frame, tag| frame.with(tag.clone()));
    for tags in tags {
        for (client, host) in Scene::CLIENT.into_iter().zip(Scene::HOST) {
            let frame = || tagged(tags).with(ip(client, host));
            tap.expect(&frame().with(Tcp::syn(40_000, 443)), true);
            tap.expect(&frame().with(Tcp::syn(40_000, 444)), false);
        }
    }
    expect_count(&api, "allowed", "pass", 10);
    expect_count(&api, "closed", "drop", 10);
    assert_eq!(api.counters().expect("counters").rule("tcp", "443"), 10);
    assert_eq!(api.counters().expect("counters").port("tcp", 444), 10);

    let deep = tagged(&vec![Vlan::new(0); 9]);
    tap.expect(&deep.with(ip(Scene::CLIENT[0], Scene::HOST[0])).with(Tcp::syn(40_000, 443)), false);
    expect_count(&api, "vlan-depth", "drop", 1);
}

#[test]
fn tagged_frames_are_judged_by_what_is_in_them_in_native_mode() {
    tagged_frames_are_judged_by_what_is_in_them("native");
}

#[test]
fn tagged_frames_are_judged_by_what_is_in_them_in_generic_mode() {
    tagged_frames_are_judged_by_what_is_in_them("generic");
}

#[test]
fn a_drop_event_names_tags_service_and_port() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let tap = Tap::on(&scene.pair);
    let mut events = api.events().expect("a stream");
    let frame = Pair::frame().with(Vlan::service(9)).with(Vlan::new(7));
    tap.expect(&frame.with(ip(Scene::CLIENT[1], Scene::HOST[1])).with(Tcp::syn(40_000, 5061)), false);
    let event = events.next(PATIENT).expect("a stream that holds").expect("an event");
    assert_eq!((event.action.as_str(), event.reason.as_str()), ("drop", "closed"));
    assert_eq!((event.interface.as_str(), event.vlan.as_slice()), (Pair::HOST_LINK, &[9, 7][..]));
    assert_eq!(event.source, Some(Scene::CLIENT[1].to_string()));
    assert_eq!(event.destination, Some(Scene::HOST[1].to_string()));
    assert_eq!((event.source_port, event.destination_port), (Some(40_000), Some(5061)));
    assert_eq!(event.tcp_flags.as_deref(), Some("SYN"));
    assert!(event.service.as_deref().is_some_and(|service| service.contains("SIP")), "{event:?}");
    assert_eq!(event.length, 14 + 8 + 40 + 20);
}

#[test]
fn other_protocols_pass_where_a_rule_says_so() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let rule = format!("[[allow]]\nname = \"vrrp\"\nprotocol = \"vrrp\"\nfrom = [\"{}\"]\n", Pair::CLIENT_V4);
    let (_agent, api) = scene.start(&Config::default().further(&rule)).expect("an agent");
    let tap = Tap::on(&scene.pair);
    let payload = |number| Payload::of_protocol(number, [0x31, 51, 100, 1, 0, 1, 0, 0]);
    let from = |source: [u8; 4]| Pair::frame().with(Ipv4::new(source, [224, 0, 0, 18]));
    tap.expect(&from([192, 0, 2, 1]).with(payload(protocol::VRRP)), true);
    tap.expect(&from([192, 0, 2, 9]).with(payload(protocol::VRRP)), false);
    tap.expect(&from([192, 0, 2, 1]).with(payload(protocol::OSPF)), false);
    expect_count(&api, "protocol", "drop", 2);
    assert_eq!(api.counters().expect("counters").allow("vrrp"), 1);
}

#[test]
fn what_cannot_be_judged_is_dropped_under_its_own_reason() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let tap = Tap::on(&scene.pair);
    let whole = Pair::frame_v4().with(Tcp::syn(40_000, 443));
    tap.expect(&whole, true);
    tap.expect(&whole.clone().truncated(14 + 20 + 10), false);
    expect_count(&api, "malformed-ipv4", "drop", 1);
    let mpls = Payload::of_ether_type(ether_type::MPLS, vec![0; 46]);
    tap.expect(&Pair::frame().with(mpls), false);
    expect_count(&api, "encapsulated", "drop", 1);
    let lldp = Payload::of_ether_type(ether_type::LLDP, vec![0; 46]);
    tap.expect(&Pair::frame().with(lldp), true);
    assert!(api.counters().expect("counters").of("non-ip", "pass") >= 1);
}
