//! Verdicts on frames that were not sent: a second copy of the object, loaded over the live maps.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::programs::{Program, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use lyncwall_common::abi::{self, program};
use lyncwall_common::reason::{Action, Reason};

use super::log::{self, LogLevel};
use super::{load, pins};
use lyncwall_policy::problem::Problem;

/// The shortest frame of a test run: an Ethernet header.
pub const SHORTEST: usize = 14;

/// The longest frame: a page without headroom (256 bytes) and tailroom (320 bytes), in one buffer.
pub const LONGEST: usize = 4096 - 256 - 320;

/// The number of cached programs, one for each interface of recent questions: a question about all guarded
/// interfaces loads none twice.
pub(super) const KEPT: usize = abi::MAX_INTERFACES;

/// The program's verdict on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The row of the verdict table.
    pub reason: Reason,
    /// The action.
    pub action: Action,
    /// The action under enforcement.
    pub judged: Action,
    /// The counter of the rule that lets the frame in.
    pub counter: Option<u32>,
}

/// The loaded program, for one interface: the interface is a constant of the program, as a test run can name
/// one only from kernel 5.14 on.
pub(super) struct Explainer {
    ifindex: u32,
    ebpf: Ebpf,
}

impl Explainer {
    /// Loads the program over the maps that are pinned in `pin_dir`.
    pub(super) fn load(object: &[u8], pin_dir: &Path, hz: u64, ifindex: u32) -> Result<Self> {
        // The loader would create and pin a missing map, as an empty table.
        for name in pins::MAPS {
            let pin = pin_dir.join(name);
            ensure!(pin.exists(), "the map {} is no longer pinned", pin.display());
        }
        let mut loader = EbpfLoader::new();
        loader
            .btf(None)
            .default_map_pin_directory(pin_dir)
            .override_global(program::HZ, &hz, true)
            .override_global(program::EXPLAINED, &ifindex, true);
        log::ask_for(&mut loader, LogLevel::Off);
        let mut ebpf = loader.load(object).context("loading the BPF object a second time")?;
        let loaded = load::xdp(&mut ebpf, program::EXPLAIN)?.load();
        loaded.map_err(|error| {
            anyhow!("the kernel refused the program for explanations: {}", load::refused(&error))
        })?;
        // The program itself holds its maps, so no descriptor is kept for each interface.
        let names: Vec<String> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        names.iter().for_each(|name| drop(ebpf.take_map(name)));
        Ok(Self { ifindex, ebpf })
    }

    /// True if it explains frames of this interface.
    pub(super) fn is_of(&self, ifindex: u32) -> bool {
        self.ifindex == ifindex
    }

    /// The program's verdict on a frame.
    pub(super) fn explain(&self, frame: &[u8]) -> Result<Explanation> {
        if !(SHORTEST..=LONGEST).contains(&frame.len()) {
            let message = format!("cannot explain a frame of {} bytes", frame.len());
            let fix = format!("use {SHORTEST} to {LONGEST} bytes; the payload does not matter");
            return Err(Problem::new(message, fix).into());
        }
        let Some(Program::Xdp(program)) = self.ebpf.program(program::EXPLAIN) else {
            anyhow::bail!("the BPF object has no XDP program {}", program::EXPLAIN);
        };
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let run = program.test_run(options).context("running the program on the frame")?;
        let verdict = abi::Explained(run.return_value);
        let reason = verdict.reason();
        ensure!(reason.is_some(), "the program for explanations answered {:#x}", run.return_value);
        Ok(Explanation {
            reason: reason.unwrap_or(Reason::Internal),
            action: verdict.action(),
            judged: verdict.judged(),
            counter: verdict.counter(),
        })
    }
}
