//! The environment of a compiler that is not the one which runs this program.

use std::env;
use std::path::Path;
use std::process::Command;

/// Takes out of `command`'s environment what was meant for another compiler.
///
/// `cargo xtask` runs inside the stable cargo, which exports its own paths, and inside a shell that may
/// export flags and wrappers; none of them fit the BPF compiler.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_meant_for_another_compiler) {
            command.env_remove(name);
        }
    }
    // An empty value also switches off a wrapper that a cargo configuration file sets.
    command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
}

/// Puts `folder` first where `command` looks for shared libraries.
///
/// rustup puts the outer compiler's library folder there, with an LLVM of its own that the BPF linker
/// would take for the right one.
pub(crate) fn libraries_from(command: &mut Command, folder: &Path) {
    command.env("LD_LIBRARY_PATH", joined_before(folder, "LD_LIBRARY_PATH"));
}

/// Puts `folder` first where `command` looks for programs.
pub(crate) fn programs_from(command: &mut Command, folder: &Path) {
    command.env("PATH", joined_before(folder, "PATH"));
}

fn joined_before(folder: &Path, variable: &str) -> std::ffi::OsString {
    let mut joined = folder.as_os_str().to_os_string();
    if let Some(rest) = env::var_os(variable).filter(|rest| !rest.is_empty()) {
        joined.push(":");
        joined.push(rest);
    }
    joined
}

fn is_meant_for_another_compiler(name: &str) -> bool {
    // How to reach the package registry, where its cache lies and how much to print hold for every cargo.
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
    ];
    let compiler = name == "CARGO"
        || name == "RUSTFLAGS"
        || name == "RUST_RECURSION_COUNT"
        || name == "RUSTUP_TOOLCHAIN"
        || ["CARGO_", "RUSTC", "RUSTDOC", "__CARGO"].iter().any(|prefix| name.starts_with(prefix));
    compiler && !KEPT.iter().any(|kept| name.starts_with(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_wrappers_and_paths_of_the_outer_cargo_do_not_pass() {
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_DEBUG",
            "CARGO_TARGET_DIR",
            "CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER",
            "RUSTC",
            "RUSTC_BOOTSTRAP",
            "RUSTC_WRAPPER",
            "RUSTDOCFLAGS",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(is_meant_for_another_compiler(name), "{name} must not pass");
        }
    }

    #[test]
    fn the_way_to_the_registry_passes() {
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "CARGO_REGISTRY_DEFAULT",
            "CARGO_TERM_COLOR",
            "HOME",
            "PATH",
            "RUSTUP_HOME",
            "https_proxy",
        ] {
            assert!(!is_meant_for_another_compiler(name), "{name} must pass");
        }
    }
}
