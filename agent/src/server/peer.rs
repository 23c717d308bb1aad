//! The peer of the agent's socket and its rights, from the kernel's credentials.

use std::ffi::CString;

use anyhow::{Context as _, Result};
use axum::http::Method;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::told::Asker;
use lyncwall_policy::config::{Api, Named};
use lyncwall_policy::problem::Problem;

/// The right that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// To see rules, counters and drops.
    Read,
    /// To change rules, or to see packet contents.
    Change,
}

impl Right {
    /// The right that a request needs. Packet contents need more than the right to read.
    pub(super) fn needed(method: &Method, path: &str) -> Self {
        match *method {
            Method::GET | Method::HEAD if path != "/v1/capture" => Self::Read,
            Method::POST if matches!(path, "/v1/explain" | "/v1/preview") => Self::Read,
            _ => Self::Change,
        }
    }
}

/// The groups that may use the socket besides root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// May read.
    readers: Option<Gid>,
    /// May read and change.
    group: Option<Gid>,
}

impl Access {
    /// The groups of a configuration, by their numbers now, and what is wrong with them. A missing group has
    /// no members.
    pub(super) fn of(api: &Api) -> (Self, Vec<String>) {
        let mut unknown = Vec::new();
        let mut number = |named: &Option<Named>| {
            let Named { name, place } = named.as_ref()?;
            match Group::from_name(name) {
                Ok(Some(group)) => return Some(group.gid),
                Ok(None) => unknown.push(format!(
                    "{place}: unknown group {name}: none of its users has access; create it with `groupadd --system`"
                )),
                Err(error) => unknown.push(format!("{place}: cannot look up the group {name}: {error}")),
            }
            None
        };
        (Self { readers: number(&api.readers), group: number(&api.group) }, unknown)
    }

    /// True if users other than root may use the socket.
    pub(super) fn is_open(&self) -> bool {
        self.readers.is_some() || self.group.is_some()
    }
}

/// A connected peer.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    uid: Uid,
    /// Its groups: that of the process, and those of the user.
    groups: Vec<Gid>,
}

impl Peer {
    /// The peer with these credentials. Looks up the user's other groups, which may be slow if another box
    /// keeps them.
    pub(super) fn of(uid: Uid, gid: Gid) -> Self {
        let mut groups = vec![gid];
        if !uid.is_root() {
            match further_groups(uid) {
                Ok(further) => groups.extend(further),
                Err(error) => tracing::debug!("the groups of user {uid}: {error:#}"),
            }
        }
        Self { uid, groups }
    }

    /// True if the peer has the right.
    pub(super) fn may(&self, right: Right, access: &Access) -> bool {
        let is_in = |group: Option<Gid>| group.is_some_and(|group| self.groups.contains(&group));
        let may_change = self.uid.is_root() || is_in(access.group);
        match right {
            Right::Change => may_change,
            Right::Read => may_change || is_in(access.readers),
        }
    }

    pub(super) fn uid(&self) -> Uid {
        self.uid
    }

    /// The peer in log lines.
    pub(super) fn asker(&self) -> Asker {
        Asker::User(self.uid)
    }

    pub(super) fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// The refusal for a peer without the right.
    pub(super) fn refused(&self, right: Right) -> Problem {
        let uid = self.uid;
        match right {
            Right::Read => Problem::new(
                format!("user {uid} may not use this agent"),
                "join the group in `readers` of [api] in the configuration, or run the command as root",
            ),
            Right::Change => Problem::new(
                format!("user {uid} may not do this: it changes the rules or shows packet contents"),
                "join the group in `group` of [api] in the configuration, or run the command as root",
            ),
        }
    }
}

/// The groups of a user, besides that of the process.
fn further_groups(uid: Uid) -> Result<Vec<Gid>> {
    let Some(user) = User::from_uid(uid).context("looking the user up")? else { return Ok(Vec::new()) };
    let name = CString::new(user.name).context("a name with a zero")?;
    getgrouplist(&name, user.gid).context("listing the groups")
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use nix::unistd::{Gid, Uid};

    use super::{Access, Peer, Right};

    #[test]
    fn groups_have_the_right_that_the_file_gives_them_and_root_has_both() {
        let (readers, group) = (Gid::from_raw(70_001), Gid::from_raw(70_002));
        let access = Access { readers: Some(readers), group: Some(group) };
        let peer = |uid, groups: &[Gid]| Peer { uid: Uid::from_raw(uid), groups: groups.to_vec() };
        let other = Gid::from_raw(70_003);
        for (peer, read, change) in [
            (peer(0, &[other]), true, true),
            (peer(70_000, &[other]), false, false),
            (peer(70_000, &[other, readers]), true, false),
            (peer(70_000, &[group]), true, true),
        ] {
            assert_eq!((peer.may(Right::Read, &access), peer.may(Right::Change, &access)), (read, change));
            let nobody = Access::default();
            assert_eq!(peer.may(Right::Read, &nobody), peer.is_root(), "no group is named");
        }
    }

    #[test]
    fn what_is_no_harmless_reading_needs_the_right_to_change() {
        assert_eq!(Right::needed(&Method::GET, "/v1/status"), Right::Read);
        assert_eq!(Right::needed(&Method::GET, "/v1/capture"), Right::Change);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(Right::needed(&method, "/v1/status"), Right::Change);
        }
    }
}
