//! What the agent and its clients say to each other: JSON over HTTP on the agent's Unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/openapi.json` | all of this as an OpenAPI document |
//! | `GET /metrics` | the same counts and more, as OpenMetrics text |
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/counters` | [`Counters`] |
//! | `POST /v1/explain` with an [`Explain`] | [`Explained`] |
//! | `GET /v1/events`, also with [`Wanted`] | one [`Line`] of [`Event`] after the other, until the client has enough |
//! | `GET /v1/capture`, also with [`Capture`] | a pcapng file, until it or the client has enough |
//! | `POST /v1/preview` with a [`Preview`] | [`Previewed`] |
//! | `POST /v1/switch` with a [`Switch`] | [`Switched`] |
//! | `POST /v1/mode` with a [`SetMode`] | [`Switched`] |
//! | `POST /v1/reload`, also with a [`Reload`] | [`Switched`] |
//! | `POST /v1/confirm` | [`Confirmed`] |
//! | `POST /v1/rollback` | [`Switched`] |
//! | `GET /v1/blocked` | [`Blocked`] |
//! | `POST /v1/block` with a [`Block`] | [`BlockEdit`] |
//! | `POST /v1/unblock` with an [`Unblock`] | [`BlockEdit`] |
//! | `POST /v1/detach` | [`Detached`], and the agent ends |
//!
//! What the user can mend is answered with status 400 and [`Refusal`], anything else that fails with 500 and one. `GET` is
//! for those who may read, and so are previews and explanations; everything else, and packets' contents, for those who may change. Others get 403 and a [`Refusal`].

mod change;
pub mod client;
mod explain;
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The socket of an agent that is root's alone, beside the one that others may be let in by: `lyncwall.sock.root` beside
/// `lyncwall.sock`. Both are served alike.
#[must_use]
pub fn root_socket(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".root");
    path.into()
}

pub use explain::{Explain, Explained, ExplainedGroup, ExplainedRow, ExplainedRule, Explanation, Printed};

pub use settings::{Mode, OnExit, Reading};

pub use change::{
    Confirmed, Connection, Connections, Existing, Listener, PortChange, Preview, Previewed, Reload, SetMode,
    Settled, Switch, Switched, TargetState,
};

/// What is enforced, where, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of the agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The configuration file.
    #[schema(value_type = String)]
    pub config: PathBuf,
    /// The edition of the catalogue.
    pub catalogue: String,
    /// How the catalogue is read.
    pub reading: Reading,
    /// Whether packets are dropped or only judged that have no target.
    pub mode: Mode,
    /// What the file says of that.
    pub file_mode: Mode,
    /// What the end of the agent does.
    pub on_exit: OnExit,
    /// The number of the generation that judges; it counts up with every switch and reload.
    pub generation: u64,
    /// The change that waits to be confirmed.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// The interfaces.
    pub interfaces: Vec<Interface>,
    /// The targets.
    pub targets: Vec<Target>,
    /// The `[[allow]]` rules: name and what each lets in.
    pub allow: Vec<String>,
    /// Who may manage the box; `None` where the configuration says `management = "none"`.
    pub management: Option<Management>,
    /// The loaded program.
    pub program: Program,
    /// What the kernel can do.
    pub kernel: Kernel,
    /// The tables of tracked flows.
    pub flows: Flows,
    /// The block-list.
    pub blocked: BlockList,
    /// Packets that passed since the maps were made.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// What is allowed but may not be meant, one sentence each.
    pub warnings: Vec<String>,
}

/// A change that nobody has confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// Seconds until it goes back, rounded up.
    pub seconds: u64,
    /// The mode that comes back then, for what has no target.
    pub mode: Mode,
    /// The targets, as they are then.
    pub targets: Vec<TargetState>,
    /// What else becomes different then, a sentence each.
    pub changes: Vec<String>,
}

/// An interface of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number of it; 0 where it is not guarded.
    pub ifindex: u32,
    /// `native` or `generic`; `UNGUARDED` where the program is not attached.
    pub mode: String,
    /// Why the driver did not take the program, where `attach = "auto"` took generic mode instead.
    #[serde(default)]
    pub native_refused: Option<String>,
}

/// A target and what holds there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its addresses; `host` for the box itself.
    pub address: Vec<String>,
    /// Its roles now.
    pub roles: Vec<String>,
    /// The roles that the file gives it.
    pub file_roles: Vec<String>,
    /// Whether packets to it are dropped or only judged.
    pub mode: Mode,
    /// What the file says of that.
    pub file_mode: Mode,
    /// Open TCP ports, as `443` or `49152-65535`.
    pub tcp: Vec<String>,
    /// Open UDP ports.
    pub udp: Vec<String>,
}

/// The management rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Management {
    /// Source prefixes.
    pub from: Vec<String>,
    /// TCP ports.
    pub tcp: Vec<String>,
    /// UDP ports.
    pub udp: Vec<String>,
}

/// The loaded XDP program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Program {
    /// Its name: with or without multi-buffer frames.
    pub name: String,
    /// The kernel's number of it.
    pub id: u32,
    /// The hash that the kernel made of its instructions, in hexadecimal.
    pub tag: String,
    /// Instructions that the verifier walked, where the kernel tells (5.16).
    pub verified_instructions: Option<u32>,
    /// Milliseconds that making the maps and verifying took.
    pub load_ms: u64,
    /// Memory of the maps, in bytes.
    pub map_bytes: u64,
}

/// The tables of tracked flows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flows {
    /// Flows of IPv4, those among them that have timed out.
    pub v4: u32,
    /// The same of IPv6.
    pub v6: u32,
    /// As many as each of the two tables holds.
    pub size: u32,
    /// Flows that were added since the tables were made.
    pub added: u64,
    /// Flows that new ones pushed out, those longest silent first.
    pub evicted: u64,
    /// Flows that could not be added.
    pub lost: u64,
}

/// How long the block-list is, and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockList {
    /// Prefixes of IPv4.
    pub v4: u32,
    /// Prefixes of IPv6.
    pub v6: u32,
    /// As many as it has room for of each.
    pub size: u32,
    /// Packets that were dropped for it since the maps were made.
    pub dropped: u64,
}

/// The block-list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blocked {
    /// How long it is.
    #[serde(flatten)]
    pub list: BlockList,
    /// What is blocked.
    pub prefixes: Vec<BlockedPrefix>,
}

/// A prefix on the block-list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockedPrefix {
    /// As `203.0.113.0/24`.
    pub prefix: String,
    /// Seconds that it is blocked still, rounded up; `None` is for good.
    pub seconds: Option<u64>,
}

/// What to block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Addresses and prefixes.
    pub prefixes: Vec<String>,
    /// For how many seconds, from 1 to a year; for good without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// What to block no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unblock {
    /// Prefixes, as the list has them.
    pub prefixes: Vec<String>,
}

/// What was changed in the block-list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockEdit {
    /// The prefixes that were put on it, or taken off.
    pub prefixes: Vec<String>,
    /// How long it is now.
    #[serde(flatten)]
    pub list: BlockList,
    /// What may not be meant.
    pub warnings: Vec<String>,
}

/// The kernel, as far as lyncwall uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kernel {
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// Its features. Their names do not change.
    pub features: Vec<Feature>,
}

/// A feature of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Feature {
    /// Its name, as `xdp-link`.
    pub name: String,
    /// Whether the kernel has it; `None` where that was not asked, or could not be.
    pub found: Option<bool>,
    /// True where nothing stands in for it: without it the start is refused.
    pub needed: bool,
    /// The first kernel that has it, as `5.9`.
    pub since: String,
    /// How it was found out.
    pub asked: String,
    /// What it is; where it is missing, what stands in.
    pub detail: String,
}

/// Counts since the maps were made, in packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// The generation that judges.
    pub generation: u64,
    /// By reason and action, without zeroes.
    pub reasons: Vec<ReasonCount>,
    /// By rule: all rules of the generation that judges.
    pub rules: Vec<RuleCount>,
    /// Drops by destination port, without zeroes.
    pub ports: Vec<PortCount>,
    /// By interface, those that are gone among them.
    #[serde(default)]
    pub interfaces: Vec<InterfaceCount>,
    /// Drops that were to be captured and were not, because of the rate limit or a full buffer.
    #[serde(default)]
    pub captures_lost: u64,
    /// Drops that got no event, because of the rate limit or a full buffer.
    pub events_lost: u64,
    /// Fragment verdicts that could not be remembered.
    pub fragments_lost: u64,
}

/// Packets with one reason and action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonCount {
    /// The reason.
    pub reason: String,
    /// `pass` or `drop`.
    pub action: String,
    /// Packets.
    pub packets: u64,
}

/// Packets that one rule let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleCount {
    /// The target's name; `None` for an `[[allow]]` rule.
    pub target: Option<String>,
    /// The name of an `[[allow]]` rule.
    pub allow: Option<String>,
    /// `tcp` or `udp`; `None` for an `[[allow]]` rule.
    pub transport: Option<String>,
    /// The port or range of ports; empty for an `[[allow]]` rule.
    pub ports: String,
    /// The service that uses it.
    pub service: String,
    /// The catalogue's rows that opened it.
    pub rows: Vec<String>,
    /// The target's roles that have one of these rows.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Packets.
    pub packets: u64,
    /// Since when it is counted for, over restarts and reboots: RFC 3339, UTC.
    #[serde(default)]
    pub since: Option<String>,
    /// When it last let a packet in, to the minute, likewise; `None` where it did not since then.
    #[serde(default)]
    pub last_used: Option<String>,
}

/// Packets that came in by one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceCount {
    /// Its name.
    pub name: String,
    /// Packets that passed.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// Other interfaces some of whose packets are counted here as well: the kernel's numbers of them are, or were, a multiple of
    /// 256 apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
}

/// Drops at one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortCount {
    /// `tcp` or `udp`.
    pub transport: String,
    /// The port.
    pub port: u16,
    /// The service that the catalogue knows at this port; empty for none.
    pub service: String,
    /// Packets.
    pub packets: u64,
}

/// A dropped packet, or one that audit mode would have dropped. Fields that the packet does not have are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When the agent read it, in seconds since 1970 (UTC).
    pub time: f64,
    /// `pass` in audit mode, else `drop`.
    pub action: String,
    /// The reason.
    pub reason: String,
    /// The interface.
    pub interface: String,
    /// The zone it came in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The target it goes to; `ZONE (outbound)` where the zone says what may be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The rule that opens the port, to this source or others: target, transport and ports, as `director tcp 5061`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// VLAN identifiers, outer first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<u16>,
    /// EtherType after the tags, as `0x8847`, where it is not IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ether_type: Option<String>,
    /// Source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// `tcp`, `udp`, `icmp`, or the number of the IP protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Source port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// The service that the catalogue knows at the destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// TCP flags, as `SYN,ACK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
    /// ICMP type and code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<[u8; 2]>,
    /// Length of the frame in bytes.
    pub length: u32,
    /// What else is to be known, as `open to reverse-proxy only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Which packets somebody wants to hear of: parameters of the request. Each is a list with commas; what is said must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Reasons, as `closed,source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Source addresses and prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Destination ports, as `5061`, `tcp/5061` or `49152-65535`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Rules that open the port, if not to everybody: as `director tcp 5061`, or `tcp 5061` for any target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// Which dropped packets to hand out, and how much of them: parameters of the request. Those of [`Wanted`] are listed once more: in
/// parameters, serde takes numbers within a flattened struct for text, and lets unknown names through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// Bytes of each packet, from 14 to 65000; all of it, up to these, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap: Option<u16>,
    /// Packets after which it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Seconds after which it ends, up to a day; an hour where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Reasons, as for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Source addresses and prefixes, as for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Destination ports, as for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Rules that open the port, as for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Targets, as for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Interfaces, as for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

impl Capture {
    /// Which packets.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let Self { reason, from, port, rule, target, interface, .. } = self.clone();
        Wanted { reason, from, port, rule, target, interface }
    }
}

/// A line of the stream of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "one at a time is read or written")]
pub enum Line {
    /// What happened.
    Event(Event),
    /// The client was too slow.
    Lost {
        /// Events that it did not get.
        lost: u64,
    },
}

/// What was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detached {
    /// Interfaces that are open now.
    pub interfaces: Vec<String>,
    /// Maps that are gone.
    pub maps: usize,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// All that is wrong, each with its place and the fix.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `file:line:column: key`; empty where no file is meant.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty where the message says it.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", self.fix) }
    }
}

impl fmt::Display for Refusal {
    /// One problem to a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
