//! The mistakes of a catalogue's file.

use std::path::Path;

use super::file::parse;

const GOOD: &str = r#"edition = "mine"
[tables]
mine = "My table"
[groups]
edge = "Edge"

[[row]]
id = "mine.1"
role = "Box"
transport = "tcp"
ports = [80, 443]
application = "HTTPS"
direction = "inbound"
note = "n"

[[row]]
id = "mine.2"
role = "Box"
transport = "udp"
ports = "5000-5010"
application = "SRTP"
direction = "both"
note = "n"
strict = { groups = ["edge"] }

[[role]]
key = "box"
kind = "server"
printed = "Box"
summary = "s"
rows = ["mine.1", "mine.2"]
"#;

/// The mistakes of `GOOD` with each `from` replaced by its `to`.
#[track_caller]
fn mistakes(changes: &[(&str, &str)]) -> Vec<String> {
    let mut text = GOOD.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from:?}");
        text = text.replace(from, to);
    }
    let problems = parse(&text, Path::new("c.toml")).expect_err("this is a bad file");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn mistakes_of_shape_and_of_content_come_together() {
    assert!(parse(GOOD, Path::new("c.toml")).is_ok());
    let found = mistakes(&[
        ("\"HTTPS\"", "443"),
        ("direction = \"both\"", "direction = \"both\"\noptoinal = true"),
        ("[80, 443]", "[80, 70000]"),
        ("[\"edge\"]", "[\"egde\"]"),
        ("id = \"mine.2\"", "id = \"mine.1\""),
        ("[\"mine.1\", \"mine.2\"]", "[\"mine.1\", \"their.2\"]"),
    ]);
    let expected = [
        "c.toml:11:14: row[0].ports[1]: 70000 is out of range; a port is a number from 1 to 65535",
        "c.toml:12:15: row[0].application: expected a string, found an integer; put it in quotes",
        "c.toml:17:6: row[1].id: row `mine.1` already exists on line 8; remove or rename one of the two",
        "c.toml:23:1: row[1].optoinal: `optoinal` is not a key of this table; did you mean `optional`?",
        "c.toml:25:22: row[1].strict.groups[0]: unknown group `egde`; did you mean `edge`?",
        "c.toml:32:19: role[0].rows[1]: unknown row `their.2`; name the id of a [[row]]",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_byte_order_mark_takes_no_column() {
    let changes = [("\"mine\"", "1"), ("edge = \"Edge\"", "edge = 2")];
    let plain = mistakes(&changes);
    assert_eq!(plain.len(), 2, "{plain:?}");
    assert!(plain[0].starts_with("c.toml:1:11: edition: expected a string"), "{plain:?}");
    let marked = [changes[0], changes[1], ("edition = ", "\u{feff}edition = ")];
    assert_eq!(mistakes(&marked), plain);
}

#[test]
fn a_syntax_error_hides_no_mistake_and_invents_none() {
    // The first row is lost, so nobody knows which rows there are; the other mistakes stand.
    let found =
        mistakes(&[("\n\n[[row]]\nid = \"mine.1\"", "\n\n[[row]\nid = \"mine.1\""), ("\"server\"", "5")]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("c.toml:7:") && found[0].contains("not TOML"), "{found:?}");
    assert!(found[1].starts_with("c.toml:28:8: role[0].kind: expected a string"), "{found:?}");
}

#[test]
fn a_row_without_a_readable_id_may_be_the_one_that_a_role_names() {
    let found = mistakes(&[("id = \"mine.2\"", "idd = \"mine.2\"")]);
    let expected = "c.toml:17:1: row[1].idd: `idd` is not a key of this table; did you mean `id`?";
    assert_eq!(found, [expected]);
}

#[test]
fn what_belongs_to_the_whole_file_is_sent_to_its_top() {
    let found = mistakes(&[("edition = \"mine\"\n", ""), ("[groups]", "[groups]\n")]);
    assert_eq!(found, ["c.toml: edition: `edition` is missing; add it, with a text in quotes"]);
    let found = mistakes(&[("note = \"n\"\nstrict", "note = \"n\"\nedition = \"2\"\nstrict")]);
    let fix = "put it above the first `[table]`: it is for the whole file";
    assert_eq!(found, [format!("c.toml:24:1: row[1].edition: `edition` is not a key of this table; {fix}")]);
}

#[test]
fn calls_presets_and_pages_are_checked_like_the_rest() {
    let role = "rows = [\"mine.1\", \"mine.2\"]\n";
    let more = "calls = [{ rows = [\"mine.2\"], to = [], why = \"w\", pages = [\"pgae\"] }]\n\
                presets = [{ id = \"mine.1\", what = \"w\", overrides = { \"mine.9\" = 1 } }]\n";
    let found = mistakes(&[
        (role, &format!("{role}{more}")),
        ("[tables]", "[pages]\npage = { title = \"A page\", name = \"page\" }\n[tables]"),
        ("groups = [\"edge\"]", "more = [\"edge\"]"),
    ]);
    let expected = [
        "c.toml:26:19: row[1].strict.more: this is for anybody already; name the other sources in `groups`",
        "c.toml:34:10: role[0].calls[0].to: this call names no group that it goes to; add `to`",
        "c.toml:34:60: role[0].calls[0].pages[0]: unknown page `pgae`; did you mean `page`?",
        "c.toml:35:19: role[0].presets[0].id: row `mine.1` already exists on line 10; remove or rename one of the two",
        "c.toml:35:55: role[0].presets[0].overrides.\"mine.9\": unknown row `mine.9`; did you mean `mine.1`?",
    ];
    assert_eq!(found, expected);
}
