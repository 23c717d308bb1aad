//! Compiles a configuration, a catalogue and the state of a machine into the tables of one generation. [`compile()`] is a
//! function, [`Compiled`] is data.

use std::collections::HashSet;

use lyncwall_common::abi::{
    AllowTable, Class, Features, Generation, Limit, MAX_POLICIES, MAX_PREFIXES, NetPort, PolicyTable,
    PortSet, PortTransport, REST, SourceRecord, TargetTable, VlanTable,
};

use crate::config::{Management, Mode};
use crate::net::Prefix;
use crate::problem::{Problem, Problems};
use input::{check_prefixes, ports_in};

mod allow;
mod blocked;
mod counters;
mod input;
mod seed;
mod sources;
mod targets;
mod zones;

pub use allow::fnv1a;

pub use blocked::{BlockChanges, block_changes, block_records};
pub use counters::{COUNTERS, CounterBook, Identity};
pub use input::{Answers, GroupInput, Input, InterfaceInput, Rule, TargetInput, ZoneInput};
pub(crate) use zones::owners;

/// One generation, ready to be written.
#[derive(Clone)]
pub struct Compiled {
    /// The features that the generation uses.
    pub features: Features,
    /// The generation without its number, which it gets when it is installed.
    pub generation: Generation,
    /// The zones of VLANs; an interface in `generation` refers to its table by index plus one.
    pub vlans: Vec<Box<VlanTable>>,
    /// Addresses of targets other than `host`; `None` without [`Features::TARGETS`].
    pub targets: Option<Box<TargetTable>>,
    /// By policy number, then by [`PortTransport`].
    pub policies: Vec<[Box<PolicyTable>; 2]>,
    /// `None` without [`Features::ALLOW`].
    pub allow: Option<Box<AllowTable>>,
    /// The sources of groups and allow rules: the result of a longest-prefix match, by prefix. The record of
    /// a prefix includes those of the prefixes that cover it.
    pub sources: Vec<(Prefix, SourceRecord)>,
    /// Not part of the generation: edited live, and never by a switch.
    pub management: ManagementTables,
    /// Facts of the machine that the tables have no room for.
    pub left_out: LeftOut,
}

/// Facts of the machine that the tables have no room for. They are no mistakes: no machine may keep a policy from
/// being enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The box's own addresses, on a box that forwards: packets to them are judged as packets to any destination that no
    /// target lists.
    pub own: Vec<Prefix>,
    /// Members of bonds, by number: a native program on the bond judges their frames in no zone.
    pub members: Vec<u32>,
}

/// The management rule. No policy switch touches it.
#[derive(Clone, PartialEq, Eq)]
pub struct ManagementTables {
    /// By [`PortTransport`].
    pub ports: Box<[PortSet; 2]>,
    /// Who may use them.
    pub sources: Vec<Prefix>,
}

/// Compiles a generation. Equal input and counters give equal tables. The number of the generation is 0 until
/// it is installed.
///
/// `counters` gets the rules of this generation; the caller calls [`CounterBook::installed`] once it is live.
///
/// # Errors
/// Everything that does not fit into the tables; `counters` is unchanged then.
pub fn compile(input: &Input, counters: &mut CounterBook) -> Result<Compiled, Problems> {
    let mut problems = Problems::default();
    let owners = owners(input);
    let rules = sorted_rules(&owners, &mut problems);
    let zones::Interfaces { generation: interfaces, vlans, members_left_out } =
        zones::interfaces(input, &mut problems);
    let management = management(input.management.as_ref(), &mut problems);
    let targets::Targets { table: targets, left_out } = targets::table(input, &mut problems);
    let allow = allow::compile(&input.allow, &owners, &mut problems);
    let sources = sources::table(&input.groups, &input.allow, &mut problems);
    check_groups(&owners, &input.groups, &mut problems);
    problems.or(())?;

    let identities: Vec<Identity> = rules
        .iter()
        .zip(&owners)
        .flat_map(|(lists, target)| lists.iter().flatten().map(|rule| rule.identity(&target.name)))
        .chain(input.allow.iter().map(allow::identity))
        .collect();
    let Some(bound) = counters.allocate(&identities) else {
        return Err(Problem::new(
            format!("{} rules in all targets: at most {COUNTERS} fit", identities.len()),
            "give the targets fewer roles",
        )
        .into());
    };
    let mut bound = bound.into_iter();
    let policies: Vec<[Box<PolicyTable>; 2]> = rules
        .iter()
        .map(|lists| lists.each_ref().map(|list| policy_table(list, &input.groups, &mut bound)))
        .collect();

    let mut features = Features::default();
    let (modes, audit) = modes(input, owners.len());
    let audit_zones = zones::audited(input);
    features = features.with(modes);
    if targets.is_some() {
        features = features.with(Features::TARGETS);
    }
    if allow.is_some() {
        features = features.with(Features::ALLOW);
    }
    if input.zones.len() > 1 {
        features = features.with(Features::ZONES);
    }
    if rules.iter().flatten().flatten().any(|rule| !rule.groups.is_empty()) {
        features = features.with(Features::GROUPS);
    }
    if input.limits.iter().any(|limit| limit.rate != 0) {
        features = features.with(Features::LIMIT);
    }
    let allow = allow.map(|mut table| {
        for (counter, index) in table.counters.iter_mut().zip(bound) {
            *counter = index;
        }
        table
    });
    let generation = Generation {
        flow_times: input.flow_times,
        early_fragments: input.early_fragments,
        unmatched_pass: zones::unmatched_pass(&input.zones),
        audit,
        audit_zones,
        answers: input.answers.policies(),
        limits: std::array::from_fn(|policy| input.limits.get(policy).copied().unwrap_or(Limit::NONE)),
        zone_sources: sources::of_zones(&input.groups, &input.allow),
        ..interfaces
    };
    let left_out = LeftOut { own: left_out, members: members_left_out };
    Ok(Compiled { features, generation, vlans, targets, policies, allow, sources, management, left_out })
}

/// Which packets are only audited: none, some or all. See [`Generation::audit`]. The policies of zones with
/// outbound limits are for packets without a target.
fn modes(input: &Input, policies: usize) -> (Features, u32) {
    let mode = |policy| if policy < input.targets.len() { input.mode_of(policy) } else { input.mode };
    let bits = (0..policies).map(|policy| (policy as u32, mode(policy))).chain([(REST, input.mode)]);
    let audited = bits.filter(|(_, mode)| *mode == Mode::Audit).fold(0u32, |bits, (bit, _)| bits | 1 << bit);
    match audited.count_ones() as usize {
        0 => (Features::default(), 0),
        all if all == policies + 1 => (Features::AUDIT, 0),
        _ => (Features::MODES, audited),
    }
}

/// Rules of one (policy, transport): classes are bytes, and class 0 is closed.
const MAX_RULES: usize = 255;

/// The rules of each target by transport, in the order of their ports.
fn sorted_rules<'a>(targets: &'a [TargetInput], problems: &mut Problems) -> Vec<[Vec<&'a Rule>; 2]> {
    let mut names = HashSet::new();
    if targets.is_empty() {
        problems.push(Problem::new("no target", "add a [[target]]"));
    }
    if targets.len() > MAX_POLICIES as usize {
        problems.push(Problem::new(
            format!(
                "{} targets, including zones with outbound = \"catalogue\": at most {MAX_POLICIES} fit",
                targets.len()
            ),
            "merge targets with equal roles into one [[target]] with all their addresses",
        ));
    }
    for target in targets {
        if !names.insert(&target.name) {
            problems.push(Problem::new(
                format!("two targets are named `{}`", target.name),
                "give each target its own name",
            ));
        }
    }
    targets
        .iter()
        .map(|target| PortTransport::ALL.map(|transport| rules_of(target, transport, problems)))
        .collect()
}

fn rules_of<'a>(target: &'a TargetInput, transport: PortTransport, problems: &mut Problems) -> Vec<&'a Rule> {
    let mut rules: Vec<&Rule> = target.inbound.iter().filter(|rule| rule.transport == transport).collect();
    rules.sort_by_key(|rule| (rule.first, rule.last));
    let (name, transport) = (&target.name, transport.name());
    if rules.len() > MAX_RULES {
        problems.push(Problem::new(
            format!("target `{name}` has {} {transport} rules: at most {MAX_RULES} fit", rules.len()),
            "give it fewer roles, or split them among several targets",
        ));
    }
    for rule in &rules {
        if rule.first == 0 || rule.first > rule.last {
            problems.push(Problem::new(
                format!(
                    "target `{name}` has a {transport} rule from port {} to {} ({})",
                    rule.first,
                    rule.last,
                    rule.rows.join(", ")
                ),
                "correct the catalogue: ports go from 1 to 65535, the lower one first",
            ));
        }
    }
    for pair in rules.windows(2) {
        if pair[1].first <= pair[0].last {
            problems.push(Problem::new(
                format!("target `{name}` has two rules for {transport} port {}", pair[1].first),
                "correct the catalogue: rules of one target may not share a port",
            ));
        }
    }
    rules
}

/// Reports unknown groups in rules: a port for them would be open to nobody.
fn check_groups(targets: &[TargetInput], groups: &[GroupInput], problems: &mut Problems) {
    for target in targets {
        for rule in target.inbound.iter().filter(|rule| sources::mask(groups, &rule.groups).is_none()) {
            problems.push(Problem::new(
                format!(
                    "target `{}` has a rule for {} port {} and the groups {}, not all of which have prefixes",
                    target.name,
                    rule.transport.name(),
                    rule.first,
                    rule.groups.join(", ")
                ),
                "give each of them prefixes in [groups]",
            ));
        }
    }
}

fn policy_table(
    rules: &[&Rule],
    groups: &[GroupInput],
    counters: &mut impl Iterator<Item = u32>,
) -> Box<PolicyTable> {
    let mut table = Box::new(PolicyTable::CLOSED);
    for (class, (rule, counter)) in (1..=u8::MAX).zip(rules.iter().zip(counters)) {
        // Checked before: all groups exist.
        let groups = sources::mask(groups, &rule.groups).unwrap_or_default();
        table.classes[usize::from(class)] = Class { counter, groups };
        for port in rule.first..=rule.last {
            table.ports[NetPort::new(port).index()] = class;
        }
    }
    table
}

fn management(management: Option<&Management>, problems: &mut Problems) -> ManagementTables {
    let mut ports = Box::new([PortSet::EMPTY; 2]);
    let Some(management) = management else { return ManagementTables { ports, sources: Vec::new() } };
    for (transport, ranges) in [(PortTransport::Tcp, &management.tcp), (PortTransport::Udp, &management.udp)]
    {
        for port in ranges.iter().flat_map(ports_in) {
            ports[transport as usize].insert(NetPort::new(port));
        }
    }
    check_prefixes(management.from.iter(), "management.from", MAX_PREFIXES, problems);
    ManagementTables { ports, sources: management.from.clone() }
}

#[cfg(test)]
pub(crate) mod tests;
