//! The configuration file: `/etc/lyncwall/lyncwall.toml` and what it may say.
//!
//! [`read`] and [`parse`] give a [`Config`] that is valid in itself, or every mistake of the file together.
//! What needs more than the file to judge — whether a role is in the catalogue, whether an interface exists —
//! is judged by others, who find the [`Place`] to point at beside the value.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lyncwall_common::abi::FlowTimes;
use serde::{Deserialize, Serialize};

use crate::net::{PortRange, Prefix, Transports};
use crate::problem::{Place, Problem, Problems};

mod allow;
mod api;
mod flows;
mod groups;
mod limit;
mod lists;
mod names;
mod reader;
mod roles;
mod sections;
mod syntax;
mod zones;

pub use allow::protocol_number;
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
/// A file that cannot be read, or is no text.
pub fn text(path: &Path) -> Result<String, Problems> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let (good, _) = bytes.split_at(error.valid_up_to());
            let place = reader::place_after(path, &String::from_utf8_lossy(good));
            Err(Problem::at(place, "the file is not UTF-8 text", "save it as UTF-8, as TOML asks").into())
        }
    }
}

/// Checks `text`, which stands in `file`; the file itself is not looked at.
///
/// # Errors
/// Every mistake in the text, in the order of the text.
pub fn parse(text: &str, file: &Path) -> Result<Config, Problems> {
    parse_declared(text, file).1
}

/// The same, with what the roles can be checked by also where something else is wrong.
pub fn parse_declared(text: &str, file: &Path) -> (Option<Declared>, Result<Config, Problems>) {
    sections::config(text, file)
}

/// What a file says of roles and groups, also where something else in it is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The catalogue that the roles are taken from.
    pub catalogue: CatalogueName,
    /// What is protected.
    pub targets: Vec<Target>,
    /// The groups that have prefixes, however good these are; `None` where syntax errors may have cost some.
    pub groups: Option<Vec<Named>>,
    /// The own roles, with what of them could be read.
    pub roles: Vec<OwnRole>,
    /// True where that is all of them.
    pub roles_are_sound: bool,
    /// The groups that `[[allow]]` rules name; `None` where a rule could not be read.
    pub allowed_groups: Option<Vec<String>>,
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    use std::io::ErrorKind;
    let place = Place { file: path.to_owned(), line: 0, column: 0, key: String::new() };
    let fix = match error.kind() {
        ErrorKind::NotFound => {
            "write it (config/lyncwall.toml is a sample) or name another with `--config FILE`"
        }
        ErrorKind::PermissionDenied => "run as root, or make the file readable",
        ErrorKind::IsADirectory => "name the file in it with `--config FILE`",
        _ => "make the file readable or name another with `--config FILE`",
    };
    Problem::at(place, format!("the configuration cannot be read: {error}"), fix)
}

/// A valid configuration: names are unique, references resolve, and nothing in one list overlaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The catalogue that the roles are taken from.
    pub catalogue: CatalogueName,
    /// How the catalogue's rows are read.
    pub reading: Reading,
    /// Whether packets are dropped or only judged: those that have no target, and those of targets that do not say.
    pub mode: Mode,
    /// What happens to the enforcement when the agent is told to stop.
    pub on_exit: OnExit,
    /// Who always gets in; `None` where the file says `management = "none"` outright.
    pub management: Option<Management>,
    /// The zones: 1 to 8, no two of one name; one with the name `default` where the file has none.
    pub zones: Vec<Zone>,
    /// The groups that have prefixes: up to 32, no two of one name. Whether somebody refers to one is not known here.
    pub groups: Vec<Group>,
    /// The roles beside those of the catalogue, no two of one name.
    pub roles: Vec<OwnRole>,
    /// The interfaces to attach to: 1 to 32, no two of one name.
    pub interfaces: Vec<Interface>,
    /// The targets: 1 to 16, no two of one name; in each zone at most one `host`, and no address twice.
    pub targets: Vec<Target>,
    /// The further rules: up to 64, no two of one name.
    pub allow: Vec<Allow>,
    /// How flows are tracked.
    pub flows: Flows,
    /// What a source may open on the whole box, over all targets without a limit of their own.
    pub limit: Option<Openings>,
    /// Who may use the agent's socket besides root.
    pub api: Api,
    /// Where metrics are served by TCP, no address twice; nowhere where it is empty.
    pub metrics: Vec<Listen>,
}

/// Who may use the agent's socket besides root: groups of this box. Whether there are such groups is not known here.
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
    /// Where it is written.
    pub place: Place,
}

/// How many connections a source may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Openings {
    /// Connections per second, 1 to 100,000.
    pub per_second: u32,
    /// Connections at once after a silence, 1 to 100,000.
    pub burst: u32,
}

/// How flows are tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flows {
    /// How long what the box sends is watched before enforcement begins.
    pub learn: Duration,
    /// How long a flow outlives its last packet.
    pub times: FlowTimes,
    /// Flows in each of the two tables. They are made once, so another size holds from the next first start on.
    pub size: u32,
}

/// The catalogue a configuration asks for: the key of a built-in one, or a path. Whether there is one is not
/// known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueName {
    /// As written; never empty.
    pub name: String,
    /// Where it is written; line 0 where the default holds.
    pub place: Place,
}

/// Whether packets are dropped or only judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What no rule lets in is dropped.
    #[default]
    Enforce,
    /// Everything passes; what would have been dropped is counted and reported.
    Audit,
}

impl Mode {
    /// As the file has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// What happens to the enforcement when the agent is told to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    /// The kernel goes on enforcing.
    #[default]
    Keep,
    /// The programs are detached and the box is open.
    Detach,
}

/// Interfaces, or VLANs of them, that share targets and a policy. Its position in the list is its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name, unique in the file.
    pub name: String,
    /// What happens to packets to a destination that is in none of its targets, unless `outbound` says more.
    pub unmatched: Unmatched,
    /// What may be called by those who are behind it.
    pub outbound: Outbound,
}

/// What those who are behind a zone may call: destinations in none of its targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outbound {
    /// What `unmatched` says.
    #[default]
    Unmatched,
    /// What the roles of the other zones' targets call.
    Catalogue,
}

/// What happens to packets to a destination that is in no target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// Drop them.
    #[default]
    Drop,
    /// Let them pass.
    Pass,
}

/// Who gets in whatever role is live.
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
    /// Its name. Whether it exists is not known here.
    pub name: InterfaceName,
    /// Where the name is written.
    pub place: Place,
    /// How to attach.
    pub attach: Attach,
    /// True where the box is a DHCP client on this interface.
    pub dhcp_client: bool,
    /// The number of the zone it is in, and of its untagged frames and of VLANs that are not in `vlans`.
    pub zone: usize,
    /// VLANs by their identifier, 1 to 4094, and the numbers of their zones; none twice.
    pub vlans: Vec<(u16, usize)>,
    /// Where they are written.
    pub vlans_place: Option<Place>,
}

/// How to attach the XDP program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// In the driver, and where it cannot, in the generic hook.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the generic hook.
    Generic,
}

/// A set of destination addresses and the roles that hold there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, unique in the file.
    pub name: Name,
    /// The number of the zone that its packets come in by.
    pub zone: usize,
    /// The addresses.
    pub address: Address,
    /// The roles, no key twice; none where nothing is to be open.
    pub roles: Vec<Role>,
    /// Ports that take the place of those of a row, no row twice. Whether a role has the row is not known here.
    pub overrides: Vec<Override>,
    /// The optional rows that are switched on, none twice. Whether a role has them is not known here.
    pub optional: Vec<Named>,
    /// What a source may open here.
    pub limit: Option<Openings>,
    /// Whether packets to it are dropped; `None` where that is as for the whole box.
    pub mode: Option<Mode>,
    /// True where connections are picked up in the middle when one of its addresses comes to this box; it lists some then.
    pub takeover: bool,
}

/// Ports in the place of a row's.
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
    /// Where the name is written.
    pub place: Place,
    /// Its sources; at least one, no two overlap.
    pub prefixes: Vec<Prefix>,
    /// The number of a zone that everybody who is in the group is behind; it has no prefixes then.
    pub zone: Option<usize>,
}

/// The destination addresses of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// This box.
    Host,
    /// This box, and addresses that are its own at times; at least one.
    HostAnd(Vec<IpAddr>),
    /// These unicast addresses; at least one.
    List(Vec<IpAddr>),
}

/// A role that a target is to have. Whether the catalogue knows it is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// As written; never empty.
    pub key: String,
    /// Where it is written.
    pub place: Place,
}

/// A rule beside the roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allow {
    /// Its name, unique in the file: 1 to 64 bytes.
    pub name: String,
    /// What it lets in.
    pub what: AllowWhat,
    /// The sources beside those of the groups, no two overlapping.
    pub from: Vec<Prefix>,
    /// The groups whose sources match as well; each has prefixes.
    pub groups: Vec<Named>,
    /// The name of the target it holds for; `None` means any destination.
    pub target: Option<Name>,
}

/// What an [`Allow`] rule lets in.
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
    /// An IP protocol by its number; never one that is judged in another way (TCP, UDP, ICMP, ICMPv6 and the
    /// IPv6 headers 0, 43, 44 and 60).
    Protocol(u8),
}

impl fmt::Display for Management {
    /// As `tcp 22 from 10.0.0.0/8`.
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
    /// As `node exporter: tcp 9100 from 10.1.0.5`.
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
    /// True where every source matches.
    #[must_use]
    pub fn is_from_anywhere(&self) -> bool {
        self.from.is_empty() && self.groups.is_empty()
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

impl Config {
    /// What is allowed but may not be meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match &self.management {
            None => warnings.push(
                "management = \"none\": no source is sure to get in, so a mistake in a role can lock you out"
                    .to_owned(),
            ),
            Some(management) => {
                for prefix in management.from.iter().filter(|prefix| prefix.length() == 0) {
                    warnings.push(format!(
                        "management.from has {prefix}: the management ports are open to everybody"
                    ));
                }
            }
        }
        if self.interfaces.iter().any(|interface| *interface.name == *"lo") {
            warnings.push(
                "lo is guarded: the programs of this box reach each other by open ports only, and nobody else sends there"
                    .to_owned(),
            );
        }
        for zone in self.zones.iter().filter(|zone| zone.unmatched == Unmatched::Pass) {
            warnings.push(format!(
                "zone `{}` has unmatched = \"pass\": packets to a destination in no target are not filtered",
                zone.name
            ));
        }
        if self.targets.iter().all(|target| target.roles.is_empty()) {
            warnings
                .push("no target has a role: only management and the allow rules open anything".to_owned());
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
