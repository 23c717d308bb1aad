//! Changes that are to be confirmed: kept, gone back from by somebody, and gone back from by the program itself.

use std::thread;
use std::time::{Duration, Instant};

use lyncwall_api::Existing;
use lyncwall_tests::agent::{Agent, Api, Finished};
use lyncwall_tests::expect::{BRIEF, PATIENT, refusal};
use lyncwall_tests::kernel::is_emulated;
use lyncwall_tests::netns::{End, Pair, veth};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{Outcome, TcpEcho, eventually, tcp_connect, tcp_exchange, tcp_open};

/// The roles before a change, the roles to change to, and a port that only those open.
const BEFORE: &str = "reverse-proxy";
const AFTER: &str = "director-vip";
const PORT: u16 = 5061;
/// A port that both open.
const BOTH: u16 = 443;

/// Seconds for a test that lets them pass: the time that everything takes meanwhile must be less.
fn short() -> u64 {
    if is_emulated() { 20 } else { 3 }
}

/// True where an opening gets through to the host, whose stack refuses it: nobody listens.
fn passes(scene: &Scene, port: u16) -> bool {
    match tcp_connect(&scene.pair.client, Scene::v4(port), BRIEF).expect("a try") {
        Outcome::Refused | Outcome::Answered => true,
        Outcome::TimedOut => false,
    }
}

/// Which of the roles above judge.
#[track_caller]
fn expect_after(scene: &Scene, after: bool) {
    assert!(passes(scene, BOTH), "both open it");
    assert_eq!(passes(scene, PORT), after, "port {PORT}");
}

fn started() -> (Scene, Agent, Api) {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::roles(&[BEFORE])).expect("an agent");
    expect_after(&scene, false);
    (scene, agent, api)
}

fn roles(api: &Api) -> Vec<String> {
    api.status().expect("a status").targets.remove(0).roles
}

/// Waits until the program has gone back; it must not do so before `earliest`, and soon after `latest`.
#[track_caller]
fn expect_return_between(scene: &Scene, earliest: Instant, latest: Instant) {
    while passes(scene, PORT) {
        assert!(Instant::now() < latest + PATIENT, "it does not go back");
    }
    let now = Instant::now();
    assert!(now >= earliest, "{:?} early", earliest - now);
    // A few ticks of 10 ms at most, and the time to see it.
    let slack = Duration::from_millis(if is_emulated() { 3000 } else { 500 });
    assert!(now <= latest + BRIEF + slack, "{:?} late", now - latest);
}

#[test]
fn what_is_confirmed_holds() {
    let (scene, _agent, api) = started();
    let switched = api.switch_within(&[AFTER], short()).expect("a switch");
    assert_eq!(switched.confirm, Some(short()));
    expect_after(&scene, true);
    let waiting = api.status().expect("a status").waiting.expect("it waits");
    assert!((1..=short()).contains(&waiting.seconds), "{waiting:?}");
    assert_eq!((waiting.targets[0].roles.as_slice(), waiting.changes.len()), (&[BEFORE.to_owned()][..], 0));

    let confirmed = api.confirm().expect("a confirmation");
    assert_eq!((confirmed.generation, confirmed.warnings.len()), (switched.generation, 0));
    assert_eq!(api.status().expect("a status").waiting, None);
    thread::sleep(Duration::from_secs(short() + 1));
    expect_after(&scene, true);
    assert_eq!(roles(&api), [AFTER]);
    assert!(refusal(api.confirm()).contains("no change waits for confirmation"));
    // And the next change is not held up.
    api.switch(&[BEFORE]).expect("a switch");
    expect_after(&scene, false);
}

#[test]
fn what_nobody_confirms_goes_back_by_itself_and_the_agent_follows() {
    let (scene, agent, api) = started();
    let count = |api: &Api| {
        let counters = api.counters().expect("counters");
        let rules = counters.0.rules.into_iter();
        rules.filter(|rule| rule.ports == BOTH.to_string()).map(|rule| rule.packets).sum::<u64>()
    };
    let counted = count(&api);
    let asked = Instant::now();
    api.switch_within(&[AFTER], short()).expect("a switch");
    let answered = Instant::now();
    expect_after(&scene, true);
    let time = Duration::from_secs(short());
    expect_return_between(&scene, asked + time, answered + time);
    agent.wait_for_log("nobody confirmed in time").expect("the log says so");
    expect_after(&scene, false);
    let status = api.status().expect("a status");
    assert_eq!((status.targets[0].roles.as_slice(), status.waiting), (&[BEFORE.to_owned()][..], None));
    assert!(!status.targets[0].tcp.contains(&PORT.to_string()), "{:?}", status.targets[0].tcp);
    assert!(count(&api) > counted, "the rule keeps its counter and counts");
    assert!(refusal(api.confirm()).contains("no change waits"));
    api.switch(&[AFTER]).expect("a switch");
    expect_after(&scene, true);
}

#[test]
fn the_program_goes_back_without_an_agent() {
    let (scene, agent, api) = started();
    let asked = Instant::now();
    api.switch_within(&[AFTER], short()).expect("a switch");
    let answered = Instant::now();
    agent.kill().expect("a dead agent");
    expect_after(&scene, true);
    let time = Duration::from_secs(short());
    expect_return_between(&scene, asked + time, answered + time);
    expect_after(&scene, false);

    let agent = scene.instance.start().expect("the next agent");
    agent.wait_for_log("not confirmed").expect("the log says so");
    assert_eq!((roles(&api), api.status().expect("a status").waiting), (vec![BEFORE.to_owned()], None));
    expect_after(&scene, false);
    // The slots go round.
    for _ in 0..3 {
        api.switch(&[AFTER]).expect("a switch");
        expect_after(&scene, true);
        api.switch(&[BEFORE]).expect("a switch");
        expect_after(&scene, false);
    }
}

#[test]
fn the_next_agent_takes_over_what_waits() {
    let (scene, agent, api) = started();
    let time = Duration::from_secs(3 * short());
    let asked = Instant::now();
    api.switch_within(&[AFTER], time.as_secs()).expect("a switch");
    let answered = Instant::now();
    agent.kill().expect("a dead agent");
    let agent = scene.instance.start().expect("the next agent");
    let waiting = api.status().expect("a status").waiting.expect("it waits still");
    assert!(waiting.seconds <= time.as_secs(), "{waiting:?}");
    assert_eq!(roles(&api), [AFTER]);
    expect_after(&scene, true);
    expect_return_between(&scene, asked + time, answered + time);
    agent.wait_for_log("nobody confirmed in time").expect("the log says so");
    assert_eq!(roles(&api), [BEFORE]);
    expect_after(&scene, false);

    // Another time it is confirmed.
    api.switch_within(&[AFTER], 600).expect("a switch");
    agent.kill().expect("a dead agent");
    let agent = scene.instance.start().expect("the next agent");
    api.confirm().expect("a confirmation");
    agent.kill().expect("a dead agent");
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!((roles(&api), api.status().expect("a status").waiting), (vec![AFTER.to_owned()], None));
    expect_after(&scene, true);
}

#[test]
fn a_rollback_goes_back_at_once() {
    let (scene, _agent, api) = started();
    assert!(refusal(api.rollback()).contains("nothing to roll back"));
    api.switch_within(&[AFTER], 600).expect("a switch");
    expect_after(&scene, true);
    let back = api.rollback().expect("a way back");
    assert!(back.closed.iter().any(|change| change.first <= PORT && PORT <= change.last), "{back:?}");
    assert!(back.opened.is_empty() && back.confirm.is_none(), "{back:?}");
    expect_after(&scene, false);
    assert_eq!(roles(&api), [BEFORE]);
    assert!(refusal(api.rollback()).contains("nothing to roll back"));
}

#[test]
fn while_a_change_waits_there_is_no_other_and_no_time_is_no_time() {
    let (scene, mut agent, api) = started();
    for seconds in [0, 86_401] {
        let said = refusal(api.switch_within(&[AFTER, "no-such-role"], seconds));
        assert!(
            said.contains("is not a valid time to confirm in") && said.contains("no-such-role"),
            "{said}"
        );
        assert!(refusal(api.reload_within(seconds)).contains("1s to 24h"));
    }
    expect_after(&scene, false);
    api.switch_within(&[AFTER], 86_400).expect("a switch");
    for said in [refusal(api.switch(&[])), refusal(api.switch_within(&[], 5)), refusal(api.reload())] {
        assert!(said.contains("lyncwall confirm") && said.contains("lyncwall rollback"), "{said}");
    }
    agent.reload().expect("a signal");
    agent.wait_for_log("not reloaded: another change waits").expect("the log says so");
    expect_after(&scene, true);
    api.confirm().expect("a confirmation");
    api.switch(&[]).expect("a switch");
    assert!(!passes(&scene, PORT) && !passes(&scene, BOTH));
}

/// Management from where the client is, by this port.
fn managed(port: u16, roles: &[&str]) -> String {
    let config = Config::roles(roles).management(&["192.0.2.0/24"]);
    config.toml().replace("tcp = [22]", &format!("tcp = [{port}]"))
}

/// Whether each of the two management ports is open.
fn management(scene: &Scene) -> [bool; 2] {
    [22, 2222].map(|port| passes(scene, port))
}

#[test]
fn management_of_before_and_after_gets_in_until_a_reload_is_confirmed() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&managed(22, &[BEFORE])).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    assert_eq!(management(&scene), [true, false]);
    scene.instance.configure(&managed(2222, &[AFTER])).expect("a file");

    let reloaded = api.reload_within(600).expect("a reload");
    assert_eq!(reloaded.confirm, Some(600));
    assert_eq!(management(&scene), [true, true]);
    expect_after(&scene, true);
    let waiting = api.status().expect("a status").waiting.expect("it waits");
    assert_eq!(
        waiting.changes,
        ["management: tcp 2222 from 192.0.2.0/24 to tcp 22 from 192.0.2.0/24".to_owned()]
    );
    api.rollback().expect("a way back");
    assert_eq!(management(&scene), [true, false]);
    expect_after(&scene, false);
    let status = api.status().expect("a status");
    assert_eq!(status.management.expect("a rule").tcp, ["22"]);
    assert!(status.warnings.iter().any(|warning| warning.contains("not confirmed")), "{:?}", status.warnings);

    api.reload_within(600).expect("a reload");
    api.confirm().expect("a confirmation");
    assert_eq!(management(&scene), [false, true]);
    expect_after(&scene, true);
    let warnings = api.status().expect("a status").warnings;
    assert!(!warnings.iter().any(|warning| warning.contains("not confirmed")), "{warnings:?}");
}

#[test]
fn a_file_that_was_tried_in_vain_is_not_taken_by_the_next_start() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&managed(22, &[BEFORE])).expect("a file");
    let agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    scene.instance.configure(&managed(2222, &[AFTER])).expect("a file");
    let asked = Instant::now();
    api.reload_within(short()).expect("a reload");
    let answered = Instant::now();
    agent.kill().expect("a dead agent");
    assert_eq!(management(&scene), [true, true]);
    let time = Duration::from_secs(short());
    expect_return_between(&scene, asked + time, answered + time);
    // Nobody is there to tidy up, and whoever could manage the box can.
    assert!(management(&scene)[0]);

    let agent = scene.instance.start().expect("the next agent");
    agent.wait_for_log("refused or not confirmed").expect("the log says so");
    assert_eq!(management(&scene), [true, false]);
    expect_after(&scene, false);
    // After a boot, too: without any map.
    scene.instance.cli(["detach"]).expect("a way to open the box").success().expect("an open box");
    drop(agent);
    let agent = scene.instance.start().expect("the next agent");
    assert_eq!(management(&scene), [true, false]);
    // Who wants it all the same has it by a reload, for the next start as well.
    api.reload().expect("a reload");
    agent.kill().expect("a dead agent");
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!(management(&scene), [false, true]);
    expect_after(&scene, true);
}

/// The file stands where it was tried, and other changes are tried after it.
#[test]
fn a_confirmed_mode_does_not_bring_back_a_file_that_was_tried_in_vain() {
    use lyncwall_api::Mode::{Audit, Enforce};

    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&managed(22, &[BEFORE])).expect("a file");
    let mut agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    scene.instance.configure(&managed(2222, &[AFTER])).expect("a file");
    api.reload_within(600).expect("a reload");
    api.rollback().expect("a way back");
    // While a mode waits, after it was confirmed, and after it was gone back from.
    for kept in [true, false] {
        api.set_mode_with(None, Audit, 600, Existing::Cut).expect("a trial");
        agent.kill().expect("a dead agent");
        agent = scene.instance.start().expect("the next agent");
        let status = api.status().expect("a status");
        assert_eq!((status.mode, status.management.expect("a rule").tcp), (Audit, vec!["22".to_owned()]));
        assert!(status.waiting.is_some());
        if kept {
            api.confirm().expect("a confirmation");
        } else {
            api.rollback().expect("a way back");
        }
        agent.kill().expect("a dead agent");
        agent = scene.instance.start().expect("the next agent");
        let status = api.status().expect("a status");
        assert_eq!(status.management.expect("a rule").tcp, ["22"]);
        assert_eq!(
            (status.mode, status.targets[0].roles.as_slice()),
            (if kept { Audit } else { Enforce }, &[BEFORE.to_owned()][..])
        );
        api.set_mode(None, Enforce).expect("a mode");
    }
    assert_eq!(management(&scene), [true, false]);
    drop(agent);
}

#[test]
fn interfaces_of_before_and_after_are_guarded_until_a_reload_is_confirmed() {
    let scene = Scene::new().expect("a scene");
    veth(
        End { namespace: &scene.pair.host, name: "spare0", mac: [2, 0, 0, 0, 0x30, 1] },
        End { namespace: &scene.pair.client, name: "spare1", mac: [2, 0, 0, 0, 0x30, 2] },
    )
    .expect("a second wire");
    let one = Config::roles(&[BEFORE]);
    let both = one.clone().interface("spare0");
    let (agent, api) = scene.start(&one).expect("an agent");
    let guarded = || -> Vec<String> {
        let interfaces = api.status().expect("a status").interfaces.into_iter();
        interfaces.filter(|interface| interface.mode != "UNGUARDED").map(|interface| interface.name).collect()
    };
    scene.instance.configure(&both.toml()).expect("a file");
    api.reload_within(600).expect("a reload");
    assert_eq!(guarded(), [Pair::HOST_LINK, "spare0"]);
    api.rollback().expect("a way back");
    assert_eq!(guarded(), [Pair::HOST_LINK]);

    api.reload().expect("a reload");
    scene.instance.configure(&one.toml()).expect("a file");
    api.reload_within(600).expect("a reload");
    assert_eq!(guarded(), [Pair::HOST_LINK, "spare0"]);
    agent.kill().expect("a dead agent");
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!(guarded(), [Pair::HOST_LINK, "spare0"]);
    api.confirm().expect("a confirmation");
    assert_eq!(guarded(), [Pair::HOST_LINK]);
}

#[test]
fn after_a_boot_the_last_confirmed_roles_hold() {
    let (scene, agent, api) = started();
    api.switch(&[AFTER]).expect("a switch");
    let reboot = |agent: Agent| -> Agent {
        // No agent, no maps, no links: what a boot leaves is the state directory.
        agent.kill().expect("a dead agent");
        scene.instance.cli(["detach"]).expect("a way to open the box").success().expect("an open box");
        scene.instance.start().expect("the next agent")
    };
    let agent = reboot(agent);
    assert_eq!(roles(&api), [AFTER]);
    expect_after(&scene, true);
    // What nobody has confirmed is not among them.
    api.switch_within(&[BEFORE], 600).expect("a switch");
    let agent = reboot(agent);
    assert_eq!(roles(&api), [AFTER]);
    expect_after(&scene, true);
    api.switch_within(&[BEFORE], 600).expect("a switch");
    api.confirm().expect("a confirmation");
    let agent = reboot(agent);
    assert_eq!(roles(&api), [BEFORE]);
    expect_after(&scene, false);
    // The file that gives other roles than before has its way.
    scene.instance.configure(&Config::roles(&[AFTER]).toml()).expect("a file");
    let _agent = reboot(agent);
    assert_eq!(roles(&api), [AFTER]);
    expect_after(&scene, true);
}

#[test]
fn a_reload_that_shuts_a_standing_session_out_wants_to_be_confirmed() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&managed(22, &[])).expect("a file");
    let mut agent = scene.instance.start().expect("an agent");
    let api = scene.instance.api().expect("a client");
    let _server = TcpEcho::start(&scene.pair.host, Scene::v4(22)).expect("a server");
    let session = tcp_open(&scene.pair.client, Scene::v4(22), PATIENT).expect("a session");
    let from = session.local_addr().expect("an address").to_string();
    let other = Config::roles(&[]).management(&["203.0.113.0/24"]).toml();
    scene.instance.configure(&other).expect("a file");

    let said = refusal(api.reload());
    assert!(said.contains(&from) && said.contains("192.0.2.2:22") && said.contains("--confirm"), "{said}");
    agent.reload().expect("a signal");
    agent.wait_for_log("would cut the management session").expect("the log says so");
    assert_eq!(api.status().expect("a status").management.expect("a rule").from, ["192.0.2.0/24"]);
    assert!(passes(&scene, 22));

    api.reload_within(600).expect("a reload that can be gone back from");
    assert_eq!(tcp_exchange(&session, PATIENT).expect("a try"), Outcome::Answered);
    assert!(passes(&scene, 22), "a new session gets in until then");
    api.rollback().expect("a way back");
    // Without the session nothing is in the way.
    drop(session);
    assert!(eventually(PATIENT, || api.reload().is_ok()), "{}", refusal(api.reload()));
    assert!(!passes(&scene, 22));
}

#[test]
fn the_command_line_says_what_waits() {
    let (scene, _agent, api) = started();
    let cli = |words: &[&str]| -> Finished { scene.instance.cli(words).expect("a command") };
    let said = cli(&["switch", AFTER, "--confirm", "10min"]).success().expect("a switch");
    assert!(said.contains("rolls back in 600 s unless you run `lyncwall confirm`"), "{said}");
    let status = cli(&["status"]).success().expect("a status");
    assert!(status.contains("to confirm") && status.contains(&format!("host: {BEFORE}")), "{status}");
    let said = cli(&["rollback"]).success().expect("a way back");
    assert!(said.contains("Closed") && said.contains(&PORT.to_string()), "{said}");
    cli(&["reload", "--confirm", "60s"]).success().expect("a reload");
    let said = cli(&["confirm"]).success().expect("a confirmation");
    assert!(said.contains("confirmed generation") && said.contains("; host: reverse-proxy"), "{said}");

    let json = cli(&["switch", "--json", "--confirm", "60s", AFTER]).json().expect("JSON");
    assert_eq!(json["confirm"], 60);
    assert!(cli(&["status", "--json"]).json().expect("JSON")["waiting"]["seconds"].as_u64() > Some(0));
    let json = cli(&["confirm", "--json"]).json().expect("JSON");
    assert_eq!(json["targets"][0]["roles"][0], AFTER);

    for (words, wanted) in [
        (&["switch", BEFORE, "--confirm", "0s"][..], "1s to 24h"),
        (&["reload", "--confirm", "25h"], "1s to 24h"),
        (&["reload", "--confirm", "1500ms"], "whole seconds"),
        (&["switch", BEFORE, "--confirm", "soon"], "--confirm"),
        (&["confirm"], "no change waits"),
        (&["rollback"], "nothing to roll back"),
    ] {
        let finished = cli(words);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(wanted) && finished.stdout.is_empty(), "{finished:?}");
    }
    assert_eq!(roles(&api), [AFTER]);
}
