//! The real programs that tests start, most of them those of `tests/tests/field`.

use std::path::Path;

use crate::vm::requirements::{self, Program};

/// Programs and packages, as the tests read them too.
const LIST: &str = include_str!("../../tests/programs.tsv");

/// All of them.
pub(crate) fn programs() -> Vec<Program> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('\t')).map(|(name, package)| Program { name, package }).collect()
}

/// True where the tests find it: also where only `PATH` of an administrator has it.
pub(crate) fn is_installed(program: &Program) -> bool {
    program.find().is_some()
        || ["/usr/sbin", "/sbin", "/lib/systemd"].iter().any(|at| Path::new(at).join(program.name).is_file())
}

/// What is missing and the command that brings it; `None` where all is there.
pub(crate) fn lack() -> Option<(String, String)> {
    let all = programs();
    let mut missing: Vec<&Program> = all.iter().filter(|program| !is_installed(program)).collect();
    if missing.is_empty() {
        return None;
    }
    let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
    let what = format!("the tests of `field` and `standing` need {}", names.join(", "));
    // Some packages have several.
    missing.sort_by_key(|program| program.package);
    missing.dedup_by_key(|program| program.package);
    Some((what, requirements::install(&missing)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_programs_and_packages_in_order() {
        let all = programs();
        assert!(all.len() > 10, "{all:?}");
        let words = all.iter().flat_map(|program| [program.name, program.package]);
        assert!(
            words.into_iter().all(|word| !word.is_empty() && !word.contains(char::is_whitespace)),
            "{all:?}"
        );
        assert!(all.is_sorted_by_key(|program| program.name), "{all:?}");
    }
}
