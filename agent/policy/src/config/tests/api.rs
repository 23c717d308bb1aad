//! `[api]` and `[metrics]`.

use super::{LEAST, good, one_problem, places, problems};

#[test]
fn without_the_tables_the_socket_is_roots_and_nothing_listens() {
    let config = good(LEAST);
    assert_eq!((config.api.readers, config.api.group), (None, None));
    assert!(config.metrics.is_empty());
    let config = good(&format!("{LEAST}[api]\n[metrics]\nlisten = []\n"));
    assert!(config.api.readers.is_none() && config.metrics.is_empty());
}

#[test]
fn groups_and_addresses_are_read_with_their_places() {
    let text = format!(
        "{LEAST}[api]\nreaders = \"adm\"\ngroup = \"sudo\"\n[metrics]\nlisten = [\"127.0.0.1:9464\", \"[::1]:9464\"]\n"
    );
    let config = good(&text);
    let readers = config.api.readers.expect("readers");
    assert_eq!((&*readers.name, readers.place.line), ("adm", 11));
    assert_eq!(config.api.group.expect("a group").name, "sudo");
    let addresses: Vec<String> = config.metrics.iter().map(|listen| listen.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:9464", "[::1]:9464"]);
}

#[test]
fn mistakes_in_them_are_told_with_their_places() {
    let api = |text: &str| format!("{LEAST}[api]\n{text}\n");
    one_problem(&api("readers = \"\""), "11:11 api.readers", "has no name", "leave the key out");
    one_problem(&api("users = \"adm\""), "11:1 api.users", "not a key", "readers, group");
    assert_eq!(
        places(&problems(&api("readers = 4\ngroup = [\"sudo\"]"))),
        ["11:11 api.readers", "12:9 api.group"]
    );
    let metrics = |text: &str| format!("{LEAST}[metrics]\nlisten = [{text}]\n");
    let no_port = metrics("\"127.0.0.1\"");
    one_problem(&no_port, "11:11 metrics.listen[0]", "not an address with a port", "127.0.0.1:9464");
    one_problem(&metrics("\"[::1]:0\""), "11:11 metrics.listen[0]", "port 0", "9464");
    one_problem(&metrics("\"[::1]:1\", \"[::1]:1\""), "11:22 metrics.listen[1]", "in", "");
    for (pair, place) in [
        ("\"0.0.0.0:1\", \"127.0.0.1:1\"", "11:24 metrics.listen[1]"),
        ("\"[::1]:1\", \"[::]:1\"", "11:22 metrics.listen[1]"),
    ] {
        one_problem(&metrics(pair), place, "cannot both be served", "keep the one");
    }
    good(&metrics("\"0.0.0.0:1\", \"[::]:1\", \"127.0.0.1:2\""));
    let many: Vec<String> = (1..10).map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    one_problem(&metrics(&many.join(",")), "11:123 metrics.listen[8]", "at most 8", "0.0.0.0");
}
