//! What stands on the screen, and what keys do to it.

use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::eventually;

use super::{PATIENT, Seen, open};

#[test]
fn the_screen_shows_what_status_and_counters_say() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    open(&scene, 443, 12);
    open(&scene, 3389, 7);
    open(&scene, 445, 2);
    let counted = eventually(PATIENT, || {
        let counters = api.counters().expect("counters");
        (counters.rule("tcp", "443"), counters.port("tcp", 3389), counters.port("tcp", 445)) == (12, 7, 2)
    });
    assert!(counted, "{:?}", api.counters().expect("counters").0);

    let seen = Seen::watch(&scene, (24, 80), &[]);
    let interface = format!("{} native", Pair::HOST_LINK);
    seen.expect(&[
        "generation 1 enforcing",
        "host: reverse-proxy",
        &interface,
        "% full",
        "[1 Reasons]",
        "q quit",
    ]);
    let (mut shown, mut told) = (None, None);
    let agree = eventually(PATIENT, || {
        let (status, counters) = (api.status().expect("a status"), api.counters().expect("counters").0);
        let sum = |action: &str| -> u64 {
            counters.reasons.iter().filter(|count| count.action == action).map(|count| count.packets).sum()
        };
        shown = Some((seen.total("passed"), seen.total("dropped")));
        told = Some([(status.passed, status.dropped), (sum("pass"), sum("drop"))]);
        told == Some([(status.passed, status.dropped); 2])
            && shown == Some((Some(status.passed), Some(status.dropped)))
    });
    assert!(agree, "{shown:?} on the screen, {told:?} said:\n{}", seen.text());
    let closed = format!("closed drop {} ", api.counters().expect("counters").of("closed", "drop"));
    seen.expect(&[&closed, "A port that no rule opens."]);
    seen.press("2");
    seen.expect(&["[2 Rules]", "TARGET", "reverse-pr", "tcp 443", " 12 0"]);
    seen.press("\t");
    seen.expect(&["[3 Ports]", "> tcp 3389 7", "tcp 445 2"]);

    // The sample begins with the screen.
    let dropped = api.status().expect("a status").dropped;
    open(&scene, 3389, 3);
    seen.expect(&["> tcp 3389 10", "closed"]);
    assert!(eventually(PATIENT, || seen.total("dropped") == Some(dropped + 3)), "{}", seen.text());
    seen.press("4");
    seen.expect(&["[4 Sources]", &Pair::CLIENT_V4.to_string(), "a sample of the drops"]);
    seen.press("5");
    let packet = format!("> {}:3389", Pair::HOST_V4);
    seen.expect(&["[5 Drops]", "drop", "closed", &packet]);
    seen.press("\r");
    // The agent is asked, and its explanation stands in the place of the event.
    seen.expect(&[
        "Drop: closed",
        "verdict now is dropped: closed. A port that no rule opens.",
        "comes in by",
        Pair::HOST_LINK,
    ]);
    seen.press("\x1b");
    seen.expect(&["[5 Drops]", "TIME*"]);
}

#[test]
fn keys_sort_filter_and_pause_and_the_size_may_change() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    open(&scene, 3389, 5);
    open(&scene, 445, 1);
    let seen = Seen::watch(&scene, (24, 80), &[]);
    seen.press("3");
    seen.expect(&["> tcp 3389", "tcp 445", "DROPPED*"]);
    seen.press("r");
    seen.expect(&["> tcp 445", "DROPPED^"]);
    let place = |port: &str| seen.text().find(port).expect("it is there");
    assert!(place("tcp 445") < place("tcp 3389"), "the least first:\n{}", seen.text());
    seen.press("r");
    seen.expect(&["DROPPED*"]);

    seen.press("/tcp 44");
    seen.expect(&["filter: tcp 44_"]);
    seen.expect_no("tcp 3389");
    seen.press("\r");
    seen.expect(&["[filter: tcp 44]", "> tcp 445"]);
    seen.press("\x1b");
    seen.expect(&["tcp 3389", "tcp 445"]);

    seen.press(" ");
    seen.expect(&["PAUSED"]);
    open(&scene, 3389, 4);
    assert!(eventually(PATIENT, || api.counters().expect("counters").port("tcp", 3389) == 9));
    // Longer than until the next look.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    seen.expect(&["PAUSED", "> tcp 3389 5"]);
    seen.press(" ");
    seen.expect_no("PAUSED");
    seen.expect(&["> tcp 3389 9"]);

    seen.resize(40, 120);
    let last =
        |rows: u16| seen.asked(|screen| screen.rows(0, 120).nth(usize::from(rows) - 1)).unwrap_or_default();
    assert!(eventually(PATIENT, || last(40).contains("q quit")), "{}", seen.text());
    seen.resize(12, 60);
    assert!(eventually(PATIENT, || last(12).contains("s sort")), "{}", seen.text());
    seen.expect(&["tcp 3389"]);
    seen.press("?");
    seen.expect(&["Tab, 1-5"]);
}

#[test]
fn an_agent_that_ends_is_waited_for() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    open(&scene, 3389, 5);
    let seen = Seen::watch(&scene, (24, 80), &[]);
    seen.press("3");
    seen.expect(&["> tcp 3389 5"]);
    agent.kill().expect("it ran");
    seen.expect(&["THE AGENT DOES NOT ANSWER", "no agent serves"]);
    open(&scene, 3389, 2);
    let _agent = scene.instance.start().expect("the next agent");
    seen.expect_no("THE AGENT DOES NOT ANSWER");
    seen.expect(&["generation 2 enforcing", "> tcp 3389 7"]);
    // Its drops are heard again.
    seen.press("5");
    let heard = eventually(PATIENT, || {
        open(&scene, 3389, 1);
        std::thread::sleep(std::time::Duration::from_millis(300));
        seen.text().contains(":3389 SYN")
    });
    assert!(heard, "{}", seen.text());
    assert!(api.status().is_ok());
}

#[test]
fn audit_mode_says_what_would_have_been_dropped() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let audit = Config::roles(&["reverse-proxy"]).top("mode = \"audit\"");
    let (_agent, _api) = scene.start(&audit).expect("an agent");
    let seen = Seen::watch(&scene, (24, 80), &[]);
    seen.expect(&["AUDIT: drops nothing"]);
    open(&scene, 3389, 5);
    seen.expect(&["closed would-drop", "would-drop: "]);
    seen.press("5");
    seen.expect(&["would-drop closed"]);
    // Nothing was dropped at the port.
    seen.press("3");
    seen.expect(&["tcp 3389 0", "would-drop closed 5"]);
    seen.press("\r");
    seen.expect(&["Drops at tcp 3389", "would-drop closed tcp"]);
}
