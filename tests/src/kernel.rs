//! What this kernel has, asked by trying. Versions are no answer: distributions carry features back.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Error, Result, ensure};
use aya::programs::Xdp;
use aya_obj::generated::{BPF_F_XDP_HAS_FRAGS, bpf_attach_type, bpf_insn, bpf_prog_type};
use nix::libc;
use nix::time::{ClockId, clock_getres};

use crate::netns::Netns;
use crate::prerequisites::raise_memlock;
use crate::run;
use crate::sys::{self, RawProgram};

/// Whether it takes XDP programs for frames in several buffers (`xdp.frags`; mainline has them from 5.18 on).
///
/// # Errors
/// Where it takes no XDP program at all.
pub fn takes_frags() -> Result<bool> {
    trivial(bpf_prog_type::BPF_PROG_TYPE_XDP, 0).context("loading an XDP program that does nothing")?;
    answer(trivial(bpf_prog_type::BPF_PROG_TYPE_XDP, BPF_F_XDP_HAS_FRAGS))
        .context("loading an XDP program that does nothing, for frames in several buffers")
}

/// Whether a test run takes the interface that the frame came in by (mainline: from 5.14 on).
///
/// # Errors
/// Where the program cannot be run without naming one either.
pub fn takes_interface_in_test_runs(program: &Xdp) -> Result<bool> {
    /// Every network namespace has `lo` under this number.
    const LO: u32 = 1;
    let frame = [0; 64];
    run::judge(program, &frame)?;
    answer(run::judge_on(program, &frame, LO))
}

/// Whether it says how many instructions the verifier walked (mainline: from 5.16 on). `None` where it does not; asked
/// of another place than [`Xdp::info`], so that the two can be compared.
///
/// # Errors
/// Where the program is not loaded.
pub fn verified_instructions(program: &Xdp) -> Result<Option<u32>> {
    let descriptor = program.fd()?.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    let count = text.lines().find_map(|line| line.strip_prefix("verified_insns:"));
    Ok(count.map(|count| count.trim().parse()).transpose()?)
}

/// What the verifier left of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// How many instructions.
    pub instructions: usize,
    /// The kernel's numbers of the maps that instructions load. The kernel holds on to others as well, those of instructions that the
    /// verifier took out.
    pub maps: BTreeSet<u32>,
}

/// What the verifier left of a loaded program.
///
/// # Errors
/// Where the kernel does not tell.
pub fn translated(program: BorrowedFd<'_>) -> Result<Translated> {
    /// A load of 64 bits that the instruction and the next one have in them.
    const LOAD_IMMEDIATE: u8 = 0x18;
    /// In the upper half of the second byte: that this is a map, or a place in its values.
    const MAPS: [u8; 2] = [1, 2];
    let instructions = sys::translated(program).context("asking for the instructions of a program")?;
    ensure!(instructions.iter().any(|bytes| bytes[0] != 0), "the kernel does not show instructions");
    let maps =
        instructions.iter().filter(|bytes| bytes[0] == LOAD_IMMEDIATE && MAPS.contains(&(bytes[1] >> 4)));
    let maps = maps.map(|&[_, _, _, _, number @ ..]| u32::from_ne_bytes(number)).collect();
    Ok(Translated { instructions: instructions.len(), maps })
}

/// Whether it attaches traffic-control programs by links (tcx; mainline: from 6.6 on).
///
/// # Errors
/// Where it takes no such program at all.
pub fn has_tcx() -> Result<bool> {
    let program = trivial(bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0)
        .context("loading a classifier that does nothing")?;
    let namespace = Netns::new()?;
    let lo = namespace.index("lo")?;
    let attach = || sys::link_create(program.as_fd(), lo, bpf_attach_type::BPF_TCX_EGRESS);
    answer(namespace.run(attach)).context("attaching a classifier by a link")
}

/// Ticks of this kernel per second: a coarse clock moves once a tick.
///
/// # Errors
/// Where the kernel has no such clock.
pub fn ticks_per_second() -> Result<u64> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context("the length of a tick")?;
    let nanoseconds = u64::try_from(tick.tv_nsec())?;
    (1_000_000_000 + nanoseconds / 2).checked_div(nanoseconds).context("a tick takes time")
}

/// Whether the CPU is emulated by QEMU, 10 to 20 times slower than a real one: counts of repetitions, and nothing else,
/// are smaller there.
pub fn is_emulated() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU TCG"))
}

/// Whether frames are judged in every variant: in audit mode too, with VLAN tags, by each of the ingress programs. The
/// code is one for all kernels, so a guest judges them in the plain form only, unless it is told to run everything
/// (`cargo xtask vm --full`).
///
/// # Panics
/// Where `LYNCWALL_VARIANTS` has another value than `all` and `none`.
pub fn judges_every_variant() -> bool {
    match env::var("LYNCWALL_VARIANTS").as_deref() {
        Err(_) | Ok("all") => true,
        Ok("none") => false,
        Ok(other) => panic!("LYNCWALL_VARIANTS is {other:?}, not `all` or `none`"),
    }
}

/// A program that answers 0 to everything.
fn trivial(kind: bpf_prog_type, flags: u32) -> io::Result<OwnedFd> {
    let instruction = |code| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm: 0,
    };
    /// `r0 = 0`
    const MOVE_IMMEDIATE: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    raise_memlock().map_err(io::Error::other)?;
    let instructions = [instruction(MOVE_IMMEDIATE), instruction(EXIT)];
    sys::load_program(
        &RawProgram { kind, flags, instructions: &instructions, license: c"GPL", types: None },
        &mut [],
    )
}

/// EINVAL is how a kernel answers to what it does not know.
fn answer<T>(tried: Result<T, impl Into<Error>>) -> Result<bool> {
    match tried.map_err(Into::into) {
        Ok(_) => Ok(true),
        Err(error) => {
            let is_unknown = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
            let unknown = error.chain().filter_map(|cause| cause.downcast_ref()).any(is_unknown);
            if unknown { Ok(false) } else { Err(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prerequisites::require_root;

    #[test]
    fn only_unknown_is_no_and_other_errors_are_errors() {
        let with = |code| answer::<()>(Err(Error::from(io::Error::from_raw_os_error(code)).context("so")));
        assert!(!with(libc::EINVAL).expect("an answer"));
        with(libc::EPERM).expect_err("no answer");
        assert!(answer(Ok::<_, Error>(())).expect("an answer"));
    }

    #[test]
    fn the_kernel_answers() {
        require_root();
        let frags = takes_frags().expect("an answer");
        let tcx = has_tcx().expect("an answer");
        println!("frames in several buffers: {frags}; tcx: {tcx}; emulated: {}", is_emulated());
        // Both came to mainline, in this order, and nobody carries the second back without the first.
        assert!(frags || !tcx);
    }
}
