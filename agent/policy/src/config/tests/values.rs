//! What a good file becomes.

use crate::net::Transports;
use std::net::IpAddr;
use std::path::Path;

use super::{LEAST, good, one_problem};
use crate::config::{Address, AllowWhat, Attach, Mode, OnClosed, OnExit, Reading, Unmatched};

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

#[test]
fn a_simple_box_needs_three_tables() {
    let config = good(LEAST);
    assert_eq!(config.catalogue.name, "lync-2013");
    assert_eq!(config.catalogue.place.line, 0);
    assert_eq!((config.reading, config.mode), (Reading::Strict, Mode::Enforce));
    assert_eq!(config.on_exit, OnExit::Keep);
    let [zone] = &config.zones[..] else { panic!("one zone") };
    assert_eq!((zone.name.as_str(), zone.unmatched), ("default", Unmatched::Drop));
    let management = config.management.as_ref().expect("the file has management");
    assert_eq!(texts(&management.from), ["10.0.0.0/8"]);
    assert_eq!((texts(&management.tcp), texts(&management.udp)), (vec!["22".to_owned()], vec![]));
    assert_eq!(config.interfaces.len(), 1);
    assert_eq!(config.interfaces[0].attach, Attach::Auto);
    assert!(!config.interfaces[0].dhcp_client);
    assert_eq!(config.targets.len(), 1);
    assert_eq!((&*config.targets[0].name, &config.targets[0].address), ("host", &Address::Host));
    assert!(config.allow.is_empty());
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn every_key_is_read() {
    let config = good(
        r#"
catalogue = "own.toml"
reading = "literal"
mode = "audit"
on-exit = "detach"
management = { from = ["192.0.2.1", "2001:db8::/32"], tcp = [22, "8000-8010"], udp = [161] }

[[zone]]
name = "outside"
unmatched = "pass"

[[interface]]
name = "eth0"
attach = "native"
dhcp-client = true
zone = "outside"

[[interface]]
name = "eth1"
attach = "generic"

[[target]]
name = "director"
zone = "outside"
address = ["198.51.100.10", "2001:db8::10"]
roles = ["director-vip", "reverse-proxy"]
takeover = true
on-closed = "reject"

[[target]]
name = "box"
roles = []
mode = "enforce"
takeover = false

[[allow]]
name = "node exporter"
transport = "both"
ports = [0x238C, "9200-9210"]
from = ["10.1.0.5"]
target = "box"

[[allow]]
name = "vrrp"
protocol = "vrrp"

[[allow]]
name = "ipip"
protocol = 4
"#,
    );
    assert_eq!((config.catalogue.name.as_str(), config.catalogue.place.line), ("own.toml", 2));
    assert_eq!(
        (config.reading, config.mode, config.on_exit),
        (Reading::Literal, Mode::Audit, OnExit::Detach)
    );
    let [zone] = &config.zones[..] else { panic!("one zone") };
    assert_eq!((zone.name.as_str(), zone.unmatched), ("outside", Unmatched::Pass));
    let management = config.management.expect("the file has management");
    assert_eq!(texts(&management.from), ["192.0.2.1/32", "2001:db8::/32"]);
    assert_eq!(
        (texts(&management.tcp), texts(&management.udp)),
        (vec!["22".to_owned(), "8000-8010".to_owned()], vec!["161".to_owned()])
    );
    let [eth0, eth1] = &config.interfaces[..] else { panic!("two interfaces") };
    assert_eq!((&*eth0.name, eth0.attach, eth0.dhcp_client), ("eth0", Attach::Native, true));
    assert_eq!((eth0.place.line, eth0.place.key.as_str()), (13, "interface[0].name"));
    assert_eq!((&*eth1.name, eth1.attach, eth1.dhcp_client), ("eth1", Attach::Generic, false));
    let [director, other] = &config.targets[..] else { panic!("two targets") };
    let addresses: Vec<IpAddr> =
        ["198.51.100.10", "2001:db8::10"].iter().map(|a| a.parse().expect("an address")).collect();
    assert_eq!((&*director.name, &director.address), ("director", &Address::List(addresses)));
    assert_eq!(director.roles[1].key, "reverse-proxy");
    let place = &director.roles[1].place;
    assert_eq!((place.file.as_path(), place.line, place.column), (Path::new("test.toml"), 26, 26));
    assert_eq!(place.key, "target[0].roles[1]");
    assert_eq!((&*other.name, &other.address, other.roles.len()), ("box", &Address::Host, 0));
    assert_eq!((director.mode, other.mode), (None, Some(Mode::Enforce)));
    assert_eq!((director.takeover, other.takeover), (true, false));
    assert_eq!((director.on_closed, other.on_closed), (OnClosed::Reject, OnClosed::Drop));
    let [exporter, vrrp, ipip] = &config.allow[..] else { panic!("three rules") };
    let AllowWhat::Ports { transport, ports } = &exporter.what else { panic!("a rule by ports") };
    assert_eq!(
        (*transport, texts(ports)),
        (Transports::Both, vec!["9100".to_owned(), "9200-9210".to_owned()])
    );
    assert_eq!(
        (texts(&exporter.from), exporter.target.as_deref()),
        (vec!["10.1.0.5/32".to_owned()], Some("box"))
    );
    assert_eq!((&vrrp.what, vrrp.from.len(), vrrp.target.as_deref()), (&AllowWhat::Protocol(112), 0, None));
    assert_eq!(ipip.what, AllowWhat::Protocol(4));
}

#[test]
fn a_rule_may_refer_to_the_only_target_by_its_default_name() {
    let config = good(&format!(
        "{LEAST}[[allow]]\nname = \"a\"\ntransport = \"tcp\"\nports = [1]\ntarget = \"host\"\n"
    ));
    assert_eq!(config.allow[0].target.as_deref(), Some("host"));
}

#[test]
fn management_can_be_given_up_outright() {
    let least_without = LEAST.replace("[management]\nfrom = [\"10.0.0.0/8\"]\ntcp = [22]\n", "");
    let config = good(&format!("management = \"none\"\n{least_without}"));
    assert_eq!(config.management, None);
    assert!(config.warnings()[0].contains("lock you out"));
}

#[test]
fn what_may_not_be_meant_is_a_warning() {
    let text = LEAST.replace("10.0.0.0/8", "0.0.0.0/0\", \"::/0").replace("\"director\"", "");
    let text = format!("{text}[[zone]]\nname = \"wild\"\nunmatched = \"pass\"\n");
    let warnings = good(&text).warnings();
    let about = ["0.0.0.0/0", "::/0", "`wild`", "no target has a role"];
    assert_eq!(warnings.len(), about.len(), "{warnings:#?}");
    for (warning, about) in warnings.iter().zip(about) {
        assert!(warning.contains(about), "{warning:?} is not about {about:?}");
    }
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_are_fine() {
    let text = format!("\u{feff}mode = \"audit\"\n{LEAST}").replace('\n', "\r\n");
    let config = good(&text);
    assert_eq!(config.mode, Mode::Audit);
    assert_eq!((config.interfaces[0].place.line, config.interfaces[0].place.column), (7, 8));
    one_problem(&text.replace("audit", "watch"), "1:8 mode", "`watch`", "\"audit\"");
}

#[test]
fn the_greatest_numbers_are_accepted() {
    let interfaces: String = (1..32).map(|n| format!("[[interface]]\nname = \"eth{n}\"\n")).collect();
    let addresses = |from: u32| {
        let list: Vec<String> = (0..16).map(|n| format!("\"10.0.{from}.{}\"", n + 1)).collect();
        format!("[{}]", list.join(", "))
    };
    let targets: String = (0..16)
        .map(|n| format!("[[target]]\nname = \"t{n}\"\naddress = {}\nroles = []\n", addresses(n)))
        .collect();
    let rules: String = (0..64).map(|n| format!("[[allow]]\nname = \"r{n}\"\nprotocol = 112\n")).collect();
    let least = LEAST.replace("[[target]]\nroles = [\"director\"]\n", "");
    let config = good(&format!("{least}{interfaces}{targets}{rules}"));
    assert_eq!((config.interfaces.len(), config.targets.len(), config.allow.len()), (32, 16, 64));
}
