//! `[limit]`, and a target's own.

use super::{LEAST, good, one_problem, places, problems};
use crate::config::Openings;

#[test]
fn limits_are_read_for_the_box_and_for_a_target() {
    assert_eq!((good(LEAST).limit, good(LEAST).targets[0].limit), (None, None));
    let config = good(&format!("{LEAST}[target.limit]\nopenings-per-second = 5\nburst = 50\n"));
    assert_eq!((config.limit, config.targets[0].limit), (None, Some(Openings { per_second: 5, burst: 50 })));
    // A second's worth at once where nothing else is said.
    let config = good(&format!("{LEAST}[limit]\nopenings-per-second = 100000\n"));
    assert_eq!(config.limit, Some(Openings { per_second: 100_000, burst: 100_000 }));
    let config = good(&format!("{LEAST}limit = {{ openings-per-second = 1 }}\n"));
    assert_eq!((config.limit, config.targets[0].limit), (None, Some(Openings { per_second: 1, burst: 1 })));
}

#[test]
fn mistakes_in_limits_are_told_with_their_places() {
    let limit = |text: &str| format!("{LEAST}[limit]\n{text}\n");
    one_problem(&limit(""), "10:1 limit.openings-per-second", "missing", "a second, as 20");
    one_problem(
        &limit("rate = 5\nopenings-per-second = 5"),
        "11:1 limit.rate",
        "not a key",
        "the keys are openings-per-second, burst",
    );
    let zero = limit("openings-per-second = 0");
    one_problem(&zero, "11:23 limit.openings-per-second", "0 is out of range", "from 1 to 100000");
    let text = limit("openings-per-second = \"many\"\nburst = 100001");
    assert_eq!(places(&problems(&text)), ["11:23 limit.openings-per-second", "12:9 limit.burst"]);
    let target = format!("{LEAST}limit = 5\n[limit]\nburst = 3\n");
    assert_eq!(places(&problems(&target)), ["10:9 target[0].limit", "11:1 limit.openings-per-second"]);
}

#[test]
fn the_size_of_the_tables_and_early_fragments_are_read() {
    let config = good(LEAST);
    // By the memory of the machine, and none.
    assert_eq!((config.flows.size, config.early_fragments), (None, 0));
    let config = good(&format!("{LEAST}[flows]\nsize = 1024\n[fragments]\nearly = 1000\n"));
    assert_eq!((config.flows.size, config.early_fragments), (Some(1024), 1000));
    let fragments = |text: &str| format!("{LEAST}[fragments]\n{text}\n");
    one_problem(&fragments("early = 1001"), "11:9 fragments.early", "1001 is out of range", "from 0 to 1000");
    one_problem(&fragments(""), "10:1 fragments.early", "missing", "as 10");
    one_problem(&fragments("early = 1\nlate = 2"), "12:1 fragments.late", "not a key", "the keys are early");
}
