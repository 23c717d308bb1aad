//! The input of a generation.

use lyncwall_common::abi::{FlowTimes, Limit, PortTransport};

use super::Identity;
use crate::config::{Address, Allow, Group, Management, Mode, OnClosed, Unmatched};
use crate::net::{OwnAddresses, PortRange, Prefix};
use crate::problem::{Problem, Problems};

/// The input of a generation.
#[derive(Debug, Clone)]
pub struct Input {
    /// 1 to 8; a zone's position is its number.
    pub zones: Vec<ZoneInput>,
    /// A target's position is the number of its policy; unique names, at most one `host` in each zone. At
    /// least one target, and at most 16 together with the zones that have outbound limits.
    pub targets: Vec<TargetInput>,
    /// The allow rules, the first match counts; up to 64, with unique names.
    pub allow: Vec<Allow>,
    /// The groups that rules may refer to, with unique names.
    pub groups: Vec<GroupInput>,
    /// The sources that always get in.
    pub management: Option<Management>,
    /// The mode of packets without a target.
    pub mode: Mode,
    /// The mode of each target; `mode` for targets beyond the list.
    pub modes: Vec<Mode>,
    /// The interfaces to attach to, up to 32.
    pub interfaces: Vec<InterfaceInput>,
    /// The box's own addresses: management reaches them even if a target lists them.
    pub local: OwnAddresses,
    /// True if the box forwards: then `host` is its own addresses, not every destination.
    pub forwards: bool,
    /// How long flows live.
    pub flow_times: FlowTimes,
    /// Later fragments that each CPU lets in before their first one, per second; 0 for none.
    pub early_fragments: u32,
    /// The limit on openings for each source, by target; targets beyond the list have no limit.
    pub limits: Vec<Limit>,
    /// What the box answers packets at closed ports.
    pub answers: Answers,
}

/// Who answers packets at closed ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// What each target does; targets beyond the list drop.
    pub targets: Vec<OnClosed>,
    /// The numbers of the interfaces by which the box may answer, with their Ethernet addresses.
    pub interfaces: Vec<(u32, [u8; 6])>,
}

impl Answers {
    /// The policies that answer, as bits.
    pub(super) fn policies(&self) -> u32 {
        let rejects = |(_, on_closed): &(usize, &OnClosed)| **on_closed == OnClosed::Reject;
        self.targets.iter().enumerate().filter(rejects).fold(0, |bits, (policy, _)| bits | 1 << policy)
    }

    /// The Ethernet address of an interface in 16-bit units of network byte order; 0 if it may not answer.
    pub(super) fn ethernet(&self, ifindex: u32) -> [u16; 3] {
        let found = self.interfaces.iter().find(|(number, _)| *number == ifindex);
        found.map_or([0; 3], |(_, [a, b, c, d, e, f])| [[*a, *b], [*c, *d], [*e, *f]].map(u16::from_ne_bytes))
    }
}

impl Input {
    /// The mode of the target at this position.
    #[must_use]
    pub fn mode_of(&self, target: usize) -> Mode {
        self.modes.get(target).copied().unwrap_or(self.mode)
    }

    /// A copy that enforces everywhere.
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
    /// The fate of packets to a destination outside its targets.
    pub unmatched: Unmatched,
    /// The outbound calls of its hosts, to destinations outside its targets; `None` if `unmatched` decides.
    /// Groups are those of the destination.
    pub outbound: Option<Vec<Rule>>,
}

/// A target with its open ports.
#[derive(Debug, Clone)]
pub struct TargetInput {
    /// Its name.
    pub name: String,
    /// The number of its zone.
    pub zone: usize,
    /// Its destination addresses.
    pub address: Address,
    /// The open ports; rules of one transport do not share a port. Up to 255 for each transport.
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
    /// The groups that may use it; empty for anybody.
    pub groups: Vec<String>,
    /// The catalogue's rows behind it.
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
    /// The number of a zone whose hosts are all in the group.
    pub zone: Option<usize>,
}

impl From<&Group> for GroupInput {
    fn from(group: &Group) -> Self {
        Self { name: group.name.to_string(), prefixes: group.prefixes.clone(), zone: group.zone }
    }
}

/// An interface to attach to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceInput {
    /// The kernel's number; 0 if it does not exist.
    pub ifindex: u32,
    /// The numbers of its members, if it is a bond: the program sees their numbers for frames of the bond.
    pub members: Vec<u32>,
    /// The number of the zone it is in.
    pub zone: usize,
    /// VLANs on it with a zone of their own, by identifier.
    pub vlans: Vec<(u16, usize)>,
    /// True if the box is a DHCP client there.
    pub dhcp_client: bool,
}

/// Reports more `prefixes` than a source table holds.
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
                format!("{what} has {count} {family} prefixes: at most {room} fit"),
                "merge neighbouring prefixes into shorter ones",
            ));
        }
    }
}

/// Every port of a range, in host byte order.
pub(super) fn ports_in(range: &PortRange) -> std::ops::RangeInclusive<u16> {
    range.first()..=range.last()
}
