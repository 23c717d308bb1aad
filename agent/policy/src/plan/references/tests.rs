//! What the configuration makes of the catalogue: who may use what, and which references lead nowhere.

use lyncwall_common::abi::PortTransport;
use std::path::Path;

use crate::catalogue::{Open, Resolved};
use crate::net::PortRange;
use crate::plan::Plan;

fn parsed(reading: &str, roles: &str, target: &str, more: &str) -> Result<Plan, String> {
    let text = format!(
        "reading = \"{reading}\"\n[management]\nfrom = [\"192.0.2.0/28\"]\ntcp = [22]\n[[interface]]\nname = \"eth0\"\n\
         [[target]]\nroles = [{roles}]\n{target}\n{more}\n"
    );
    Plan::parse(&text, Path::new("t.toml")).map_err(|problems| problems.to_string())
}

fn plan(roles: &str, target: &str, more: &str) -> Plan {
    parsed("strict", roles, target, more).unwrap_or_else(|problems| panic!("{problems}"))
}

fn resolved(plan: &Plan) -> Resolved {
    plan.resolve("host", &plan.settings().roles["host"]).expect("roles that go together")
}

fn rules(resolved: &Resolved, transport: PortTransport, port: u16) -> Vec<&Open> {
    let holds = |rule: &&Open| rule.transport == transport && (rule.first..=rule.last).contains(&port);
    resolved.inbound.iter().filter(holds).collect()
}

/// Who may use a port: `None` where it is closed, nobody named where it is open to all.
fn scope(plan: &Plan, transport: PortTransport, port: u16) -> Option<Vec<String>> {
    let resolved = resolved(plan);
    let rules = rules(&resolved, transport, port);
    assert!(rules.len() <= 1, "{rules:?}");
    rules.first().map(|rule| rule.scope().to_vec())
}

fn owned(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(ToString::to_string).collect())
}

const EDGE: &str = "[groups]\nedge = [\"192.0.2.20\"]";

#[test]
fn a_row_opens_to_its_groups_and_to_all_where_one_is_unbound() {
    let free = plan("\"director-vip\"", "", "");
    assert_eq!(scope(&free, PortTransport::Tcp, 5061), owned(&[]));
    let bound = plan("\"director-vip\"", "", EDGE);
    assert_eq!(scope(&bound, PortTransport::Tcp, 5061), owned(&["edge"]));
    assert_eq!(scope(&bound, PortTransport::Tcp, 4443), owned(&[]));
    let warnings = bound.warnings(&bound.settings());
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings[2].contains("tcp 4443, tcp 8080 are open to the world: set [groups].reverse-proxy"),
        "{warnings:?}"
    );
    // 8080 is for two groups on a Director's balancer: one of them unbound is as good as none bound.
    let one = plan("\"front-end-lb-dns\"", "", "[groups]\nreverse-proxy = [\"192.0.2.10\"]");
    assert_eq!(scope(&one, PortTransport::Tcp, 8080), owned(&[]));
    let both = "[groups]\nreverse-proxy = [\"192.0.2.10\"]\ninternal-clients = [\"10.0.0.0/8\"]";
    let both = plan("\"front-end-lb-dns\"", "", both);
    assert_eq!(scope(&both, PortTransport::Tcp, 8080), owned(&["internal-clients", "reverse-proxy"]));
}

#[test]
fn what_needs_a_group_stays_closed_until_it_is_bound() {
    let free = plan("\"mediation\"", "", "");
    assert_eq!(scope(&free, PortTransport::Udp, 1434), None);
    assert!(
        resolved(&free).closed.iter().any(|closed| closed.first == 1434 && closed.why.contains("unbound"))
    );
    let bound = plan("\"mediation\"", "", "[groups]\nservers = [\"10.0.0.0/8\"]");
    assert_eq!(scope(&bound, PortTransport::Udp, 1434), owned(&["servers"]));
    assert!(!resolved(&bound).closed.iter().any(|closed| closed.first == 1434));
}

#[test]
fn an_option_opens_when_it_is_named_and_its_group_is_bound() {
    let option = "optional = [\"server.41\"]";
    assert_eq!(scope(&plan("\"director\"", "", ""), PortTransport::Tcp, 5060), None);
    let waiting = plan("\"director\"", option, "");
    assert_eq!(scope(&waiting, PortTransport::Tcp, 5060), None);
    let warnings = waiting.warnings(&waiting.settings()).join("\n");
    assert!(warnings.contains("server.41 stays closed until trusted-services has prefixes"), "{warnings}");
    let bound = plan("\"director\"", option, "[groups]\ntrusted-services = [\"192.0.2.30\"]");
    assert_eq!(scope(&bound, PortTransport::Tcp, 5060), owned(&["trusted-services"]));
    // One without a group.
    let proxy = |target: &str| plan("\"reverse-proxy\"", target, "");
    assert_eq!(scope(&proxy(""), PortTransport::Tcp, 80), None);
    assert_eq!(scope(&proxy("optional = [\"reverse-proxy.http\"]"), PortTransport::Tcp, 80), owned(&[]));
    // The literal reading prints no such row: it is open from anywhere once it is named.
    let literal = |target: &str| parsed("literal", "\"front-end-lb-hlb\"", target, "").expect("a good file");
    assert_eq!(scope(&literal(""), PortTransport::Tcp, 60_000), None);
    let on = literal("optional = [\"front-end-lb-hlb.rpc-dynamic\"]");
    assert_eq!(scope(&on, PortTransport::Tcp, 60_000), owned(&[]));
}

#[test]
fn overrides_take_the_place_of_the_ports_in_both_readings() {
    for reading in ["strict", "literal"] {
        let own = "overrides = { \"director.06\" = [5061, \"15061-15062\"], \"director.04\" = 8000 }";
        let plan = parsed(reading, "\"director-vip\"", own, EDGE).expect("a good file");
        let resolved = resolved(&plan);
        for port in [15_061, 15_062] {
            let [rule] = rules(&resolved, PortTransport::Tcp, port)[..] else {
                panic!("{port}: {resolved:?}")
            };
            assert_eq!(rule.rows, ["director.06"]);
            assert_eq!(rule.scope().is_empty(), reading == "literal");
        }
        assert!(rules(&resolved, PortTransport::Tcp, 80).is_empty(), "{reading}");
        assert_eq!(rules(&resolved, PortTransport::Tcp, 8000).len(), 1, "{reading}");
        // Other targets have the printed ones.
        assert!(
            plan.resolve("other", &["director-vip".to_owned()])
                .expect("a role")
                .inbound
                .iter()
                .any(|rule| rule.first == 80)
        );
    }
}

#[test]
fn an_override_of_a_row_that_opens_and_calls_is_for_what_opens() {
    let plan = plan("\"reverse-proxy\"", "overrides = { \"server.14\" = 8443 }", "");
    assert_eq!(scope(&plan, PortTransport::Tcp, 8443), owned(&[]));
    assert!(
        resolved(&plan)
            .outbound
            .iter()
            .any(|rule| rule.first == 4443 && rule.rows.contains(&"server.14".to_owned()))
    );
    let calls = plan_of_gateway();
    assert!(resolved(&calls).outbound.iter().any(|rule| rule.first == 15_067 && rule.rows == ["server.47"]));
}

/// Rows that a gateway only calls.
fn plan_of_gateway() -> Plan {
    plan("\"pstn-gateway\"", "overrides = { \"server.47\" = 15067 }", "")
}

#[test]
fn what_no_document_prints_is_asked_for() {
    for reading in ["strict", "literal"] {
        let gateway = |target: &str| parsed(reading, "\"pstn-gateway\"", target, "").expect("a good file");
        let without = gateway("");
        let warnings = without.warnings(&without.settings()).join("\n");
        assert!(warnings.contains("pstn-gateway.media stays closed: the media range"), "{warnings}");
        assert_eq!(scope(&without, PortTransport::Udp, 20_000), None);
        let with = gateway("overrides = { \"pstn-gateway.media\" = \"16384-32767\" }");
        assert!(!with.warnings(&with.settings()).join("\n").contains("media"));
        assert_eq!(scope(&with, PortTransport::Udp, 20_000), owned(&[]));
        assert_eq!(
            scope(&with, PortTransport::Udp, 50_000),
            None,
            "the ports of Mediation do not come with it"
        );
        assert_eq!(scope(&with, PortTransport::Tcp, 20_000), None);
    }
}

const BACKUP: &str = "[[role]]\nname = \"backup\"\n[[role.row]]\ntransport = \"tcp\"\nports = 1556\ngroups = [\"tapes\"]\n\
                      [[role.row]]\nname = \"calls\"\ntransport = \"udp\"\nports = 7000\ndirection = \"outbound\"\n";

#[test]
fn a_role_of_ones_own_stands_beside_those_of_the_catalogue() {
    for reading in ["strict", "literal"] {
        let more = format!("{BACKUP}[groups]\ntapes = [\"192.0.2.40\"]");
        let plan =
            parsed(reading, "\"director-vip\", \"backup\"", "overrides = { \"backup.calls\" = 7001 }", &more);
        let plan = plan.expect("a good file");
        assert_eq!(scope(&plan, PortTransport::Tcp, 1556), owned(&["tapes"]), "{reading}");
        assert_eq!(scope(&plan, PortTransport::Udp, 7001), None);
        let resolved = resolved(&plan);
        assert_eq!(rules(&resolved, PortTransport::Tcp, 1556)[0].rows, ["backup.1"]);
        assert!(resolved.outbound.iter().any(|rule| rule.first == 7001 && rule.rows == ["backup.calls"]));
        assert_eq!(
            plan.catalogue.row("backup.1").map(|row| row.ports.clone()),
            Some(vec![PortRange::one(1556)])
        );
    }
}

#[test]
fn references_that_lead_nowhere_are_told_together() {
    let target = "overrides = { \"director.99\" = 1, \"server.29\" = 2 }\noptional = [\"director.06\", \"server.41\", \"x\"]";
    let more = "[groups]\negde = [\"192.0.2.20\"]\nservers = [\"10.0.0.1/8\"]\nmine = [\"10.0.0.0/8\"]\nmine = [\"10.0.0.0/8\"]\n\
                [[role]]\nname = \"director\"\n[[role.row]]\ntransport = \"tcp\"\nports = 1\ngroups = [\"servrs\", \"others\"]\n";
    let found = parsed("strict", "\"director-vip\"", target, more).expect_err("many mistakes");
    let expected = [
        "t.toml:9:15: target[0].overrides.\"director.99\": unknown row `director.99`; ",
        "t.toml:9:34: target[0].overrides.\"server.29\": no role of this target has the row `server.29`; ",
        "t.toml:10:13: target[0].optional[0]: the row `director.06` is not optional; ",
        "t.toml:10:28: target[0].optional[1]: no role of this target has the optional row `server.41`; ",
        "t.toml:10:41: target[0].optional[2]: unknown optional row `x`; ",
        "t.toml:12:1: groups.egde: no role or rule uses the group `egde`; did you mean `edge`?",
        "t.toml:13:12: groups.servers[0]: `10.0.0.1/8` has address bits set behind the prefix length",
        "t.toml:14:1: groups.mine: no role or rule uses the group `mine`; ",
        "t.toml:15:1: not TOML: this key or table already exists",
        "t.toml:17:8: role[0].name: the catalogue already has the role `director`; ",
        "t.toml:21:11: role[0].row[0].groups[0]: unknown group `servrs`; did you mean `servers`?",
        "t.toml:21:21: role[0].row[0].groups[1]: unknown group `others`; give it prefixes",
    ];
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{found}");
    for (line, said) in lines.iter().zip(expected) {
        assert!(line.starts_with(said), "no {said} in {line}");
    }
}

#[test]
fn a_group_that_a_rule_or_an_own_role_names_is_known() {
    let more = format!(
        "{BACKUP}[groups]\ntapes = [\"192.0.2.40\"]\nmine = [\"192.0.2.41\"]\n[[allow]]\nname = \"r\"\nprotocol = 112\ngroups = [\"mine\"]"
    );
    plan("\"director-vip\"", "", &more);
    // A row for a group that nobody knows would be open to all.
    let found = parsed("strict", "", "", BACKUP).expect_err("an unknown group");
    assert!(found.contains("role[0].row[0].groups[0]: unknown group `tapes`; give it prefixes"), "{found}");
}

#[test]
fn a_reload_tells_which_groups_it_changes() {
    let groups = |groups: &str| plan("\"director-vip\"", "", &format!("[groups]\n{groups}"));
    let before = groups("edge = [\"192.0.2.20\"]\nadmins = [\"192.0.2.1\", \"192.0.2.2\"]");
    let after =
        groups("admins = [\"192.0.2.2\", \"192.0.2.3\", \"2001:db8::/32\"]\nservers = [\"10.0.0.0/8\"]");
    assert_eq!(
        after.differences(&before),
        [
            "group admins: 2 prefixes added, 1 prefix removed",
            "group removed: edge",
            "group added: servers, 1 prefix",
        ]
    );
}
