//! `lyncwall roles`, `show` and `catalogue` as a user meets them, and catalogue files with mistakes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn lyncwall(arguments: &[&str]) -> Output {
    command(arguments).output().expect("lyncwall runs")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lyncwall"));
    command.args(arguments);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is UTF-8")
}

fn json(arguments: &[&str]) -> Value {
    let output = lyncwall(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    assert_eq!(stderr(&output), "", "{arguments:?}");
    serde_json::from_slice(&output.stdout).expect("stdout is JSON")
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A file of this test run.
fn written(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the test's folder takes a file");
    path
}

#[test]
fn roles_as_json_are_key_kind_printed_rows() {
    let roles = json(&["roles", "--json"]);
    let roles = roles.as_array().expect("an array");
    assert_eq!(roles.len(), 20);
    for role in roles {
        assert_eq!(keys(role), ["key", "kind", "printed", "rows"]);
    }
    let lb = roles.iter().find(|role| role["key"] == "director-lb-dns").expect("the role is listed");
    let expected = json!({
        "key": "director-lb-dns", "kind": "balancer", "printed": "Director load balancer",
        "rows": ["hlb-dns.05", "hlb-dns.07"],
    });
    assert_eq!(*lb, expected);
}

#[test]
fn show_as_json_is_exactly_this() {
    let rule = |first: u16, sources: &[&str], row: &str| json!({"transport": "tcp", "first": first, "last": first, "sources": sources, "rows": [row]});
    let expected = json!({
        "roles": ["director-vip"],
        "reading": "strict",
        "inbound": [
            rule(80, &["internal-clients"], "director.04"),
            rule(443, &["internal-clients"], "director.05"),
            rule(4443, &["reverse-proxy", "servers"], "director.02"),
            rule(5061, &["edge"], "director.06"),
            rule(8080, &["reverse-proxy"], "director.01"),
            rule(50001, &["admins", "servers"], "director.07"),
            rule(50002, &["admins", "servers"], "director.08"),
            rule(50003, &["admins", "servers"], "director.09"),
        ],
        "outbound": [rule(444, &[], "director.03"), rule(5061, &[], "director.prose-1")],
        "closed": [],
    });
    assert_eq!(json(&["show", "director-vip", "--json"]), expected);
    assert_eq!(json(&["--json", "show", "director-vip", "--reading", "strict"]), expected);
}

#[test]
fn show_as_json_says_why_a_port_stays_closed() {
    let shown = json(&["show", "--json", "persistent-chat"]);
    let closed = shown["closed"].as_array().expect("an array");
    for rule in closed {
        assert_eq!(keys(rule), ["first", "last", "rows", "sources", "transport", "why"]);
        assert!(rule["why"].as_str().is_some_and(|why| !why.is_empty()));
    }
    let ports: Vec<_> = closed.iter().map(|rule| (&rule["transport"], &rule["first"])).collect();
    assert_eq!(ports, [(&json!("tcp"), &json!(445)), (&json!("udp"), &json!(1434))]);
}

#[test]
fn show_reads_literally_when_told_to() {
    let shown = json(&["show", "phone", "--reading", "literal", "--json"]);
    assert_eq!(shown["reading"], "literal");
    let expected = json!([
        {"transport": "udp", "first": 67, "last": 68, "sources": [], "rows": ["client.12"]},
    ]);
    assert_eq!(shown["inbound"], expected);
}

#[test]
fn catalogue_as_json_is_the_rows() {
    let rows = json(&["catalogue", "--json"]);
    let rows = rows.as_array().expect("an array");
    assert_eq!(rows.iter().filter(|row| row["printed"]["page"].is_null()).count(), 103);
    let edge = rows.iter().find(|row| row["id"] == "edge.04").expect("a row of a further page");
    assert_eq!((&edge["printed"]["page"], &edge["printed"]["lines"]), (&json!("edge"), &json!({})));
    assert_eq!(rows[0]["id"], "server.01");
    let media = rows.iter().find(|row| row["id"] == "server.39").expect("the row is listed");
    assert_eq!(media["transport"], "both");
    assert_eq!(media["ports"], json!([{"first": 49152, "last": 57500}]));
    assert_eq!(media["printed"]["lines"]["004"], 360);
}

#[test]
fn people_get_aligned_text_without_colour_in_a_pipe() {
    let output = lyncwall(&["show", "director-vip"]);
    let text = stdout(&output);
    assert!(output.status.success());
    assert!(!text.contains('\x1b'), "{text}");
    let starts: Vec<Option<usize>> = text
        .lines()
        .filter(|line| line.contains("(Director web services)"))
        .map(|line| line.find("HTTP"))
        .collect();
    assert_eq!(starts.len(), 3, "{text}");
    assert!(starts.iter().all(|start| *start == starts[0]), "{text}");
    assert!(stdout(&lyncwall(&["roles"])).contains("director-vip"));
    assert!(stdout(&lyncwall(&["catalogue", "server.14"])).contains("Autodiscover"));
    let ruled = stdout(&lyncwall(&["catalogue", "server.15"]));
    assert!(ruled.contains("ruled by   TLS and MTLS for Lync Server 2013"), "{ruled}");
    let printed = stdout(&lyncwall(&["catalogue", "gateway.2"]));
    assert!(printed.contains("printed      Define a gateway in Topology Builder"), "{printed}");
}

#[test]
fn each_role_fits_a_screen_with_all_that_is_known_of_it_and_what_is_not() {
    let roles = json(&["roles", "--json"]);
    for role in roles.as_array().expect("an array") {
        let key = role["key"].as_str().expect("a key");
        let base = match key {
            "collocated-mediation" | "central-management-store" => Some("front-end"),
            "collocated-mediation-lb" => Some("front-end-lb-hlb"),
            _ => None,
        };
        let arguments: Vec<&str> = ["show"].into_iter().chain(base).chain([key]).collect();
        let text = stdout(&lyncwall(&arguments));
        let lines = text.lines().count();
        // An add-on comes with its base: it may take the room of two.
        assert!(lines <= if base.is_some() { 60 } else { 50 }, "{key}: {lines} lines\n{text}");
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert_eq!(wide, Vec::<&str>::new(), "{key}");
        assert!(text.contains("Documents known for this box: "), "{key}: {text}");
        assert!(text.contains("not covered:\n  - "), "{key}: {text}");
    }
}

#[test]
fn show_names_calls_presets_and_what_waits_for_a_group() {
    let text = stdout(&lyncwall(&["show", "front-end"]));
    for part in [
        "Opens from anywhere",
        "Opens from edge, servers",
        "office-web-apps     tcp 443",
        "internal-clients    udp 1024-65535",
        "optional = [\"front-end.qos\"]",
        "Keeps closed",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let path = written("calls.toml", CONFIG);
    let text = stdout(&lyncwall(&["show", "--config", path.to_str().expect("a UTF-8 path"), "mediation"]));
    assert!(text.contains("Would call, if the group had prefixes\n  internal-clients"), "{text}");
    assert!(text.contains("  servers             tcp 5061 50001-50003, udp 49152-57500"), "{text}");
}

#[test]
fn every_unknown_role_is_named_with_the_nearest_one() {
    let output = lyncwall(&["show", "direktor-vip", "mediatoin"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    let message = stderr(&output);
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 2, "{message}");
    assert!(
        lines[0].starts_with("error: ") && lines[0].contains("did you mean `director-vip`?"),
        "{message}"
    );
    assert!(lines[1].starts_with("error: ") && lines[1].contains("did you mean `mediation`?"), "{message}");
}

#[test]
fn an_add_on_alone_is_refused_with_its_role() {
    let output = lyncwall(&["show", "collocated-mediation"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "error: `collocated-mediation` is an add-on of `front-end`; name `front-end` as well\n"
    );
}

#[test]
fn a_wrong_command_line_is_the_users_mistake() {
    for arguments in [&["nonsense"][..], &["show"], &["show", "director", "--reading", "loose"], &[]] {
        let output = lyncwall(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert!(stderr(&output).contains("--help"), "{arguments:?}: {}", stderr(&output));
    }
    assert_eq!(lyncwall(&["--help"]).status.code(), Some(0));
    assert_eq!(lyncwall(&["catalogue", "server.99"]).status.code(), Some(1));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    // JSON of the rows is larger than a pipe holds, so the writer is still at it when the reader leaves.
    let mut child = command(&["catalogue", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lyncwall runs");
    let mut line = String::new();
    let pipe = child.stdout.take().expect("a pipe");
    BufReader::with_capacity(16, pipe).read_line(&mut line).expect("a first line");
    assert_eq!(line, "[\n");
    let mut message = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut message).expect("stderr is UTF-8");
    assert_eq!(message, "");
    assert_eq!(child.wait().expect("lyncwall ends").code(), Some(0));
}

#[test]
fn a_full_disk_is_unexpected() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full opens");
    let output = command(&["roles"]).stdout(full).output().expect("lyncwall runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
}

const HEAD: &str = "edition = \"mine\"\n[tables]\nmine = \"My table\"\n[groups]\nedge = \"Edge\"\n";

/// A row of a small catalogue, with further lines.
fn row(id: &str, ports: &str, more: &str) -> String {
    format!(
        "[[row]]\nid = \"{id}\"\nrole = \"Box\"\ntransport = \"tcp\"\nports = {ports}\n\
         application = \"HTTPS\"\ndirection = \"inbound\"\nnote = \"n\"\n{more}\n"
    )
}

fn role(key: &str, more: &str) -> String {
    format!("[[role]]\nkey = \"{key}\"\nkind = \"server\"\nprinted = \"Box\"\nsummary = \"s\"\n{more}\n")
}

/// The message lines about a catalogue file, without `error: ` and the file's name.
fn complaints(name: &str, text: &str) -> Vec<String> {
    let path = written(name, text);
    let output = lyncwall(&["roles", "--catalogue", path.to_str().expect("a UTF-8 path")]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let prefix = format!("error: {}", path.display());
    stderr(&output)
        .lines()
        .map(|line| line.strip_prefix(&prefix).unwrap_or_else(|| panic!("{line} names no file")).to_owned())
        .collect()
}

#[test]
fn a_catalogue_of_ones_own_works() {
    let text = format!("{HEAD}{}{}", row("mine.1", "[80, 443]", ""), role("box", "rows = [\"mine.1\"]"));
    let path = written("own.toml", &text);
    let shown = json(&["show", "box", "--json", "--catalogue", path.to_str().expect("a UTF-8 path")]);
    assert_eq!(shown["inbound"].as_array().map(Vec::len), Some(2));
}

#[test]
fn all_mistakes_of_a_catalogue_are_reported_each_with_its_place() {
    let text = [
        HEAD,
        &row("mine.1", "70000", ""),
        &row(
            "mine.1",
            "\"20-10\"",
            "strict = { ruling = \"needs-group\", groups = [\"nobody\"], why = \"w\" }",
        ),
        &row("other.1", "[1, 0]", ""),
        &role("box", "rows = [\"mine.1\", \"mine.9\"]\nextends = \"shelf\""),
        &role("box", "also = [{ rows = [\"mine.1\"], ports = 1, ruling = \"optional\" }]"),
    ]
    .concat();
    let expected = [
        ":10:9: row[0].ports: 70000 is out of range; a port is a number from 1 to 65535",
        ":16:6: row[1].id: row `mine.1` already exists on line 7; remove or rename one of the two",
        ":19:9: row[1].ports: the range `20-10` ends before it starts; write \"10-20\"",
        ":23:46: row[1].strict.groups[0]: unknown group `nobody`; add it to [groups]",
        ":25:6: row[2].id: the row `other.1` does not name a table; begin the id with a key of [tables] and a dot",
        ":28:13: row[2].ports[1]: 0 is out of range; a port is a number from 1 to 65535",
        ":34:7: role[0].key: a role needs both `extends` and the kind `add-on`, or neither; give `extends` to add-ons, and to no other role",
        ":38:19: role[0].rows[1]: unknown row `mine.9`; did you mean `mine.1`?",
        ":39:11: role[0].extends: unknown role `shelf`; name the key of a [[role]]",
        ":41:7: role[1].key: role `box` already exists on line 34; remove or rename one of the two",
        ":45:9: role[1].also[0].why: this stays closed without a reason; add `why`",
        ":45:9: role[1].also[0].id: an option needs an `id`; add the name to enable it by",
        ":45:9: role[1].also[0].transport: `ports` and `transport` need each other; add `transport = \"tcp\"`, \"udp\" or \"both\"",
    ];
    assert_eq!(complaints("mistakes.toml", &text), expected);
}

#[test]
fn a_catalogue_of_the_wrong_shape_is_reported_with_its_place() {
    let good = format!("{HEAD}{}{}", row("mine.1", "80", ""), role("box", "rows = [\"mine.1\"]"));
    let cases = [
        (
            "nota = ",
            good.replace("note = ", "nota = "),
            ":13:1: row[0].nota: `nota` is not a key of this table; did you mean `note`?",
        ),
        (
            "true",
            good.replace("ports = 80", "ports = true"),
            ":10:9: row[0].ports: expected a port, found true or false",
        ),
        (
            "kind",
            good.replace("\"server\"", "\"servant\""),
            ":17:8: role[0].kind: `servant` is not a valid value",
        ),
        (
            "range",
            good.replace("ports = 80", "ports = \"many\""),
            ":10:9: row[0].ports: `many` in quotes is not a port range",
        ),
        ("gap", good.replace("note = \"n\"", ""), ":6:1: row[0].note: `note` is missing"),
        ("syntax", good.replace("[tables]", "[tables"), ":2:8: not TOML: "),
    ];
    for (name, text, expected) in cases {
        assert_ne!(text, good, "{name}");
        let complaints = complaints("shape.toml", &text);
        assert_eq!(complaints.len(), 1, "{name}: {complaints:?}");
        assert!(complaints[0].starts_with(expected), "{name}: {complaints:?}");
    }
}

#[test]
fn a_catalogue_that_is_not_there_is_the_users_mistake() {
    for (name, expected) in [
        ("lync-2010", "error: unknown catalogue `lync-2010`; use `lync-2013`"),
        ("./nowhere.toml", "error: ./nowhere.toml: cannot read the catalogue: "),
    ] {
        let output = lyncwall(&["catalogue", "--catalogue", name]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));
    }
}

const CONFIG: &str = "\
[management]
from = [\"192.0.2.0/28\"]
tcp = [22]

[[interface]]
name = \"eth0\"

[groups]
edge = [\"192.0.2.20\"]
servers = [\"10.0.0.0/8\", \"2001:db8::/32\"]

[[target]]
roles = [\"director-vip\", \"backup\"]
optional = []

[[role]]
name = \"backup\"
note = \"the backup agent\"

[[role.row]]
name = \"agent\"
transport = \"tcp\"
ports = 1556
groups = [\"servers\"]
note = \"agent\"
";

#[test]
fn roles_and_show_know_the_roles_and_groups_of_a_configuration() {
    let path = written("groups.toml", CONFIG);
    let path = path.to_str().expect("a UTF-8 path");
    let roles = json(&["roles", "--json", "--config", path]);
    let own = roles.as_array().expect("an array").last().expect("a role").clone();
    assert_eq!(own, json!({"key": "backup", "kind": "own", "printed": "backup", "rows": ["backup.agent"]}));
    let text = stdout(&lyncwall(&["roles", "--config", path]));
    assert!(text.contains("Your own") && text.contains("the backup agent"), "{text}");

    let shown = json(&["show", "--json", "--config", path, "director-vip", "backup"]);
    let inbound = shown["inbound"].as_array().expect("an array");
    let of = |port: u16| inbound.iter().find(|rule| rule["first"] == port).expect("an open port");
    assert_eq!(
        *of(1556),
        json!({"transport": "tcp", "first": 1556, "last": 1556, "sources": ["servers"], "rows": ["backup.agent"]})
    );
    assert_eq!(of(5061).get("unbound"), None);
    assert_eq!(of(4443)["unbound"], json!(["reverse-proxy"]));
    let text = stdout(&lyncwall(&["show", "--config", path, "director-vip", "backup"]));
    assert!(text.contains("anywhere: set [groups].reverse-proxy") && text.contains("agent"), "{text}");
    // A row that needs its group opens where that has prefixes.
    let open = |arguments: &[&str]| {
        json(arguments)["inbound"].as_array().expect("an array").iter().any(|rule| rule["first"] == 1434)
    };
    assert!(open(&["show", "--json", "--config", path, "mediation"]));
    assert!(!open(&["show", "--json", "--catalogue", "lync-2013", "mediation"]));
    let both = lyncwall(&["roles", "--config", path, "--catalogue", "lync-2013"]);
    assert_eq!(both.status.code(), Some(1));
}

#[test]
fn check_tells_groups_and_what_is_open_for_lack_of_one() {
    let path = written("groups-check.toml", CONFIG);
    let path = path.to_str().expect("a UTF-8 path");
    let output = lyncwall(&["check", "--config", path]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("edge (1 prefix), servers (2 prefixes)"), "{}", stdout(&output));
    let warned = "warning: target host: tcp 4443, tcp 8080 are open to the world: set [groups].reverse-proxy";
    assert!(stderr(&output).lines().any(|line| line == warned), "{}", stderr(&output));

    let bad = CONFIG
        .replace("edge =", "egde =")
        .replace("10.0.0.0/8", "10.0.0.1/8")
        .replace("optional = []", "optional = [\"director.06\"]\noverrides = { \"server.29\" = 1 }");
    let path = written("groups-bad.toml", &bad);
    let output = lyncwall(&["check", "--config", path.to_str().expect("a UTF-8 path")]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    let places: Vec<&str> = message
        .lines()
        .filter_map(|line| line.split("groups-bad.toml:").nth(1)?.split(": ").nth(1))
        .collect();
    assert_eq!(
        places,
        ["groups.egde", "groups.servers[0]", "target[0].optional[0]", "target[0].overrides.\"server.29\""],
        "{message}"
    );
}
