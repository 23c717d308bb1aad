//! The commands, one file each: its options and what it does.

pub(crate) mod block;
pub(crate) mod catalogue;
pub(crate) mod check;
pub(crate) mod confirm;
pub(crate) mod detach;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod preview;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod watch;

use lyncwall::api::TargetRoles;
use lyncwall::config::Mode;

/// What a mode does to packets.
fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforcing",
        Mode::Audit => "AUDIT: nothing is dropped",
    }
}

/// The roles of each target, in one line.
fn roles_of(targets: &[TargetRoles]) -> String {
    let one = |target: &TargetRoles| {
        let roles = if target.roles.is_empty() { "no role".to_owned() } else { target.roles.join(", ") };
        format!("{}: {roles}", target.target)
    };
    targets.iter().map(one).collect::<Vec<_>>().join("; ")
}
