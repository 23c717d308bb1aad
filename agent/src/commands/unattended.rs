//! Commands while no agent answers: what the pins tell, and what needs no agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use lyncwall::firewall::{Pinned, stored_settings};
use lyncwall::{object, wire};
use lyncwall_api::client::Unheard;
use lyncwall_api::{BlockEdit, BlockList, Mode, TargetState};
use lyncwall_common::abi::MAX_BLOCKED;
use lyncwall_datapath::{Datapath, Detached, Unattended};
use serde::Serialize;

use crate::output::{Output, Table};

/// Where lyncwall keeps what outlives the agent.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The pins.
    pub(crate) pins: PathBuf,
    /// The state directory.
    pub(crate) state: PathBuf,
}

impl Places {
    /// Opens the pinned maps for a change, after a request failed with `error`, if that was because nobody
    /// serves the socket and the kernel enforces something.
    pub(crate) fn open(&self, error: anyhow::Error) -> Result<Pinned> {
        if Unheard::of(&error) != Some(Unheard::Nobody) {
            return Err(error);
        }
        // Without the right to look, the first error says more.
        match Unattended::look(&self.pins) {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err(error),
        }
        Pinned::open(object::require()?, &self.pins, &self.state)?.ok_or(error)
    }
}

/// Adds to a change of the block-list that no agent made it.
pub(crate) fn without_agent(mut edit: BlockEdit) -> BlockEdit {
    edit.warnings.insert(0, "no agent answers: changed in the kernel and in the state directory".to_owned());
    edit
}

/// The answer to a mode that was set without an agent.
#[derive(Serialize)]
struct Audited {
    /// True: no agent answers.
    unattended: bool,
    mode: Mode,
    generation: u64,
    warnings: Vec<String>,
}

/// Puts the whole box into audit mode.
pub(crate) fn audit(mut pinned: Pinned, output: &Output) -> Result<()> {
    let (generation, warning) = pinned.audit()?;
    let warnings = [
        Some("no agent answers: changed in the kernel; a reboot before the next agent starts restores the mode before"
            .to_owned()),
        warning,
    ];
    let warnings: Vec<String> = warnings.into_iter().flatten().collect();
    if output.json() {
        return output.value(&Audited { unattended: true, mode: Mode::Audit, generation, warnings });
    }
    let mode = super::mode(Mode::Audit, []);
    output.line(&format!("generation {generation}, {mode}; all targets"))?;
    warnings.iter().for_each(|warning| output.warn(warning));
    Ok(())
}

/// Opens the box without its agent: one that does not run, or does not answer; the second value is true for that
/// one.
pub(crate) fn detach(unheard: Option<Unheard>, pin_dir: &Path, output: &Output) -> Result<(Detached, bool)> {
    // The lock of another agent counts.
    if let Some(Unheard::Silent(Some(process))) = unheard
        && Datapath::holder(pin_dir)? == Some(process)
    {
        let detached = Datapath::detach_unheard(pin_dir)?;
        output.warn(&format!(
            "the agent (process {process}) does not answer; it ends by itself once it goes on"
        ));
        return Ok((detached, true));
    }
    Ok((Datapath::detach(pin_dir)?, false))
}

/// The status without an agent.
#[derive(Serialize)]
struct Status {
    /// True: no agent answers.
    unattended: bool,
    /// The agent that holds the pins but does not answer.
    pid: Option<i32>,
    interfaces: Vec<Interface>,
    /// The fields below are missing if the maps are of another version.
    #[serde(flatten)]
    rules: Option<Rules>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Interface {
    name: String,
    ifindex: u32,
    mode: String,
}

#[derive(Serialize)]
struct Rules {
    /// The mode of all targets, or `enforce` if some of them may audit.
    mode: Mode,
    generation: u64,
    targets: Vec<TargetState>,
    passed: u64,
    dropped: u64,
    blocked: BlockList,
}

/// Prints what the kernel enforces, and returns the error of the request to the agent.
pub(crate) fn status(error: anyhow::Error, pin_dir: &Path, output: &Output) -> anyhow::Error {
    if Unheard::of(&error).is_none() {
        return error;
    }
    let Ok(Some(look)) = Unattended::look(pin_dir) else { return error };
    match print(&report(look), output) {
        Ok(()) => error,
        Err(failed) => failed,
    }
}

fn report(look: Unattended) -> Status {
    let mut warnings = Vec::new();
    if look.interfaces.is_empty() {
        warnings.push("UNGUARDED: maps are pinned, but no interface here has the program".to_owned());
    }
    if let Some(rules) = look.rules.as_ref().filter(|rules| rules.on_trial) {
        let generation = rules.generation;
        warnings.push(format!(
            "generation {generation} was on trial: the kernel goes back to the one before by itself, unless it has done so"
        ));
    }
    if look.rules.is_none() {
        let version =
            look.version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
        warnings.push(format!("the maps have {version}: this lyncwall cannot read the rules in them"));
    }
    let interfaces = look.interfaces.into_iter().map(|attached| Interface {
        name: attached.interface,
        ifindex: attached.ifindex,
        mode: attached.mode.name().to_owned(),
    });
    let rules = look.rules.map(|rules| {
        let settings = rules.state.as_deref().and_then(stored_settings);
        let [v4, v6] = rules.blocked;
        Rules {
            mode: if rules.audit { Mode::Audit } else { Mode::Enforce },
            generation: rules.generation,
            targets: settings.as_ref().map(wire::targets).unwrap_or_default(),
            passed: rules.passed,
            dropped: rules.dropped,
            blocked: BlockList { v4, v6, size: MAX_BLOCKED, dropped: rules.dropped_blocked },
        }
    });
    Status { unattended: true, pid: look.holder, interfaces: interfaces.collect(), rules, warnings }
}

fn print(status: &Status, output: &Output) -> Result<()> {
    if output.json() {
        return output.value(status);
    }
    let mut table = Table::plain();
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row(
        "agent",
        match status.pid {
            Some(pid) => format!("process {pid} does not answer: read from the kernel"),
            None => "none: read from the kernel".to_owned(),
        },
    );
    if let Some(rules) = &status.rules {
        let targets = rules.targets.iter().map(|target| (&*target.target, target.mode));
        row("mode", format!("{}, generation {}", super::mode(rules.mode, targets), rules.generation));
        row("roles", super::roles_of(&rules.targets));
        row("packets", format!("{} passed, {} dropped", rules.passed, rules.dropped));
        row("block-list", super::block::summary(&rules.blocked));
    }
    output.section("lyncwall", &table)?;
    let mut interfaces = Table::new(["interface", "mode"]);
    for interface in &status.interfaces {
        interfaces.row([interface.name.clone(), interface.mode.clone()]);
    }
    output.section("Interfaces", &interfaces)?;
    status.warnings.iter().for_each(|warning| output.warn(warning));
    Ok(())
}

/// How long `status` and `detach` wait for an agent that answers but is busy.
pub(crate) const BUSY: Duration = Duration::from_secs(30);
