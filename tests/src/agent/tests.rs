//! Starting, signalling and ending a process are tried with a shell script in the agent's place: what the agent does
//! is the matter of the tests that use this module.

use std::os::unix::net::UnixListener;

use super::*;
use crate::prerequisites::require_root;

/// A place where the script behaves as told. The script itself is a file of the repository: a file that was written
/// just now cannot be executed while another thread is between fork and exec (ETXTBSY).
fn instance(behaviour: &str) -> Instance {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/agent/stand-in.sh");
    let namespace = Netns::new().expect("a namespace");
    let instance = Instance::of_binary(script, &namespace, "/nothing/pinned".into()).expect("an instance");
    fs::write(instance.directory.path().join("behaviour"), behaviour).expect("a file");
    instance
}

/// Says "not found" to whoever asks, as a server does that has no such page.
fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.read_exact(&mut [0; 4]).expect("a request");
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").ok();
        }
    });
}

#[test]
fn an_agent_gets_its_arguments_and_signals_and_is_waited_for() {
    require_root();
    let script = "trap 'echo reloaded >&2' HUP\ntrap 'echo bye; exit 3' TERM\necho $* >&2\n\
                  while :; do sleep 0.02; done";
    let instance = instance(script);
    serve(&instance.socket());
    let mut agent = instance.start().expect("an agent");
    let expected = format!(
        "--socket {} --pin-dir {} --state-dir {} run --config {}\n",
        instance.socket().display(),
        instance.pins().display(),
        instance.state().display(),
        instance.config().display()
    );
    agent.wait_for_log(&expected).expect("its arguments");
    agent.reload().expect("a signal");
    agent.wait_for_log("reloaded").expect("the signal came");
    let finished = agent.stop().expect("an end");
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(3), "bye\n"));
    assert_eq!(finished.stderr, format!("{expected}reloaded\n"));
    finished.json().expect_err("no JSON");
    finished.success().expect_err("code 3");
}

#[test]
fn ignored_signals_of_the_test_are_no_matter_of_the_agent() {
    require_root();
    let tests = env::current_exe().expect("this program");
    let one = "agent::tests::an_agent_gets_its_arguments_and_signals_and_is_waited_for";
    let script = "trap '' HUP INT TERM; exec \"$0\" --exact \"$1\"";
    let output = Command::new("sh").args(["-c", script]).arg(tests).arg(one).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_killed_agent_has_no_code_and_a_dropped_one_is_gone() {
    require_root();
    let instance = instance("exec sleep 60");
    serve(&instance.socket());
    assert_eq!(instance.start().expect("an agent").kill().expect("an end").code, None);
    let agent = instance.start().expect("an agent");
    let pid = agent.pid();
    drop(agent);
    assert_eq!(kill(pid, None), Err(nix::Error::ESRCH));
}

#[test]
fn an_agent_that_refuses_says_why() {
    require_root();
    let instance = instance("echo '{\"a\": 1}'; echo \"$7: no such role\" >&2; exit 1");
    let error = instance.start().expect_err("it ends at once").to_string();
    assert!(error.contains("no such role") && error.contains("exit status: 1"), "{error}");
    let finished = instance.start_in_vain().expect("it ends at once");
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(1), "run: no such role\n"));
    let finished = instance.cli(["status", "--json"]).expect("it ends at once");
    assert_eq!(finished.stderr, "status: no such role\n");
    assert_eq!(finished.json().expect("JSON")["a"], 1);
}

#[test]
fn an_output_larger_than_a_pipe_stops_nobody() {
    require_root();
    let instance = instance("head -c 300000 /dev/zero | tr '\\0' x");
    assert_eq!(instance.cli(["catalogue"]).expect("an end").success().expect("code 0").len(), 300_000);
}
