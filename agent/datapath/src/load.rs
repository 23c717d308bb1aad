//! The BPF object: parsed, loaded over the pinned maps, and its program verified.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Map, MapError};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use lyncwall_common::abi::{map, program};

use super::log::{self, LogLevel};

/// The last lines of a verifier's log to show.
const LOG_LINES: usize = 12;

/// Creates and pins the maps that are not pinned below `pin_dir` yet, opens the others, and loads the
/// programs. Returns the name of the XDP program that the kernel accepted. `hz` is in ticks a second, `flows`
/// the capacity of a new flow table, `log` the log level of the programs.
pub(super) fn load(
    object: &[u8],
    pin_dir: &Path,
    hz: u64,
    flows: u32,
    log: LogLevel,
) -> Result<(Ebpf, &'static str)> {
    let mut loader = EbpfLoader::new();
    // The object has no relocations against the kernel's own types; only the verifier uses those.
    loader.btf(None).default_map_pin_directory(pin_dir).override_global(program::HZ, &hz, true);
    log::ask_for(&mut loader, log);
    for name in [map::FLOWS_V4, map::FLOWS_V6] {
        loader.map_max_entries(name, flows);
    }
    let mut ebpf =
        loader.load(object).with_context(|| format!("creating the BPF maps in {}", pin_dir.display()))?;
    let name = load_program(&mut ebpf)?;
    let loaded = egress(&mut ebpf)?.load();
    loaded.map_err(|error| anyhow!("the kernel refused the egress program: {}", refused(&error)))?;
    let loaded = xdp(&mut ebpf, program::CLOCK)?.load();
    loaded.map_err(|error| anyhow!("the kernel refused the clock program: {}", refused(&error)))?;
    Ok((ebpf, name))
}

/// Tries to load the program: a version says too little about multi-buffer XDP in kernels and drivers.
fn load_program(ebpf: &mut Ebpf) -> Result<&'static str> {
    let mut refusals = Vec::new();
    for name in [program::INGRESS_FRAGS, program::INGRESS] {
        match xdp(ebpf, name)?.load() {
            Ok(()) => return Ok(name),
            Err(error) => refusals.push(format!("{name}: {}", refused(&error))),
        }
    }
    bail!("the kernel refused both forms of the XDP program; {}", refusals.join("\n"))
}

/// Shortens the log of the verifier, which may have thousands of lines, for the error.
pub(super) fn refused(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
            format!("{io_error}; the verifier's last lines:\n  {last}")
        }
        other => other.to_string(),
    }
}

/// The program of this name.
pub(super) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the BPF object has no program {name}"))?;
    match program {
        Program::Xdp(program) => Ok(program),
        _ => bail!("the program {name} in the BPF object is not an XDP program"),
    }
}

/// The egress program.
pub(super) fn egress(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    match ebpf.program_mut(program::EGRESS) {
        Some(Program::SchedClassifier(program)) => Ok(program),
        _ => bail!("the BPF object has no tc program {}", program::EGRESS),
    }
}

/// Takes a map out of the object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M> {
    let map = ebpf.take_map(name).with_context(|| format!("the BPF object has no map {name}"))?;
    M::try_from(map).with_context(|| format!("the map {name} in the BPF object has an unexpected type"))
}
