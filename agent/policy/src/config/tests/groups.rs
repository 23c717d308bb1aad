//! Groups, own roles, overrides and options: what they become, and what is refused.

use super::{LEAST, changed, good, one_problem, places, problems};
use crate::catalogue::Direction;
use crate::net::Transports;

fn with(lines: &str) -> String {
    format!("{LEAST}{lines}\n")
}

#[test]
fn groups_are_names_of_prefixes() {
    let config = good(&with(
        "[groups]\nedge = [\"192.0.2.20\"]\nservers = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n\
         [[allow]]\nname = \"r\"\nprotocol = 112\ngroups = [\"edge\", \"servers\"]\nfrom = [\"192.0.2.9\"]",
    ));
    let groups: Vec<String> = config
        .groups
        .iter()
        .map(|group| format!("{} {}", group.name, crate::config::list(&group.prefixes)))
        .collect();
    assert_eq!(groups, ["edge 192.0.2.20/32", "servers 10.0.0.0/8 2001:db8::/32"]);
    assert_eq!(config.groups[1].place.line, 12);
    assert_eq!(config.allow[0].to_string(), "r: protocol 112 from edge servers 192.0.2.9/32");
    assert!(!config.allow[0].is_from_anywhere());
}

#[test]
fn a_group_may_be_a_zone() {
    let text = "management = \"none\"\n[[zone]]\nname = \"outside\"\n[[zone]]\nname = \"inside\"\n\
                [[interface]]\nname = \"eth0\"\nzone = \"outside\"\n[[interface]]\nname = \"eth1\"\nzone = \"inside\"\n\
                [[target]]\nzone = \"inside\"\nroles = []\n[groups]\nservers = { zone = \"inside\" }\n";
    let config = good(text);
    assert_eq!((config.groups[0].zone, config.groups[0].prefixes.len()), (Some(1), 0));
    let found = problems(&text.replace("{ zone = \"inside\" }", "{ zone = \"insde\" }"));
    assert_eq!(places(&found), ["16:20 groups.servers.zone"], "{found}");
}

#[test]
fn a_group_has_sound_prefixes() {
    let group = |value: &str| with(&format!("[groups]\nedge = {value}"));
    for (bad, place, message, fix) in [
        ("[\"10.1.0.0/8\"]", "11:9 groups.edge[0]", "behind the prefix length", "\"10.0.0.0/8\""),
        ("[]", "11:8 groups.edge", "empty", "remove the group"),
        ("\"10.0.0.0/8\"", "11:8 groups.edge", "not a list", "[\"10.0.0.0/8\"]"),
        ("7", "11:8 groups.edge", "found an integer", "brackets"),
        ("{ file = \"x\" }", "11:10 groups.edge.file", "not a key", ""),
        ("{}", "11:8 groups.edge", "a list of prefixes, or a zone", "[\"192.0.2.0/24\"]"),
        ("{ zone = \"inside\" }", "11:17 groups.edge.zone", "unknown zone `inside`", "remove the key"),
        ("{ zone = 1 }", "11:17 groups.edge.zone", "found an integer", "quotes"),
        ("[\"10.0.0.0/8\", \"10.1.0.0/16\"]", "11:23 groups.edge[1]", "overlaps 10.0.0.0/8", "keep one"),
    ] {
        let found = problems(&group(bad));
        assert_eq!(places(&found)[0], place, "{found}");
        let first = found.iter().next().expect("a problem");
        assert!(first.message.contains(message) && first.fix.contains(fix), "{first:?}");
    }
    one_problem(&with("[groups]\nEdge = [\"::1\"]"), "11:1 groups.Edge", "a-z", "1 to 32");
    one_problem(&format!("groups = [\"edge\"]\n{LEAST}"), "1:10 groups", "a table", "[groups]");
    let many: String = (0..33).map(|n| format!("g{n} = [\"10.0.0.{n}\"]\n")).collect();
    one_problem(&with(&format!("[groups]\n{many}")), "10:1 groups", "33 groups", "remove");
}

#[test]
fn a_group_is_named_once() {
    let twice = with("[groups]\nedge = [\"192.0.2.1\"]\nedge = [\"192.0.2.2\"]");
    let found = problems(&twice);
    assert_eq!(places(&found), ["12:1 "]);
    assert!(found.to_string().contains("already exists"), "{found}");
}

#[test]
fn a_rule_names_groups_with_prefixes() {
    let rule = |groups: &str| {
        with(&format!(
            "[groups]\nedge = [\"192.0.2.1\"]\n[[allow]]\nname = \"r\"\nprotocol = 112\ngroups = {groups}"
        ))
    };
    one_problem(
        &rule("[\"egde\"]"),
        "15:11 allow[0].groups[0]",
        "the group `egde` has no prefixes",
        "did you mean `edge`?",
    );
    one_problem(
        &rule("[\"servers\"]"),
        "15:11 allow[0].groups[0]",
        "the group `servers` has no prefixes",
        "servers = [",
    );
    one_problem(&rule("[\"edge\", \"edge\"]"), "15:19 allow[0].groups[1]", "already exists", "remove");
    one_problem(&rule("[]"), "15:10 allow[0].groups", "empty", "leave `groups` out");
    // A group that is there with a mistake in it is there.
    let bad = rule("[\"edge\"]").replace("192.0.2.1\"", "192.0.2.1/24\"");
    assert_eq!(places(&problems(&bad)), ["11:9 groups.edge[0]"]);
}

#[test]
fn targets_override_ports_and_switch_options_on() {
    let config = good(&with(
        "overrides = { \"server.29\" = \"50000-59999\", \"server.14\" = [443, \"8443-8444\"] }\n\
         optional = [\"director.prose-2\"]",
    ));
    let target = &config.targets[0];
    let overrides: Vec<String> = target
        .overrides
        .iter()
        .map(|own| format!("{}: {}", own.row.name, crate::config::list(&own.ports)))
        .collect();
    assert_eq!(overrides, ["server.14: 443 8443-8444", "server.29: 50000-59999"]);
    assert_eq!(target.optional[0].name, "director.prose-2");
    let wrong = with("overrides = { \"server.29\" = \"9-5\", \"server.30\" = 0, \"server.31\" = [] }");
    assert_eq!(
        places(&problems(&wrong)),
        [
            "10:29 target[0].overrides.\"server.29\"",
            "10:50 target[0].overrides.\"server.30\"",
            "10:67 target[0].overrides.\"server.31\""
        ]
    );
    one_problem(&with("overrides = [443]"), "10:13 target[0].overrides", "a table", "overrides = {");
    one_problem(&with("optional = [\"a\", \"a\"]"), "10:18 target[0].optional[1]", "already exists", "");
}

const ROLE: &str = "[[role]]\nname = \"backup\"\nnote = \"the tape robot\"\n[[role.row]]\ntransport = \"tcp\"\nports = 1556\n";

#[test]
fn a_role_of_ones_own_has_rows() {
    let more = "groups = [\"admins\"]\nnote = \"agent\"\n[[role.row]]\nname = \"calls\"\ntransport = \"both\"\n\
                ports = [\"13720-13724\", 13782]\ndirection = \"outbound\"";
    let config = good(&with(&format!("{ROLE}{more}")));
    let [role] = config.roles.as_slice() else { panic!("one role: {:?}", config.roles) };
    assert_eq!((role.name.as_str(), role.note.as_str()), ("backup", "the tape robot"));
    let [first, second] = role.rows.as_slice() else { panic!("two rows: {role:?}") };
    assert_eq!(
        (first.name.as_str(), first.transport, first.direction),
        ("1", Transports::Tcp, Direction::Inbound)
    );
    assert_eq!((first.groups[0].name.as_str(), first.note.as_str()), ("admins", "agent"));
    assert_eq!(
        (second.name.as_str(), second.transport, second.direction),
        ("calls", Transports::Both, Direction::Outbound)
    );
    assert_eq!(crate::config::list(&second.ports), "13720-13724 13782");
}

#[test]
fn all_mistakes_of_a_role_are_found() {
    let text = with(&format!(
        "{ROLE}portz = 1\ngroups = []\n[[role.row]]\ntransport = \"sctp\"\n[[role]]\nname = \"backup\"\n[[role]]\nrow = []\n"
    ));
    assert_eq!(
        places(&problems(&text)),
        [
            "16:1 role[0].row[0].portz",
            "17:10 role[0].row[0].groups",
            "18:1 role[0].row[1].ports",
            "19:13 role[0].row[1].transport",
            "20:1 role[1].row",
            "21:8 role[1].name",
            "22:1 role[2].name",
            "23:7 role[2].row",
        ]
    );
    let mistyped = with(&format!("{ROLE}note = \"a\\nb\""));
    one_problem(&mistyped, "16:8 role[0].row[0].note", "control character", "one line");
    assert_eq!(
        places(&problems(&changed("[[target]]", "[[role]]\nname = \"x\"\n[[target]]"))),
        ["8:1 role[0].row"]
    );
}
