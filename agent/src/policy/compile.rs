//! From what a configuration, a catalogue and a machine say to the tables of one generation.

use std::collections::HashSet;

use lyncwall_common::abi::{
    Class, FLAG_DHCP_CLIENT, Features, Generation, INTERFACE_BUCKETS, Interface, MAX_INTERFACES,
    MAX_POLICIES, NetPort, PolicyTable, PortSet, PortTransport,
};

use super::allow::{self, AllowRules};
use super::counters::{CounterBook, Identity};
use super::input::{Input, Rule, TargetInput, check_prefixes, ports_in};
use super::{Compiled, ManagementTables, targets};
use crate::config::{Management, Mode, Unmatched};
use crate::problem::{Problem, Problems};

/// Compiles a generation. The same input and counters give the same tables. The number of the generation is 0: it
/// gets one when it is installed.
///
/// `counters` learns the rules of this generation; the caller says [`CounterBook::installed`] once it judges.
///
/// # Errors
/// Everything that does not fit into the tables; `counters` is then as it was.
pub fn compile(input: &Input, counters: &mut CounterBook) -> Result<Compiled, Problems> {
    let mut problems = Problems::default();
    let rules = sorted_rules(&input.targets, &mut problems);
    let generation = generation(input, &mut problems);
    let management = management(input.management.as_ref(), &mut problems);
    let targets = targets::table(&input.targets, &input.local, &mut problems);
    let allow = allow::compile(&input.allow, &input.targets, &mut problems);
    problems.or(())?;

    let identities: Vec<Identity> = rules
        .iter()
        .zip(&input.targets)
        .flat_map(|(lists, target)| lists.iter().flatten().map(|rule| rule.identity(&target.name)))
        .chain(input.allow.iter().map(allow::identity))
        .collect();
    let Some(bound) = counters.allocate(&identities) else {
        return Err(Problem::new(
            format!("there is no counter left for {} rules beside those that are in use", identities.len()),
            "switch to a smaller set of roles first, or restart with `lyncwall detach`",
        )
        .into());
    };
    let mut bound = bound.into_iter();
    let policies =
        rules.iter().map(|lists| lists.each_ref().map(|list| policy_table(list, &mut bound))).collect();

    let mut features = Features::default();
    if input.mode == Mode::Audit {
        features = features.with(Features::AUDIT);
    }
    if targets.is_some() {
        features = features.with(Features::TARGETS);
    }
    if allow.is_some() {
        features = features.with(Features::ALLOW);
    }
    let (allow, allow_sources) = match allow {
        Some(AllowRules { mut table, sources }) => {
            for (counter, index) in table.counters.iter_mut().zip(bound) {
                *counter = index;
            }
            (Some(table), sources)
        }
        None => (None, Vec::new()),
    };
    Ok(Compiled { features, generation, targets, policies, allow, allow_sources, management })
}

/// Rules of one (policy, transport): classes are bytes, and class 0 is closed.
const MAX_RULES: usize = 255;

/// The rules of each target by transport, in the order of their ports.
fn sorted_rules<'a>(targets: &'a [TargetInput], problems: &mut Problems) -> Vec<[Vec<&'a Rule>; 2]> {
    let mut names = HashSet::new();
    if targets.is_empty() {
        problems.push(Problem::new("there is no target", "add a [[target]]"));
    }
    if targets.len() > MAX_POLICIES as usize {
        problems.push(Problem::new(
            format!("there are {} targets, and there is room for {MAX_POLICIES}", targets.len()),
            "give targets with the same roles one [[target]] with all of their addresses",
        ));
    }
    for target in targets {
        if !names.insert(&target.name) {
            problems.push(Problem::new(
                format!("two targets have the name `{}`", target.name),
                "give each target a name of its own",
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
            format!(
                "target `{name}` has {} {transport} rules, and there is room for {MAX_RULES}",
                rules.len()
            ),
            "give it fewer roles, or divide them among several targets",
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
                "correct the catalogue: rules of one target share no port",
            ));
        }
    }
    rules
}

fn policy_table(rules: &[&Rule], counters: &mut impl Iterator<Item = u32>) -> Box<PolicyTable> {
    let mut table = Box::new(PolicyTable::CLOSED);
    for (class, (rule, counter)) in (1..=u8::MAX).zip(rules.iter().zip(counters)) {
        table.classes[usize::from(class)] = Class { counter, groups: 0 };
        for port in rule.first..=rule.last {
            table.ports[NetPort::new(port).index()] = class;
        }
    }
    table
}

fn generation(input: &Input, problems: &mut Problems) -> Generation {
    let mut generation = Generation {
        flow_times: input.flow_times,
        unmatched_pass: u32::from(input.unmatched == Unmatched::Pass),
        ..Generation::EMPTY
    };
    if input.interfaces.len() > MAX_INTERFACES {
        problems.push(Problem::new(
            format!(
                "there are {} interfaces, and there is room for {MAX_INTERFACES}",
                input.interfaces.len()
            ),
            "attach to fewer interfaces",
        ));
    }
    // Those that are not there at the moment have no number.
    let there = input.interfaces.iter().filter(|interface| interface.ifindex != 0).take(MAX_INTERFACES);
    let entries: Vec<Interface> = there
        .map(|interface| Interface {
            ifindex: interface.ifindex,
            flags: if interface.dhcp_client { FLAG_DHCP_CLIENT } else { 0 },
        })
        .collect();
    generation.interface_seed = interface_seed(&entries);
    for entry in entries {
        generation.interfaces[Generation::bucket(generation.interface_seed, entry.ifindex)] = entry;
    }
    generation
}

/// A seed that gives each number a bucket of its own: one in eight does for 32 numbers.
fn interface_seed(entries: &[Interface]) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let apart = |seed: &u64| {
        let mut taken = [None; INTERFACE_BUCKETS];
        entries.iter().all(|entry| {
            let bucket = &mut taken[Generation::bucket(*seed, entry.ifindex)];
            bucket.replace(entry.ifindex).is_none_or(|before| before == entry.ifindex)
        })
    };
    (1..).map(|n: u64| n.wrapping_mul(GOLDEN) | 1).find(apart).unwrap_or(1)
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
    check_prefixes(management.from.iter(), "management.from", problems);
    ManagementTables { ports, sources: management.from.clone() }
}

#[cfg(test)]
pub(super) mod tests;
