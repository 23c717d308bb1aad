//! The log lines of changes: each is a sentence with what was done, where, and who asked for it.

use std::fmt;

use lyncwall_api::{PortChange, Switched, TargetState};
use lyncwall_policy::problem::Problems;
use lyncwall_policy::text::counted;
use nix::unistd::Uid;

use crate::firewall::ChangeKind;

/// Who asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A user, by the socket.
    User(Uid),
    /// Somebody who sent SIGHUP.
    Hangup,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Hangup => f.write_str("SIGHUP"),
        }
    }
}

impl Asker {
    /// The number of the user, if known.
    pub(super) fn uid(self) -> Option<u32> {
        match self {
            Self::User(uid) => Some(uid.as_raw()),
            Self::Hangup => None,
        }
    }
}

/// The most items to name one by one.
const NAMED: usize = 10;
/// The most characters of an item: a list of sources can be as long as the file.
const LENGTH: usize = 300;

/// A change was made. `before` is the state of the targets until then.
pub(super) fn made(kind: ChangeKind, asker: Asker, before: &[TargetState], switched: &Switched) {
    let mut said = vec![format!("generation {} is live", switched.generation)];
    said.extend(roles(before, &switched.targets));
    said.extend(switched.changes.iter().map(|change| shortened(change)));
    for (what, ports) in [("opened", &switched.opened), ("closed", &switched.closed)] {
        if !ports.is_empty() {
            said.push(format!("{what} {}", some(ports.iter().map(port), "port range", "port ranges")));
        }
    }
    said.extend(switched.confirm.map(|time| format!("it rolls back in {time} s unless confirmed")));
    tracing::info!(
        change = kind.name(),
        generation = switched.generation,
        micros = switched.micros,
        opened = switched.opened.len(),
        closed = switched.closed.len(),
        uid = asker.uid(),
        "{}, asked by {asker}: {}",
        done(kind),
        said.join("; ")
    );
    for warning in &switched.warnings {
        tracing::warn!("{}: {warning}", done(kind));
    }
}

/// A change on trial was undone on request.
pub(super) fn rolled_back(asker: Asker, before: &[TargetState], switched: &Switched) {
    let mut said = vec![format!("generation {} is live", switched.generation)];
    said.extend(roles(before, &switched.targets));
    said.extend(switched.changes.iter().map(|change| shortened(change)));
    let generation = switched.generation;
    tracing::info!(generation, uid = asker.uid(), "rolled back, asked by {asker}: {}", said.join("; "));
}

/// A change was not made.
pub(super) fn refused(kind: ChangeKind, asker: Asker, error: &anyhow::Error) {
    not_done(&format!("not {}", done(kind)), asker, error);
}

/// Something else than a change of rules was not done.
pub(super) fn not_done(what: &str, asker: Asker, error: &anyhow::Error) {
    match error.downcast_ref::<Problems>() {
        Some(problems) => {
            for problem in problems.clone().first().iter() {
                tracing::warn!(uid = asker.uid(), "{what}: {problem} (asked by {asker})");
            }
        }
        None => tracing::error!(uid = asker.uid(), "{what}: {error:#} (asked by {asker})"),
    }
}

/// Prefixes were blocked for some seconds, or for good; or unblocked.
pub(super) fn blocked(what: &str, asker: Asker, prefixes: &[String], seconds: Option<u64>) {
    let time = seconds.map(|seconds| format!(" for {seconds} s")).unwrap_or_default();
    let list = some(prefixes.iter().cloned(), "prefix", "prefixes");
    tracing::info!(
        prefixes = prefixes.len(),
        seconds,
        uid = asker.uid(),
        "{what} {list}{time}, asked by {asker}"
    );
}

/// What a change of this kind has done.
fn done(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Switch => "switched",
        ChangeKind::Mode => "changed the mode",
        ChangeKind::Reload => "reloaded",
    }
}

/// The roles of each target whose roles differ, before and after.
fn roles<'a>(before: &'a [TargetState], after: &'a [TargetState]) -> impl Iterator<Item = String> + 'a {
    let list = |roles: &[String]| if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") };
    after.iter().filter_map(move |now| {
        let old = before.iter().find(|old| old.target == now.target);
        match old {
            Some(old) if old.roles == now.roles => None,
            Some(old) => Some(format!("{}: {} to {}", now.target, list(&old.roles), list(&now.roles))),
            None => Some(format!("{}, a new target: {}", now.target, list(&now.roles))),
        }
    })
}

fn port(change: &PortChange) -> String {
    let PortChange { target, transport, first, last, .. } = change;
    if first == last {
        format!("{target} {transport} {first}")
    } else {
        format!("{target} {transport} {first}-{last}")
    }
}

/// The first of some items, and how many more there are.
fn some(items: impl ExactSizeIterator<Item = String>, one: &str, several: &str) -> String {
    let more = items.len().saturating_sub(NAMED);
    let list = items.take(NAMED).collect::<Vec<_>>().join(", ");
    if more == 0 {
        list
    } else {
        format!("{list} and {}", counted(more, &format!("more {one}"), &format!("more {several}")))
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lyncwall_api::{Mode, TargetState};

    use super::{roles, shortened, some};

    #[test]
    fn a_line_names_old_and_new_roles_and_stays_short() {
        let state = |target: &str, roles: &[&str]| TargetState {
            target: target.to_owned(),
            roles: roles.iter().map(ToString::to_string).collect(),
            mode: Mode::Enforce,
        };
        let before = [state("host", &["edge"]), state("other", &["director"])];
        let after = [state("host", &["director", "edge"]), state("other", &["director"]), state("new", &[])];
        let said: Vec<String> = roles(&before, &after).collect();
        assert_eq!(said, ["host: edge to director, edge", "new, a new target: no role"]);

        let many = |count: usize| some((0..count).map(|n| n.to_string()), "prefix", "prefixes");
        assert_eq!(many(2), "0, 1");
        assert_eq!(many(11), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1 more prefix");
        assert!(many(5_000).ends_with("9 and 4990 more prefixes"));
        assert_eq!(shortened(&"ß".repeat(4_000)).chars().count(), super::LENGTH + 1);
    }
}
