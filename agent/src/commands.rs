//! The commands, one file each: options and action.

pub(crate) mod ack;
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
pub(crate) mod unattended;
pub(crate) mod usage;
pub(crate) mod watch;

use lyncwall_api::Mode;
use lyncwall_api::TargetState;

/// The mode of packets without a target, and the targets whose mode differs.
fn mode<'a>(mode: Mode, targets: impl IntoIterator<Item = (&'a str, Mode)>) -> String {
    let others: Vec<&str> =
        targets.into_iter().filter(|(_, of)| *of != mode).map(|(target, _)| target).collect();
    match (mode, others.is_empty()) {
        (Mode::Enforce, true) => "enforcing".to_owned(),
        (Mode::Audit, true) => "AUDIT: drops nothing".to_owned(),
        (Mode::Enforce, false) => {
            format!("enforcing, but AUDIT for {}", others.join(", "))
        }
        (Mode::Audit, false) => format!("AUDIT, but enforcing for {}", others.join(", ")),
    }
}

/// Like [`mode`], for the targets of a change.
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
