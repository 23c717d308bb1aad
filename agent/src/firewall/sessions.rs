//! Management sessions: what a change would cut of them, and what it refuses because of them.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::Firewall;
use lyncwall_api::Existing;
use lyncwall_datapath::connections;
use lyncwall_policy::compare::Comparison;
use lyncwall_policy::config::Management;
use lyncwall_policy::connection::Connection;
use lyncwall_policy::net::PortRange;
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::{Error, Problem, Problems};

/// The most sessions to name one by one: `from` of `[management]` may cover a whole site.
const NAMED: usize = 5;

/// A TCP session by which somebody may manage this box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    connection: Connection,
    /// Its port is one of `[management]`. The source may be anybody.
    at_port: bool,
    /// Its source is one of `[management]`.
    from_source: bool,
}

impl Session {
    /// Whether a change needs a confirmation because of this session. A session at a management port always
    /// counts: its user could not come back. For any other session, a request that says what becomes of
    /// existing connections has decided.
    fn counts(&self, existing: Option<Existing>) -> bool {
        self.at_port || existing.is_none()
    }

    fn problem(&self) -> Problem {
        let Connection { local, remote, .. } = self.connection;
        let message = format!("the change would cut the management session from {remote} to {local}");
        let confirm = "add `--confirm 60s`, and confirm in another session";
        if self.at_port {
            return Problem::new(message, format!("keep its source and port in [management]; or {confirm}"));
        }
        Problem::new(
            format!("{message}: the source is in [management], port {} is not", local.port()),
            format!(
                "add {} to `tcp` in [management] and reload; or {confirm}; or keep such sessions with \
                `--existing drain`, or cut them with `--existing cut`",
                local.port()
            ),
        )
    }

    fn warning(&self) -> String {
        let Connection { local, remote, .. } = self.connection;
        format!("the change cuts the management session from {remote} to {local}")
    }
}

impl Firewall {
    /// The management sessions that a change from `before` to `plan` cuts: TCP to a port of `[management]`,
    /// or from a source of `[management]` to any port with a listening socket. Both tables count, that of
    /// before and that of after the change.
    ///
    /// # Errors
    /// If the kernel cannot list its sockets.
    fn sessions_shut_out(&self, before: &Plan, plan: &Plan, comparison: &Comparison) -> Result<Vec<Session>> {
        let management: Vec<&Management> =
            [before, plan].into_iter().filter_map(|plan| plan.config.management.as_ref()).collect();
        if management.is_empty() {
            return Ok(Vec::new());
        }
        let is_port = |port: u16| {
            management.iter().flat_map(|management| &management.tcp).any(|ports| ports.contains(port))
        };
        let is_source = |address: IpAddr| {
            management.iter().flat_map(|management| &management.from).any(|from| from.contains(address))
        };
        let looking = "looking for management sessions";
        let accepting = connections::accepting().context(looking)?;
        let mut sessions = connections::sessions().context(looking)?;
        sessions.retain(|Connection { local, remote, .. }| {
            is_port(local.port()) || accepting.contains(&local.port()) && is_source(remote.ip())
        });
        let cut = self.shut_out_of(plan, comparison, sessions)?;
        let session = |connection: Connection| Session {
            connection,
            at_port: is_port(connection.local.port()),
            from_source: is_source(connection.remote.ip()),
        };
        Ok(cut.into_iter().map(session).collect())
    }

    /// Refuses a change that cuts such a session.
    ///
    /// # Errors
    /// [`Problems`] that name the sessions.
    pub(super) fn shuts_nobody_out(
        &self,
        plan: &Plan,
        comparison: &Comparison,
        existing: Option<Existing>,
    ) -> Result<(), Error> {
        let mut sessions = self.sessions_shut_out(&self.plan, plan, comparison)?;
        sessions.retain(|session| session.counts(existing));
        // Those at a management port first.
        sessions.sort_by_key(|session| !session.at_port);
        let mut problems = Problems::default();
        problems.extend(sessions.iter().take(NAMED).map(Session::problem));
        let more = sessions.len().saturating_sub(NAMED);
        if more > 0 {
            problems.push(Problem::new(
                format!("the change would cut {more} more management sessions"),
                "`lyncwall preview` lists existing connections that a change cuts",
            ));
        }
        Ok(problems.or(())?)
    }

    /// Those sessions as warnings, for a change that is made anyway.
    pub(super) fn shuts_out(
        &self,
        plan: &Plan,
        comparison: &Comparison,
        existing: Option<Existing>,
    ) -> Vec<String> {
        match self.sessions_shut_out(&self.plan, plan, comparison) {
            Ok(mut sessions) => {
                if existing == Some(Existing::Drain) {
                    sessions.retain(|session| session.at_port);
                }
                told(&sessions)
            }
            Err(error) => vec![format!("{error:#}")],
        }
    }

    /// A start cannot ask, and a refusal would leave the box open. So it lets management sessions go on until
    /// they end, if their source is in `[management]`, and names those that it cuts. The new generation must be
    /// live. Failures are logged.
    pub(super) fn keep_sessions(&self, before: &Plan, plan: &Plan, comparison: &Comparison) {
        if let Err(error) = self.sessions_kept(before, plan, comparison) {
            tracing::warn!("management sessions may be cut: {error:#}");
        }
    }

    fn sessions_kept(&self, before: &Plan, plan: &Plan, comparison: &Comparison) -> Result<()> {
        let sessions = self.sessions_shut_out(before, plan, comparison)?;
        let (kept, cut): (Vec<Session>, Vec<Session>) =
            sessions.into_iter().partition(|session| session.from_source);
        for warning in told(&cut) {
            tracing::warn!("{warning}");
        }
        let connections: Vec<Connection> = kept.iter().map(|session| session.connection).collect();
        self.datapath.open_flows(&connections, &comparison.legs())?;
        let ports: Vec<PortRange> =
            kept.iter().map(|session| PortRange::one(session.connection.local.port())).collect();
        for ports in lyncwall_policy::net::joined(ports) {
            tracing::warn!(
                "management sessions to tcp {ports} continue until they end, but no rule lets a new one in: \
                add the port to `tcp` in [management]"
            );
        }
        Ok(())
    }
}

/// One warning for each of the first sessions, and one for the rest.
fn told(sessions: &[Session]) -> Vec<String> {
    let mut warnings: Vec<String> = sessions.iter().take(NAMED).map(Session::warning).collect();
    let more = sessions.len().saturating_sub(NAMED);
    if more > 0 {
        warnings.push(format!("the change cuts {more} more management sessions"));
    }
    warnings
}
