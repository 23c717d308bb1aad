//! What `rustc -vV` says.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{Failure, capture};

/// The facts about a compiler that decide whether it can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// As `1.97.0-nightly`.
    pub(crate) release: String,
    /// As `2026-05-19`; sorts as text. `unknown` in builds without git.
    pub(crate) commit_date: String,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
}

impl Version {
    /// Asks the compiler that `rustc` runs; it stays unseen.
    ///
    /// # Errors
    /// When it does not run, or says something else than a rustc does.
    pub(crate) fn of(rustc: &mut Command) -> Result<Self> {
        let text = capture(rustc.arg("-vV"))?;
        Self::parse(&text)
            .with_context(|| format!("not the output of `rustc -vV`: {text:?}"))
            .map_err(|error| Failure::new(format!("{error:#}"), "").into())
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some(Self {
            release: field("release:")?.to_owned(),
            commit_date: field("commit-date:")?.to_owned(),
            llvm: field("LLVM version:")?.split('.').next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_nightly_are_read() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\ncommit-hash: e50a\n\
                    commit-date: 2026-05-19\nhost: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\n\
                    LLVM version: 22.1.4\n";
        let version = Version::parse(text).expect("all fields are there");
        assert_eq!(version.release, "1.97.0-nightly");
        assert_eq!(version.commit_date, "2026-05-19");
        assert_eq!(version.llvm, 22);
    }

    #[test]
    fn a_text_without_an_llvm_is_refused() {
        assert_eq!(Version::parse("release: 1.97.0\ncommit-date: 2026-05-19\n"), None);
        assert_eq!(Version::parse("release: 1.97.0\ncommit-date: x\nLLVM version: new\n"), None);
    }
}
