//! Requests for changes, and their answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Mode;

/// A change to try on paper: roles, or a mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// The target; needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The roles; an empty list closes all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// The mode; for all targets without `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// The effect of a change. For roles, the effect under enforcement, even in audit mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Previewed {
    /// The mode of packets without a target.
    pub mode: Mode,
    /// The targets after the change.
    pub targets: Vec<TargetState>,
    /// Closed ports that would open.
    pub opened: Vec<PortChange>,
    /// Open ports that would close.
    pub closed: Vec<PortChange>,
    /// Sockets of this box whose port would close. `still` names the rules that keep a socket within reach.
    pub unreached: Vec<Listener>,
    /// Ports of this box that would open without a listening socket. Leaves out wide ranges, such as media.
    pub unheard: Vec<PortChange>,
    /// Connections that would be cut.
    pub cut: Connections,
    /// Flows in the table, including those that have timed out: connections that this side opened continue.
    pub flows: u64,
    /// Warnings about settings that may be a mistake.
    pub warnings: Vec<String>,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listener {
    /// The target with its address.
    pub target: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// Its address; `0.0.0.0` or `::` for any.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The name of its process, if known.
    pub process: Option<String>,
    /// What still lets packets in: `management`, and allow rules.
    pub still: Vec<String>,
}

/// A number of connections, and some of them in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    /// Their number.
    pub count: u64,
    /// At most 20 of them.
    pub first: Vec<Connection>,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// `tcp` or `udp`.
    pub transport: String,
    /// Address and port of the remote side.
    pub remote: String,
    /// Address and port of the local side.
    pub local: String,
}

/// What to do with inbound connections to ports that close.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    /// Drop their packets.
    #[default]
    Cut,
    /// Let them continue until they end.
    Drain,
}

/// What happened to inbound connections to ports that closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settled {
    /// The action.
    pub existing: Existing,
    /// Their number.
    pub connections: u64,
}

/// Roles to switch to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// The target; needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The roles; an empty list closes all ports.
    pub roles: Vec<String>,
    /// Seconds to confirm the switch in, from 1 to a day; else it rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
    /// What to do with inbound connections to ports that close. Without it they are cut, and a change that
    /// would cut a session from a management source needs `confirm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<Existing>,
}

/// A mode to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMode {
    /// The target; without it the whole box with all targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The mode.
    pub mode: Mode,
    /// Seconds to confirm the mode in, from 1 to a day; else it rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
    /// What to do with inbound connections to ports that are not open. Without it they are cut, and a change
    /// that would cut a session from a management source needs `confirm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<Existing>,
}

/// Options of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Seconds to confirm the reload in, from 1 to a day; else it rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
    /// What to do with inbound connections to ports that close. Without it they are cut, and a change that
    /// would cut a session from a management source needs `confirm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<Existing>,
}

/// The effect of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Switched {
    /// The number of the new generation.
    pub generation: u64,
    /// The mode of packets without a target.
    pub mode: Mode,
    /// The targets now.
    pub targets: Vec<TargetState>,
    /// Other differences, one sentence each: mode, management, allow rules, interfaces.
    pub changes: Vec<String>,
    /// Ports that opened.
    pub opened: Vec<PortChange>,
    /// Ports that closed.
    pub closed: Vec<PortChange>,
    /// Microseconds from the request to the last write.
    pub micros: u64,
    /// Seconds to confirm the change in; `None` if it holds for good.
    #[serde(default)]
    pub confirm: Option<u64>,
    /// What happened to inbound connections to ports that closed; `None` if not requested or unknown.
    #[serde(default)]
    pub settled: Option<Settled>,
    /// Warnings about settings that may be a mistake.
    pub warnings: Vec<String>,
    /// Interfaces on which the change has no effect, as nobody judges their packets.
    #[serde(default)]
    pub unguarded: Vec<crate::Unguarded>,
}

/// The confirmed state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confirmed {
    /// The number of the live generation.
    pub generation: u64,
    /// The targets.
    pub targets: Vec<TargetState>,
    /// Failures that did not prevent the confirmation.
    pub warnings: Vec<String>,
}

/// The settings of a target that can change at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetState {
    /// Its name.
    pub target: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its mode.
    pub mode: Mode,
}

/// Ports that were opened or closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortChange {
    /// The target's name.
    pub target: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// The services that use them.
    pub service: String,
}
