//! The API of the agent: JSON over HTTP on its Unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/openapi.json` | the API as an OpenAPI document |
//! | `GET /metrics` | these counters and more, as OpenMetrics text |
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/counters` | [`Counters`] |
//! | `POST /v1/explain` with an [`Explain`] | [`Explained`] |
//! | `GET /v1/events`, also with [`Wanted`] | a stream of [`Line`]s with [`Event`]s, until the client leaves
//! |
//! | `GET /v1/capture`, also with [`Capture`] | a pcapng file, until its limits or the client end it |
//! | `POST /v1/preview` with a [`Preview`] | [`Previewed`] |
//! | `POST /v1/switch` with a [`Switch`] | [`Switched`] |
//! | `POST /v1/mode` with a [`SetMode`] | [`Switched`] |
//! | `POST /v1/reload`, also with a [`Reload`] | [`Switched`] |
//! | `POST /v1/confirm` | [`Confirmed`] |
//! | `POST /v1/rollback` | [`Switched`] |
//! | `GET /v1/blocked` | [`Blocked`] |
//! | `POST /v1/block` with a [`Block`] | [`BlockEdit`] |
//! | `POST /v1/unblock` with an [`Unblock`] | [`BlockEdit`] |
//! | `POST /v1/acknowledge` | [`Acknowledged`] |
//! | `POST /v1/detach`, also with a [`Detach`] | [`Detached`], and the agent ends |
//!
//! A mistake of the user is answered with status 400 and a [`Refusal`], any other failure with 500 and a
//! [`Refusal`]. `GET`, previews and explanations need the right to read. All other requests, and packet
//! contents, need the right to change. A user without the right gets 403 and a [`Refusal`].

mod change;
pub mod client;
mod explain;
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The second socket of an agent, for root only: `lyncwall.sock.root` beside `lyncwall.sock`, which may admit
/// others. Both serve the whole API.
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

/// The state of the firewall.
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
    /// The reading of the catalogue.
    pub reading: Reading,
    /// The mode of packets without a target.
    pub mode: Mode,
    /// That mode in the file.
    pub file_mode: Mode,
    /// What happens to the rules when the agent stops.
    pub on_exit: OnExit,
    /// The number of the live generation; it counts up with every switch and reload.
    pub generation: u64,
    /// The change that waits for confirmation.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// The interfaces.
    pub interfaces: Vec<Interface>,
    /// The targets.
    pub targets: Vec<Target>,
    /// The `[[allow]]` rules: name, and the packets that each lets in.
    pub allow: Vec<String>,
    /// The management rule; `None` if the configuration says `management = "none"`.
    pub management: Option<Management>,
    /// The loaded program.
    pub program: Program,
    /// The features of the kernel.
    pub kernel: Kernel,
    /// The tables of tracked flows.
    pub flows: Flows,
    /// The block-list.
    pub blocked: BlockList,
    /// The number of own addresses, and prefixes of them, for which the tables of a box that forwards have no room:
    /// packets to them are judged as packets to a host that no target lists.
    #[serde(default)]
    pub own_left_out: u64,
    /// Packets passed since the maps were created.
    pub passed: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Warnings about settings that may be a mistake, one sentence each.
    pub warnings: Vec<String>,
    /// Interfaces that exist but whose packets nobody judges.
    #[serde(default)]
    pub unguarded: Vec<Unguarded>,
    /// How often this agent put back a program or pins that another tool took away.
    #[serde(default)]
    pub mended: u64,
    /// What the agent could not do besides enforcing, and tries again, one sentence each: metrics, groups of
    /// `[api]`.
    #[serde(default)]
    pub failing: Vec<String>,
    /// What of the stored state was lost and nobody has acknowledged, one sentence each.
    #[serde(default)]
    pub lost: Vec<String>,
}

/// An interface whose packets nobody judges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unguarded {
    /// Its name.
    pub interface: String,
    /// Why the agent cannot guard it.
    pub why: String,
}

/// The path that an agent answers whatever else it does.
pub const ALIVE: &str = "/v1/alive";

/// The header of every answer while interfaces exist whose packets nobody judges: their names.
pub const UNGUARDED: &str = "lyncwall-unguarded";

/// An agent that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// Its process id.
    pub pid: u32,
}

/// A change that waits for confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// Seconds until it rolls back, rounded up.
    pub seconds: u64,
    /// The mode after a rollback, for packets without a target.
    pub mode: Mode,
    /// The targets after a rollback.
    pub targets: Vec<TargetState>,
    /// Other differences after a rollback, one sentence each.
    pub changes: Vec<String>,
}

/// An interface of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number; 0 if it is not guarded.
    pub ifindex: u32,
    /// `native` or `generic`; `UNGUARDED` if the program is not attached.
    pub mode: String,
    /// True if it does not exist: the agent guards it as soon as it appears.
    #[serde(default)]
    pub missing: bool,
    /// Why the driver refused the program, if `attach = "auto"` fell back to generic mode.
    #[serde(default)]
    pub native_refused: Option<String>,
}

/// A target and its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its addresses; `host` for the box itself.
    pub address: Vec<String>,
    /// Its live roles.
    pub roles: Vec<String>,
    /// Its roles in the file.
    pub file_roles: Vec<String>,
    /// Its mode.
    pub mode: Mode,
    /// Its mode in the file.
    pub file_mode: Mode,
    /// Open TCP ports, as `443` or `49152-65535`.
    pub tcp: Vec<String>,
    /// Open UDP ports.
    pub udp: Vec<String>,
    /// What the sender of a packet to a closed port gets: `drop` for nothing, `reject` for an answer.
    #[serde(default)]
    pub on_closed: String,
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
    /// The kernel's number of the program.
    pub id: u32,
    /// The kernel's hash of its instructions, in hexadecimal.
    pub tag: String,
    /// Instructions that the verifier walked; `None` before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// Milliseconds to create the maps and verify the program.
    pub load_ms: u64,
    /// Memory of the maps, in bytes.
    pub map_bytes: u64,
}

/// The tables of tracked flows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flows {
    /// IPv4 flows that live.
    pub v4: u32,
    /// IPv6 flows that live.
    pub v6: u32,
    /// Flows of both families that are over, and take room until they are freed.
    #[serde(default)]
    pub over: u32,
    /// The capacity of each table.
    pub size: u32,
    /// Flows added since the tables were created.
    pub added: u64,
    /// Flows that were over and were freed since then.
    #[serde(default)]
    pub freed: u64,
    /// Flows evicted by new ones, longest silent first.
    pub evicted: u64,
    /// Flows that could not be added.
    pub lost: u64,
}

/// The size of the block-list, and its drops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockList {
    /// IPv4 prefixes.
    pub v4: u32,
    /// IPv6 prefixes.
    pub v6: u32,
    /// The capacity for each family.
    pub size: u32,
    /// Packets it dropped since the maps were created.
    pub dropped: u64,
}

/// The block-list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blocked {
    /// Its size and drops.
    #[serde(flatten)]
    pub list: BlockList,
    /// The blocked prefixes.
    pub prefixes: Vec<BlockedPrefix>,
}

/// A prefix on the block-list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockedPrefix {
    /// The prefix, as `203.0.113.0/24`.
    pub prefix: String,
    /// Seconds until it is unblocked, rounded up; `None` for never.
    pub seconds: Option<u64>,
}

/// Prefixes to block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Addresses and prefixes.
    pub prefixes: Vec<String>,
    /// Seconds to block them, from 1 to a year; without it for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// Prefixes to unblock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unblock {
    /// Prefixes, written as in the list.
    pub prefixes: Vec<String>,
}

/// A change of the block-list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockEdit {
    /// The prefixes that were added or removed.
    pub prefixes: Vec<String>,
    /// The size of the list now.
    #[serde(flatten)]
    pub list: BlockList,
    /// Warnings about prefixes that may be a mistake.
    pub warnings: Vec<String>,
}

/// The kernel and the features that lyncwall uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kernel {
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// Its features. Their names are stable.
    pub features: Vec<Feature>,
}

/// A feature of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Feature {
    /// Its name, as `xdp-link`.
    pub name: String,
    /// Whether the kernel has it; `None` if unknown.
    pub found: Option<bool>,
    /// True if lyncwall cannot start without it.
    pub needed: bool,
    /// The first kernel with it, as `5.9`.
    pub since: String,
    /// How lyncwall found out.
    pub asked: String,
    /// Its purpose; if it is missing, its replacement.
    pub detail: String,
}

/// Packet counters since the maps were created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// The live generation.
    pub generation: u64,
    /// By reason and action, without zeros.
    pub reasons: Vec<ReasonCount>,
    /// By rule: all rules of the live generation.
    pub rules: Vec<RuleCount>,
    /// Drops by destination port, without zeros.
    pub ports: Vec<PortCount>,
    /// By interface, including interfaces that are gone.
    #[serde(default)]
    pub interfaces: Vec<InterfaceCount>,
    /// Drops that a capture missed, because of the rate limit or a full buffer.
    #[serde(default)]
    pub captures_lost: u64,
    /// Drops without an event, because of the rate limit or a full buffer.
    pub events_lost: u64,
    /// Fragment verdicts that could not be stored.
    pub fragments_lost: u64,
    /// Dropped packets that got an answer, as the target has `on-closed = "reject"`.
    #[serde(default)]
    pub answered: Answered,
}

/// Dropped packets that got an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Answered {
    /// TCP openings that got a reset.
    pub tcp: u64,
    /// UDP packets that got an ICMP error.
    pub udp: u64,
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
    /// The service behind it.
    pub service: String,
    /// The catalogue's rows behind it.
    pub rows: Vec<String>,
    /// The roles of the target with one of these rows.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Packets.
    pub packets: u64,
    /// Since when it is counted, across restarts and reboots: RFC 3339, UTC.
    #[serde(default)]
    pub since: Option<String>,
    /// The minute of its last packet, likewise; `None` without one since then.
    #[serde(default)]
    pub last_used: Option<String>,
}

/// Packets by one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceCount {
    /// Its name.
    pub name: String,
    /// Packets that passed.
    pub passed: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Other interfaces with packets in these counters: the kernel's numbers of the interfaces differ by a
    /// multiple of 256.
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
    /// The service of the catalogue at this port; empty for none.
    pub service: String,
    /// Packets.
    pub packets: u64,
}

/// A dropped packet, or one that enforcing would have dropped. Leaves out fields that the packet does not
/// have.
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
    /// The zone of its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its target; `ZONE (outbound)` for a call out of a zone with `outbound = "catalogue"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The rule with its port, open to this source or to others: target, transport and ports, as `director
    /// tcp 5061`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// VLAN identifiers, outer first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<u16>,
    /// EtherType after the tags, as `0x8847`, if it is not IP.
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
    /// The service of the catalogue at the destination port.
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
    /// A note, as `open to reverse-proxy only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A filter for packets, as parameters of a request. Each is a list with commas; all given parameters must
/// match.
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
    /// Rules with the destination port: as `director tcp 5061`, or `tcp 5061` for all targets. Leaves out
    /// ports open to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// The options of a capture, as parameters of a request. The fields of [`Wanted`] are repeated: in
/// parameters, serde reads numbers in a flattened struct as text, and accepts unknown names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// Bytes of each packet, from 14 to 65000; 65000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap: Option<u16>,
    /// The number of packets to end after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The seconds to end after, up to one day; one hour by default.
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
    /// The packet filter of the capture.
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
    /// A drop.
    Event(Event),
    /// The client was too slow for some events.
    Lost {
        /// The number of lost events.
        lost: u64,
    },
}

/// The result of opening the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detached {
    /// Interfaces that are open now.
    pub interfaces: Vec<String>,
    /// The number of removed maps.
    pub maps: usize,
    /// Interfaces that could not be opened: the firewall still judges there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guarded: Vec<String>,
    /// Entries of the pin directory that lyncwall did not create, and left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// Settings of the run time that the next start restores although the file says something else, one phrase
    /// each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// What could not be done, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

/// How to open the box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// Forgets the roles and modes that were set at run time, so that the next start follows the file.
    #[serde(default)]
    pub forget: bool,
}

/// The losses that were acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acknowledged {
    /// What was lost, one sentence each.
    pub lost: Vec<String>,
}

/// Why the agent refused a request, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// All problems, each with its place and remedy.
    pub problems: Vec<Problem>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `file:line:column: key`; empty without a file.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// The remedy; empty if the message names it.
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
