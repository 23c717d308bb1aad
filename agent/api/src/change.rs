//! What a client asks to be changed, and what is answered.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Mode;

/// What to change, if it were done: roles, or a mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// The target; may be left out where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The roles; an empty list closes all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// The mode, of all targets where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// What a change would do. Of roles it is what they do where all is enforced, also in audit mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Previewed {
    /// Whether packets would be dropped or only judged that have no target.
    pub mode: Mode,
    /// The targets, as they would be.
    pub targets: Vec<TargetState>,
    /// Ports that are closed and would open.
    pub opened: Vec<PortChange>,
    /// Ports that are open and would close.
    pub closed: Vec<PortChange>,
    /// Sockets of this box whose port would close.
    pub unreached: Vec<Listener>,
    /// Ports of this box that would open and that no socket waits at. Wide ranges, as media has them, are not among them.
    pub unheard: Vec<PortChange>,
    /// Connections that would be cut.
    pub cut: Connections,
    /// Tracked flows, those that have timed out among them: what this side opened goes on.
    pub flows: u64,
    /// What would be allowed but may not be meant.
    pub warnings: Vec<String>,
}

/// A socket that waits for anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listener {
    /// The target that it is reached as.
    pub target: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// The address that it is bound to; `0.0.0.0` or `::` for any.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The name of its process, where that is known.
    pub process: Option<String>,
    /// What still lets somebody in: `management`, and allow rules.
    pub still: Vec<String>,
}

/// Connections, the first of them in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    /// How many there are.
    pub count: u64,
    /// Up to 20 of them.
    pub first: Vec<Connection>,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// `tcp` or `udp`.
    pub transport: String,
    /// Address and port of the far side.
    pub remote: String,
    /// Address and port of this side.
    pub local: String,
}

/// What becomes of connections that come in at ports which close.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    /// Their packets are dropped from then on.
    #[default]
    Cut,
    /// They go on until they end.
    Drain,
}

/// What became of connections that came in at ports which closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settled {
    /// What was done with them.
    pub existing: Existing,
    /// How many they were.
    pub connections: u64,
}

/// What to switch to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// The target; may be left out where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The roles; none closes all ports.
    pub roles: Vec<String>,
    /// Seconds within which the switch is to be confirmed, from 1 to a day; else it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
    /// What becomes of connections that come in at ports which close.
    #[serde(default)]
    pub existing: Existing,
}

/// What mode to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMode {
    /// The target; without it the whole box, and all of its targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether packets are to be dropped or only judged.
    pub mode: Mode,
    /// Seconds within which it is to be confirmed, from 1 to a day; else it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
    /// What becomes of connections that come in at ports which are not open.
    #[serde(default)]
    pub existing: Existing,
}

/// How to reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Seconds within which the reload is to be confirmed, from 1 to a day; else it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
    /// What becomes of connections that come in at ports which close.
    #[serde(default)]
    pub existing: Existing,
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Switched {
    /// The number of the generation that judges now.
    pub generation: u64,
    /// Whether packets are dropped or only judged that have no target.
    pub mode: Mode,
    /// The targets now.
    pub targets: Vec<TargetState>,
    /// What else is different from before, a sentence each: mode, management, allow rules, interfaces.
    pub changes: Vec<String>,
    /// Ports that were closed and are open.
    pub opened: Vec<PortChange>,
    /// Ports that were open and are closed.
    pub closed: Vec<PortChange>,
    /// Microseconds from the request to the last write.
    pub micros: u64,
    /// Seconds within which it is to be confirmed; `None` where it holds for good.
    #[serde(default)]
    pub confirm: Option<u64>,
    /// What became of connections that came in at ports which closed; `None` where that was not asked or is not known.
    #[serde(default)]
    pub settled: Option<Settled>,
    /// What is allowed but may not be meant.
    pub warnings: Vec<String>,
}

/// What holds for good now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confirmed {
    /// The number of the generation that judges.
    pub generation: u64,
    /// The targets.
    pub targets: Vec<TargetState>,
    /// What could not be done about it.
    pub warnings: Vec<String>,
}

/// What can be set of a target at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetState {
    /// Its name.
    pub target: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Whether packets to it are dropped or only judged.
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
