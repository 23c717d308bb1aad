//! A machine that lacks what the file names, or has more than the tables hold: lyncwall enforces the rest, and says so.

use std::net::Ipv4Addr;

use lyncwall_api::Mode;
use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::{PATIENT, expect_tcp, refusal};
use lyncwall_tests::netns::{End, veth};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::{TcpEcho, eventually};

use super::{Openings, interfaces, second_wire};

const PORTS: [u16; 2] = [443, 444];

/// The names of interfaces that the agent waits for.
fn missing(api: &Api) -> Vec<String> {
    let all = api.status().expect("a status").interfaces;
    let missing = all.into_iter().filter(|interface| interface.missing);
    missing.map(|interface| format!("{} {}", interface.name, interface.mode)).collect()
}

fn warns(api: &Api, text: &str) -> bool {
    api.status().expect("a status").warnings.iter().any(|warning| warning.contains(text))
}

#[test]
fn a_missing_interface_is_waited_for_and_the_others_are_guarded() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"]).interface("host1")).expect("an agent");
    let openings = Openings::on(&scene.pair);
    assert_eq!(openings.open(&PORTS), [443]);
    assert_eq!(
        (interfaces(&api), missing(&api)),
        (vec!["host0".to_owned()], vec!["host1 UNGUARDED".to_owned()])
    );
    assert!(warns(&api, "host1 does not exist (this box has host0): UNGUARDED"));
    agent.wait_for_log("host1").expect("the log says so");
    let text = scene.instance.cli(["status"]).expect("it runs").success().expect("a status");
    assert!(text.contains("waiting: it does not exist"), "{text}");

    second_wire(&scene.pair);
    let own = Ipv4Addr::new(198, 51, 100, 2);
    scene.pair.host.add_address("host1", own.into(), 24).expect("an address");
    scene.pair.client.add_address("client1", Ipv4Addr::new(198, 51, 100, 1).into(), 24).expect("an address");
    let _servers = PORTS.map(|port| TcpEcho::start(&scene.pair.host, (own, port)).expect("a server"));
    assert!(eventually(PATIENT, || interfaces(&api) == ["host0", "host1"]), "{:?}", interfaces(&api));
    expect_tcp(&scene.pair.client, (own, 443), Answered);
    expect_tcp(&scene.pair.client, (own, 444), TimedOut);
    assert!(missing(&api).is_empty() && !warns(&api, "does not exist"));
}

/// As after a boot with another driver.
#[test]
fn an_interface_that_refuses_the_program_keeps_no_other_open() {
    let scene = Scene::new().expect("a scene");
    let _tun = scene.pair.host.tun("tun0").expect("a tun interface");
    // The kernel gives lo no native mode, and tun0 has no Ethernet: one shows beforehand, the other does not.
    let config = Config::roles(&["reverse-proxy"]).interface("lo").interface("tun0").attach("native");
    let (agent, api) = scene.start(&config).expect("an agent");
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
    assert_eq!((interfaces(&api), missing(&api)), (vec!["host0".to_owned()], vec![]));
    for name in ["lo", "tun0"] {
        assert!(warns(&api, &format!("interface {name} does not take the program: UNGUARDED")), "{name}");
    }
    agent.wait_for_log("without an Ethernet header").expect("the log says why");
    // A reload is all or nothing.
    scene.instance.configure(&Config::roles(&[]).interface("tun0").toml()).expect("a file");
    assert!(refusal(api.reload()).contains("without an Ethernet header"));
    assert_eq!(Openings::on(&scene.pair).open(&PORTS), [443]);
}

/// As at a boot, where network cards come late.
#[test]
fn an_agent_waits_for_its_only_interface() {
    let scene = Scene::new().expect("a scene");
    let mut config = Config::roles(&["reverse-proxy"]);
    config.interfaces[0].0 = "host1".to_owned();
    let (_agent, api) = scene.start(&config).expect("an agent");
    assert_eq!((interfaces(&api), missing(&api)), (vec![], vec!["host1 UNGUARDED".to_owned()]));
    // A change is for the interface that comes.
    api.switch(&["director-vip"]).expect("a switch");
    second_wire(&scene.pair);
    assert!(eventually(PATIENT, || interfaces(&api) == ["host1"]), "{:?}", interfaces(&api));
    assert_eq!(api.status().expect("a status").targets[0].roles, ["director-vip"]);
}

/// Somebody misspells the interface that is guarded.
#[test]
fn no_leg_opens_while_an_interface_of_the_file_is_missing() {
    let scene = Scene::new().expect("a scene");
    let mut config = Config::roles(&["reverse-proxy"]);
    let (agent, api) = scene.start(&config).expect("an agent");
    let openings = Openings::on(&scene.pair);
    config.interfaces[0].0 = "host9".to_owned();
    config.roles.clear();
    scene.instance.configure(&config.toml()).expect("a file");
    let reloaded = api.reload().expect("a reload");
    for said in ["interface host9 does not exist", "interface host0, which stays guarded until host9 appears"]
    {
        assert!(reloaded.warnings.iter().any(|warning| warning.contains(said)), "{:?}", reloaded.warnings);
    }
    assert!(openings.open(&PORTS).is_empty(), "it is guarded by the new rules");
    // The next agent holds it as well.
    agent.kill().expect("it ran");
    let agent = scene.instance.start().expect("the next agent");
    assert!(openings.open(&PORTS).is_empty());
    agent.wait_for_log("stays guarded until host9 appears").expect("the log says so");

    // The name was right: the file holds.
    veth(
        End { namespace: &scene.pair.client, name: "client9", mac: [2, 0, 0, 0, 0x90, 1] },
        End { namespace: &scene.pair.host, name: "host9", mac: [2, 0, 0, 0, 0x90, 2] },
    )
    .expect("a wire");
    assert!(eventually(PATIENT, || interfaces(&api) == ["host9"]), "{:?}", interfaces(&api));
    assert_eq!(openings.open(&PORTS), PORTS);
}

/// The table of destinations holds 256 addresses, and a machine may have any number. Those of the guarded interfaces come
/// first, though these here are lower.
#[test]
fn own_addresses_beyond_the_table_keep_nothing_from_being_enforced() {
    let scene = Scene::new().expect("a scene");
    let host = &scene.pair.host;
    let many: Vec<Ipv4Addr> = (0..300_u32).map(|n| Ipv4Addr::from_bits(0x0a12_0000 + n)).collect();
    for address in &many {
        host.add_address("lo", (*address).into(), 32).expect("an address");
    }
    host.forward(true).expect("forwarding");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let openings = Openings::on(&scene.pair);
    assert_eq!(openings.open(&PORTS), [443]);
    // Changes work, at run time and by the file.
    api.switch(&[]).expect("a switch");
    assert!(openings.open(&PORTS).is_empty());
    api.set_mode(None, Mode::Audit).expect("a mode");
    assert_eq!(openings.open(&PORTS), PORTS);
    let rule = "[[allow]]\nname = \"more\"\ntransport = \"tcp\"\nports = [444]\n";
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).further(rule).toml()).expect("a file");
    api.reload().expect("a reload");
    api.set_mode(None, Mode::Enforce).expect("a mode");
    assert_eq!(openings.open(&PORTS), [444]);

    let left = api.status().expect("a status").own_left_out;
    // 300, less what is left of 256 beside the addresses of the wire; and what else the kernel keeps.
    assert!((45..70).contains(&left), "{left}");
    let said = "own addresses without room in the table of 256: 10.18.";
    assert!(warns(&api, said), "{:?}", api.status());
    agent.wait_for_log(said).expect("the log says so");
    // They come and go while it runs.
    for address in &many {
        host.remove_address("lo", (*address).into(), 32).expect("it was there");
    }
    assert!(eventually(PATIENT, || api.status().expect("a status").own_left_out == 0));
    assert!(!warns(&api, "own addresses without room"));
    assert_eq!(openings.open(&PORTS), [444]);
}
