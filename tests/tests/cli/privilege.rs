//! Without privilege: the same binary, run by a user that owns nothing.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use lyncwall_tests::agent::{Finished, binary};
use lyncwall_tests::scene::{Config, Scene};

use super::expect_refused;

/// The user `nobody` of every Linux.
const NOBODY: u32 = 65_534;

/// The binary and a configuration, in the hands of nobody.
struct Unprivileged {
    directory: tempfile::TempDir,
    /// Opened by root, as the folders above it are often root's alone.
    binary: File,
}

impl Unprivileged {
    fn new(config: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("lyncwall-").tempdir().expect("a directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("ours");
        fs::write(directory.path().join("lyncwall.toml"), config).expect("a file");
        Self { directory, binary: File::open(binary()).expect("the binary is there") }
    }

    fn run(&self, scene: &Scene, arguments: &[&str]) -> Finished {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.binary.as_raw_fd()));
        command.arg("--socket").arg(scene.instance.socket()).arg("--pin-dir").arg(scene.instance.pins());
        command.args(arguments).current_dir(self.directory.path()).uid(NOBODY).gid(NOBODY);
        let output = command.output().expect("it runs");
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

#[test]
fn no_privilege_is_a_mistake_with_its_fix() {
    let scene = Scene::new().expect("a scene");
    let mut config = Config::roles(&["reverse-proxy"]);
    config.interfaces = vec![("lo".to_owned(), "auto")];
    let nobody = Unprivileged::new(&config.toml());
    let finished = nobody.run(&scene, &["run", "--config", "lyncwall.toml"]);
    expect_refused(&finished, &["no privilege to load and attach BPF programs", "as root"]);
    let finished = nobody.run(&scene, &["detach"]);
    expect_refused(&finished, &["no privilege", "as root"]);
    // Where the pins are root's secret, as systemd mounts them, it is the same.
    let closed = Permissions::from_mode(0o700);
    fs::set_permissions(scene.bpffs.path(), closed).expect("ours");
    for command in [&["run", "--config", "lyncwall.toml"][..], &["detach"]] {
        expect_refused(&nobody.run(&scene, command), &["no privilege", "as root"]);
    }
    // What needs none works.
    let finished = nobody.run(&scene, &["check", "--config", "lyncwall.toml"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn doctor_says_what_it_could_not_ask() {
    let scene = Scene::new().expect("a scene");
    let mut config = Config::roles(&["reverse-proxy"]);
    config.interfaces = vec![("lo".to_owned(), "auto")];
    let nobody = Unprivileged::new(&config.toml());
    let finished = nobody.run(&scene, &["doctor", "--config", "lyncwall.toml"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("no privilege") && finished.stdout.contains("as root"), "{finished:?}");
    for said in [
        "this user may not ask",
        "no agent serves",
        "lyncwall.toml has no mistakes",
        "free; only attaching shows whether",
    ] {
        assert!(finished.stdout.contains(said), "no {said:?} in:\n{}", finished.stdout);
    }
    let finished = nobody.run(&scene, &["doctor", "--json", "--config", "lyncwall.toml"]);
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let features = report["kernel"]["features"].as_array().expect("a list");
    let link = features.iter().find(|feature| feature["name"] == "xdp-link").expect("it is listed");
    assert!(link["found"].is_null() && link["needed"] == true, "{link}");
    assert!(!report["kernel"]["release"].as_str().unwrap_or_default().is_empty());

    // Where the pins are root's secret, as systemd mounts them, the rest is told all the same.
    fs::set_permissions(scene.bpffs.path(), Permissions::from_mode(0o700)).expect("ours");
    let finished = nobody.run(&scene, &["doctor", "--config", "lyncwall.toml"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("this user may not look at"), "{finished:?}");
    assert!(finished.stdout.contains("free; only attaching shows whether"), "{finished:?}");
}

#[test]
fn the_socket_is_for_root_alone() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let nobody = Unprivileged::new("");
    // The directory of the socket is root's as well; open it, so that the socket is what refuses.
    let directory = scene.instance.socket().parent().expect("a directory").to_owned();
    fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("ours");
    for arguments in [&["status"][..], &["switch", "director-vip"], &["events"], &["detach"]] {
        expect_refused(&nobody.run(&scene, arguments), &["as root"]);
    }
    assert_eq!(api.status().expect("a status").generation, 1);
}
