//! The commands, one file each: its options and what it does.

pub(crate) mod block;
pub(crate) mod capture;
pub(crate) mod catalogue;
pub(crate) mod check;
pub(crate) mod confirm;
pub(crate) mod detach;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod mode;
pub(crate) mod preview;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod usage;
pub(crate) mod watch;

use lyncwall::api::Mode;
use lyncwall::api::TargetState;

/// What is done to packets: to those that have no target, by `mode`, and to those of each target.
fn mode<'a>(mode: Mode, targets: impl IntoIterator<Item = (&'a str, Mode)>) -> String {
    let others: Vec<&str> =
        targets.into_iter().filter(|(_, of)| *of != mode).map(|(target, _)| target).collect();
    match (mode, others.is_empty()) {
        (Mode::Enforce, true) => "enforcing".to_owned(),
        (Mode::Audit, true) => "AUDIT: nothing is dropped".to_owned(),
        (Mode::Enforce, false) => {
            format!("enforcing, but AUDIT for {}", others.join(", "))
        }
        (Mode::Audit, false) => format!("AUDIT, but enforcing for {}", others.join(", ")),
    }
}

/// The same of targets that can be changed.
fn mode_of(rest: Mode, targets: &[TargetState]) -> String {
    mode(rest, targets.iter().map(|target| (&*target.target, target.mode)))
}

/// The roles of each target, in one line.
fn roles_of(targets: &[TargetState]) -> String {
    let one = |target: &TargetState| {
        let roles = if target.roles.is_empty() { "no role".to_owned() } else { target.roles.join(", ") };
        format!("{}: {roles}", target.target)
    };
    targets.iter().map(one).collect::<Vec<_>>().join("; ")
}
