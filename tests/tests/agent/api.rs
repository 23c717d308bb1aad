//! The agent's API as programs meet it: the document that describes it, who may use it, what bad clients can do, and the metrics.

mod alerts;
mod document;
mod harm;
mod metrics;
mod peers;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use lyncwall_tests::agent::Instance;
use lyncwall_tests::expect::PATIENT;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the repository").to_owned()
}

/// An answer of the agent.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    /// Its type, without parameters.
    kind: String,
    pub(crate) body: String,
}

/// Asks the agent something, as the user that the test is.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENT))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: lyncwall\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    // An agent that has read enough answers before all of it is sent.
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes()).ok();
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    if bytes.is_empty() {
        read?;
    }
    parse(&String::from_utf8(bytes).context("an answer that is text")?)
}

fn parse(answer: &str) -> Result<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n").context("a head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-type")
            .then(|| value.split(';').next().map(|v| v.trim().to_owned()))?
    };
    let kind = head.lines().find_map(field).unwrap_or_default();
    Ok(Answer { status, kind, body: body.to_owned() })
}

/// Lets other users reach the folder of an agent's socket.
fn let_in(instance: &Instance) {
    let socket = instance.socket();
    let folder = socket.parent().expect("a folder");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a mode");
}
