//! Verdicts over frames that nobody sent: the object loaded a second time, over the same maps.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::programs::{Program, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use lyncwall_common::abi::{self, program};
use lyncwall_common::reason::{Action, Reason};

use super::log::{self, LogLevel};
use super::{load, pins};
use lyncwall_policy::problem::Problem;

/// The least frame of a test run: an Ethernet header.
pub const SHORTEST: usize = 14;

/// The longest: a page without the headroom (256 bytes) and the room behind (320 bytes) of a frame in one buffer.
pub const LONGEST: usize = 4096 - 256 - 320;

/// Programs that are kept, one for each interface that was asked about lately: whoever asks about all that are guarded loads none a
/// second time.
pub(super) const KEPT: usize = abi::MAX_INTERFACES;

/// What the program says of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The row of the verdict table.
    pub reason: Reason,
    /// What would be done with it.
    pub action: Action,
    /// What would be done where no mode spared it.
    pub judged: Action,
    /// The counter of the rule that lets it in.
    pub counter: Option<u32>,
}

/// The loaded program, for one interface: it is a constant of the program, because a test run can name one from kernel 5.14
/// on only.
pub(super) struct Explainer {
    ifindex: u32,
    ebpf: Ebpf,
}

impl Explainer {
    /// Loads the program over the maps that are pinned in `pin_dir`.
    pub(super) fn load(object: &[u8], pin_dir: &Path, hz: u64, ifindex: u32) -> Result<Self> {
        // What is not there would be made, and pinned: an empty table.
        for name in pins::MAPS {
            let pin = pin_dir.join(name);
            ensure!(pin.exists(), "the map {} is not pinned any more", pin.display());
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
            anyhow!("the kernel did not take the program that explains: {}", load::refused(&error))
        })?;
        // The program holds its maps itself: no descriptor of them is kept for each interface.
        let names: Vec<String> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        names.iter().for_each(|name| drop(ebpf.take_map(name)));
        Ok(Self { ifindex, ebpf })
    }

    /// True where it explains frames of this interface.
    pub(super) fn is_of(&self, ifindex: u32) -> bool {
        self.ifindex == ifindex
    }

    /// What the program says of a frame.
    pub(super) fn explain(&self, frame: &[u8]) -> Result<Explanation> {
        if !(SHORTEST..=LONGEST).contains(&frame.len()) {
            let message = format!("a frame of {} bytes cannot be shown to the program", frame.len());
            let fix = format!("it takes {SHORTEST} to {LONGEST} bytes; the payload does not matter");
            return Err(Problem::new(message, fix).into());
        }
        let Some(Program::Xdp(program)) = self.ebpf.program(program::EXPLAIN) else {
            anyhow::bail!("the BPF object has no XDP program {}", program::EXPLAIN);
        };
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let run = program.test_run(options).context("showing the frame to the program")?;
        let told = abi::Explained(run.return_value);
        let reason = told.reason();
        ensure!(reason.is_some(), "the program that explains answered {:#x}", run.return_value);
        Ok(Explanation {
            reason: reason.unwrap_or(Reason::Internal),
            action: told.action(),
            judged: told.judged(),
            counter: told.counter(),
        })
    }
}
