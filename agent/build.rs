//! Puts the BPF object that `LYNCWALL_BPF_OBJECT` names into the agent.
//!
//! `cargo xtask build` sets the variable. Without it the agent builds without an object: this script searches
//! no target folder, so that it never takes an old object for the current one.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rustc-check-cfg=cfg(bpf_object)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LYNCWALL_BPF_OBJECT");
    let Some(object) = env::var_os("LYNCWALL_BPF_OBJECT").filter(|path| !path.is_empty()) else {
        return ExitCode::SUCCESS;
    };
    let object = PathBuf::from(object);
    println!("cargo::rerun-if-changed={}", object.display());
    match embed(&object) {
        Ok(()) => {
            println!("cargo::rustc-cfg=bpf_object");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!(
                "cargo::error=LYNCWALL_BPF_OBJECT={}: {error}; build with `cargo xtask build`",
                object.display()
            );
            ExitCode::FAILURE
        }
    }
}

/// Copies the object to where `object.rs` includes it from.
fn embed(object: &PathBuf) -> Result<(), String> {
    if object.is_relative() {
        // The build runs in the crate's folder, not where the variable was set.
        return Err("the path must be absolute".to_owned());
    }
    let bytes = fs::read(object).map_err(|error| error.to_string())?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err("this is not an ELF object".to_owned());
    }
    let out = env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
    fs::write(PathBuf::from(out).join("lyncwall-ebpf"), bytes).map_err(|error| error.to_string())
}
