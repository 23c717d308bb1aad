//! Who may use the agent's socket: the kernel says who is connected, the configuration's groups what they may do.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::programs::{self, Folder};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{eventually, tcp_connect};
use nix::mount::{MsFlags, mount};

use super::let_in;

/// A user of no group in particular.
const STRANGER: (u32, u32) = (70_001, 70_001);
/// A process that runs under the group of readers.
const READER: (u32, u32) = (70_001, 71_001);
/// A user whom `/etc/group` has among the readers.
const MEMBER: (u32, u32) = (70_004, 70_004);
/// A process that runs under the group that may change.
const OPERATOR: (u32, u32) = (70_002, 71_002);

const GROUPS: &str = "[api]\nreaders = \"lync-readers\"\ngroup = \"lync-operators\"\n";

/// Gives this thread, and what it starts, users and groups of its own. The mounts go with the thread's namespace, which a
/// [`Scene`] has made.
fn users() -> Folder {
    let folder = Folder::new().expect("a folder");
    let users = "root:x:0:0:root:/root:/bin/sh\nlync-member:x:70004:70004::/nonexistent:/bin/false\n";
    let groups =
        "root:x:0:\nlync-readers:x:71001:lync-member\nlync-operators:x:71002:\nlync-member:x:70004:\n";
    for (place, text) in [("passwd", users), ("group", groups)] {
        let file = folder.write(place, text).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
        let nothing = None::<&Path>;
        let place = Path::new("/etc").join(place);
        mount(Some(&file), &place, nothing, MsFlags::MS_BIND, nothing).expect("a mount of this thread's own");
    }
    folder
}

/// What the agent answers a user: the status, 0 where the socket does not let it connect, and the body.
fn ask_as(scene: &Scene, (uid, gid): (u32, u32), method: &str, path: &str, body: &str) -> (u16, String) {
    let socket = scene.instance.socket();
    let arguments = [
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        "--clear-groups".to_owned(),
        "curl".to_owned(),
        "--silent".to_owned(),
        "--max-time".to_owned(),
        "60".to_owned(),
        "--write-out".to_owned(),
        "\n%{http_code}".to_owned(),
        "--unix-socket".to_owned(),
        socket.display().to_string(),
        "--header".to_owned(),
        "Content-Type: application/json".to_owned(),
        "--request".to_owned(),
        method.to_owned(),
        "--data".to_owned(),
        body.to_owned(),
        format!("http://lyncwall{path}"),
    ];
    let finished = programs::run(&scene.pair.host, "setpriv", arguments, PATIENT).expect("it runs");
    let (body, status) = finished.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("{finished:?}"));
    (status.parse().unwrap_or_else(|_| panic!("{finished:?}")), body.to_owned())
}

#[test]
fn readers_may_read_operators_may_change_and_others_may_nothing() {
    let scene = Scene::new().expect("a scene");
    let _users = users();
    let_in(&scene.instance);
    let (_agent, api) = scene.start(&Config::roles(&["director"]).further(GROUPS)).expect("an agent");
    let switch = r#"{"roles": ["reverse-proxy"]}"#;
    let generation = || api.status().expect("a status").generation;
    for (who, read, change) in [
        (STRANGER, 403, 403),
        (READER, 200, 403),
        (MEMBER, 200, 403),
        // Nobody is refused what root may.
        ((0, 71_001), 200, 200),
        (OPERATOR, 200, 200),
    ] {
        for path in ["/v1/status", "/v1/counters", "/v1/blocked", "/metrics", "/v1/openapi.json"] {
            assert_eq!(ask_as(&scene, who, "GET", path, "").0, read, "{who:?} {path}");
        }
        let before = generation();
        let (status, body) = ask_as(&scene, who, "POST", "/v1/switch", switch);
        assert_eq!(status, change, "{who:?} {body}");
        assert_eq!(generation() > before, change == 200, "{who:?}");
        // It shows what is in packets. Whether there is such a request is not for everybody, either.
        let (status, body) = ask_as(&scene, who, "GET", "/v1/capture?count=0", "");
        assert_eq!(status == 403, change == 403, "{who:?} {status} {body}");
        // Looking ahead changes nothing.
        let (status, body) = ask_as(&scene, who, "POST", "/v1/preview", r#"{"roles": []}"#);
        assert_eq!(status, read, "{who:?} {body}");
        for path in ["/v1/mode", "/v1/reload", "/v1/block", "/v1/unblock", "/v1/acknowledge", "/v1/detach"] {
            if change == 403 {
                let (status, body) = ask_as(&scene, who, "POST", path, "{}");
                assert_eq!(status, 403, "{who:?} {path}");
                assert!(body.contains("`group` of [api]"), "{body}");
            }
        }
    }
    let (_, body) = ask_as(&scene, STRANGER, "GET", "/v1/status", "");
    assert!(body.contains("user 70001") && body.contains("`readers` of [api]"), "{body}");
}

#[test]
fn a_reload_opens_the_socket_to_a_group_and_closes_it_again() {
    let scene = Scene::new().expect("a scene");
    let _users = users();
    let_in(&scene.instance);
    let config = Config::roles(&["director"]);
    let (_agent, api) = scene.start(&config).expect("an agent");
    let mode = || fs::metadata(scene.instance.socket()).expect("a socket").permissions().mode() & 0o777;
    let reads = |who| ask_as(&scene, who, "GET", "/v1/status", "").0;
    assert_eq!((mode(), reads(READER)), (0o600, 0), "the kernel refuses to connect");

    scene.instance.configure(&config.clone().further(GROUPS).toml()).expect("a file");
    let reloaded = api.reload().expect("a reload");
    assert!(reloaded.changes.iter().any(|change| change.contains("api.readers")), "{reloaded:?}");
    assert!(eventually(PATIENT, || mode() == 0o666));
    assert_eq!((reads(READER), reads(STRANGER)), (200, 403));

    let mut stream = scene
        .pair
        .host
        .command("setpriv")
        .args(["--reuid=70001", "--regid=71001", "--clear-groups", "curl", "--silent", "--no-buffer"])
        .arg("--unix-socket")
        .arg(scene.instance.socket())
        .arg("http://lyncwall/v1/events")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a reader of events");
    let mut lines = BufReader::new(stream.stdout.take().expect("its output")).lines();
    let seen = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // It may take a while until the reader is there.
            while !seen.load(Ordering::Relaxed) {
                tcp_connect(&scene.pair.client, Scene::v4(8), Duration::from_millis(100)).expect("a try");
            }
        });
        let first = lines.next().map(|line| line.expect("a line"));
        seen.store(true, Ordering::Relaxed);
        assert!(first.as_ref().is_some_and(|line| line.contains("closed")), "{first:?}");
    });

    // A change that waits for its confirmation holds, too, and so does what comes back.
    scene.instance.configure(&config.toml()).expect("a file");
    api.reload_within(60).expect("a reload");
    assert!(eventually(PATIENT, || mode() == 0o600));
    assert_eq!(reads(READER), 0);
    assert!(stream.wait().expect("it ends").code().is_some(), "the stream of one who may not read ends");
    api.rollback().expect("back");
    assert!(eventually(PATIENT, || mode() == 0o666));
    assert_eq!(reads(READER), 200);
}

#[test]
fn an_operator_who_may_only_read_any_more_loses_his_capture() {
    let scene = Scene::new().expect("a scene");
    let _users = users();
    let_in(&scene.instance);
    let config = Config::roles(&["director"]);
    let (agent, api) = scene.start(&config.clone().further(GROUPS)).expect("an agent");
    let captures = |times: usize| {
        eventually(PATIENT, || agent.stderr().matches("capturing dropped packets").count() >= times)
    };
    let mut capture = scene
        .pair
        .host
        .command("setpriv")
        .args([
            "--reuid=70002",
            "--regid=71002",
            "--clear-groups",
            "curl",
            "--silent",
            "--output",
            "/dev/null",
        ])
        .arg("--unix-socket")
        .arg(scene.instance.socket())
        .arg("http://lyncwall/v1/capture")
        .spawn()
        .expect("a capture");
    assert!(captures(1), "{}", agent.stderr());
    scene
        .instance
        .configure(&config.further("[api]\nreaders = \"lync-operators\"\n").toml())
        .expect("a file");
    api.reload().expect("a reload");
    assert!(
        eventually(PATIENT, || capture.try_wait().expect("its state").is_some()),
        "what is in packets is no longer for him"
    );
    let ended = || agent.stderr().contains("the capture has ended");
    assert!(eventually(PATIENT, ended), "{}", agent.stderr());
    assert_eq!(ask_as(&scene, OPERATOR, "GET", "/v1/status", "").0, 200, "he still reads");
    let folder = Folder::new().expect("a folder");
    let next = scene.instance.cli(["capture", "-w", &folder.file("next"), "--for", "1s"]).expect("a command");
    next.success().expect("the next one");
    assert!(captures(2), "{}", agent.stderr());
}

#[test]
fn a_start_with_an_unknown_group_enforces_and_lets_the_group_in_once_it_is_there() {
    let scene = Scene::new().expect("a scene");
    let users = users();
    let config = GROUPS.replace("lync-readers", "lync-late");
    let (agent, api) = scene.start(&Config::roles(&["director"]).further(&config)).expect("an agent");
    let failing = || api.status().expect("a status").failing;
    let text = "api.readers: unknown group lync-late";
    assert!(eventually(PATIENT, || failing().iter().any(|what| what.contains(text))), "{:?}", failing());
    assert!(agent.stderr().contains(text) && agent.stderr().contains("groupadd"), "{}", agent.stderr());
    assert_eq!(ask_as(&scene, READER, "GET", "/v1/status", "").0, 403);
    assert_eq!(ask_as(&scene, OPERATOR, "GET", "/v1/status", "").0, 200, "the other group is there");
    let groups = "root:x:0:\nlync-late:x:71001:\nlync-operators:x:71002:\n";
    fs::write(users.file("group"), groups).expect("the group");
    assert!(eventually(PATIENT, || failing().is_empty()), "{:?}", failing());
    assert_eq!(ask_as(&scene, READER, "GET", "/v1/status", "").0, 200);
}

#[test]
fn an_unknown_group_is_a_mistake_of_a_reload_with_its_place() {
    let scene = Scene::new().expect("a scene");
    let _users = users();
    let config =
        Config::roles(&["director"]).further("[api]\nreaders = \"lync-nobody\"\ngroup = \"lync-none\"\n");
    scene.instance.configure(&config.toml()).expect("a file");
    let checked = scene.instance.cli(
        ["check", "--config"]
            .map(std::ffi::OsString::from)
            .into_iter()
            .chain([scene.instance.config().into_os_string()]),
    );
    let checked = checked.expect("it runs");
    assert_eq!(checked.code, Some(0), "the file may be for another box: {checked:?}");
    assert!(checked.stderr.contains("unknown group lync-nobody"), "{checked:?}");

    let (_agent, api) = scene.start(&Config::roles(&["director"])).expect("an agent");
    let before = api.status().expect("a status").generation;
    scene.instance.configure(&config.toml()).expect("a file");
    let error = api.reload().expect_err("a mistake").to_string();
    assert!(error.contains("lync-nobody") && error.contains("lync-none"), "{error}");
    assert_eq!(api.status().expect("a status").generation, before);
}
