//! VLAN zones on a network card that hides the tags, and ethtool, which stops it.

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ipv4, Tcp, Vlan};
use lyncwall_tests::programs;
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::{FrameSocket, eventually};

#[test]
fn vlan_zones_are_refused_while_the_nic_strips_tags() {
    let scene = Scene::new().expect("a scene");
    let file = "management = \"none\"\n[[zone]]\nname = \"outside\"\n[[zone]]\nname = \"inside\"\nunmatched = \"pass\"\n\
                [[interface]]\nname = \"host0\"\nzone = \"outside\"\nvlans = { inside = 10 }\n\
                [[target]]\nzone = \"outside\"\nroles = []\n[flows]\nlearn = 0\n";
    scene.instance.configure(file).expect("a file");
    let refused = scene.instance.start_in_vain().expect("it ends");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let command = "`ethtool -K host0 rxvlan off rx-vlan-stag-hw-parse off`";
    for part in ["9:", "interface[0].vlans", "host0 takes the VLAN tags out of frames", command] {
        assert!(refused.stderr.contains(part), "`{part}` is not in {}", refused.stderr);
    }
    // What the message says mends it.
    let ethtool = |words: &[&str]| {
        let done = programs::run(&scene.pair.host, "ethtool", words, PATIENT).expect("ethtool");
        done.success().expect("it does it");
    };
    ethtool(&["-K", "host0", "rxvlan", "off", "rx-vlan-stag-hw-parse", "off"]);
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    // Real frames, with the tag as bytes, as they come from a wire.
    let sender = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    for (vlan, reason, action) in [(10, "unmatched", "pass"), (11, "closed", "drop")] {
        let before = api.counters().expect("counters").of(reason, action);
        let tag = Vlan::new(vlan);
        let ip = Ipv4::new(Pair::CLIENT_V4, Pair::HOST_V4);
        sender.send(&Pair::frame().with(tag).with(ip).with(Tcp::syn(40_000, 443)).build()).expect("a frame");
        let counted = || api.counters().expect("counters").of(reason, action) > before;
        assert!(eventually(PATIENT, counted), "VLAN {vlan} is not judged as {reason}");
    }
    // A reload looks again.
    ethtool(&["-K", "host0", "rxvlan", "on"]);
    let refused = scene.instance.cli(["reload"]).expect("it runs");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("`ethtool -K host0 rxvlan off`"),
        "{refused:?}"
    );
}
