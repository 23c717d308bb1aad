//! Enforcement outlives the agent, and the next one goes on where it ended.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use lyncwall_tests::agent::Instance;
use lyncwall_tests::expect::{BRIEF, PATIENT, expect_tcp, refusal};
use lyncwall_tests::kernel::is_emulated;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{TcpEcho, tcp_connect};

use super::{Openings, expect_refused, interfaces, second_wire};

/// How much longer a start takes here: the moments of its death are spread over all of it.
fn slowness() -> u32 {
    if is_emulated() { 15 } else { 1 }
}

const PORTS: [u16; 4] = [443, 444, 4443, 5061];

#[test]
fn a_killed_agent_leaves_the_box_enforced_and_the_next_one_adopts_it() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let openings = Openings::on(&scene.pair);
    assert_eq!(openings.open(&PORTS), [443]);
    let switched = api.switch(&["director-vip"]).expect("a switch");
    assert_eq!(openings.open(&PORTS), [443, 4443, 5061]);
    let before = api.counters().expect("counters");
    assert_eq!((before.rule("tcp", "443"), before.rule("tcp", "5061")), (1, 1), "{:?}", before.0.rules);
    assert_eq!(before.port("tcp", 444), 2);
    let program = api.status().expect("a status").program.id;

    agent.kill().expect("it ran");
    assert!(scene.instance.socket().exists(), "a killed agent cannot remove its socket");
    assert_eq!(openings.open(&PORTS), [443, 4443, 5061]);
    let problem = refusal(api.status());
    assert!(problem.contains("no agent serves"), "{problem}");

    let _agent = scene.instance.start().expect("the next agent");
    let status = api.status().expect("a status");
    assert!(status.generation > switched.generation, "{} after {}", status.generation, switched.generation);
    assert_eq!(status.targets[0].roles, ["director-vip"]);
    assert_eq!(status.targets[0].file_roles, ["reverse-proxy"]);
    assert_ne!(status.program.id, program, "the next agent brings its own program");
    assert_eq!(openings.open(&PORTS), [443, 4443, 5061]);
    let after = api.counters().expect("counters");
    // Once before the death, once while nobody ran, once now.
    assert_eq!((after.rule("tcp", "443"), after.rule("tcp", "5061")), (3, 3), "{:?}", after.0.rules);
    assert_eq!(after.port("tcp", 444), 4);
}

#[test]
fn no_packet_to_a_closed_port_passes_while_agents_come_and_go() {
    use lyncwall_tests::packet::{Ethernet, Packet, Tcp, ip};
    use lyncwall_tests::traffic::{StreamReceiver, send_streams};

    let scene = Scene::new().expect("a scene");
    let (mut agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let frame = || Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, [2, 0, 0, 0, 9, 9]));
    let to = |port| frame().with(ip(Scene::CLIENT[0], Scene::HOST[0])).with(Tcp::syn(40_000, port));
    let packets = [to(443), to(5061)];
    let receiver = StreamReceiver::start(&scene.pair.host, Pair::HOST_LINK, 2).expect("a receiver");
    // Long enough for several starts: those of an emulated machine take seconds.
    let (each, pace) = if is_emulated() { (100_000, 4_000) } else { (150_000, 100_000) };
    let client = scene.pair.client.clone();
    let sender = thread::spawn(move || send_streams(&client, Pair::CLIENT_LINK, &packets, each, Some(pace)));
    let mut starts = 0;
    while !sender.is_finished() {
        agent.kill().expect("it ran");
        agent = scene.instance.start().expect("the next agent");
        starts += 1;
    }
    sender.join().expect("a sender that does not panic").expect("two streams");
    let received = receiver.finish().expect("the numbers");
    assert!(starts >= 2, "{starts} restarts while packets came");
    assert_eq!(received.lost, 0);
    assert!(received.sequences[0].iter().copied().eq(0..each), "packets to the open port were lost");
    assert!(received.sequences[1].is_empty(), "packets to the closed port passed");
    let counters = api.counters().expect("counters");
    assert_eq!((counters.rule("tcp", "443"), counters.port("tcp", 5061)), (each, each));
}

#[test]
fn an_agent_that_is_killed_at_any_moment_of_its_start_opens_nothing() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let generation = api.status().expect("a status").generation;
    agent.kill().expect("it ran");
    let openings = Openings::on(&scene.pair);
    for n in 0..12 {
        let mut command = scene.instance.command();
        command.args(["run", "--config"]).arg(scene.instance.config()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        thread::sleep(Duration::from_millis(40 * n) * slowness());
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert_eq!(openings.open(&[443, 444]), [443], "killed at {n} of 12");
    }
    let _agent = scene.instance.start().expect("the next agent");
    assert!(api.status().expect("a status").generation > generation);
    assert_eq!(openings.open(&PORTS), [443]);
    assert_eq!(api.counters().expect("counters").rule("tcp", "443"), 13);
}

#[test]
fn an_agent_that_is_killed_at_any_moment_of_its_first_start_is_in_nobodys_way() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    let openings = Openings::on(&scene.pair);
    for n in 0..10 {
        let mut command = scene.instance.command();
        command.args(["run", "--config"]).arg(scene.instance.config()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        thread::sleep(Duration::from_millis(50 * n) * slowness());
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        // Not guarded yet, or guarded as the file says: nothing in between.
        let open = openings.open(&[443, 444]);
        assert!(open == [443] || open == [443, 444], "{open:?} at {n} of 10");
        let agent = scene.instance.start().expect("the next agent");
        assert_eq!(openings.open(&[443, 444]), [443], "killed at {n} of 10");
        scene.instance.cli(["detach"]).expect("it runs").success().expect("it opens the box");
        assert_eq!(agent.wait().expect("it ends").code, Some(0));
    }
}

#[test]
fn a_file_with_other_roles_wins_over_those_of_the_run_time() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    api.switch(&["director-vip"]).expect("a switch");
    // The same roles: the switch stays. This holds for a reload and for a restart.
    api.reload().expect("a reload");
    assert_eq!(api.status().expect("a status").targets[0].roles, ["director-vip"]);
    agent.stop().expect("an end");

    scene.instance.configure(&Config::roles(&["mediation"]).toml()).expect("a file");
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!(api.status().expect("a status").targets[0].roles, ["mediation"]);
    api.switch(&["director-vip"]).expect("a switch");
    scene.instance.configure(&Config::roles(&["pstn-gateway"]).toml()).expect("a file");
    let reloaded = api.reload().expect("a reload");
    assert_eq!(reloaded.targets[0].roles, ["pstn-gateway"]);
    assert_eq!(Openings::on(&scene.pair).open(&[443, 5061, 5066]), [5066]);
}

#[test]
fn a_second_agent_over_the_same_pins_is_refused() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let second = Instance::new(&scene.pair.host, &scene.bpffs, "lyncwall").expect("a place");
    second.configure(&Config::roles(&["director-vip"]).toml()).expect("a file");
    let finished = second.start_in_vain().expect("it ends");
    expect_refused(&finished, &["another lyncwall agent uses", "--pin-dir"]);
    assert!(!second.socket().exists(), "it takes its socket away");
    assert_eq!(api.status().expect("a status").generation, 1);
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
}

#[test]
fn two_agents_guard_two_interfaces_side_by_side() {
    let scene = Scene::new().expect("a scene");
    second_wire(&scene.pair);
    let (pair, bpffs) = (&scene.pair, &scene.bpffs);
    pair.client.add_address("client1", [198, 51, 100, 1].into(), 24).expect("an address");
    pair.host.add_address("host1", [198, 51, 100, 2].into(), 24).expect("an address");
    let (one, one_api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let place = Instance::new(&pair.host, bpffs, "second").expect("a place");
    let mut config = Config::roles(&["mediation"]);
    config.interfaces = vec![("host1".to_owned(), "auto")];
    place.configure(&config.toml()).expect("a file");
    let other = place.start().expect("a second agent");
    let other_api = place.api().expect("a client");
    assert_eq!(interfaces(&one_api), [Pair::HOST_LINK]);
    assert_eq!(interfaces(&other_api), ["host1"]);

    let start = |port| TcpEcho::start(&pair.host, ([0, 0, 0, 0], port)).expect("a server");
    let _servers = [443, 5067].map(start);
    let at = |port| ([198, 51, 100, 2], port).into();
    expect_tcp(&pair.client, Scene::v4(443), Answered);
    expect_tcp(&pair.client, Scene::v4(5067), TimedOut);
    expect_tcp(&pair.client, at(443), TimedOut);
    expect_tcp(&pair.client, at(5067), Answered);
    // One opens its interface; the other does not notice.
    let detached = scene.instance.cli(["detach"]).expect("it runs").success().expect("it opens the box");
    assert!(detached.contains(Pair::HOST_LINK) && !detached.contains("host1"), "{detached}");
    drop(one);
    assert_eq!(tcp_connect(&pair.client, Scene::v4(5067), PATIENT).expect("a try"), Answered);
    assert_eq!(tcp_connect(&pair.client, at(443), BRIEF).expect("a try"), TimedOut);
    drop(other);
}

#[test]
fn counters_survive_switches_reloads_and_restarts() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::roles(&["director-vip"])).expect("an agent");
    let openings = Openings::on(&scene.pair);
    openings.open(&PORTS);
    // The rule of port 5061 goes and comes back; that of 443 is another rule for another role.
    api.switch(&["reverse-proxy"]).expect("a switch");
    openings.open(&PORTS);
    api.switch(&["director-vip"]).expect("a switch");
    openings.open(&PORTS);
    api.reload().expect("a reload");
    openings.open(&PORTS);
    agent.stop().expect("an end");
    let _agent = scene.instance.start().expect("the next agent");
    openings.open(&PORTS);
    let counters = api.counters().expect("counters");
    assert_eq!(counters.rule("tcp", "5061"), 4, "{:?}", counters.0.rules);
    assert_eq!(counters.rule("tcp", "443"), 4);
    assert_eq!((counters.port("tcp", 444), counters.port("tcp", 5061)), (5, 1));
    assert_eq!((counters.of("allowed", "pass"), counters.of("closed", "drop")), (4 * 3 + 1, 5 + 2));
}

#[test]
fn the_tables_of_flows_are_as_large_as_the_file_said_when_they_were_made() {
    let sized = |size: u32| Config::roles(&["reverse-proxy"]).further(&format!("size = {size}\n"));
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&sized(2048)).expect("an agent");
    let status = || api.status().expect("a status");
    let differs = || status().warnings.iter().any(|warning| warning.contains("the tables hold 2048"));
    assert_eq!((status().flows.size, differs()), (2048, false));
    // What judges is adopted as it is.
    agent.stop().expect("it ends");
    let (agent, _) = scene.start(&sized(4096)).expect("the next agent");
    assert_eq!((status().flows.size, differs()), (2048, true));
    scene.instance.cli(["detach"]).expect("a command").success().expect("an open box");
    agent.wait().expect("it ends");
    let (_agent, _) = scene.start(&sized(4096)).expect("an agent that begins anew");
    assert_eq!((status().flows.size, differs()), (4096, false));
}

/// What an agent stored may name what the file of today has no more.
#[test]
fn a_start_takes_the_files_roles_where_those_of_before_are_gone() {
    let own = |name: &str| {
        let role = format!("[[role]]\nname = \"{name}\"\n[[role.row]]\ntransport = \"tcp\"\nports = 9443\n");
        Config::roles(&[name]).further(&format!("\n{role}"))
    };
    let scene = Scene::new().expect("a scene");
    let (agent, _) = scene.start(&own("before")).expect("an agent");
    scene.instance.cli(["detach"]).expect("a command").success().expect("an open box");
    agent.wait().expect("it ends");
    // After that there are no maps, as after a boot; the state directory has the roles.
    let (agent, api) = scene.start(&own("after")).expect("an agent after the boot");
    assert_eq!(api.status().expect("a status").targets[0].roles, ["after"]);
    agent.kill().expect("a dead agent");
    let (_agent, api) = scene.start(&own("again")).expect("the next agent");
    assert_eq!(api.status().expect("a status").targets[0].roles, ["again"]);
    assert_eq!(Openings::on(&scene.pair).open(&[443, 9443]), [9443]);
}
