//! `lyncwall watch` in a pseudo-terminal, `top` and `unused`, at a real agent with real traffic.

mod screen;
mod terminal;
mod usage;

use std::io::Read as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::Tcp;
use lyncwall_tests::pty::Pty;
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::{FrameSocket, eventually};

/// A terminal with a program in it, as somebody sees it. Dropping it kills the program.
struct Seen {
    pty: Pty,
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
    /// All that was written.
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Seen {
    /// Runs `command` in a terminal of this size that has colours and Unicode, unless `command` says otherwise.
    fn of(command: &mut Command, (rows, columns): (u16, u16)) -> Self {
        let pty = Pty::open(rows, columns).expect("a terminal");
        let child = pty.start(command).expect("it starts");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let mut written = pty.written().expect("a descriptor");
        thread::spawn({
            let (screen, bytes) = (Arc::clone(&screen), Arc::clone(&bytes));
            move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = written.read(&mut buffer) {
                    screen.lock().unwrap_or_else(PoisonError::into_inner).process(&buffer[..length]);
                    bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
                }
            }
        });
        Self { pty, child, screen, bytes }
    }

    /// `lyncwall watch` at the scene's agent, with these variables beside the usual ones.
    fn watch(scene: &Scene, size: (u16, u16), variables: &[(&str, &str)]) -> Self {
        Self::of(&mut watch(scene, variables), size)
    }

    /// What stands on the screen, line by line, with one space between words.
    fn text(&self) -> String {
        let lines = self.asked(|screen| screen.rows(0, screen.size().1).collect::<Vec<_>>());
        let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        lines.iter().map(words).collect::<Vec<_>>().join("\n")
    }

    fn asked<T>(&self, ask: impl FnOnce(&vt100::Screen) -> T) -> T {
        ask(self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen())
    }

    fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    #[track_caller]
    fn press(&self, keys: &str) {
        self.pty.press(keys).expect("a terminal");
    }

    /// Waits until all of this stands on the screen.
    #[track_caller]
    fn expect(&self, texts: &[&str]) {
        let missing = || {
            let screen = self.text();
            texts.iter().find(|text| !screen.contains(**text)).copied()
        };
        let found = eventually(PATIENT, || missing().is_none());
        assert!(found, "no {:?} on the screen:\n{}", missing(), self.text());
    }

    /// Waits until this no longer stands on the screen.
    #[track_caller]
    fn expect_no(&self, text: &str) {
        let gone = eventually(PATIENT, || !self.text().contains(text));
        assert!(gone, "{text:?} is still on the screen:\n{}", self.text());
    }

    #[track_caller]
    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen_mut().set_size(rows, columns);
        self.pty.resize(rows, columns).expect("a terminal");
    }

    /// The packets that stand behind `passed` or `dropped`.
    fn total(&self, name: &str) -> Option<u64> {
        let text = self.text();
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Waits until the program has ended.
    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        let child = &mut self.child;
        eventually(PATIENT, || {
            ended = child.try_wait().expect("a child of ours");
            ended.is_some()
        });
        ended.unwrap_or_else(|| panic!("it still runs:\n{}", self.text()))
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The command, for a terminal that has colours and Unicode.
fn watch(scene: &Scene, variables: &[(&str, &str)]) -> Command {
    let mut command = scene.instance.command();
    command.arg("watch");
    with(&mut command, variables);
    command
}

fn with(command: &mut Command, variables: &[(&str, &str)]) {
    command.env_remove("NO_COLOR").env_remove("LC_ALL").env_remove("LC_CTYPE");
    command.envs([("TERM", "xterm-256color"), ("LANG", "C.UTF-8")]).envs(variables.iter().copied());
}

/// Sends openings of TCP to a port of the host from the client, all at once.
fn open(scene: &Scene, port: u16, times: u16) {
    let socket = FrameSocket::open(&scene.pair.client, Pair::CLIENT_LINK).expect("a socket");
    for time in 0..times {
        socket.send(&Pair::frame_v4().with(Tcp::syn(40_000 + time, port)).build()).expect("a frame");
    }
}
