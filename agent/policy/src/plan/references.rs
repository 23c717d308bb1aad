//! Checks references: the roles, rows and groups that a configuration names.

use std::collections::BTreeSet;

use crate::catalogue::Catalogue;
use crate::config::{self, Declared};
use crate::problem::{Problem, Problems, did_you_mean};

/// Adds the file's own roles to the catalogue, and checks all references.
pub(super) fn check(catalogue: &mut Catalogue, declared: &Declared) -> Problems {
    let mut wrong = Vec::new();
    groups(catalogue, declared, &mut wrong);
    for role in &declared.roles {
        if let Err(taken) = catalogue.add_role(role) {
            let message = format!("the catalogue already has {taken}");
            wrong.push(Problem::at(role.place.clone(), message, "give the role another name"));
        }
    }
    for target in &declared.targets {
        references_of(catalogue, declared, target, &mut wrong);
    }
    let mut problems = Problems::default();
    wrong.into_iter().for_each(|problem| problems.push(problem));
    problems
}

/// Reports groups that no role or rule uses, and own rows for unknown groups: a misspelt name would open a
/// port to everybody.
fn groups(catalogue: &Catalogue, declared: &Declared, wrong: &mut Vec<Problem>) {
    let own: Vec<&config::Named> =
        declared.roles.iter().flat_map(|role| &role.rows).flat_map(|row| &row.groups).collect();
    let printed: BTreeSet<&str> = catalogue.groups().keys().map(String::as_str).collect();
    if let Some(bound) = &declared.groups {
        let bound_names: BTreeSet<&str> = bound.iter().map(|group| group.name.as_str()).collect();
        for group in &own {
            if !printed.contains(&*group.name) && !bound_names.contains(&*group.name) {
                let fix = did_you_mean(&group.name, printed.union(&bound_names).copied(), || {
                    format!("give it prefixes, as `{} = [\"192.0.2.0/24\"]` under [groups]", group.name)
                });
                let message = format!("unknown group `{}`", group.name);
                wrong.push(Problem::at(group.place.clone(), message, fix));
            }
        }
    }
    let (Some(allowed), true) = (&declared.allowed_groups, declared.roles_are_sound) else { return };
    let used: BTreeSet<&str> =
        own.iter().map(|group| group.name.as_str()).chain(allowed.iter().map(String::as_str)).collect();
    for group in declared.groups.iter().flatten() {
        if !printed.contains(&*group.name) && !used.contains(&*group.name) {
            let fix = did_you_mean(&group.name, printed.union(&used).copied(), || {
                let all: Vec<&str> = printed.iter().copied().collect();
                format!("the groups of the catalogue are {}", all.join(", "))
            });
            let message = format!("no role or rule uses the group `{}`", group.name);
            wrong.push(Problem::at(group.place.clone(), message, fix));
        }
    }
}

/// Reports roles that the catalogue does not know or that conflict, and rows that they do not have.
fn references_of(
    catalogue: &Catalogue,
    declared: &Declared,
    target: &config::Target,
    wrong: &mut Vec<Problem>,
) {
    let keys: Vec<&str> = target.roles.iter().map(|role| role.key.as_str()).collect();
    let found = catalogue.check_roles(&keys);
    // The rows of an unknown or unreadable role are unknown too.
    let unsure = !declared.roles_are_sound || !found.is_empty();
    for (position, message, fix) in found {
        // The reference may mean an unreadable role.
        if declared.roles_are_sound || catalogue.role(keys[position]).is_some() {
            wrong.push(Problem::at(target.roles[position].place.clone(), message, fix));
        }
    }
    if unsure {
        return;
    }
    let overrides =
        target.overrides.iter().map(|own| (&own.row, catalogue.check_override(&own.row.name, &keys)));
    let optional = target.optional.iter().map(|row| (row, catalogue.check_optional(&row.name, &keys)));
    for (row, found) in overrides.chain(optional) {
        if let Some((message, fix)) = found {
            wrong.push(Problem::at(row.place.clone(), message, fix));
        }
    }
}

#[cfg(test)]
mod tests;
