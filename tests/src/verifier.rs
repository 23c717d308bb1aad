//! What the verifier says of a program that it takes. aya shows its log only where it refuses, so the program is
//! loaded a second time here, over maps of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData};
use aya::{Ebpf, EbpfLoader};
use aya_obj::btf::BtfFeatures;
use aya_obj::generated::{BPF_F_XDP_HAS_FRAGS, bpf_insn, bpf_prog_type};
use aya_obj::{Object, ProgramSection};
use lyncwall_common::abi::program;

use crate::kernel::ticks_per_second;
use crate::sys::{self, FunctionTypes, RawProgram};

/// Room for the verifier's figures; the log of a refusal, which is longer, is cut.
const LOG_BYTES: usize = 64 << 10;

/// What the verifier said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Instructions that it walked.
    pub instructions: u32,
    /// Bytes of stack along the deepest chain of calls: the sum of the depths that it printed for the functions on
    /// it. The kernel's limit of 512 holds for this sum with each depth rounded up (to 32, on newer kernels to 16).
    pub stack: u32,
    /// How long loading took, without the maps.
    pub time: Duration,
}

/// A program, ready to be verified.
pub struct Verifiable {
    instructions: Vec<bpf_insn>,
    license: CString,
    flags: u32,
    /// The types, with those of the functions and the size of each record of these.
    types: Option<(OwnedFd, Vec<u8>, usize)>,
    /// Holds the maps that the instructions name.
    _maps: Ebpf,
}

impl Verifiable {
    /// The program `name` of an object, over new maps that are pinned in `pins`.
    ///
    /// # Errors
    /// Where the object lacks it, or the kernel does not make the maps.
    pub fn new(object: &[u8], name: &str, pins: &Path) -> Result<Self> {
        let hz = ticks_per_second()?;
        let maps = EbpfLoader::new()
            .btf(None)
            .default_map_pin_directory(pins)
            .override_global(program::HZ, &hz, true)
            .load(object)
            .context("making the maps")?;
        let descriptors: HashMap<&str, RawFd> =
            maps.maps().map(|(name, map)| Ok((name, descriptor(map)?))).collect::<Result<_>>()?;

        let mut object = Object::parse(object).context("reading the BPF object")?;
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        let definitions = std::mem::take(&mut object.maps);
        let located = definitions
            .iter()
            .filter_map(|(name, map)| Some((name.as_str(), *descriptors.get(name.as_str())?, map)));
        object.relocate_maps(located, &sections).context("putting the maps' descriptors in")?;
        object.relocate_calls(&sections).context("linking the functions")?;
        let program = object.programs.get(name).with_context(|| format!("no program {name}"))?;
        let ProgramSection::Xdp { frags, .. } = program.section else {
            anyhow::bail!("{name} is no XDP program")
        };
        let function =
            object.functions.get(&program.function_key()).context("a program's instructions")?.clone();
        let types = match aya::features().btf() {
            Some(features) => match object_types(&mut object, features)? {
                Some(descriptor) => {
                    Some((descriptor, function.func_info.func_info_bytes(), function.func_info_rec_size))
                }
                None => None,
            },
            None => None,
        };
        Ok(Self {
            types,
            instructions: function.instructions.clone(),
            license: object.license.clone(),
            flags: if frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
            _maps: maps,
        })
    }

    /// Has it verified once.
    ///
    /// # Errors
    /// Where the verifier refuses; the message has the end of its log.
    pub fn verify(&self) -> Result<Figures> {
        let mut log = vec![0; LOG_BYTES];
        let program = RawProgram {
            kind: bpf_prog_type::BPF_PROG_TYPE_XDP,
            flags: self.flags,
            instructions: &self.instructions,
            license: &self.license,
            types: self.types.as_ref().map(|(descriptor, functions, record)| FunctionTypes {
                descriptor: descriptor.as_fd(),
                functions,
                record: *record,
            }),
        };
        let start = Instant::now();
        let loaded = sys::load_program(&program, &mut log);
        let time = start.elapsed();
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim_end().to_owned();
        loaded.with_context(|| format!("the verifier refuses: {log}"))?;
        let (instructions, depths) = parse(&log).with_context(|| format!("the verifier's log: {log}"))?;
        let stack = deepest(&calls(&self.instructions)?, &depths)?;
        Ok(Figures { instructions, stack, time })
    }
}

/// Loads the types of an object, as far as the kernel knows such.
fn object_types(object: &mut Object, features: &BtfFeatures) -> Result<Option<OwnedFd>> {
    let types = object.fixup_and_sanitize_btf(features).context("the types of the object")?;
    let loaded = types.map(|types| sys::load_types(&types.to_bytes())).transpose();
    loaded.context("loading the types of the object")
}

/// The count in `processed N insns …` and the list in `stack depth A+B+C`.
fn parse(log: &str) -> Option<(u32, Vec<u32>)> {
    let after = |start: &str| log.lines().find_map(|line| line.trim().strip_prefix(start));
    let instructions = after("processed ")?.split(' ').next()?.parse().ok()?;
    // Some kernels append a word to the list.
    let depths = after("stack depth ")?.split_whitespace().next()?;
    let depths = depths.split('+').map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((instructions, depths))
}

/// The functions of a program in their order, each with the numbers of those that it calls.
fn calls(instructions: &[bpf_insn]) -> Result<Vec<BTreeSet<usize>>> {
    const CALL: u8 = 0x85;
    const LOAD_64: u8 = 0x18;
    /// Both are `src_reg` values: a call of the program's own function, and a load of such a function's address.
    const PSEUDO_CALL: u64 = 1;
    const PSEUDO_FUNC: u64 = 4;
    let source = |instruction: &bpf_insn| instruction._bitfield_1.get(4, 4);
    let mut edges = Vec::new();
    for (at, instruction) in instructions.iter().enumerate() {
        let called = match instruction.code {
            CALL => source(instruction) == PSEUDO_CALL,
            LOAD_64 => source(instruction) == PSEUDO_FUNC,
            _ => false,
        };
        if called {
            let target = at as i64 + 1 + i64::from(instruction.imm);
            edges.push((at, usize::try_from(target).context("a call to before the program")?));
        }
    }
    let starts: BTreeSet<usize> = edges.iter().map(|(_, target)| *target).chain([0]).collect();
    let number: BTreeMap<usize, usize> =
        starts.iter().enumerate().map(|(number, at)| (*at, number)).collect();
    let mut called = vec![BTreeSet::new(); starts.len()];
    for (at, target) in edges {
        let (_, caller) = number.range(..=at).next_back().context("a call outside of a function")?;
        called[*caller].insert(number[&target]);
    }
    Ok(called)
}

/// The largest sum of depths along a chain of calls from the first function.
fn deepest(calls: &[BTreeSet<usize>], depths: &[u32]) -> Result<u32> {
    ensure!(calls.len() == depths.len(), "{} functions, and depths {depths:?}", calls.len());
    fn from(function: usize, calls: &[BTreeSet<usize>], depths: &[u32]) -> u32 {
        // The verifier refuses recursion, and it took the program.
        let below = calls[function].iter().map(|called| from(*called, calls, depths)).max();
        depths[function] + below.unwrap_or(0)
    }
    Ok(from(0, calls, depths))
}

fn descriptor(map: &Map) -> Result<RawFd> {
    let data: &MapData = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerfEventArray(data)
        | Map::RingBuf(data)
        | Map::Unsupported(data) => data,
        other => anyhow::bail!("a map of a kind that lyncwall does not have: {other:?}"),
    };
    Ok(data.fd().as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpffs::Bpffs;
    use crate::object::object;
    use crate::prerequisites::require_root;

    #[test]
    fn the_log_is_read() {
        let log = "verification time 4711 usec\nstack depth 96+0+64\nprocessed 5312 insns (limit 1000000) max_states…";
        assert_eq!(parse(log), Some((5312, vec![96, 0, 64])));
        assert_eq!(parse("processed many insns"), None);
    }

    #[test]
    fn the_deepest_chain_is_not_the_sum_of_all() {
        let calls = [[1, 2].into(), [3].into(), BTreeSet::new(), BTreeSet::new()];
        assert_eq!(deepest(&calls, &[10, 20, 100, 5]).expect("four"), 110);
        assert_eq!(deepest(&calls, &[10, 20, 100, 200]).expect("four"), 230);
        deepest(&calls, &[10]).expect_err("three are missing");
    }

    /// The kernel itself says how many instructions it walked of the program as aya loads it.
    #[test]
    fn the_program_is_the_one_that_the_agent_loads() {
        require_root();
        let bpffs = Bpffs::mount().expect("a BPF file system");
        let datapath = lyncwall_datapath::Datapath::open(object(), &bpffs.path().join("lyncwall"))
            .expect("the data path opens");
        let status = datapath.status().expect("a status");
        let pins = bpffs.directory("again").expect("a directory");
        let verifiable = Verifiable::new(object(), status.program, &pins).expect("a program");
        let figures = verifiable.verify().expect("the verifier takes it");
        println!("{figures:?}, {:?}", status.verified_instructions);
        assert!((1..=512).contains(&figures.stack), "{figures:?}");
        let told =
            crate::kernel::verified_instructions(datapath.program().expect("loaded")).expect("an answer");
        assert_eq!(status.verified_instructions, told);
        // Here the program has its log lines, which the agent leaves out: no less of it is looked at than of that one.
        assert!(told.unwrap_or(figures.instructions) <= figures.instructions, "{told:?}, {figures:?}");
    }
}
