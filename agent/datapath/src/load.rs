//! The BPF object: parsed, loaded over the pinned maps, and its program verified.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Map, MapError};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use lyncwall_common::abi::{map, program};

use super::log::{self, LogLevel};

/// Lines of a verifier's log that say why it refused.
const LOG_LINES: usize = 12;

/// Creates the maps that are not pinned below `pin_dir` yet and pins them there, takes those that are, and loads the
/// programs. Returns the name of the XDP program that the kernel took. `hz` is in ticks a second, `flows` the room of a table of
/// flows that is made, `log` which lines the programs write.
pub(super) fn load(
    object: &[u8],
    pin_dir: &Path,
    hz: u64,
    flows: u32,
    log: LogLevel,
) -> Result<(Ebpf, &'static str)> {
    let mut loader = EbpfLoader::new();
    // Nothing in the object is relocated against the kernel's own types; the verifier alone uses them.
    loader.btf(None).default_map_pin_directory(pin_dir).override_global(program::HZ, &hz, true);
    log::ask_for(&mut loader, log);
    for name in [map::FLOWS_V4, map::FLOWS_V6] {
        loader.map_max_entries(name, flows);
    }
    let mut ebpf =
        loader.load(object).with_context(|| format!("making the BPF maps in {}", pin_dir.display()))?;
    let name = load_program(&mut ebpf)?;
    let loaded = egress(&mut ebpf)?.load();
    loaded.map_err(|error| {
        anyhow!("the kernel did not take the program on what is sent: {}", refused(&error))
    })?;
    let loaded = xdp(&mut ebpf, program::CLOCK)?.load();
    loaded.map_err(|error| anyhow!("the kernel did not take the clock: {}", refused(&error)))?;
    Ok((ebpf, name))
}

/// Asks the kernel by trying: which kernels and drivers take multi-buffer XDP is more than a version says.
fn load_program(ebpf: &mut Ebpf) -> Result<&'static str> {
    let mut refusals = Vec::new();
    for name in [program::INGRESS_FRAGS, program::INGRESS] {
        match xdp(ebpf, name)?.load() {
            Ok(()) => return Ok(name),
            Err(error) => refusals.push(format!("{name}: {}", refused(&error))),
        }
    }
    bail!("the kernel took neither form of the XDP program; {}", refusals.join("\n"))
}

/// The whole log of a program is thousands of lines, and the error would print all of them.
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
        _ => bail!("the program {name} in the BPF object is no XDP program"),
    }
}

/// The program on what the box sends.
pub(super) fn egress(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    match ebpf.program_mut(program::EGRESS) {
        Some(Program::SchedClassifier(program)) => Ok(program),
        _ => bail!("the BPF object has no tc program {}", program::EGRESS),
    }
}

/// Takes a map out of the object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M> {
    let map = ebpf.take_map(name).with_context(|| format!("the BPF object has no map {name}"))?;
    M::try_from(map)
        .with_context(|| format!("the map {name} in the BPF object is not what the agent expects"))
}
