//! Questions about packets, and their answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Event;

/// A packet that is not sent: described by its headers, or as a whole frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The interface of its arrival; without it, each guarded interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// A frame with its Ethernet header, in hexadecimal; excludes all other fields but the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// Its source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `tcp`, `udp`, `icmp`, another protocol's name as `vrrp`, or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Its destination port, for TCP and UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its source port; 40000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// TCP flags, as `SYN,ACK`; `SYN` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
    /// ICMP type and code; an echo request by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<[u8; 2]>,
    /// VLAN identifiers, outer first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<u16>,
}

/// The verdicts of the program on a packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// One for each interface in question.
    pub verdicts: Vec<Explanation>,
}

/// The verdict on a packet that arrives on one interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The packet and its verdict, in the form of an event.
    pub event: Event,
    /// The action under enforcement: `pass` or `drop`.
    pub judged: String,
    /// The live generation.
    pub generation: u64,
    /// The reason in a sentence.
    pub meaning: String,
    /// The roles of the target.
    pub roles: Vec<String>,
    /// The rule for the target's port, open to this source or to others.
    pub rule: Option<ExplainedRule>,
    /// The `[[allow]]` rule that lets it in.
    pub allow: Option<String>,
    /// Rows with this port that do not open it here.
    pub elsewhere: Vec<ExplainedRow>,
    /// Notes, one sentence each.
    pub notes: Vec<String>,
}

/// A rule of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRule {
    /// `tcp` or `udp`.
    pub transport: String,
    /// The port or range of ports.
    pub ports: String,
    /// The groups that may use it; empty for anybody.
    pub groups: Vec<ExplainedGroup>,
    /// The catalogue's rows that open it.
    pub rows: Vec<ExplainedRow>,
}

/// A group that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedGroup {
    /// Its name.
    pub name: String,
    /// True if the source of the packet is a member.
    pub matches: bool,
    /// Its content: the prefixes if they are few, or `zone NAME`.
    pub holds: String,
}

/// A place in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Printed {
    /// The document's title, in English.
    pub title: String,
    /// The language of the translation, as `de`.
    pub language: String,
    /// The line, from 1.
    pub line: u32,
}

/// A row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRow {
    /// Its id, as `server.03`.
    pub id: String,
    /// Its service, as `SIP/MTLS (Lync Server Front-End service)`.
    pub service: String,
    /// The printed table, and the number of the row if it has one.
    pub table: String,
    /// The places in the documents.
    pub printed: Vec<Printed>,
    /// For a row that does not open the port here: the reason, or the roles that open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
