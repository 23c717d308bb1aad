//! Clients that stall, flood or send rubbish: nobody else waits for them, and the agent stays small.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lyncwall_tests::agent::{Agent, Api};
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ethernet, Packet, Tcp, ip};
use lyncwall_tests::programs::Folder;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{FrameSocket, eventually};

use super::{ask, let_in};

/// Within this time root is answered, whatever others do: far more than a busy machine needs, and far less than those who stall
/// would have it wait.
const SOON: Duration = Duration::from_secs(8);

/// A user that may read. Debian has the group, and nobody is in it.
const NOBODY: &str = "65534";
const READERS: &str = "[api]\nreaders = \"nogroup\"\n";

/// Bad clients of one kind; killed on drop.
struct Rude(Child);

impl Rude {
    fn start(scene: &Scene, program: &PathBuf, way: &str, count: usize) -> Self {
        let child = Command::new("setpriv")
            .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--pdeathsig", "KILL"])
            .arg(program)
            .arg(scene.instance.socket())
            .args([way, &count.to_string()])
            .stdin(Stdio::null())
            .spawn();
        Self(child.expect("setpriv"))
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The program, where another user may start it.
fn program(folder: &Folder) -> PathBuf {
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let program = folder.path().join("rude");
    fs::copy(env!("CARGO_BIN_EXE_rude"), &program).expect("a copy");
    program
}

/// Sockets and files that the agent has open.
fn descriptors(agent: &Agent) -> usize {
    fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("a folder").count()
}

/// Openings to closed ports, as fast as one thread sends them, until it is dropped.
struct Drops(Arc<AtomicBool>, Option<thread::JoinHandle<()>>);

impl Drops {
    fn start(pair: &Pair) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sender = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a socket");
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for port in (1..=1000).cycle() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let frame = Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, Pair::HOST_MAC))
                    .with(ip(Scene::CLIENT[0], Scene::HOST[0]))
                    .with(Tcp::syn(40_000, port));
                // A queue that is full for a moment is no matter.
                sender.send(&frame.build()).ok();
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Drops {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            thread.join().ok();
        }
    }
}

/// Root's requests, some time long, by its own socket and, where it is given, by the one that others use; the longest wait.
fn slowest(api: &Api, shared: Option<&Path>, how_long: Duration) -> Duration {
    let (begin, mut slowest) = (Instant::now(), Duration::ZERO);
    let mut roles = ["director", "reverse-proxy"].into_iter().cycle();
    while begin.elapsed() < how_long {
        let start = Instant::now();
        api.status().expect("a status");
        if let Some(shared) = shared {
            assert_eq!(ask(shared, "GET", "/v1/status", "").expect("an answer").status, 200);
        }
        slowest = slowest.max(start.elapsed());
        let role = roles.next().expect("a cycle");
        let switched = api.switch(&[role]).expect("a switch");
        assert_eq!(switched.targets[0].roles, [role]);
        thread::sleep(Duration::from_millis(50));
    }
    slowest
}

#[test]
fn bad_clients_harm_nobody_else() {
    let scene = Scene::new().expect("a scene");
    let_in(&scene.instance);
    let folder = Folder::new().expect("a folder");
    let program = program(&folder);
    let (agent, api) = scene.start(&Config::roles(&["director"]).further(READERS)).expect("an agent");
    api.status().expect("a status");
    let (before, files) = (agent.resident().expect("its memory"), descriptors(&agent));

    for (way, count) in [
        ("half", 200),
        ("short", 100),
        ("rubbish", 20),
        ("huge", 20),
        ("flood", 50),
        ("events", 20),
        ("knock", 4),
    ] {
        let flood = (way == "events").then(|| Drops::start(&scene.pair));
        let rude = Rude::start(&scene, &program, way, count);
        if ["half", "short", "events"].contains(&way) {
            // They hold their places, and no more than these.
            assert!(
                eventually(PATIENT, || descriptors(&agent) >= files + 16),
                "{way}: {}",
                descriptors(&agent)
            );
        }
        // Who knocks that fast fills the queue of the socket that it may use.
        let socket = scene.instance.socket();
        let waited = slowest(&api, (way != "knock").then_some(&*socket), Duration::from_secs(3));
        assert!(waited < SOON, "{way}: root waited {waited:?}");
        let open = descriptors(&agent);
        assert!(open < files + 40, "{way}: {open} descriptors, and {files} before");
        let grown = agent.resident().expect("its memory").saturating_sub(before);
        eprintln!("{way}: root waited at most {waited:?}, the agent grew by {grown} KiB");
        assert!(grown < 64 * 1024, "{way}: the agent grew by {grown} KiB");
        drop((rude, flood));
        assert!(eventually(PATIENT, || descriptors(&agent) < files + 8), "{way}: places are not given back");
    }
}

#[test]
fn requests_that_nobody_waits_for_are_not_carried_out() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::default()).expect("an agent");
    let (generation, files) = (api.status().expect("a status").generation, descriptors(&agent));
    let request = b"POST /v1/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let asked: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = UnixStream::connect(scene.instance.socket()).expect("the socket");
            stream.write_all(request).expect("a request");
            stream
        })
        .collect();
    drop(asked);
    assert!(eventually(PATIENT, || descriptors(&agent) <= files + 4), "they have left");
    let reloads = api.reload().expect("a reload").generation - generation - 1;
    eprintln!("{reloads} of 60 were carried out");
    assert!(reloads < 60, "all were carried out");
}

#[test]
fn who_sends_half_a_request_is_thrown_out_after_a_while() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _) = scene.start(&Config::default()).expect("an agent");
    let open = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(scene.instance.socket()).expect("the socket");
        stream.set_read_timeout(Some(PATIENT)).expect("a time");
        stream.write_all(bytes).expect("a request");
        stream
    };
    let begin = Instant::now();
    let head = b"POST /v1/switch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let mut silent = open(b"");
    let mut half = open(&head[..20]);
    let mut short = open(&[head.as_slice(), b"Content-Length: 100\r\n\r\n{"].concat());
    let mut rubbish = open(&[0xFF; 100_000]);
    let end = |stream: &mut UnixStream| {
        let mut answer = Vec::new();
        // Thrown out with something unread is an error of the connection.
        stream.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(!end(&mut rubbish).contains("200 OK"));
    assert!(begin.elapsed() < Duration::from_secs(9), "rubbish is not waited for");
    let answer = end(&mut short);
    assert!(answer.contains("408 ") && answer.contains("took longer than 10 s"), "{answer}");
    assert!(!end(&mut half).contains("200 OK"));
    end(&mut silent);
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(8) && took < PATIENT, "{took:?}");

    let long =
        ask(&scene.instance.socket(), "POST", "/v1/switch", &" ".repeat(1_000_000)).expect("an answer");
    assert_eq!(long.status, 413, "{long:?}");
    // Thousands of names are not looked up, nor answered one by one.
    let names = format!("/v1/events?rule={}", "a,".repeat(30_000));
    let names = ask(&scene.instance.socket(), "GET", &names, "").expect("an answer");
    assert_eq!((names.status, names.body.len() < 1000), (400, true), "{names:?}");
    let root = ask(&scene.instance.socket(), "GET", "/v1/status", "").expect("an answer");
    assert_eq!(root.status, 200);
}

#[test]
fn roots_own_idle_connections_do_not_lock_root_out() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["director"])).expect("an agent");
    let root = lyncwall_api::root_socket(&scene.instance.socket());
    let _idle: Vec<_> = (0..80).map(|_| UnixStream::connect(&root).expect("the socket")).collect();
    let begin = Instant::now();
    api.status().expect("a status");
    assert!(begin.elapsed() < SOON, "root waited {:?}", begin.elapsed());
}

#[test]
fn half_requests_of_a_stranger_do_not_stop_the_scraping() {
    let scene = Scene::new().expect("a scene");
    let listen = "[metrics]\nlisten = [\"127.0.0.1:9464\"]\n";
    let (_agent, _) = scene.start(&Config::roles(&["director"]).further(listen)).expect("an agent");
    scene.pair.host.run(|| {
        let open = || TcpStream::connect("127.0.0.1:9464").expect("the address");
        let half = |mut stream: TcpStream| {
            stream
                .write_all(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
                .expect("a head");
            stream
        };
        let _half: Vec<_> = (0..40).map(|_| half(open())).collect();
        let mut scraper = open();
        scraper.set_read_timeout(Some(SOON)).expect("a time");
        scraper
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut answer = String::new();
        scraper.read_to_string(&mut answer).expect("an answer in time");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("# EOF\n"), "{answer}");
    });
}

#[test]
fn a_list_of_thousands_of_prefixes_is_blocked_whole() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&["director"])).expect("an agent");
    let prefixes = (0..20_000).map(|n| format!("2001:db8:{:x}:{:x}::/64", n / 200, n % 200));
    let command = |what: &str| [what.to_owned()].into_iter().chain(prefixes.clone()).collect::<Vec<_>>();
    scene.instance.cli(command("block")).expect("it runs").success().expect("a block");
    assert_eq!(api.status().expect("a status").blocked.v6, 20_000);
    let mut bad = command("unblock");
    bad.push("rubbish".to_owned());
    let refused = scene.instance.cli(bad).expect("it runs");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(api.status().expect("a status").blocked.v6, 20_000, "one mistake changes nothing");
    scene.instance.cli(command("unblock")).expect("it runs").success().expect("no block");
    assert_eq!(api.status().expect("a status").blocked.v6, 0);
}

/// Sends a request, and closes this end for sending.
fn half_closed(scene: &Scene, request: &str) -> UnixStream {
    let mut stream = UnixStream::connect(scene.instance.socket()).expect("the agent serves");
    stream.set_read_timeout(Some(PATIENT)).expect("a time");
    stream.write_all(request.as_bytes()).expect("a request");
    stream.shutdown(Shutdown::Write).expect("it sends no more");
    stream
}

#[test]
fn a_client_that_has_sent_all_is_answered_and_one_that_has_gone_leaves_its_place() {
    let scene = Scene::new().expect("a scene");
    let (agent, api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    for request in ["GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n", "POST /v1/reload HTTP/1.0\r\n\r\n"] {
        let mut answer = String::new();
        half_closed(&scene, request).read_to_string(&mut answer).expect("an answer");
        assert!(
            answer.starts_with("HTTP/1.") && answer.contains("\"generation\":"),
            "{request:?}: {answer:?}"
        );
    }
    // Streams on which nothing happens: no write tells the agent that their readers have gone.
    let before = descriptors(&agent);
    for _ in 0..200 {
        let mut stream = half_closed(&scene, "GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.read_exact(&mut [0; 12]).expect("a head: there is a place for each");
    }
    assert!(eventually(PATIENT, || descriptors(&agent) <= before + 1), "{} are open", descriptors(&agent));
    api.status().expect("a status");
}
