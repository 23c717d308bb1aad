//! The only unsafe code of the data path: system calls and memory without a safe call in aya or nix.
#![expect(unsafe_code, reason = "system calls and memory that neither aya nor nix has a safe call for")]

use std::ffi::CString;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64};

use aya::Pod;
use aya::maps::perf::PerfEventArrayBuffer;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_type, bpf_prog_info,
    bpf_prog_type,
};
use lyncwall_common::abi::{Control, PortSet, PortTransport};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Gives memory that was freed back to the kernel. The allocator keeps what a reload of a long configuration
/// used for a moment, once for each thread that ever made one.
pub fn give_memory_back() {
    // SAFETY: the call takes a number; it moves nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// [`Control`] as shared with the kernel: every access is one atomic load or store.
#[repr(C)]
pub(super) struct SharedControl {
    /// The [`Live`](lyncwall_common::abi::Live) word.
    pub(super) live: AtomicU64,
    /// The [`Capture`](lyncwall_common::abi::Capture) word.
    pub(super) capture: AtomicU64,
    /// The slots whose generation answers packets at closed ports, as bits.
    pub(super) answering: AtomicU64,
    /// The bytes of the [`PortSet`]s.
    pub(super) management: [[AtomicU8; size_of::<PortSet>()]; PortTransport::ALL.len()],
    /// Until when the program picks up TCP connections midway, in jiffies; 0 for never.
    pub(super) learning: AtomicU64,
    /// A [`ReasonSet`](lyncwall_common::abi::ReasonSet).
    pub(super) captured: AtomicU64,
    /// Flows that the agent freed because they were over.
    pub(super) flows_freed: AtomicU64,
}

const _: () = assert!(size_of::<SharedControl>() == size_of::<Control>());
const _: () = assert!(align_of::<SharedControl>() == align_of::<Control>());
const _: () =
    assert!(std::mem::offset_of!(SharedControl, management) == std::mem::offset_of!(Control, management));
const _: () = assert!(std::mem::offset_of!(SharedControl, capture) == std::mem::offset_of!(Control, capture));
const _: () =
    assert!(std::mem::offset_of!(SharedControl, answering) == std::mem::offset_of!(Control, answering));
const _: () = assert!(std::mem::offset_of!(SharedControl, live) == std::mem::offset_of!(Control, live));
const _: () =
    assert!(std::mem::offset_of!(SharedControl, captured) == std::mem::offset_of!(Control, captured));
const _: () =
    assert!(std::mem::offset_of!(SharedControl, learning) == std::mem::offset_of!(Control, learning));
const _: () =
    assert!(std::mem::offset_of!(SharedControl, flows_freed) == std::mem::offset_of!(Control, flows_freed));

/// The value of `CONTROL`, mapped into this process.
pub(super) struct ControlPage(NonNull<SharedControl>);

impl ControlPage {
    /// Maps the first value of an array map with `BPF_F_MMAPABLE` and values of [`Control`] into memory.
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

/// The kernel's information about a pinned link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// The id of the link's program.
    pub(super) program: u32,
    /// The interface, in its network namespace; 0 after it was destroyed.
    pub(super) ifindex: u32,
}

/// The hook of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkKind {
    /// Incoming packets, before the network stack.
    Xdp,
    /// Outgoing packets (kernel 6.6).
    Tcx,
}

/// Reads the link that is pinned at `pin`. aya's `LinkInfo` lacks the interface.
///
/// # Errors
/// Those of bpf(2); [`io::ErrorKind::InvalidData`] if the pin is not a link of this kind.
pub(super) fn link_info(pin: &Path, kind: LinkKind) -> io::Result<LinkInfo> {
    let link = open_pin(pin)?;
    // Maps and programs have kinds with overlapping numbers.
    let what = std::fs::read_link(format!("/proc/self/fd/{}", link.as_raw_fd()))?;
    if !what.to_string_lossy().contains("link") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a link"));
    }
    // SAFETY: plain integers, for which zeroes are valid.
    let mut info = unsafe { std::mem::zeroed::<bpf_link_info>() };
    bpf_info(link.as_fd(), &mut info)?;
    let ifindex = match kind {
        LinkKind::Xdp if info.type_ == bpf_link_type::BPF_LINK_TYPE_XDP as u32 => {
            // SAFETY: the kernel filled in the member that belongs to such a link; it is a plain integer.
            unsafe { info.__bindgen_anon_1.xdp.ifindex }
        }
        LinkKind::Tcx if info.type_ == bpf_link_type::BPF_LINK_TYPE_TCX as u32 => {
            // SAFETY: as above.
            unsafe { info.__bindgen_anon_1.tcx.ifindex }
        }
        LinkKind::Xdp | LinkKind::Tcx => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a link of another kind"));
        }
    };
    Ok(LinkInfo { program: info.prog_id, ifindex })
}

/// Calls `look` with the elements of a hash map, in batches (kernel 5.6). `K` and `V` are its keys and
/// values. Concurrent changes may be seen or not, and elements may be seen twice.
///
/// # Errors
/// Those of bpf(2).
pub(super) fn each_element<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    mut look: impl FnMut(&K, &V),
) -> io::Result<()> {
    let mut position = None;
    loop {
        position = some_elements(map, position, &mut look)?;
        if position.is_none() {
            return Ok(());
        }
    }
}

/// Calls `look` with one batch of the elements of a hash map: the first without a `position`. Returns the
/// position of the next batch, `None` after the last.
///
/// # Errors
/// Those of bpf(2).
pub(super) fn some_elements<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    position: Option<u32>,
    mut look: impl FnMut(&K, &V),
) -> io::Result<Option<u32>> {
    const BATCH: usize = 4096;
    let mut keys = Vec::<K>::with_capacity(BATCH);
    let mut values = Vec::<V>::with_capacity(BATCH);
    let mut next = 0u32;
    let mut attr = no_attributes();
    attr.batch.in_batch = position.as_ref().map_or(0, |position| std::ptr::from_ref(position) as u64);
    attr.batch.out_batch = (&raw mut next) as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = BATCH as u32;
    attr.batch.map_fd = map.as_raw_fd().cast_unsigned();
    let is_last = match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
        Ok(_) => false,
        // The end: the elements found are the last batch.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    // SAFETY: the member that the call was made with; a plain integer.
    let found = unsafe { attr.batch.count as usize }.min(BATCH);
    // SAFETY: the kernel filled so many, which any bytes make valid, and there is room for a batch.
    unsafe { keys.set_len(found) };
    // SAFETY: as above.
    unsafe { values.set_len(found) };
    keys.iter().zip(&values).for_each(|(key, value)| look(key, value));
    Ok((!is_last).then_some(next))
}

/// The ids of the tcx egress programs on an interface of this thread's network namespace, up to 64: the
/// kernel's limit. aya's call also opens each program, which needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// Those of bpf(2).
pub(super) fn tcx_programs(ifindex: u32) -> io::Result<Vec<u32>> {
    const MOST: usize = 64;
    let mut ids = vec![0u32; MOST];
    let mut attr = no_attributes();
    attr.query.__bindgen_anon_1.target_ifindex = ifindex;
    attr.query.attach_type = bpf_attach_type::BPF_TCX_EGRESS as u32;
    attr.query.prog_ids = ids.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.count = MOST as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the member that the call was made with, of plain integers.
    let query = unsafe { attr.query };
    // SAFETY: as above.
    let count = unsafe { query.__bindgen_anon_2.count };
    ids.truncate(count as usize);
    Ok(ids)
}

/// Creates an array map with one 8-byte element.
///
/// # Errors
/// Those of bpf(2), like the calls below.
pub(super) fn create_array(flags: u32) -> io::Result<OwnedFd> {
    let mut attr = no_attributes();
    attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = 8;
    attr.__bindgen_anon_1.max_entries = 1;
    attr.__bindgen_anon_1.map_flags = flags;
    bpf_object(bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

/// Loads a program of these instructions, each in the memory layout of `struct bpf_insn`.
pub(super) fn load_program(kind: bpf_prog_type, instructions: &[[u8; 8]], flags: u32) -> io::Result<OwnedFd> {
    let mut attr = no_attributes();
    attr.__bindgen_anon_3.prog_type = kind as u32;
    attr.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = instructions.len() as u32;
    attr.__bindgen_anon_3.license = c"Dual MIT/GPL".as_ptr() as u64;
    attr.__bindgen_anon_3.prog_flags = flags;
    bpf_object(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Attaches a program to an interface of this thread's network namespace, until the link is dropped.
pub(super) fn create_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    place: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = no_attributes();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = place as u32;
    attr.link_create.flags = flags;
    bpf_object(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Replaces the program of a link.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = no_attributes();
    attr.link_update.link_fd = link.as_raw_fd().cast_unsigned();
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr)?;
    Ok(())
}

/// Runs an XDP program once over a frame, with the fields of `struct xdp_md` as context; returns its verdict.
pub(super) fn test_run(program: BorrowedFd<'_>, frame: &[u8], context: &[u32; 6]) -> io::Result<u32> {
    let mut attr = no_attributes();
    attr.test.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    attr.test.ctx_in = context.as_ptr() as u64;
    attr.test.ctx_size_in = size_of_val(context) as u32;
    attr.test.repeat = 1;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: the member that the call was made with; plain integers.
    Ok(unsafe { attr.test.retval })
}

/// The size in bytes of a program's machine code; 0 if the kernel interprets it.
pub(super) fn machine_code(program: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: plain integers, for which zeroes are valid.
    let mut info = unsafe { std::mem::zeroed::<bpf_prog_info>() };
    bpf_info(program, &mut info)?;
    Ok(info.jited_prog_len)
}

/// The kernel's information about a BPF object. `T` is the structure for its kind.
fn bpf_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = no_attributes();
    attr.info.bpf_fd = object.as_raw_fd().cast_unsigned();
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = (&raw mut *info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(())
}

fn no_attributes() -> bpf_attr {
    // SAFETY: all zeroes are a valid `bpf_attr`, and what the kernel wants in fields that a call does not use.
    unsafe { std::mem::zeroed() }
}

/// Runs a command that returns a new descriptor.
fn bpf_object(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, attr)?;
    // SAFETY: the callers' commands answer with a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Takes the program of the link that is pinned at `pin` off its interface, at once. The link stays, without
/// an interface, until its pin and its last descriptor are gone.
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    let link = open_pin(pin)?;
    let mut attr = no_attributes();
    attr.link_detach.link_fd = link.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = no_attributes();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf_object(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is a whole `bpf_attr`, and the callers' pointers in it live across the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

const MEMBARRIER_CMD_QUERY: libc::c_long = 0;
const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;

/// True if the kernel takes the clock of the wall for synchronised (adjtimex(2)).
pub(super) fn wall_clock_is_synchronized() -> bool {
    // SAFETY: all of its fields are numbers. With no mode set, the kernel only reads the clock.
    let mut timex = unsafe { std::mem::zeroed::<libc::timex>() };
    // SAFETY: `timex` lives during the call, which writes nothing else.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    state >= 0 && timex.status & libc::STA_UNSYNC == 0
}

/// Whether [`wait_for_running_programs`] works here.
///
/// # Errors
/// If the kernel has no membarrier(2).
pub(super) fn has_barrier() -> io::Result<bool> {
    // SAFETY: a system call that takes no pointers.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) };
    if commands < 0 { Err(io::Error::last_os_error()) } else { Ok(commands & MEMBARRIER_CMD_GLOBAL != 0) }
}

/// Waits until every CPU has left the BPF programs that run now (`MEMBARRIER_CMD_GLOBAL` is one
/// `synchronize_rcu`).
///
/// # Errors
/// If the kernel refuses, as with `nohz_full`.
pub(super) fn wait_for_running_programs() -> io::Result<()> {
    // SAFETY: a system call that takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Registers a ring buffer with the runtime, to wait for records.
///
/// # Panics
/// Outside a tokio runtime.
pub(super) fn watch(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its descriptor, gives the same one each time, and closes it only when it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    watched.map_err(Into::into)
}

/// Registers the ring buffer of log lines.
///
/// # Panics
/// Outside a tokio runtime.
pub(super) fn watch_log<T>(lines: EbpfLogger<T>) -> io::Result<AsyncFd<EbpfLogger<T>>> {
    // SAFETY: as above, of the ring in it.
    let watched = unsafe { AsyncFd::register_with_interest(lines, Interest::READABLE) };
    watched.map_err(Into::into)
}

/// Registers a perf buffer.
///
/// # Panics
/// Outside a tokio runtime.
pub(super) fn watch_perf(
    buffer: PerfEventArrayBuffer<MapData>,
) -> io::Result<AsyncFd<PerfEventArrayBuffer<MapData>>> {
    // SAFETY: as above, of the buffer.
    let watched = unsafe { AsyncFd::register_with_interest(buffer, Interest::READABLE) };
    watched.map_err(Into::into)
}

/// The `T` at the start of `bytes`; `None` if they are too short.
pub(super) fn read_record<T: Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, any bytes are a `Pod`, and no alignment is asked for.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The offloads of an interface of this thread's network namespace, by ethtool's names, and whether each is
/// enabled.
///
/// # Errors
/// Those of ioctl(2): `ENODEV` if the interface does not exist.
pub(super) fn offloads(interface: &str) -> io::Result<Vec<(String, bool)>> {
    const ETHTOOL_GSTRINGS: u32 = 0x1b;
    const ETHTOOL_GSSET_INFO: u32 = 0x37;
    const ETHTOOL_GFEATURES: u32 = 0x3a;
    const ETH_SS_FEATURES: u32 = 4;
    const NAME: usize = 32;
    // struct ethtool_sset_info: command, reserved, a mask of 64 bits, and a number for each bit.
    let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
    let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
    for (half, bytes) in info[2..4].iter_mut().zip(mask.as_chunks::<4>().0) {
        *half = u32::from_ne_bytes(*bytes);
    }
    ethtool(interface, &mut info)?;
    let count = info[4] as usize;
    // struct ethtool_gstrings: command, set, count, and 32 bytes for each string. The kernel has exactly that
    // many.
    let mut names = vec![0u32; 3 + count * NAME / 4];
    names[..2].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES]);
    ethtool(interface, &mut names)?;
    // struct ethtool_gfeatures: command, count, and four words for each 32 features; the third has the
    // enabled ones.
    let blocks = count.div_ceil(32);
    let mut values = vec![0u32; 2 + blocks * 4];
    values[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
    ethtool(interface, &mut values)?;
    let bytes: Vec<u8> = names[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = |bytes: &[u8]| {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let is_on = |n: usize| values[2 + n / 32 * 4 + 2] >> (n % 32) & 1 != 0;
    Ok(bytes.chunks_exact(NAME).enumerate().map(|(n, bytes)| (name(bytes), is_on(n))).collect())
}

/// Sends an ethtool command, at the start of `request`, to an interface; the answer replaces the request,
/// which must have room for it: the callers' commands set its size.
fn ethtool(interface: &str, request: &mut [u32]) -> io::Result<()> {
    // SAFETY: plain integers and pointers, for which zeroes are valid.
    let mut what = unsafe { std::mem::zeroed::<libc::ifreq>() };
    // The last byte stays zero.
    let room = what.ifr_name.len() - 1;
    for (place, byte) in what.ifr_name.iter_mut().take(room).zip(interface.bytes()) {
        *place = byte.cast_signed();
    }
    what.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // Any socket of the namespace will do.
    let socket = UnixDatagram::unbound()?;
    // SAFETY: a whole `ifreq`, whose pointer is to a request with room for the answer, and both live across the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut what) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
