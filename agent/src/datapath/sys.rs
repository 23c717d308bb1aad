//! The only unsafe code of the data path: system calls and memory that neither aya nor nix has a safe call for.

use std::ffi::CString;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64};

use aya::Pod;
use aya::maps::{MapData, RingBuf};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type};
use lyncwall_common::abi::{Control, PortSet, PortTransport};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// [`Control`] as it is shared with the kernel: every access is one atomic load or store.
#[repr(C)]
pub(super) struct SharedControl {
    /// The [`Live`](lyncwall_common::abi::Live) word.
    pub(super) live: AtomicU64,
    /// The bytes of the [`PortSet`]s.
    pub(super) management: [[AtomicU8; size_of::<PortSet>()]; PortTransport::ALL.len()],
}

const _: () = assert!(size_of::<SharedControl>() == size_of::<Control>());
const _: () = assert!(align_of::<SharedControl>() == align_of::<Control>());
const _: () =
    assert!(std::mem::offset_of!(SharedControl, management) == std::mem::offset_of!(Control, management));

/// The value of `CONTROL`, mapped into this process.
pub(super) struct ControlPage(NonNull<SharedControl>);

impl ControlPage {
    /// Maps the first value of an array map that was made with `BPF_F_MMAPABLE` and has values of [`Control`].
    pub(super) fn map(map: impl AsFd) -> io::Result<Self> {
        let length = const { NonZeroUsize::new(size_of::<SharedControl>()).expect("not empty") };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; it touches no memory of ours.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self(start.cast()))
    }
}

impl Deref for ControlPage {
    type Target = SharedControl;

    fn deref(&self) -> &SharedControl {
        // SAFETY: the mapping is page-aligned, holds a whole value, and lives as long as `self`. The other side
        // writes none of it, and any bytes are valid atomics.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for ControlPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and no reference outlives `self`.
        let unmapped = unsafe { munmap(self.0.cast(), size_of::<SharedControl>()) };
        if let Err(error) = unmapped {
            tracing::warn!(%error, "unmapping the control page");
        }
    }
}

// SAFETY: the page is reached through atomics only, and may be unmapped on any thread.
unsafe impl Send for ControlPage {}
// SAFETY: as above.
unsafe impl Sync for ControlPage {}

/// What the kernel says of a pinned link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// The id of the program that the link holds.
    pub(super) program: u32,
    /// The interface, in the network namespace it is in; 0 where it was destroyed.
    pub(super) ifindex: u32,
}

/// Reads the link that is pinned at `pin`. aya's `LinkInfo` does not tell the interface.
///
/// # Errors
/// Those of bpf(2); [`io::ErrorKind::InvalidData`] where the pin is no XDP link.
pub(super) fn link_info(pin: &Path) -> io::Result<LinkInfo> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    // SAFETY: all zeroes are a valid `bpf_attr`, and what the kernel wants in fields that a call does not use.
    let mut attr = unsafe { std::mem::zeroed::<bpf_attr>() };
    // SAFETY: a union of plain integers, all of it initialised.
    let object = unsafe { &mut attr.__bindgen_anon_4 };
    object.pathname = path.as_ptr() as u64;
    let descriptor = bpf(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
    // SAFETY: BPF_OBJ_GET answered with a new descriptor that nobody else owns.
    let link = unsafe { OwnedFd::from_raw_fd(descriptor) };

    // SAFETY: plain integers, for which zeroes are valid.
    let mut info = unsafe { std::mem::zeroed::<bpf_link_info>() };
    // SAFETY: as for `attr` above.
    let mut attr = unsafe { std::mem::zeroed::<bpf_attr>() };
    attr.info.bpf_fd = link.as_raw_fd().cast_unsigned();
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an XDP link"));
    }
    // SAFETY: the kernel filled in the member that belongs to an XDP link; it is a plain integer.
    let xdp = unsafe { info.__bindgen_anon_1.xdp };
    Ok(LinkInfo { program: info.prog_id, ifindex: xdp.ifindex })
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is a whole `bpf_attr`, and the callers' pointers in it live across the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Waits until every CPU has left the BPF programs that run now (`MEMBARRIER_CMD_GLOBAL` is one `synchronize_rcu`).
///
/// # Errors
/// Where the kernel refuses, as with `nohz_full`.
pub(super) fn wait_for_running_programs() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: a system call that takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Registers a ring buffer with the runtime, to be told when something comes in.
///
/// # Panics
/// Outside a tokio runtime.
pub(super) fn watch(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its descriptor, gives the same one each time, and closes it only when it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    watched.map_err(Into::into)
}

/// The `T` that `bytes` begin with; `None` where they are too short.
pub(super) fn read_record<T: Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, any bytes are a `Pod`, and no alignment is asked for.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
