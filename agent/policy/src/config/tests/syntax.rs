//! Files that are not TOML: the errors, and that the rest of the file is judged all the same.

use proptest::prelude::*;

use super::{LEAST, changed, one_problem, places, problems};
use crate::config::parse;

#[test]
fn a_value_without_quotes() {
    one_problem(&changed("\"eth0\"", "eth0"), "6:8 ", "needs quotes", "in quotes");
    one_problem(&changed("\"10.0.0.0/8\"", "10.0.0.0/8"), "2:13 ", "not a number", "in quotes");
    one_problem(&changed("\"eth0\"", ""), "6:8 ", "no value after the `=`", "write one");
    one_problem(&changed("\"eth0\"", "\"eth0\"\ndhcp-client = True"), "7:15 ", "lower case", "`true`");
    one_problem(&changed("\"eth0\"", "\"eth0"), "6:13 ", "invalid basic string", "correct it");
}

#[test]
fn a_key_or_table_that_is_there_twice() {
    one_problem(&changed("tcp = [22]", "tcp = [22]\ntcp = [23]"), "4:1 ", "already exists", "keep one");
    let single = changed("[[target]]", "[[target]]\nroles = []\n[target]");
    one_problem(&single, "10:2 ", "already exists", "double brackets");
}

#[test]
fn a_list_that_is_not_closed_is_one_mistake_and_hides_no_other() {
    let text = changed("[\"10.0.0.0/8\"]", "[\"10.0.0.0/8\"").replace("\"eth0\"", "7");
    let found = problems(&text);
    assert_eq!(places(&found), ["2:8 ", "6:8 interface[0].name"], "{found}");
    assert!(found.to_string().contains("not closed"), "{found}");
    one_problem(&changed("[\"director\"]", "[\"director\""), "9:20 ", "unclosed array", "correct it");
    one_problem(
        &changed("[\"director\"]", "[\n  \"director\",\n  proxy,\n]"),
        "11:3 ",
        "needs quotes",
        "in quotes",
    );
}

#[test]
fn a_line_without_a_value_hides_nothing_behind_it() {
    let found =
        problems(&format!("mode audit\nreading: strict\n{}", changed("tcp = [22]", "tcp = [0]\nudp = x")));
    assert_eq!(places(&found), ["1:6 ", "2:8 ", "5:8 management.tcp[0]", "6:7 "], "{found}");
}

#[test]
fn a_broken_header_costs_its_own_table_only() {
    let broken =
        changed("[[target]]", "[[target]]\nname = \"a\"\nroles = []\n[[target\nname = \"b\"\n[[target]]");
    let found = problems(&format!("{broken}address = \"me\"\n"));
    assert_eq!(places(&found), ["11:9 ", "15:11 target[2].address"], "{found}");
}

#[test]
fn a_file_that_is_nothing_like_toml_ends_with_a_bounded_list() {
    let text = "%%% nothing\n".repeat(500);
    let count = problems(&text).iter().count();
    assert!((1..=50).contains(&count), "{count} problems");
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(problems(&deep).iter().count() <= 50);
}

/// Pieces of a configuration, whole and broken, to be put together at random.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "[management]",
        "[[interface]]",
        "[[zone]]",
        "[[target]]",
        "[[allow]]",
        "[target",
        "[[allow",
        "[a.b]",
        "name = \"a\"",
        "name = 7",
        "from = [\"10.0.0.0/8\"]",
        "from = [",
        "]",
        "tcp = [22, 22]",
        "roles = []",
        "roles = [\"a\", b]",
        "address = \"host\"",
        "address = [\"::\"]",
        "zone = \"a\"",
        "transport = \"tcp\"",
        "ports = [1, \"2-3\"]",
        "protocol = 6",
        "target = \"a\"",
        "mode = \"audit\"",
        "management = \"none\"",
        "target = 1",
        "zone = []",
        "x = \"\"\"",
        "x = { a = 1,",
        "= 1",
        "name",
        "é = \"ü",
        "target.x = 1",
        "\r",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => "\\PC{0,12}"]
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(pieces in prop::collection::vec(piece(), 0..24)) {
        let text = pieces.join("\n");
        if let Err(problems) = parse(&text, std::path::Path::new("test.toml")) {
            prop_assert!(!problems.is_empty());
            let lines = text.matches('\n').count() + 1;
            for place in problems.iter().filter_map(|problem| problem.place.as_ref()) {
                prop_assert!(place.line <= lines);
            }
        }
    }

    #[test]
    fn one_damaged_byte_never_makes_the_reader_panic(at in 0..LEAST.len(), byte in 0u8..128) {
        let mut bytes = LEAST.as_bytes().to_vec();
        bytes[at] = byte;
        let text = String::from_utf8(bytes).expect("ASCII in ASCII");
        if let Err(problems) = parse(&text, std::path::Path::new("test.toml")) {
            prop_assert!(!problems.is_empty());
        }
    }
}
