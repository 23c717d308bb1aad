//! Zones, and what is in them.

use std::net::IpAddr;

use super::{LEAST, changed, good, one_problem, places, problems};
use crate::config::{Address, Outbound, Unmatched};

/// A gateway: `outside` with VLANs of `inside` on the same interface, and a leg of its own for `inside`.
const GATEWAY: &str = r#"management = "none"

[[zone]]
name = "outside"

[[zone]]
name = "inside"
outbound = "catalogue"

[[interface]]
name = "eth0"
zone = "outside"
vlans = { inside = [10, "20-22"], outside = 30 }

[[interface]]
name = "eth1"
zone = "inside"

[[target]]
name = "servers"
zone = "outside"
address = ["10.0.0.5"]
roles = ["mediation"]

[[target]]
name = "box"
zone = "outside"
address = ["host", "198.51.100.10"]
roles = []

[[target]]
name = "from-inside"
zone = "inside"
address = ["10.0.0.5"]
roles = ["director"]

[[target]]
name = "box-from-inside"
zone = "inside"
address = ["host"]
roles = []
"#;

#[test]
fn interfaces_vlans_and_targets_have_their_zones() {
    let config = good(GATEWAY);
    let zones: Vec<_> =
        config.zones.iter().map(|zone| (zone.name.as_str(), zone.unmatched, zone.outbound)).collect();
    assert_eq!(
        zones,
        [("outside", Unmatched::Drop, Outbound::Unmatched), ("inside", Unmatched::Drop, Outbound::Catalogue)]
    );
    let [eth0, eth1] = &config.interfaces[..] else { panic!("two interfaces") };
    assert_eq!((eth0.zone, eth1.zone), (0, 1));
    let mut vlans = eth0.vlans.clone();
    vlans.sort_unstable();
    assert_eq!(vlans, [(10, 1), (20, 1), (21, 1), (22, 1), (30, 0)]);
    let place = eth0.vlans_place.as_ref().expect("a place");
    assert_eq!((place.line, place.key.as_str()), (13, "interface[0].vlans"));
    let virtual_address: IpAddr = "198.51.100.10".parse().expect("an address");
    let targets: Vec<_> = config.targets.iter().map(|target| (target.zone, target.address.clone())).collect();
    assert_eq!(targets[0].0, 0);
    assert_eq!(targets[1], (0, Address::HostAnd(vec![virtual_address])));
    assert_eq!(targets[2].0, 1);
    assert_eq!(targets[3], (1, Address::Host));
    assert_eq!(config.warnings().len(), 1, "management alone: {:?}", config.warnings());
}

#[test]
fn any_outbound_lets_unmatched_pass() {
    let any = good(&GATEWAY.replace("outbound = \"catalogue\"", "outbound = \"any\""));
    assert_eq!((any.zones[1].unmatched, any.zones[1].outbound), (Unmatched::Pass, Outbound::Unmatched));
    let both = "outbound = \"any\"\nunmatched = \"drop\"";
    one_problem(
        &GATEWAY.replace("outbound = \"catalogue\"", both),
        "8:12 zone[1].outbound",
        "drops",
        "remove one",
    );
    let both = "outbound = \"catalogue\"\nunmatched = \"pass\"";
    let contradiction = GATEWAY.replace("outbound = \"catalogue\"", both);
    one_problem(&contradiction, "9:13 zone[1].unmatched", "lets pass", "remove `unmatched`");
    let limits = format!("{LEAST}[[zone]]\nname = \"a\"\noutbound = \"catalogue\"\n");
    one_problem(&limits, "12:12 zone[0].outbound", "there are none", "in another zone");
}

#[test]
fn all_mistakes_about_zones_come_together() {
    let text = r#"management = "none"

[[zone]]
name = "outside"

[[zone]]
name = "inside"

[[zone]]
name = "outside"
unmatched = "reject"

[[zone]]
name = "empty"

[[interface]]
name = "eth0"
zone = "outside"
vlans = { inside = [10, 4095], outside = ["5-12", "9-8"], insid = 7 }

[[interface]]
name = "eth0"
zone = "inside"

[[interface]]
name = "eth1"

[[target]]
name = "a"
zone = "dmz"
address = ["10.0.0.5"]
roles = ["mediation"]

[[target]]
name = "b"
zone = "outside"
address = ["10.0.0.5", "host"]
roles = []

[[target]]
name = "c"
zone = "outside"
address = ["10.0.0.6", "10.0.0.5"]
roles = []

[[target]]
name = "d"
zone = "outside"
roles = []

[[target]]
name = "e"
address = ["10.0.0.5"]
roles = []
"#;
    let found = problems(text);
    assert_eq!(
        places(&found),
        [
            "10:8 zone[2].name",
            "11:13 zone[2].unmatched",
            "19:25 interface[0].vlans.inside[1]",
            "19:51 interface[0].vlans.outside[1]",
            "19:59 interface[0].vlans.insid",
            "22:8 interface[1].name",
            "25:1 interface[2].zone",
            "30:8 target[0].zone",
            "43:24 target[2].address[1]",
            "46:1 target[3].address",
            "51:1 target[4].zone",
        ],
        "{found}"
    );
    let told = found.to_string();
    for part in
        ["unknown zone `dmz`", "\"outside\", \"inside\"", "`zone` is missing, and there are several zones"]
    {
        assert!(told.contains(part), "`{part}` is not in {told}");
    }
}

#[test]
fn a_vlan_is_in_one_zone_and_every_zone_has_an_interface() {
    let twice = GATEWAY.replace("outside = 30", "outside = \"22-23\"");
    one_problem(
        &twice,
        "13:45 interface[0].vlans.outside",
        "VLAN 22 is already in the zone `inside`",
        "one zone",
    );
    let twice = GATEWAY.replace("[10, \"20-22\"]", "[21, \"20-22\"]");
    one_problem(&twice, "13:25 interface[0].vlans.inside[1]", "VLAN 21 is already in this list", "remove");
    let alone = GATEWAY.replace("[[interface]]\nname = \"eth1\"\nzone = \"inside\"\n", "");
    assert_eq!(good(&alone).interfaces.len(), 1, "its VLANs are enough");
    let none = alone.replace("vlans = { inside = [10, \"20-22\"], outside = 30 }\n", "");
    one_problem(&none, "6:1 zone[1]", "the zone `inside` has no interface and no VLAN", "remove the zone");
}

#[test]
fn one_zone_need_not_be_named() {
    let wrong = changed("name = \"eth0\"", "name = \"eth0\"\nzone = \"b\"");
    one_problem(&wrong, "7:8 interface[0].zone", "unknown zone `b`", "remove the key");
    one_problem(&format!("{LEAST}[[zone]]\n"), "10:1 zone[0].name", "missing", "name");
    let unmatched = format!("{LEAST}[[zone]]\nname = \"a\"\nunmatched = \"reject\"\n");
    one_problem(&unmatched, "12:13 zone[0].unmatched", "`reject`", "\"drop\" or \"pass\"");
    let nine: String = (0..9).map(|n| format!("[[zone]]\nname = \"z{n}\"\n")).collect();
    let found = problems(&format!("{LEAST}{nine}"));
    assert!(found.to_string().contains("9 `[[zone]]` tables: this version handles at most 8"), "{found}");
}
