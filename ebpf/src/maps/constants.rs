//! Constants that the loader sets before the verifier sees the program.

use aya_ebpf::Global;

/// Ticks per second; see `abi::program::HZ`.
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
static HZ: Global<u64> = Global::new(250);

/// The interface that made-up frames seem to come in by, where the object is loaded to explain verdicts; 0 elsewhere. The
/// verifier knows it, and removes the code of the other case.
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
static EXPLAINED: Global<u32> = Global::new(0);

/// Ticks per second.
#[inline(always)]
pub(super) fn hz() -> u64 {
    HZ.load()
}

/// The interface that made-up frames seem to come in by; 0 for frames that were sent.
#[inline(always)]
pub(super) fn explained_interface() -> u32 {
    EXPLAINED.load()
}

/// True for made-up frames, which must change no map.
#[inline(always)]
pub(super) fn is_explaining() -> bool {
    explained_interface() != 0
}
