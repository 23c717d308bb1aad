//! The `[[allow]]` rules as masks: a rule is a bit, by its position in the file.

use crate::net::Transports;
use std::collections::HashMap;

use lyncwall_common::abi::{ALLOW_RULES, AllowTable, NetPort, PortTransport};

use super::counters::Identity;
use super::input::{TargetInput, ports_in};
use crate::config::{Allow, AllowWhat};
use crate::problem::{Problem, Problems};

/// Compiles the allow rules, without their sources; the counters are filled in later. `None` without rules.
pub(super) fn compile(
    rules: &[Allow],
    targets: &[TargetInput],
    problems: &mut Problems,
) -> Option<Box<AllowTable>> {
    if rules.is_empty() {
        return None;
    }
    if rules.len() > ALLOW_RULES {
        problems.push(Problem::new(
            format!("{} [[allow]] rules: at most {ALLOW_RULES} fit", rules.len()),
            "merge rules with equal sources and targets",
        ));
        return None;
    }
    let mut table = Box::new(AllowTable::EMPTY);
    for (bit, rule) in rules.iter().enumerate() {
        let mask = 1 << bit;
        if rule.is_from_anywhere() {
            table.any_source |= mask;
        }
        match &rule.target {
            None => {
                table.no_target |= mask;
                // One for each policy; the program never reads a table without rules.
                table.targets.iter_mut().take(targets.len()).for_each(|rules| *rules |= mask);
            }
            Some(name) => match targets.iter().position(|target| target.name == **name) {
                Some(policy) => {
                    if let Some(rules) = table.targets.get_mut(policy) {
                        *rules |= mask;
                    }
                }
                None => problems.push(Problem::new(
                    format!("the [[allow]] rule `{}` is for the unknown target `{name}`", rule.name),
                    "name one of the targets, or leave `target` out",
                )),
            },
        }
    }
    if !fill_classes(&mut table, rules) {
        problems.push(Problem::new(
            "the [[allow]] rules divide the ports into more than 255 different sets of rules",
            "merge rules, or align the ends of their port ranges",
        ));
    }
    Some(table)
}

/// The identity of a rule's counter: its name and its full content.
pub(super) fn identity(rule: &Allow) -> Identity {
    let mut text = String::new();
    match &rule.what {
        AllowWhat::Protocol(protocol) => text.push_str(&format!("protocol {protocol}")),
        AllowWhat::Ports { transport, ports } => {
            text.push_str(match transport {
                Transports::Tcp => "tcp",
                Transports::Udp => "udp",
                Transports::Both => "both",
            });
            ports.iter().for_each(|range| text.push_str(&format!(" {range}")));
        }
    }
    rule.from.iter().for_each(|prefix| text.push_str(&format!(" from {prefix}")));
    rule.groups.iter().for_each(|group| text.push_str(&format!(" group {}", group.name)));
    if let Some(target) = &rule.target {
        text.push_str(&format!(" target {target}"));
    }
    Identity::Allow { name: rule.name.clone(), definition: fnv1a(text.as_bytes()) }
}

/// The 64-bit Fowler-Noll-Vo hash, which is stable across builds.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Gives ports and protocols with equal rules one class; false for more than 255 classes.
fn fill_classes(table: &mut AllowTable, rules: &[Allow]) -> bool {
    let mut ports = [vec![0u64; 65536], vec![0u64; 65536]];
    let mut protocols = [0u64; 256];
    for (bit, rule) in rules.iter().enumerate() {
        let mask = 1 << bit;
        match &rule.what {
            AllowWhat::Protocol(protocol) => protocols[usize::from(*protocol)] |= mask,
            AllowWhat::Ports { transport, ports: ranges } => {
                let transports: &[PortTransport] = match transport {
                    Transports::Tcp => &[PortTransport::Tcp],
                    Transports::Udp => &[PortTransport::Udp],
                    Transports::Both => &PortTransport::ALL,
                };
                for transport in transports {
                    for port in ranges.iter().flat_map(ports_in) {
                        ports[*transport as usize][usize::from(port)] |= mask;
                    }
                }
            }
        }
    }
    let mut numbers: HashMap<u64, u8> = HashMap::from([(0, 0)]);
    let classes = &mut table.classes;
    let mut class_of = |rules: u64| {
        if let Some(class) = numbers.get(&rules) {
            return Some(*class);
        }
        let class = u8::try_from(numbers.len()).ok()?;
        numbers.insert(rules, class);
        classes[usize::from(class)] = rules;
        Some(class)
    };
    for (classes, masks) in table.ports.iter_mut().zip(&ports) {
        for (port, rules) in (0..=u16::MAX).zip(masks) {
            let Some(class) = class_of(*rules) else { return false };
            classes[NetPort::new(port).index()] = class;
        }
    }
    for (class, rules) in table.protocols.iter_mut().zip(protocols) {
        let Some(number) = class_of(rules) else { return false };
        *class = number;
    }
    true
}

#[cfg(test)]
pub(super) mod tests;
