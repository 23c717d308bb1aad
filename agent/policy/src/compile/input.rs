//! What a generation is made from.

use std::net::IpAddr;

use lyncwall_common::abi::{FlowTimes, Limit, PortTransport};

use super::Identity;
use crate::config::{Address, Allow, Group, Management, Mode, Unmatched};
use crate::net::{PortRange, Prefix};
use crate::problem::{Problem, Problems};

/// What a generation is made from.
#[derive(Debug, Clone)]
pub struct Input {
    /// 1 to 8; a zone's position is its number.
    pub zones: Vec<ZoneInput>,
    /// A target's position is the number of its policy; no two of one name, at most one `host` in each zone. At least one,
    /// and together with the zones that limit what goes out up to 16.
    pub targets: Vec<TargetInput>,
    /// The further rules, the first that matches counts; up to 64, no two of one name.
    pub allow: Vec<Allow>,
    /// The groups that rules may refer to, no two of one name.
    pub groups: Vec<GroupInput>,
    /// Who always gets in.
    pub management: Option<Management>,
    /// Whether packets are dropped that have no target.
    pub mode: Mode,
    /// Whether packets are dropped, by target; as `mode` says for targets beyond the list.
    pub modes: Vec<Mode>,
    /// The interfaces that are attached to, up to 32.
    pub interfaces: Vec<InterfaceInput>,
    /// The box's own addresses: management reaches them also where a target lists them.
    pub local: Vec<IpAddr>,
    /// True where the box forwards: `host` is its own addresses then, and not every destination.
    pub forwards: bool,
    /// How long flows live.
    pub flow_times: FlowTimes,
    /// How many connections a source may open, by target; targets beyond the list have no limit.
    pub limits: Vec<Limit>,
}

impl Input {
    /// Whether packets to the target at a position in the list are dropped.
    #[must_use]
    pub fn mode_of(&self, target: usize) -> Mode {
        self.modes.get(target).copied().unwrap_or(self.mode)
    }

    /// The same, enforced everywhere.
    #[must_use]
    pub fn enforced(self) -> Self {
        Self { mode: Mode::Enforce, modes: Vec::new(), ..self }
    }
}

/// A zone.
#[derive(Debug, Clone, Default)]
pub struct ZoneInput {
    /// Its name.
    pub name: String,
    /// What happens to a destination in none of its targets.
    pub unmatched: Unmatched,
    /// What may be called by those who are behind it, at destinations in none of its targets; `None` where `unmatched`
    /// decides. Groups are those of the destination.
    pub outbound: Option<Vec<Rule>>,
}

/// A target with what is open there.
#[derive(Debug, Clone)]
pub struct TargetInput {
    /// Its name.
    pub name: String,
    /// The number of its zone.
    pub zone: usize,
    /// Its destination addresses.
    pub address: Address,
    /// The open ports; rules of one transport share no port. Up to 255 for each transport.
    pub inbound: Vec<Rule>,
}

/// An open range of ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// TCP or UDP.
    pub transport: PortTransport,
    /// The first port, at least 1.
    pub first: u16,
    /// The last port, at least `first`.
    pub last: u16,
    /// The groups that may use it; none for anybody.
    pub groups: Vec<String>,
    /// The catalogue's rows that opened it.
    pub rows: Vec<String>,
}

impl Rule {
    pub(super) fn identity(&self, target: &str) -> Identity {
        Identity::Rule {
            target: target.to_owned(),
            transport: self.transport,
            first: self.first,
            last: self.last,
            rows: self.rows.clone(),
        }
    }
}

/// A group with its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInput {
    /// Its name.
    pub name: String,
    /// Its sources.
    pub prefixes: Vec<Prefix>,
    /// The number of a zone; everybody behind it is in the group.
    pub zone: Option<usize>,
}

impl From<&Group> for GroupInput {
    fn from(group: &Group) -> Self {
        Self { name: group.name.to_string(), prefixes: group.prefixes.clone(), zone: group.zone }
    }
}

/// An interface that is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceInput {
    /// The kernel's number of it; 0 where it is not there.
    pub ifindex: u32,
    /// The numbers of its members, where it is a bond: what comes in by them is told with their numbers.
    pub members: Vec<u32>,
    /// The number of the zone it is in.
    pub zone: usize,
    /// VLANs on it that are in a zone of their own, by identifier.
    pub vlans: Vec<(u16, usize)>,
    /// True where the box is a DHCP client there.
    pub dhcp_client: bool,
}

/// Says so where `prefixes` are more than a source table holds.
pub(super) fn check_prefixes<'a>(
    prefixes: impl Iterator<Item = &'a Prefix>,
    what: &str,
    room: u32,
    problems: &mut Problems,
) {
    let mut count = [0usize; 2];
    for prefix in prefixes {
        count[usize::from(prefix.addr().is_ipv6())] += 1;
    }
    for (family, count) in ["IPv4", "IPv6"].into_iter().zip(count) {
        if count > room as usize {
            problems.push(Problem::new(
                format!("{what} has {count} {family} prefixes, and there is room for {room}"),
                "join neighbouring prefixes into shorter ones",
            ));
        }
    }
}

/// Every port of a range, in host byte order.
pub(super) fn ports_in(range: &PortRange) -> std::ops::RangeInclusive<u16> {
    range.first()..=range.last()
}
