//! `lyncwall status`.

use std::path::Path;

use lyncwall_api::client::Client;
use lyncwall_api::{Kernel, Management, Mode, OnExit, Status, Waiting};

use super::unattended::{self, BUSY};
use crate::output::{Output, Table};

pub(crate) async fn run(client: &Client, pin_dir: &Path, output: &Output) -> anyhow::Result<()> {
    let status: Status = match client.clone().waiting(BUSY).get("/v1/status").await {
        Ok(status) => status,
        Err(error) => return Err(unattended::status(error, pin_dir, output)),
    };
    if output.json() {
        return output.value(&status);
    }
    let mut table = Table::plain();
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    for on in &status.unguarded {
        row("UNGUARDED", format!("{}: {}", on.interface, on.why));
    }
    let modes = status.targets.iter().map(|target| (&*target.name, target.mode));
    let set = match (status.mode, status.file_mode) {
        (now, file) if now != file => format!(" (changed at run time; file: {})", file.as_str()),
        _ => String::new(),
    };
    row("mode", format!("{}{set}, generation {}", super::mode(status.mode, modes), status.generation));
    if let Some(waiting) = &status.waiting {
        row("to confirm", waiting_for(waiting));
    }
    row("packets", format!("{} passed, {} dropped", status.passed, status.dropped));
    row("management", management(status.management.as_ref()));
    row(
        "configuration",
        format!("{} ({}, {} reading)", status.config.display(), status.catalogue, status.reading.as_str()),
    );
    row(
        "agent",
        format!(
            "{}, process {}, on exit: {}",
            status.version,
            status.pid,
            match status.on_exit {
                OnExit::Keep => "keeps rules",
                OnExit::Detach => "opens the box",
            }
        ),
    );
    let program = &status.program;
    row(
        "program",
        format!(
            "{} #{}, loaded in {} ms, maps {:.1} MB",
            program.name,
            program.id,
            program.load_ms,
            program.map_bytes as f64 / 1e6
        ),
    );
    let flows = &status.flows;
    row(
        "flows",
        format!(
            "{} IPv4, {} IPv6 (at most {} each); {} evicted, {} not added",
            flows.v4, flows.v6, flows.size, flows.evicted, flows.lost
        ),
    );
    row("block-list", super::block::summary(&status.blocked));
    output.section("lyncwall", &table)?;

    output.section(&format!("Kernel {}", status.kernel.release), &kernel(&program.name, &status.kernel))?;

    let mut interfaces = Table::new(["interface", "mode", ""]);
    let unguarded = status.interfaces.is_empty();
    let failing = status.failing;
    for interface in status.interfaces {
        let refused = interface.native_refused.map(|why| format!("no native mode: {why}"));
        let waiting = interface.missing.then(|| "waiting: it does not exist".to_owned());
        interfaces.row([interface.name, interface.mode, waiting.or(refused).unwrap_or_default()]);
    }
    output.section("Interfaces", &interfaces)?;

    let mut allow = Table::plain();
    for rule in status.allow {
        allow.row([rule]);
    }
    output.section("Open besides the roles", &allow)?;

    let mut targets = Table::new(["target", "mode", "address", "roles", "open tcp", "open udp"]);
    for target in status.targets {
        let changed = if target.roles == target.file_roles { "" } else { " (switched; the file differs)" };
        targets.row([
            target.name,
            set_mode(target.mode, target.file_mode),
            target.address.join(" "),
            format!("{}{changed}", some(&target.roles, "no role")),
            some(&target.tcp, "-"),
            some(&target.udp, "-"),
        ]);
    }
    output.section("Targets", &targets)?;
    if unguarded {
        output.warn("no interface is guarded: none of the configured ones exists now");
    }
    for what in failing {
        output.warn(&format!("{what}; the agent tries again"));
    }
    for lost in status.lost {
        output.warn(&format!("lost: {lost}; `lyncwall ack` ends this warning"));
    }
    for warning in status.warnings {
        output.warn(&warning);
    }
    Ok(())
}

/// A mode, followed by that of the file if they differ.
fn set_mode(now: Mode, file: Mode) -> String {
    let differs = if now == file { String::new() } else { format!(" (changed; file: {})", file.as_str()) };
    format!("{}{differs}", now.as_str())
}

/// What happens if nobody confirms the change.
fn waiting_for(waiting: &Waiting) -> String {
    let mut back = vec![super::roles_of(&waiting.targets)];
    back.extend(waiting.changes.iter().cloned());
    format!("run `lyncwall confirm` within {} s, else lyncwall restores {}", waiting.seconds, back.join("; "))
}

/// The loaded entry point, and the missing kernel features.
fn kernel(program: &str, kernel: &Kernel) -> Table {
    let mut table = Table::plain();
    let frames = if program == lyncwall_common::abi::program::INGRESS_FRAGS {
        "frames in one buffer and in several"
    } else {
        "frames in one buffer"
    };
    table.row(["entry point".to_owned(), format!("{program}: {frames}")]);
    for feature in kernel.features.iter().filter(|feature| feature.found == Some(false)) {
        table.row([
            format!("no {}", feature.name),
            format!("needs Linux {}; instead: {}", feature.since, feature.detail),
        ]);
    }
    table
}

fn some(list: &[String], none: &str) -> String {
    if list.is_empty() { none.to_owned() } else { list.join(" ") }
}

fn management(management: Option<&Management>) -> String {
    let Some(management) = management else { return "none".to_owned() };
    let mut ports = Vec::new();
    for (transport, list) in [("tcp", &management.tcp), ("udp", &management.udp)] {
        if !list.is_empty() {
            ports.push(format!("{transport} {}", list.join(" ")));
        }
    }
    format!("{} from {}", ports.join(", "), management.from.join(" "))
}
