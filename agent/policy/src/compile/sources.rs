//! The sources of groups and `[[allow]]` rules as one table: a group or a rule is a bit, by its position.

use std::collections::BTreeMap;

use lyncwall_common::abi::{ALLOW_RULES, MAX_GROUPS, MAX_SOURCES, SourceRecord, ZONE_NUMBERS};

use super::input::{GroupInput, check_prefixes};
use crate::config::Allow;
use crate::net::Prefix;
use crate::problem::{Problem, Problems};

/// The result of a longest-prefix match of an address.
///
/// It depends on the groups and rules of a configuration, not on the roles, so a switch does not change it.
pub(super) fn table(
    groups: &[GroupInput],
    rules: &[Allow],
    problems: &mut Problems,
) -> Vec<(Prefix, SourceRecord)> {
    if groups.len() > MAX_GROUPS {
        problems.push(Problem::new(
            format!("{} groups with prefixes: at most {MAX_GROUPS} fit", groups.len()),
            "merge groups, or remove those that no role uses",
        ));
    }
    let mut own: BTreeMap<Prefix, SourceRecord> = BTreeMap::new();
    for (bit, group) in groups.iter().take(MAX_GROUPS).enumerate() {
        for prefix in &group.prefixes {
            own.entry(*prefix).or_default().groups |= 1 << bit;
        }
    }
    for (bit, rule) in rules.iter().take(ALLOW_RULES).enumerate() {
        for prefix in sources(rule, groups) {
            own.entry(*prefix).or_default().rules |= 1 << bit;
        }
    }
    check_prefixes(
        own.keys(),
        "the list of all prefixes in [groups] and [[allow]] rules",
        MAX_SOURCES,
        problems,
    );
    covering(own)
}

/// The groups of every host behind a zone.
pub(super) fn of_zones(groups: &[GroupInput], rules: &[Allow]) -> [SourceRecord; ZONE_NUMBERS] {
    let mut records = [SourceRecord::default(); ZONE_NUMBERS];
    for (bit, group) in groups.iter().take(MAX_GROUPS).enumerate() {
        let Some(record) = group.zone.and_then(|zone| records.get_mut(zone)) else { continue };
        record.groups |= 1 << bit;
        for (bit, rule) in rules.iter().take(ALLOW_RULES).enumerate() {
            if names(rule, group) {
                record.rules |= 1 << bit;
            }
        }
    }
    records
}

/// The bits of groups by name; `None` if one is unknown.
pub(super) fn mask(groups: &[GroupInput], names: &[String]) -> Option<u32> {
    names.iter().try_fold(0, |mask, name| {
        let bit = groups.iter().take(MAX_GROUPS).position(|group| group.name == *name)?;
        Some(mask | 1 << bit)
    })
}

fn sources<'a>(rule: &'a Allow, groups: &'a [GroupInput]) -> impl Iterator<Item = &'a Prefix> {
    let named = groups.iter().filter(|group| names(rule, group));
    rule.from.iter().chain(named.flat_map(|group| &group.prefixes))
}

fn names(rule: &Allow, group: &GroupInput) -> bool {
    rule.groups.iter().any(|named| named.name == group.name)
}

/// Adds the records of covering prefixes to each prefix: a longest-prefix match finds one entry only.
fn covering(own: BTreeMap<Prefix, SourceRecord>) -> Vec<(Prefix, SourceRecord)> {
    // Sorted, a prefix comes after all that cover it, and all prefixes between the two are inside the outer
    // one too.
    let mut around: Vec<(Prefix, SourceRecord)> = Vec::new();
    own.into_iter()
        .map(|(prefix, own)| {
            while around.last().is_some_and(|(outer, _)| !outer.contains(prefix.addr())) {
                around.pop();
            }
            let record = around.last().map_or(own, |(_, outer)| own.and(*outer));
            around.push((prefix, record));
            (prefix, record)
        })
        .collect()
}

#[cfg(test)]
mod tests;
