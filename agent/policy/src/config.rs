//! The configuration file, `/etc/lyncwall/lyncwall.toml`.
//!
//! [`read`] and [`parse`] return a [`Config`] that is valid in itself, or all mistakes of the file. Checks
//! that need more than the file are made elsewhere: whether the catalogue has a role, whether an interface
//! exists. They report the [`Place`] that is stored beside the value.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lyncwall_common::abi::FlowTimes;
use serde::{Deserialize, Serialize};

use crate::net::{PortRange, Prefix, Transports};
use crate::problem::{Place, Problem, Problems};
use crate::reader;

mod allow;
mod api;
mod flows;
mod groups;
mod limit;
mod lists;
mod names;
mod roles;
mod sections;
mod zones;

pub use allow::{protocol_name, protocol_number};
pub use names::{InterfaceName, Name};

pub use crate::catalogue::{OwnRole, OwnRow, Reading};
pub use crate::problem::Named;

/// Reads and checks the file at `path`.
///
/// # Errors
/// Every mistake in the file; a file that cannot be read is one.
pub fn read(path: &Path) -> Result<Config, Problems> {
    parse(&text(path)?, path)
}

/// The text of the file at `path`.
///
/// # Errors
/// A file that cannot be read, or is not text.
pub fn text(path: &Path) -> Result<String, Problems> {
    reader::text_of(path, unreadable)
}

/// Checks `text`, the content of `file`; does not read the file.
///
/// # Errors
/// Every mistake in the text, in the order of the text.
pub fn parse(text: &str, file: &Path) -> Result<Config, Problems> {
    parse_declared(text, file).1
}

/// Like [`parse`]; also returns the names that roles and groups are checked by, even if the file has
/// mistakes.
pub fn parse_declared(text: &str, file: &Path) -> (Option<Declared>, Result<Config, Problems>) {
    sections::config(text, file)
}

/// The roles and groups that a file declares, available even if the file has mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The catalogue with the roles.
    pub catalogue: CatalogueName,
    /// The protected targets.
    pub targets: Vec<Target>,
    /// The groups with prefixes, valid or not; `None` if a syntax error may have hidden some.
    pub groups: Option<Vec<Named>>,
    /// The own roles, with all parts that could be read.
    pub roles: Vec<OwnRole>,
    /// True if these are all own roles, without mistakes.
    pub roles_are_sound: bool,
    /// The groups that `[[allow]]` rules name; `None` if a rule could not be read.
    pub allowed_groups: Option<Vec<String>>,
}

fn unreadable(place: Place, error: &std::io::Error) -> Problem {
    use std::io::ErrorKind;
    let fix = match error.kind() {
        ErrorKind::NotFound => {
            "create it (config/lyncwall.toml is a sample) or name another with `--config FILE`"
        }
        ErrorKind::PermissionDenied => "run as root, or make the file readable",
        ErrorKind::IsADirectory => "name a file in it with `--config FILE`",
        _ => "make the file readable or name another with `--config FILE`",
    };
    Problem::at(place, format!("cannot read the configuration: {error}"), fix)
}

/// A valid configuration: names are unique, references resolve, and nothing in one list overlaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The catalogue with the roles.
    pub catalogue: CatalogueName,
    /// The reading of the catalogue's rows.
    pub reading: Reading,
    /// The mode of packets without a target, and of targets without a mode of their own.
    pub mode: Mode,
    /// The fate of the rules when the agent stops.
    pub on_exit: OnExit,
    /// The sources that always get in; `None` if the file says `management = "none"`.
    pub management: Option<Management>,
    /// The zones: 1 to 8, with unique names; one named `default` if the file has none.
    pub zones: Vec<Zone>,
    /// The groups with prefixes: up to 32, with unique names. The parser does not know whether a role or rule
    /// uses them.
    pub groups: Vec<Group>,
    /// The own roles, with unique names.
    pub roles: Vec<OwnRole>,
    /// The interfaces to attach to: 1 to 32, with unique names.
    pub interfaces: Vec<Interface>,
    /// The targets: 1 to 16, with unique names; in each zone at most one `host`, and no address twice.
    pub targets: Vec<Target>,
    /// The `[[allow]]` rules: up to 64, with unique names.
    pub allow: Vec<Allow>,
    /// The settings of flow tracking.
    pub flows: Flows,
    /// Later fragments that each CPU lets in before their first one, per second: 0 for none, up to 1,000.
    pub early_fragments: u32,
    /// The limit on openings for each source on the whole box, for all targets without their own limit.
    pub limit: Option<Openings>,
    /// The users of the agent's socket besides root.
    pub api: Api,
    /// The TCP addresses that serve metrics, no address twice; empty for none.
    pub metrics: Vec<Listen>,
}

/// The users of the agent's socket besides root: groups of this box. The parser does not know whether they
/// exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Api {
    /// The group that may read.
    pub readers: Option<Named>,
    /// The group that may read and change.
    pub group: Option<Named>,
}

/// An address to serve metrics on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address, which need not be one of this box yet, and a port that is not 0.
    pub address: SocketAddr,
    /// The place of the address.
    pub place: Place,
}

/// A limit on the connections that one source may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Openings {
    /// Connections per second, 1 to 100,000.
    pub per_second: u32,
    /// Connections at once after a silence, 1 to 100,000.
    pub burst: u32,
}

/// The settings of flow tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flows {
    /// How long the agent learns flows from outgoing packets before it enforces.
    pub learn: Duration,
    /// How long a flow outlives its last packet.
    pub times: FlowTimes,
    /// The capacity of each of the two flow tables; `None` for one that suits the memory of the machine. They
    /// are created once: a new size needs a reboot or a detach.
    pub size: Option<u32>,
}

/// The catalogue of a configuration: the key of a built-in one, or a path. The parser does not know whether
/// it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueName {
    /// The key as written; never empty.
    pub name: String,
    /// The place of the name; line 0 for the default.
    pub place: Place,
}

/// Whether the program drops packets or only judges them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Drops every packet that no rule lets in.
    #[default]
    Enforce,
    /// Lets every packet pass; counts and reports those that enforcing would drop.
    Audit,
}

impl Mode {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// The fate of the rules when the agent stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    /// The kernel continues to enforce.
    #[default]
    Keep,
    /// The programs are detached and the box is open.
    Detach,
}

/// Interfaces, or VLANs of them, that share targets and a policy. Its number is its position in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name, unique in the file.
    pub name: String,
    /// The fate of packets to a destination outside its targets, unless `outbound` is `catalogue`.
    pub unmatched: Unmatched,
    /// The outbound calls that its hosts may make.
    pub outbound: Outbound,
}

/// The calls that hosts of a zone may make to destinations outside its targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outbound {
    /// `unmatched` decides.
    #[default]
    Unmatched,
    /// Only the calls of the roles of the other zones' targets.
    Catalogue,
}

/// The fate of packets to a destination without a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// Drop them.
    #[default]
    Drop,
    /// Let them pass.
    Pass,
}

/// What the sender of a packet to a closed port gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnClosed {
    /// Nothing.
    #[default]
    Drop,
    /// A TCP reset, or an ICMP error "port unreachable".
    Reject,
}

impl OnClosed {
    /// `drop` or `reject`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

/// The sources and ports that are always open, whatever role is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Management {
    /// The sources; at least one, no two overlap.
    pub from: Vec<Prefix>,
    /// TCP ports; no two overlap. Either this or `udp` holds one.
    pub tcp: Vec<PortRange>,
    /// UDP ports; no two overlap.
    pub udp: Vec<PortRange>,
}

/// An interface to attach to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The name. The parser does not know whether the interface exists.
    pub name: InterfaceName,
    /// The place of the name.
    pub place: Place,
    /// How to attach.
    pub attach: Attach,
    /// True if the box is a DHCP client on this interface.
    pub dhcp_client: bool,
    /// The number of its zone, which holds untagged frames and VLANs that are not in `vlans`.
    pub zone: usize,
    /// VLANs by their identifier, 1 to 4094, and the numbers of their zones; no VLAN twice.
    pub vlans: Vec<(u16, usize)>,
    /// The place of the list.
    pub vlans_place: Option<Place>,
}

/// How to attach the XDP program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// In the driver if it can, else in the generic hook.
    #[default]
    Auto,
    /// In the driver only.
    Native,
    /// In the generic hook only.
    Generic,
}

/// A set of destination addresses with its roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, unique in the file.
    pub name: Name,
    /// The number of the zone that its packets come from.
    pub zone: usize,
    /// The addresses.
    pub address: Address,
    /// The roles, no key twice; empty to open nothing.
    pub roles: Vec<Role>,
    /// Ports that replace those of a row, no row twice. The parser does not know whether a role has the row.
    pub overrides: Vec<Override>,
    /// The enabled optional rows, none twice. The parser does not know whether a role has them.
    pub optional: Vec<Named>,
    /// The limit on openings for each source.
    pub limit: Option<Openings>,
    /// Its own mode; `None` for that of the whole box.
    pub mode: Option<Mode>,
    /// True if the box takes connections over midway when it gets one of the listed addresses.
    pub takeover: bool,
    /// What the sender of a packet to a closed port gets.
    pub on_closed: OnClosed,
}

/// Ports that replace those of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The id of the row.
    pub row: Named,
    /// At least one range; no two overlap.
    pub ports: Vec<PortRange>,
}

/// A named set of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, unique in the file.
    pub name: Name,
    /// The place of the name.
    pub place: Place,
    /// Its sources; at least one, no two overlap.
    pub prefixes: Vec<Prefix>,
    /// The number of the zone whose hosts are the group; such a group has no prefixes.
    pub zone: Option<usize>,
}

/// The destination addresses of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// This box.
    Host,
    /// This box, and at least one address that the box has only at times.
    HostAnd(Vec<IpAddr>),
    /// These unicast addresses, at least one.
    List(Vec<IpAddr>),
}

/// A role of a target. The parser does not know whether the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The key as written; never empty.
    pub key: String,
    /// The place of the key.
    pub place: Place,
}

/// A rule besides the roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allow {
    /// Its name, unique in the file: 1 to 64 bytes.
    pub name: String,
    /// The packets that it lets in.
    pub what: AllowWhat,
    /// The prefixes that may use it, besides the groups; none overlap.
    pub from: Vec<Prefix>,
    /// The groups that may use it as well; each has prefixes.
    pub groups: Vec<Named>,
    /// The target that it is for; `None` for any destination.
    pub target: Option<Name>,
}

/// The packets that an [`Allow`] rule lets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllowWhat {
    /// Packets to these ports.
    Ports {
        /// The transport.
        transport: Transports,
        /// At least one range; no two overlap.
        ports: Vec<PortRange>,
    },
    /// An IP protocol by its number, except those that the program judges otherwise: TCP, UDP, ICMP, ICMPv6
    /// and the IPv6 headers 0, 43, 44 and 60.
    Protocol(u8),
}

impl fmt::Display for Management {
    /// Writes `tcp 22 from 10.0.0.0/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, ports) in [("tcp", &self.tcp), ("udp", &self.udp)] {
            if !ports.is_empty() {
                write!(f, "{name} {} ", list(ports))?;
            }
        }
        write!(f, "from {}", list(&self.from))
    }
}

impl fmt::Display for Allow {
    /// Writes `node exporter: tcp 9100 from 10.1.0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match &self.what {
            AllowWhat::Ports { transport, ports } => {
                let transport = match transport {
                    Transports::Tcp => "tcp",
                    Transports::Udp => "udp",
                    Transports::Both => "tcp and udp",
                };
                write!(f, "{transport} {}", list(ports))?;
            }
            AllowWhat::Protocol(number) => write!(f, "protocol {number}")?,
        }
        if self.is_from_anywhere() {
            f.write_str(" from anywhere")?;
        } else {
            let groups = self.groups.iter().map(|group| group.name.clone());
            let sources: Vec<String> = groups.chain(self.from.iter().map(Prefix::to_string)).collect();
            write!(f, " from {}", sources.join(" "))?;
        }
        match &self.target {
            Some(target) => write!(f, " to target {target}"),
            None => Ok(()),
        }
    }
}

impl Allow {
    /// True if every source matches.
    #[must_use]
    pub fn is_from_anywhere(&self) -> bool {
        self.from.is_empty() && self.groups.is_empty()
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

impl Config {
    /// Settings that are allowed but may be a mistake, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match &self.management {
            None => warnings.push(
                "management = \"none\": no source always gets in, so a mistake in a role can lock you out"
                    .to_owned(),
            ),
            Some(management) => {
                for prefix in management.from.iter().filter(|prefix| prefix.length() == 0) {
                    warnings.push(format!(
                        "management.from has {prefix}: the management ports are open to the world"
                    ));
                }
            }
        }
        if self.interfaces.iter().any(|interface| *interface.name == *"lo") {
            warnings.push(
                "lo is guarded: local programs reach each other on open ports only, and no other host sends to lo"
                    .to_owned(),
            );
        }
        for zone in self.zones.iter().filter(|zone| zone.unmatched == Unmatched::Pass) {
            warnings.push(format!(
                "zone `{}` has unmatched = \"pass\": packets to a destination without a target are not filtered",
                zone.name
            ));
        }
        if self.targets.iter().all(|target| target.roles.is_empty()) {
            warnings.push("no target has a role: only management and allow rules open ports".to_owned());
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
