//! Damage to what the agent stores: each test shows what is enforced afterwards, and who says what was lost.

use std::fs;
use std::path::Path;

use aya::maps::{Array, Map, MapData};
use lyncwall_api::Mode;
use lyncwall_common::abi::{STATE_BYTES, STATE_ELEMENTS, map};
use lyncwall_datapath::Datapath;
use lyncwall_tests::agent::Api;
use lyncwall_tests::scene::{Config, Scene};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use super::{Openings, expect_refused};

const PORTS: [u16; 3] = [443, 444, 5061];

/// Damages both copies of the state beside the maps, as far as `copies` has them.
fn tear(pins: &Path, copies: &[u32]) {
    let state = MapData::from_pin(pins.join(map::STATE)).expect("the pin is there");
    let mut state: Array<_, [u8; STATE_BYTES]> = Map::Array(state).try_into().expect("an array");
    for copy in copies {
        let first = copy * STATE_ELEMENTS / 2;
        let mut element = state.get(&first, 0).expect("an element");
        element[40] ^= 1;
        state.set(first, element, 0).expect("an element");
    }
}

/// Changes the state beside the maps, whose checksum is right afterwards.
fn edit(pins: &Path, change: impl FnOnce(&mut Value)) {
    let mut datapath = Datapath::open(lyncwall_tests::object::object(), pins).expect("the maps");
    let blob = datapath.load_state().expect("readable").expect("a state");
    let mut state = serde_json::from_slice(&blob).expect("JSON");
    change(&mut state);
    datapath.store_state(state.to_string().as_bytes()).expect("it fits");
}

type Change = fn(&mut Value);

fn lost(api: &Api) -> Vec<String> {
    api.status().expect("a status").lost
}

fn said(scene: &Scene, arguments: &[&str]) -> String {
    scene.instance.cli(arguments).expect("it runs").success().expect("it does")
}

#[test]
fn without_the_stored_state_a_failing_start_opens_nothing_and_the_next_one_goes_on() {
    let scene = Scene::new().expect("a scene");
    let config = Config::roles(&["reverse-proxy"]);
    let (agent, api) = scene.start(&config).expect("an agent");
    let openings = Openings::on(&scene.pair);
    api.switch(&["director-vip"]).expect("a switch");
    said(&scene, &["block", "203.0.113.7"]);
    agent.kill().expect("it ran");
    tear(scene.instance.pins(), &[0, 1]);
    // The interface refuses another way of attaching, after everything else is done.
    scene.instance.configure(&config.clone().attach("generic").toml()).expect("a file");
    let finished = scene.instance.start_in_vain().expect("it ends");
    expect_refused(&finished, &["which opens the box"]);
    assert_eq!(openings.open(&PORTS), [443, 5061], "what was closed stays closed");

    let (agent, api) = scene.start(&config).expect("the next agent");
    let status = api.status().expect("a status");
    assert_eq!(status.targets[0].roles, ["director-vip"], "the state directory has them");
    assert_eq!(status.blocked.v4, 1, "the kernel has them");
    assert_eq!(openings.open(&PORTS), [443, 5061]);
    assert!(status.lost.len() == 1 && status.lost[0].contains("both copies"), "{:?}", status.lost);
    assert!(said(&scene, &["status"]).contains("director-vip"));
    let counters = api.counters().expect("counters");
    assert_eq!(counters.rule("tcp", "443"), 1, "they count from now on: {:?}", counters.0.rules);

    // It is said until somebody acknowledges it.
    agent.kill().expect("it ran");
    let agent = scene.instance.start().expect("the next agent");
    assert_eq!(lost(&api).len(), 1);
    let warned = scene.instance.cli(["status"]).expect("it runs").stderr;
    assert!(warned.contains("lost: ") && warned.contains("lyncwall ack"), "{warned}");
    let metrics = crate::api::ask(&scene.instance.socket(), "GET", "/metrics", "").expect("metrics").body;
    assert!(metrics.contains("\nlyncwall_state_lost 1\n"), "{metrics}");
    assert!(said(&scene, &["ack"]).contains("both copies"));
    assert_eq!(said(&scene, &["ack"]), "nothing was lost\n");
    assert!(lost(&api).is_empty());
    agent.kill().expect("it ran");
    let _agent = scene.instance.start().expect("the next agent");
    assert!(lost(&api).is_empty());
}

#[test]
fn a_state_with_a_good_checksum_and_strange_json_is_taken_as_far_as_it_can_be_read() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let openings = Openings::on(&scene.pair);
    api.switch(&["director-vip"]).expect("a switch");
    agent.kill().expect("it ran");
    let strange: [(&str, Change); 3] = [
        ("counters", |state| state["counters"] = json!({"of": "another form"})),
        ("settings", |state| state["settings"] = json!([1, 2, 3])),
        ("settings, counters", |state| *state = json!("not even an object")),
    ];
    for (what, change) in strange {
        edit(scene.instance.pins(), change);
        assert_eq!(openings.open(&PORTS), [443, 5061]);
        let agent = scene.instance.start().expect("the next agent");
        assert_eq!(api.status().expect("a status").targets[0].roles, ["director-vip"]);
        assert_eq!(openings.open(&PORTS), [443, 5061]);
        let lost = lost(&api);
        assert!(lost.last().is_some_and(|last| last.contains(&format!("lost {what}"))), "{lost:?}");
        said(&scene, &["ack"]);
        agent.kill().expect("it ran");
    }
}

#[test]
fn enforcement_of_the_run_time_survives_damage_to_all_that_is_stored() {
    let scene = Scene::new().expect("a scene");
    let config = Config::roles(&["reverse-proxy"]).top("mode = \"audit\"\n");
    let (agent, api) = scene.start(&config).expect("an agent");
    let openings = Openings::on(&scene.pair);
    assert_eq!(openings.open(&PORTS), PORTS);
    api.set_mode(None, Mode::Enforce).expect("a mode");
    assert_eq!(openings.open(&PORTS), [443]);
    agent.kill().expect("it ran");

    // As after a boot, with a damaged file: the copy has the mode.
    said(&scene, &["detach"]);
    let file = scene.instance.state().join("confirmed.json");
    let mut text = fs::read(&file).expect("the file");
    let at = text.windows(7).position(|window| window == b"enforce").expect("the mode");
    text[at] = b'x';
    fs::write(&file, &text).expect("damage");
    let agent = scene.instance.start().expect("an agent after the boot");
    assert_eq!(openings.open(&PORTS), [443]);
    let lost_now = lost(&api);
    assert!(lost_now.len() == 1 && lost_now[0].contains("took the copy"), "{lost_now:?}");
    agent.kill().expect("it ran");

    // Everything is damaged but the kernel's maps.
    tear(scene.instance.pins(), &[0, 1]);
    for name in ["confirmed.json", "confirmed.copy.json"] {
        fs::write(scene.instance.state().join(name), "{").expect("damage");
    }
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!(api.status().expect("a status").mode, Mode::Enforce);
    assert_eq!(openings.open(&PORTS), [443]);
    assert!(lost(&api).iter().any(|lost| lost.contains("enforcing, as the kernel does")), "{:?}", lost(&api));
}

#[test]
fn a_boot_restores_of_the_block_list_what_can_be_read_and_fits() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    let openings = Openings::on(&scene.pair);
    fs::create_dir(scene.instance.state()).expect("a directory");
    let file = scene.instance.state().join("blocked.json");
    let boot = |text: &str| {
        fs::write(&file, text).expect("a file");
        let agent = scene.instance.start().expect("an agent after the boot");
        let api = scene.instance.api().expect("a client");
        (agent, api)
    };
    // The client's own prefix is the last one of the list, and the shortest.
    let mut many: Vec<Value> =
        (0..65_536u32).map(|n| json!({"prefix": format!("10.1.{}.{}/32", n >> 8, n & 255)})).collect();
    many.push(json!({"prefix": "192.0.2.0/24"}));
    let (agent, api) = boot(&Value::from(many).to_string());
    assert!(openings.open(&PORTS).is_empty(), "it is guarded, and the client blocked");
    assert_eq!(api.status().expect("a status").blocked.v4, 65_536);
    assert!(
        lost(&api).iter().any(|lost| lost.contains("1 of 65537 prefixes do not fit")),
        "{:?}",
        lost(&api)
    );
    said(&scene, &["detach"]);
    agent.wait().expect("it ends");
    said_nothing_is_left(&scene);

    let entries = r#"[{"prefix": "198.51.100.1/24"}, {"prefix": "192.0.2.1/32"}, {"prefix": 7}]"#;
    let (agent, api) = boot(entries);
    assert!(openings.open(&PORTS).is_empty(), "the good entry holds");
    assert!(lost(&api).iter().any(|lost| lost.contains("lost 2 entries")), "{:?}", lost(&api));
    said(&scene, &["detach"]);
    agent.wait().expect("it ends");

    let (_agent, api) = boot("[{\"prefix\": \"192.0.2.1/32\"}, {\"pre");
    assert!(openings.open(&PORTS).is_empty(), "the whole entry holds");
    assert_eq!(api.status().expect("a status").blocked.v4, 1);
}

/// The next start must not find a list.
fn said_nothing_is_left(scene: &Scene) {
    for name in ["blocked.json", "blocked.copy.json"] {
        assert!(!scene.instance.state().join(name).exists(), "{name}");
    }
}

#[test]
fn a_boot_with_a_wrong_clock_neither_ends_timed_blocks_nor_keeps_them_for_ever() {
    let scene = Scene::new().expect("a scene");
    scene.instance.configure(&Config::roles(&["reverse-proxy"]).toml()).expect("a file");
    fs::create_dir(scene.instance.state()).expect("a directory");
    // By a clock that is 30 days behind, and by one that nobody has set, long ago.
    let in_a_month = std::time::SystemTime::now() + std::time::Duration::from_secs(30 * 86_400);
    let in_a_month = in_a_month.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let entries = json!({"prefixes": [
        {"prefix": "192.0.2.1/32", "until": in_a_month, "left": 3600},
        {"prefix": "203.0.113.7/32", "until": 60, "left": 3600, "clock_set": false},
    ]});
    fs::write(scene.instance.state().join("blocked.json"), entries.to_string()).expect("a file");
    let _agent = scene.instance.start().expect("an agent after the boot");
    assert!(Openings::on(&scene.pair).open(&PORTS).is_empty(), "the client is blocked");
    let listed = scene.instance.cli(["--json", "blocked"]).expect("it runs").json().expect("JSON");
    let left = |n: usize| listed["prefixes"][n]["seconds"].as_u64().expect("it ends");
    assert_eq!(listed["prefixes"].as_array().map(Vec::len), Some(2), "{listed}");
    assert!((3500..=3600).contains(&left(0)), "{listed}");
    assert!((500..=3600).contains(&left(1)), "{listed}");
}

#[test]
fn rules_with_new_names_again_and_again_cost_old_counters_and_no_start() {
    let scene = Scene::new().expect("a scene");
    let named = |reload: u32| {
        let rule = |n: u32| {
            format!(
                "[[allow]]\nname = \"{reload} {n} {}\"\ntransport = \"tcp\"\nports = [{}]\n",
                "x".repeat(40),
                7000 + n
            )
        };
        Config::roles(&["reverse-proxy"]).further(&(0..64).map(rule).collect::<String>())
    };
    let (agent, api) = scene.start(&named(0)).expect("an agent");
    let openings = Openings::on(&scene.pair);
    assert_eq!(openings.open(&[443, 444, 7063]), [443, 7063]);
    agent.kill().expect("it ran");
    // As after very many reloads: as many rules that went as fit, with their counts.
    edit(scene.instance.pins(), |state| {
        for n in 0..9_500u32 {
            let texts = state["counters"]["texts"].as_array_mut().expect("a list");
            texts.push(json!(format!("gone {n} {}", "x".repeat(40))));
            let text = texts.len() - 1;
            let counters = state["counters"]["counters"].as_array_mut().expect("a list");
            counters.push(json!({"a": [text, n]}));
            let counter = counters.len() - 1;
            state["counted_before"][counter.to_string()] = json!(0);
        }
    });
    let mut agent = scene.instance.start().expect("an agent with a full book");
    for reload in 1..=12 {
        scene.instance.configure(&named(reload).toml()).expect("a file");
        api.reload().expect("a reload");
        if reload % 6 == 0 {
            agent.kill().expect("it ran");
            agent = scene.instance.start().expect("the next agent");
        }
    }
    assert_eq!(openings.open(&[443, 444, 7063]), [443, 7063]);
    let counters = api.counters().expect("counters");
    assert_eq!(counters.rule("tcp", "443"), 2, "a rule in use keeps its count");
    assert_eq!(counters.allow(&format!("12 63 {}", "x".repeat(40))), 1);
    assert!(lost(&api).is_empty());
}

#[test]
fn detach_says_what_the_next_start_restores_and_forgets_it_on_request() {
    let scene = Scene::new().expect("a scene");
    let config = Config::roles(&["reverse-proxy"]).top("mode = \"audit\"\n");
    let (agent, api) = scene.start(&config).expect("an agent");
    let openings = Openings::on(&scene.pair);
    api.set_mode(None, Mode::Enforce).expect("a mode");
    api.switch(&["director-vip"]).expect("a switch");
    let detached = said(&scene, &["detach"]);
    let first = detached.lines().next().unwrap_or_default();
    assert!(first.starts_with("the box is open"), "{detached}");
    for text in ["mode enforce (file: audit)", "director-vip (file: reverse-proxy)"] {
        assert!(detached.contains(text), "no {text:?} in {detached}");
    }
    agent.wait().expect("it ends");

    let agent = scene.instance.start().expect("the next agent");
    assert_eq!(openings.open(&PORTS), [443, 5061], "it enforces against the file");
    agent.wait_for_log("guarding").expect("a log");
    agent.wait_for_log("mode enforce (file: audit)").expect("it says so");
    let log = agent.stderr();
    assert!(!log.contains("drops nothing"), "it drops: {log}");
    let detached = said(&scene, &["detach", "--forget"]);
    assert!(!detached.contains("restores"), "{detached}");
    agent.wait().expect("it ends");
    let agent = scene.instance.start().expect("the next agent");
    let status = api.status().expect("a status");
    assert_eq!((status.mode, &*status.targets[0].roles), (Mode::Audit, &["reverse-proxy".to_owned()][..]));
    assert_eq!(openings.open(&PORTS), PORTS);

    // Without an agent, too.
    api.set_mode(None, Mode::Enforce).expect("a mode");
    agent.kill().expect("it ran");
    let detached = scene.instance.cli(["--json", "detach"]).expect("it runs").json().expect("JSON");
    assert_eq!(detached["kept"], json!(["mode enforce (file: audit)"]));
    let agent = scene.instance.start().expect("the next agent");
    agent.kill().expect("it ran");
    said(&scene, &["detach", "--forget"]);
    let _agent = scene.instance.start().expect("the next agent");
    assert_eq!(api.status().expect("a status").mode, Mode::Audit);
}

#[test]
fn detach_says_that_the_box_is_open_before_it_says_what_failed() {
    let scene = Scene::new().expect("a scene");
    let openings = Openings::on(&scene.pair);
    let state = scene.instance.state();
    fs::create_dir(&state).expect("a directory");
    let nothing = None::<&str>;
    mount(Some(&state), &state, nothing, MsFlags::MS_BIND, nothing).expect("a mount of its own");
    let remount = |flags: MsFlags| {
        mount(nothing, &state, nothing, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, nothing)
            .expect("a remount");
    };
    for with_agent in [true, false] {
        let (agent, _) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
        assert_eq!(openings.open(&PORTS), [443]);
        said(&scene, &["block", "203.0.113.7"]);
        let agent = if with_agent {
            Some(agent)
        } else {
            agent.kill().expect("it ran");
            None
        };
        remount(MsFlags::MS_RDONLY);
        let finished = scene.instance.cli(["detach"]).expect("it runs");
        remount(MsFlags::empty());
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stdout.starts_with("the box is open: detached from "), "{finished:?}");
        assert!(
            finished.stderr.contains("the next start will restore the block-list")
                && finished.stderr.contains("blocked.copy.json"),
            "{finished:?}"
        );
        assert_eq!(openings.open(&PORTS), PORTS);
        assert!(!scene.instance.pins().exists(), "pins are left");
        if let Some(agent) = agent {
            agent.wait().expect("it ends");
        }
    }
    nix::mount::umount(&state).expect("it was mounted");
}
