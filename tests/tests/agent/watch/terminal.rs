//! The terminal is left as it was found, and only what it can show is written.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::eventually;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::LocalFlags;
use nix::unistd::Pid;

use super::{Seen, open, watch, with};

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    for way in ["q", "\x03", "SIGTERM", "SIGHUP"] {
        let mut seen = Seen::watch(&scene, (24, 80), &[]);
        seen.expect(&["[1 Reasons]"]);
        assert!(seen.asked(|screen| screen.alternate_screen() && screen.hide_cursor()), "{way:?}");
        let raw = seen.pty.settings().expect("settings");
        assert!(!raw.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO), "{way:?}");
        let pid = Pid::from_raw(seen.child.id().cast_signed());
        match way {
            "SIGTERM" => kill(pid, Signal::SIGTERM).expect("it is ours"),
            "SIGHUP" => kill(pid, Signal::SIGHUP).expect("it is ours"),
            keys => seen.press(keys),
        }
        let ended = seen.wait();
        assert_eq!((ended.code(), ended.signal()), (Some(0), None), "{way:?}");
        let left = || seen.asked(|screen| !screen.alternate_screen() && !screen.hide_cursor());
        assert!(eventually(PATIENT, left), "{way:?} leaves the screen or the cursor");
        let settings = seen.pty.settings().expect("settings");
        let fresh = lyncwall_tests::pty::Pty::open(24, 80).expect("a terminal").settings().expect("settings");
        assert_eq!(settings.local_flags, fresh.local_flags, "{way:?}");
        assert_eq!(
            (settings.input_flags, settings.output_flags),
            (fresh.input_flags, fresh.output_flags),
            "{way:?}"
        );
    }
}

#[test]
fn the_shell_gets_the_terminal_at_ctrl_z_and_gives_it_back_at_fg() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let inner = watch(&scene, &[]);
    // Job control, as an interactive shell has it.
    let mut shell = scene.pair.host.command("sh");
    shell.args(["-m", "-c", "\"$@\"; echo 'back in the shell'; read line; fg; echo \"ended with $?\"", "sh"]);
    shell.arg(inner.get_program()).args(inner.get_args());
    with(&mut shell, &[]);
    let mut seen = Seen::of(&mut shell, (24, 80));
    seen.expect(&["[1 Reasons]"]);
    seen.press("\x1a");
    seen.expect(&["back in the shell"]);
    assert!(seen.asked(|screen| !screen.alternate_screen() && !screen.hide_cursor()));
    let settings = seen.pty.settings().expect("settings");
    assert!(settings.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    seen.press("\n");
    seen.expect(&["[1 Reasons]", "q quit"]);
    assert!(seen.asked(vt100::Screen::alternate_screen));
    seen.press("2");
    seen.expect(&["[2 Rules]"]);
    seen.press("q");
    seen.expect(&["ended with 0"]);
    assert!(seen.wait().success());
}

/// The escape sequences that choose a colour, in what was written.
fn colours(written: &str) -> Vec<String> {
    let sequences = written.split("\x1b[").skip(1).filter_map(|rest| {
        let end = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
        rest[end..].starts_with('m').then(|| rest[..end].to_owned())
    });
    let is_colour = |code: &str| {
        let number = code.parse::<u32>().unwrap_or_default();
        (30..=38).contains(&number) || (40..=48).contains(&number) || (90..=107).contains(&number)
    };
    sequences.filter(|sequence| sequence.split(';').any(is_colour)).collect()
}

#[test]
fn a_poor_terminal_gets_no_colour_and_no_unicode() {
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let run = |variables: &[(&str, &str)]| {
        let mut seen = Seen::watch(&scene, (24, 80), variables);
        seen.expect(&["[1 Reasons]"]);
        open(&scene, 3389, 5);
        seen.expect(&["closed drop"]);
        for keys in ["2", "3", "4", "5"] {
            seen.press(keys);
            seen.expect(&[&format!("[{keys} ")]);
        }
        // A bar of the sparkline: the rate of the drops above.
        seen.expect(&["dropped "]);
        seen.press("q");
        seen.wait();
        seen.bytes()
    };
    let poor = run(&[("NO_COLOR", "1"), ("LANG", "C")]);
    assert_eq!(colours(&poor), [""; 0]);
    assert!(poor.is_ascii(), "{:?}", poor.chars().find(|letter| !letter.is_ascii()));
    assert!(!colours(&run(&[])).is_empty(), "with colours there are some");
}

#[test]
fn what_cannot_be_drawn_on_gets_text() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _api) = scene.start(&Config::roles(&["reverse-proxy"])).expect("an agent");
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command: Command = watch(&scene, variables);
        let mut seen = Seen::of(command.args(arguments), (24, 120));
        seen.expect(&["generation 1, enforcing;"]);
        assert!(!seen.asked(vt100::Screen::alternate_screen));
        seen.press("\x03");
        assert_eq!(seen.wait().signal(), Some(Signal::SIGINT as i32), "{arguments:?}");
    };
    run(&["--plain"], &[]);
    run(&[], &[("TERM", "dumb")]);
}
