//! Services on and around a box in front of a pool, at work through the firewall: Debian's own programs, with the
//! agent as its users start it, in namespaces of each test's own.

mod balancer;
mod dhcp;
mod names;
mod neighbours;
mod proxy;
mod scan;
pub(crate) mod sip;
mod time;
mod unit;
mod vlans;
mod vrrp;

use std::net::SocketAddr;

use lyncwall_tests::agent::Finished;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::programs::{self, Folder, Program};
use lyncwall_tests::traffic::{Outcome, tcp_connect};

/// Starts a program that serves a TCP port of its own namespace, and waits until that takes connections.
#[track_caller]
fn serve(at: &Netns, folder: &Folder, name: &str, arguments: &[&str], ports: &[u16]) -> Program {
    let program = Program::start(at, folder, name, arguments).expect("it can be started");
    let takes = |port: &u16| {
        let local = SocketAddr::from(([127, 0, 0, 1], *port));
        tcp_connect(at, local, PATIENT).is_ok_and(|outcome| outcome == Outcome::Answered)
    };
    program.ready(PATIENT, |_| ports.iter().all(takes)).expect("it serves")
}

/// Runs `ip` with these words, which has to succeed.
#[track_caller]
fn ip(at: &Netns, words: &str) -> String {
    programs::run(at, "ip", words.split(' '), PATIENT).expect("ip").success().expect("ip does it")
}

/// Runs curl, which trusts anybody here.
#[track_caller]
fn curl(from: &Netns, arguments: &[&str]) -> Finished {
    let arguments = ["--silent", "--show-error", "--fail", "--insecure"].iter().chain(arguments);
    programs::run(from, "curl", arguments, PATIENT).expect("curl")
}

/// Makes a certificate, `tls.pem` with the key `tls.key`, and both together as `both.pem`.
#[track_caller]
fn certificate(folder: &Folder) {
    let here = Netns::new().expect("a namespace");
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                     -subj /CN=pool.example.net -keyout tls.key -out tls.pem";
    let made = programs::run_in(&here, folder.path(), "openssl", arguments.split_whitespace(), PATIENT);
    made.expect("openssl").success().expect("a certificate");
    folder
        .write("both.pem", &format!("{}{}", folder.read("tls.pem"), folder.read("tls.key")))
        .expect("a file");
}

/// The frame of a configuration for an nginx that runs as one process and leaves nothing outside of `folder`.
fn nginx_config(folder: &Folder, http: &str) -> String {
    let mut config = format!("daemon off;\nmaster_process off;\npid {};\n", folder.file("nginx.pid"));
    config += "error_log stderr warn;\nevents {}\nhttp {\naccess_log off;\n";
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        config += &format!("{kind}_temp_path {};\n", folder.file(kind));
    }
    let (certificate, key) = (folder.file("tls.pem"), folder.file("tls.key"));
    config + &format!("ssl_certificate {certificate};\nssl_certificate_key {key};\n{http}\n}}\n")
}

/// Starts nginx with a certificate of its own, serving these ports.
#[track_caller]
fn nginx(at: &Netns, folder: &Folder, http: &str, ports: &[u16]) -> Program {
    certificate(folder);
    let config = folder.write("nginx.conf", &nginx_config(folder, http)).expect("a file");
    let config = config.to_str().expect("a path of text");
    serve(at, folder, "nginx", &["-e", "stderr", "-c", config], ports)
}
