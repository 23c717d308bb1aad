//! What the kernel program and the agent share: the parser, the verdict, and the layout of the BPF maps.
//!
//! All of it is `no_std` Rust without a pointer. The kernel program, the unit tests, the property tests and the agent run
//! the same [`judge`](judge::judge). They differ only in two places: [`packet::Packet`] reads a frame, and the traits in
//! [`tables`] look things up.
//!
//! Modules import only modules above them in this list:
//! [`reason`], [`address`], [`abi`] · [`wire`], `bytes`, [`packet`], [`parse`], `slice` · [`fields`], [`summary`],
//! [`answer`], [`ends`] · [`tables`], [`verdict`] · `blocked`, [`judging`], [`zone`], [`target`], `limit`, [`fragment`], [`flow`] ·
//! `unasked`, [`quoted`], [`dhcp`] · [`subprograms`], `icmp`, `mode` · `decide` · [`judge`], [`outgoing`].
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod address;
pub mod answer;
mod blocked;
mod bytes;
mod decide;
pub mod dhcp;
pub mod ends;
pub mod fields;
pub mod flow;
pub mod fragment;
mod icmp;
pub mod judge;
pub mod judging;
mod limit;
mod mode;
pub mod outgoing;
pub mod packet;
pub mod parse;
pub mod quoted;
pub mod reason;
mod slice;
pub mod subprograms;
pub mod summary;
pub mod tables;
pub mod target;
pub mod tcp;
mod unasked;
pub mod verdict;
pub mod wire;
pub mod zone;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    /// The modules that the code of a file imports, outside its tests.
    fn imports(source: &str) -> BTreeSet<String> {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let mut modules = BTreeSet::new();
        for statement in code.split("use crate::").skip(1) {
            let statement = statement.split(';').next().unwrap_or_default();
            let top = i32::from(statement.starts_with('{'));
            let mut depth = 0;
            for piece in statement.split_inclusive(['{', '}', ',']) {
                let name = piece.trim().trim_end_matches(['{', '}', ',']).split("::").next();
                modules.extend(name.filter(|name| depth == top && !name.is_empty()).map(str::to_owned));
                depth += i32::from(piece.ends_with('{')) - i32::from(piece.ends_with('}'));
            }
        }
        modules
    }

    /// The imports of every module, those of its folder included.
    fn modules() -> BTreeMap<String, BTreeSet<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut modules = BTreeMap::<String, BTreeSet<String>>::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder that can be read") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("lib.rs") {
                    let name = path.strip_prefix(&root).expect("inside").iter().next().expect("a name");
                    let name = name.to_str().expect("a name in ASCII").trim_end_matches(".rs").to_owned();
                    let source = fs::read_to_string(&path).expect("a source that can be read");
                    let mut imports = imports(&source);
                    imports.remove(&name);
                    modules.entry(name).or_default().extend(imports);
                }
            }
        }
        modules
    }

    #[test]
    fn no_module_imports_a_module_that_imports_it() {
        let mut modules = modules();
        assert!(modules.len() > 20 && modules["judge"].contains("decide"), "{modules:#?}");
        // Takes away a module that imports nothing, again and again. A circle stays.
        while let Some(name) =
            modules.iter().find(|(_, imports)| imports.is_empty()).map(|(name, _)| name.clone())
        {
            modules.remove(&name);
            modules.values_mut().for_each(|imports| {
                imports.remove(&name);
            });
        }
        assert!(modules.is_empty(), "modules in or above a circle: {modules:#?}");
    }

    #[test]
    fn imports_are_read_in_every_form() {
        let source =
            "use crate::{\n    a::{B, c::D},\n    e,\n};\npub use crate::f::G;\nuse crate::h::{I, J};";
        let names = ["a", "e", "f", "h"].map(str::to_owned);
        assert_eq!(imports(source), names.into());
    }
}
