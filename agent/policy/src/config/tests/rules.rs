//! What is refused, each rule alone, and that a file's mistakes come together.

use super::{Config, LEAST, changed, good, one_problem, places, problems};

/// A file with one `[[allow]]` rule that has `lines` beside its name.
fn with_rule(lines: &str) -> String {
    format!("{LEAST}[[allow]]\nname = \"r\"\n{lines}\n")
}

#[test]
fn all_mistakes_of_a_file_come_together_with_their_places() {
    let text = r#"catalogue = 2013
reading = "loose"
mod = "audit"

[management]
from = ["10.1.2.3/8", "192.0.2.0/24", "192.0.2.7"]
tcp = [70000, 22, "30-20"]

[groups]
edge = ["192.0.2.20"]

[[zone]]
name = "outside"

[[interface]]
name = "a-name-that-is-too-long"
attach = "fast"
vlan = 7

[[target]]
name = "Über"; bad = 1
roles = []

[[target]]
name = "director"
zone = "inside"
address = ["198.51.100.10", "198.51.100.10", "ff02::1"]
roles = ["director-vip", 7, "director-vip"]

[[allow]]
name = "vrrp"
protocol = "vrpp"
from = []
target = "directr"

[[allow]]
name = "vrrp"
transport = "tcp"
protokol = 6
"#;
    let text = text.replace("name = \"Über\"; bad = 1", "name = \"Über\"  #");
    let found = problems(&text);
    assert_eq!(
        places(&found),
        [
            "1:13 catalogue",
            "2:11 reading",
            "3:1 mod",
            "6:9 management.from[0]",
            "6:39 management.from[2]",
            "7:8 management.tcp[0]",
            "7:19 management.tcp[2]",
            "16:8 interface[0].name",
            "17:10 interface[0].attach",
            "18:1 interface[0].vlan",
            "21:8 target[0].name",
            "26:8 target[1].zone",
            "27:29 target[1].address[1]",
            "27:46 target[1].address[2]",
            "28:26 target[1].roles[1]",
            "28:29 target[1].roles[2]",
            "32:12 allow[0].protocol",
            "33:8 allow[0].from",
            "34:10 allow[0].target",
            "36:1 allow[1].ports",
            "37:8 allow[1].name",
            "39:1 allow[1].protokol",
        ],
        "{found}"
    );
    for problem in found.iter() {
        assert!(!problem.message.is_empty() && !problem.fix.is_empty(), "{problem:?}");
        assert!(!problem.message.ends_with('.') && !problem.fix.ends_with('.'), "{problem:?}");
    }
}

#[test]
fn an_empty_file_lacks_three_tables() {
    let found = problems("");
    assert_eq!(places(&found), ["0:0 management", "0:0 interface", "0:0 target"]);
    assert!(found.to_string().contains("can lock you out"), "{found}");
    assert_eq!(
        places(&problems("interface = []\ntarget = []\nmanagement = \"none\"\n")),
        ["1:13 interface", "2:10 target"]
    );
}

#[test]
fn management_without_sources_or_ports_is_refused() {
    one_problem(&changed("from = [\"10.0.0.0/8\"]\n", ""), "1:1 management.from", "missing", "prefixes");
    one_problem(&changed("\"10.0.0.0/8\"", ""), "2:8 management.from", "empty", "\"none\"");
    one_problem(&changed("tcp = [22]", ""), "1:1 management.tcp", "no port", "tcp = [22]");
    one_problem(&changed("tcp = [22]", "tcp = []\nudp = []"), "1:1 management.tcp", "no port", "tcp = [22]");
    let without = changed("[management]\nfrom = [\"10.0.0.0/8\"]\ntcp = [22]\n", "");
    one_problem(&format!("management = \"off\"\n{without}"), "1:14 management", "`off`", "\"none\"");
    one_problem(&format!("management = true\n{without}"), "1:14 management", "a table", "[management]");
    one_problem(&changed("[management]", "[[management]]"), "1:1 management", "one table", "single brackets");
}

#[test]
fn interfaces_have_names_that_the_kernel_knows() {
    for bad in ["", "a/b", "eth0:1", "a b", "..", "sixteen-bytes-xx", "eth\\u0000", "\\u00e0"] {
        let found = problems(&changed("eth0", bad));
        assert_eq!(places(&found), ["6:8 interface[0].name"], "{bad:?}");
    }
    one_problem(&changed("name = \"eth0\"\n", ""), "5:1 interface[0].name", "missing", "name = \"eth0\"");
    let without = changed("[[interface]]\nname = \"eth0\"\n", "");
    let words = format!("interface = [\"eth0\"]\n{without}");
    one_problem(&words, "1:14 interface[0]", "expected a table, found a string", "`[[interface]]` header");
    let twice = changed("[[target]]", "[[interface]]\nname = \"eth0\"\n\n[[target]]");
    one_problem(&twice, "9:8 interface[1].name", "`eth0` already exists on line 6", "rename");
    one_problem(&changed("[[interface]]", "[interface]"), "5:1 interface", "list of tables", "[[interface]]");
    let attach = changed("name = \"eth0\"", "name = \"eth0\"\nattach = \"xdp\"");
    one_problem(&attach, "7:10 interface[0].attach", "`xdp`", "\"auto\" or \"native\" or \"generic\"");
    let dhcp = changed("name = \"eth0\"", "name = \"eth0\"\ndhcp-client = \"yes\"");
    one_problem(&dhcp, "7:15 interface[0].dhcp-client", "found a string", "without quotes");
}

#[test]
fn targets_are_told_apart() {
    let unnamed = format!("{LEAST}[[target]]\nname = \"b\"\naddress = [\"192.0.2.1\"]\nroles = []\n");
    one_problem(&unnamed, "8:1 target[0].name", "missing", "give each of several targets a name");
    let named = unnamed.replace("[[target]]\nroles = [\"director\"]", "[[target]]\nname = \"a\"\nroles = []");
    one_problem(
        &named.replace("\"b\"", "\"a\""),
        "12:8 target[1].name",
        "`a` already exists on line 9",
        "rename",
    );
    let hosts = named.replace("address = [\"192.0.2.1\"]\n", "");
    one_problem(
        &hosts,
        "11:1 target[1].address",
        "`target[0]` already has the address \"host\"",
        "list the addresses",
    );
    let hosts = named.replace("[\"192.0.2.1\"]", "\"host\"");
    one_problem(
        &hosts,
        "13:11 target[1].address",
        "`target[0]` already has the address \"host\"",
        "list the addresses",
    );
    let shared = named.replace("name = \"a\"", "name = \"a\"\naddress = [\"192.0.2.1\"]");
    one_problem(&shared, "14:12 target[1].address[0]", "192.0.2.1 is already in target[0]", "remove");
    one_problem(&changed("[[target]]", "[[target]]\nname = \"a_b\""), "9:8 target[0].name", "a_b", "a-z");
}

#[test]
fn a_target_has_unicast_addresses() {
    let address = |value: &str| changed("[[target]]", &format!("[[target]]\naddress = {value}"));
    for (bad, message) in [
        ("0.0.0.0", "not the address of a host"),
        ("::", "not the address of a host"),
        ("224.0.0.18", "multicast"),
        ("ff02::12", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::192.0.2.1", "IPv4"),
        ("::ffff:127.0.0.1", "loopback"),
        ("192.0.2.0/24", "prefix"),
        ("192.0.2.256", "not an address"),
        ("fe80::1%eth0", "not an address"),
    ] {
        one_problem(&address(&format!("[\"{bad}\"]")), "9:12 target[0].address[0]", message, "");
    }
    one_problem(&address("[]"), "9:11 target[0].address", "empty", "\"host\"");
    one_problem(&address("\"192.0.2.1\""), "9:11 target[0].address", "`192.0.2.1`", "[\"192.0.2.1\"]");
    one_problem(&address("7"), "9:11 target[0].address", "found an integer", "\"host\"");
}

#[test]
fn roles_are_a_list_without_repetition() {
    one_problem(&changed("roles = [\"director\"]\n", ""), "8:1 target[0].roles", "missing", "roles = []");
    one_problem(&changed("[\"director\"]", "\"director\""), "9:9 target[0].roles", "a list", "brackets");
    one_problem(
        &changed("[\"director\"]", "[\"a\", \"a\"]"),
        "9:15 target[0].roles[1]",
        "role `a`",
        "remove",
    );
    one_problem(&changed("[\"director\"]", "[\"\"]"), "9:10 target[0].roles[0]", "no name", "lyncwall roles");
    one_problem(&changed("roles", "role"), "9:1 target[0].role", "not a key", "did you mean `roles`?");
}

#[test]
fn more_than_the_version_handles_is_refused() {
    let interfaces: String = (1..34).map(|n| format!("[[interface]]\nname = \"eth{n}\"\n")).collect();
    one_problem(&format!("{LEAST}{interfaces}"), "72:1 interface[32]", "34 `[[interface]]`", "");
    let targets: String = (0..17)
        .map(|n| format!("[[target]]\nname = \"t{n}\"\naddress = [\"10.0.0.{}\"]\nroles = []\n", n + 1))
        .collect();
    let least = changed("[[target]]\nroles = [\"director\"]\n", "");
    one_problem(&format!("{least}{targets}"), "72:1 target[16]", "at most 16", "remove");
    let rules: String = (0..65).map(|n| format!("[[allow]]\nname = \"r{n}\"\nprotocol = 112\n")).collect();
    one_problem(&format!("{LEAST}{rules}"), "202:1 allow[64]", "at most 64", "remove");
    let many: String = (1..=257).map(|n| format!("\"2001:db8::{n:x}\",\n")).collect();
    let text = changed("[[target]]", &format!("[[target]]\naddress = [\n{many}]"));
    one_problem(&text, "266:1 target[0].address[256]", "more addresses than the 256", "\"host\"");
}

#[test]
fn ports_are_numbers_or_ranges_that_do_not_overlap() {
    let tcp = |value: &str| changed("tcp = [22]", &format!("tcp = {value}"));
    for (bad, message, fix) in [
        ("0", "0 is out of range", "1 to 65535"),
        ("70000", "70000 is out of range", "1 to 65535"),
        ("-1", "-1 is out of range", "1 to 65535"),
        ("99999999999999999999", "out of range", "1 to 65535"),
        ("\"0-5\"", "`0-5` is out of range", "1 to 65535"),
        ("\"5-70000\"", "`5-70000` is out of range", "1 to 65535"),
        ("\"9-5\"", "`9-5` ends before it starts", "\"5-9\""),
        ("\"57501 -65535\"", "not a port range", "without spaces"),
        ("\"443\"", "`443` in quotes", "443 without quotes"),
        ("\"https\"", "`https`", "as a number"),
        ("4.5", "found a decimal fraction", "a number"),
        ("[443]", "found a list", "a number"),
    ] {
        one_problem(&tcp(&format!("[{bad}]")), "3:8 management.tcp[0]", message, fix);
    }
    one_problem(&tcp("true"), "3:7 management.tcp", "expected a port", "a number");
    one_problem(&tcp("[22, 22]"), "3:12 management.tcp[1]", "22 is in the list twice", "remove");
    one_problem(&tcp("[22, \"20-30\"]"), "3:12 management.tcp[1]", "20-30 overlaps 22", "keep one");
    one_problem(
        &tcp("[\"20-30\", 31, \"30-31\"]").replace("31, ", ""),
        "3:17 management.tcp[1]",
        "overlaps",
        "",
    );
}

#[test]
fn a_single_port_needs_no_list_wherever_ports_are_written() {
    let text = |ports: &str| {
        let rule = format!("[[allow]]\nname = \"a\"\ntransport = \"tcp\"\nports = {ports}\n");
        let row = format!("[[role]]\nname = \"own\"\n[[role.row]]\ntransport = \"tcp\"\nports = {ports}\n");
        let own = format!("roles = [\"director\"]\noverrides = {{ \"director.01\" = {ports} }}");
        let management = format!("tcp = {ports}\nudp = {ports}");
        let changed = changed("tcp = [22]", &management).replace("roles = [\"director\"]", &own);
        changed + &rule + &row
    };
    for (one, list) in [("8404", "[8404]"), ("\"8404-8410\"", "[\"8404-8410\"]")] {
        let read = |ports: &str| good(&text(ports));
        let (one, list) = (read(one), read(list));
        let management = |config: &Config| config.management.clone().map(|of| (of.tcp, of.udp));
        assert_eq!((management(&one), &one.allow), (management(&list), &list.allow));
        let rows = |config: &Config| config.roles[0].rows[0].ports.clone();
        let overrides = |config: &Config| config.targets[0].overrides[0].ports.clone();
        assert_eq!((rows(&one), overrides(&one)), (rows(&list), overrides(&list)));
    }
    for found in ["70000", "\"8404\"", "true"].map(|bad| problems(&text(bad))) {
        assert_eq!(found.iter().count(), 5, "{found}");
    }
}

#[test]
fn prefixes_have_no_host_bits_and_do_not_overlap() {
    let from = |value: &str| changed("[\"10.0.0.0/8\"]", value);
    for (bad, message, fix) in [
        ("10.1.0.0/8", "behind the prefix length", "\"10.0.0.0/8\""),
        ("2001:db8::1/64", "behind the prefix length", "\"2001:db8::/64\""),
        ("10.0.0.0/33", "over 32", "0 to 32"),
        ("::/129", "over 128", "0 to 128"),
        ("::ffff:0:0/96", "IPv6 form", "IPv4 prefix"),
        ("::10.0.0.1", "IPv6 form", "write 10.0.0.1"),
        ("10.0.0.0/255.0.0.0", "not an address or prefix", "10.0.0.0/8"),
        ("admin.example", "not an address or prefix", "10.0.0.0/8"),
    ] {
        one_problem(&from(&format!("[\"{bad}\"]")), "2:9 management.from[0]", message, fix);
    }
    one_problem(&from("\"10.0.0.0/8\""), "2:8 management.from", "a list", "brackets");
    let message = "10.1.0.0/16 overlaps 10.0.0.0/8";
    one_problem(&from("[\"10.0.0.0/8\", \"10.1.0.0/16\"]"), "2:23 management.from[1]", message, "keep one");
    one_problem(
        &from("[\"::1\", \"::1/128\"]"),
        "2:16 management.from[1]",
        "::1/128 is in the list twice",
        "",
    );
    one_problem(&with_rule("protocol = 112\nfrom = []"), "13:8 allow[0].from", "empty", "leave `from` out");
}

#[test]
fn a_rule_says_what_it_allows_once() {
    one_problem(&with_rule(""), "10:1 allow[0].transport", "the rule allows nothing", "`protocol`");
    one_problem(&with_rule("protokol = 112"), "12:1 allow[0].protokol", "not a key", "`protocol`");
    one_problem(&with_rule("ports = [1]"), "10:1 allow[0].transport", "missing", "transport = \"tcp\"");
    one_problem(&with_rule("transport = \"tcp\""), "10:1 allow[0].ports", "missing", "ports = [9100");
    one_problem(&with_rule("transport = \"tcp\"\nports = []"), "13:9 allow[0].ports", "empty", "1-65535");
    one_problem(
        &with_rule("transport = \"sctp\"\nports = [1]"),
        "12:13 allow[0].transport",
        "`sctp`",
        "\"both\"",
    );
    let both = with_rule("protocol = \"vrrp\"\nports = [1]");
    one_problem(&both, "13:9 allow[0].ports", "either `protocol` or `transport`", "two rules");
    let limit = with_rule("protocol = \"vrrp\"\nlimit = 5");
    one_problem(&limit, "13:1 allow[0].limit", "limits of one rule, besides `[limit]`", "remove");
    let nameless = format!("{LEAST}[[allow]]\nprotocol = 112\n");
    one_problem(&nameless, "10:1 allow[0].name", "missing", "counter");
    for name in [String::new(), "x".repeat(65), "a\\nb".to_owned()] {
        let text = format!("{LEAST}[[allow]]\nname = \"{name}\"\nprotocol = 112\n");
        assert_eq!(places(&problems(&text)), ["11:8 allow[0].name"], "{name:?}");
    }
    let lost = with_rule("protocol = 112\ntarget = \"hots\"");
    one_problem(&lost, "13:10 allow[0].target", "unknown target `hots`", "did you mean `host`?");
}

#[test]
fn a_protocol_that_is_judged_otherwise_is_no_rule() {
    for (bad, message, fix) in [
        ("\"tcp\"", "TCP is allowed by port", "transport = \"tcp\""),
        ("17", "UDP is allowed by port", "transport = \"udp\""),
        ("\"icmp\"", "by type", "remove"),
        ("58", "by type", "remove"),
        ("\"ipv6-icmp\"", "by type", "remove"),
        ("0", "extension header", "allow the protocol"),
        ("43", "extension header", "allow the protocol"),
        ("44", "extension header", "allow the protocol"),
        ("60", "extension header", "allow the protocol"),
        ("256", "not a protocol number", "0 to 255"),
        ("-1", "not a protocol number", "0 to 255"),
        ("\"opsf\"", "`opsf` is not a known protocol", "did you mean `ospf`?"),
        ("\"112\"", "`112` is not a known protocol", "112 without quotes"),
        ("\"carrier-pigeon\"", "not a known protocol", "its number"),
        ("true", "found true or false", "0 to 255"),
    ] {
        one_problem(&with_rule(&format!("protocol = {bad}")), "12:12 allow[0].protocol", message, fix);
    }
}

#[test]
fn an_unknown_key_names_its_nearest() {
    one_problem(
        &format!("on_exit = \"keep\"\n{LEAST}"),
        "1:1 on_exit",
        "not a key",
        "did you mean `on-exit`?",
    );
    one_problem(
        &format!("colour = 1\n{LEAST}"),
        "1:1 colour",
        "not a key",
        "the keys are catalogue, reading",
    );
    one_problem(&format!("\"a b\" = 1\n{LEAST}"), "1:1 \"a b\"", "not a key", "the keys are");
    let misplaced = changed("tcp = [22]", "tcp = [22]\nmode = \"audit\"");
    one_problem(&misplaced, "4:1 management.mode", "not a key", "above the first");
    let misplaced = LEAST.replace("[management]\nfrom = [\"10.0.0.0/8\"]\ntcp = [22]\n", "");
    let misplaced = misplaced.replace("name = \"eth0\"", "name = \"eth0\"\nmanagement = \"none\"");
    assert_eq!(places(&problems(&misplaced)), ["0:0 management", "4:1 interface[0].management"]);
    let flows = format!("{LEAST}[flows]\nmost = 5\n");
    one_problem(&flows, "11:1 flows.most", "not a key", "the keys are learn, ");
    let later = format!("{LEAST}[[allow]]\nname = \"a\"\ntransport = \"tcp\"\nports = [1]\nzone = \"b\"\n");
    one_problem(&later, "14:1 allow[0].zone", "not supported by this version", "remove `zone`");
}
