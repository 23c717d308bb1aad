//! Why a packet would get in, or not.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Event;

/// A packet that nobody sent: by its headers, or as a whole frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The interface it comes in by; by each that is guarded, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// A frame with its Ethernet header, in hexadecimal; nothing else is said then but the interface.
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
    /// Its source port; 40000 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// TCP flags, as `SYN,ACK`; `SYN` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
    /// ICMP type and code; an echo request where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<[u8; 2]>,
    /// VLAN identifiers, outer first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<u16>,
}

/// What the program makes of a packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// By each interface that was asked about.
    pub verdicts: Vec<Explanation>,
}

/// What the program makes of a packet that comes in by one interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The packet and its verdict, as an event would tell them.
    pub event: Event,
    /// What is done where no mode spares the packet: `pass` or `drop`.
    pub judged: String,
    /// The generation that judges.
    pub generation: u64,
    /// The reason in a sentence.
    pub meaning: String,
    /// The roles of the target.
    pub roles: Vec<String>,
    /// What is open at the target's port, to this source or others.
    pub rule: Option<ExplainedRule>,
    /// The name of the `[[allow]]` rule that lets it in.
    pub allow: Option<String>,
    /// Rows that name this port and do not open it here.
    pub elsewhere: Vec<ExplainedRow>,
    /// What else is to be known, a sentence each.
    pub notes: Vec<String>,
}

/// A rule of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRule {
    /// `tcp` or `udp`.
    pub transport: String,
    /// The port or range of ports.
    pub ports: String,
    /// Who may use it; anybody, where no group is listed.
    pub groups: Vec<ExplainedGroup>,
    /// The catalogue's rows that open it.
    pub rows: Vec<ExplainedRow>,
}

/// A group that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedGroup {
    /// Its name.
    pub name: String,
    /// True where the packet's source is in it.
    pub matches: bool,
    /// What it holds: its prefixes if they are few, or `zone NAME`.
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
    /// What it serves, as `SIP/MTLS (Lync Server Front-End service)`.
    pub service: String,
    /// The printed table, and the row in it where it has one.
    pub table: String,
    /// Where it is printed.
    pub printed: Vec<Printed>,
    /// Of what it does not open here: why, or which roles open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
