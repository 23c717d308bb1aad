//! This crate's only unsafe code: what the kernel offers and neither std, nix nor aya wraps.
#![expect(unsafe_code, reason = "system calls that nix has no safe call for")]

use std::ffi::CStr;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_info, bpf_prog_type};
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Makes `command`'s child enter the network namespace, heed the usual signals, and die when the thread that spawned it ends.
pub(crate) fn enter_before_exec(command: &mut Command, namespace: Arc<OwnedFd>) {
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // `nohup` and shells let their children ignore some, and a shell cannot trap what it ignores at its start.
        for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
            // SAFETY: no handler of this program is named.
            unsafe { signal(ignored, SigHandler::SigDfl) }?;
        }
        setns(&*namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(())
    };
    // SAFETY: between fork and exec `prepare` makes system calls alone and neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
}

/// Makes `command`'s child lead a session whose terminal is its standard input.
pub(crate) fn take_terminal_before_exec(command: &mut Command) {
    let prepare = || {
        nix::unistd::setsid()?;
        // SAFETY: the call takes a number, no pointer.
        check(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) })?;
        // Tests that a shell started in the background ignore it, and so would the child.
        // SAFETY: no handler of this program is named.
        unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
        Ok(())
    };
    // SAFETY: between fork and exec `prepare` makes system calls alone and neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
}

/// Says how large a terminal is; who runs in it gets SIGWINCH.
pub(crate) fn set_terminal_size(terminal: BorrowedFd<'_>, size: &libc::winsize) -> io::Result<()> {
    // SAFETY: the pointer is that of `size`, which outlives the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const *size) })?;
    Ok(())
}

/// Binds a packet socket to an interface, for frames of every EtherType.
pub(crate) fn bind_packet(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` is plain data; all zeros is a value of it.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `address`, which outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

/// Sets a packet socket option that is an `int`.
pub(crate) fn set_packet_option(socket: BorrowedFd<'_>, option: libc::c_int, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    let pointer = (&raw const value).cast();
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, pointer, length) })?;
    Ok(())
}

/// Frames that a packet socket had to drop since the last call, because its buffer was full.
pub(crate) fn packet_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    let pointer = (&raw mut statistics).cast();
    // SAFETY: the pointer and the length are those of `statistics`, which outlives the call.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, pointer, &raw mut length) })?;
    Ok(statistics.tp_drops)
}

/// The VLAN tag that the kernel took out of a received frame: tag protocol and control.
pub(crate) type StrippedTag = Option<(u16, u16)>;

/// Reads one frame from a packet socket that has `PACKET_AUXDATA` on: its length and its stripped tag.
pub(crate) fn receive_frame(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, StrippedTag)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // `u64`s, because control messages are aligned like their header.
    let mut control = [0_u64; 16];
    // SAFETY: `msghdr` is plain data; all zeros is a value of it.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `message` points to `part`, `buffer` and `control`, with their lengths; all outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok((length, stripped_tag(&message)))
}

fn stripped_tag(message: &libc::msghdr) -> StrippedTag {
    // SAFETY: `message` was filled in by `recvmsg`, so its control messages are well-formed.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: not null, so it points to a whole header within the control buffer.
        let header = unsafe { &*next };
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            // SAFETY: the header is one of the control buffer, where its data follows it.
            let data = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: a message of this type carries a `tpacket_auxdata`; it may be unaligned.
            let auxiliary = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
            let valid = auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            return valid.then_some((auxiliary.tp_vlan_tpid, auxiliary.tp_vlan_tci));
        }
        // SAFETY: `next` is a header of `message`'s control buffer.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    None
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a tun interface, which carries IP packets without an Ethernet header, in this thread's network namespace. It goes
/// with the returned file.
pub(crate) fn tun(name: &str) -> io::Result<std::fs::File> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: a C struct of integers and arrays, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is a whole `ifreq`, as TUNSETIFF wants it, and lives through the call.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw const request) };
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(device) }
}

/// What [`load_program`] loads.
pub(crate) struct RawProgram<'a> {
    pub(crate) kind: bpf_prog_type,
    /// `BPF_F_*` of BPF_PROG_LOAD.
    pub(crate) flags: u32,
    /// With the maps' descriptors in them.
    pub(crate) instructions: &'a [bpf_insn],
    pub(crate) license: &'a CStr,
    /// What says which functions are to be verified by themselves.
    pub(crate) types: Option<FunctionTypes<'a>>,
}

/// Types in the BPF type format, and those of the functions among them.
pub(crate) struct FunctionTypes<'a> {
    /// What [`load_types`] gave.
    pub(crate) descriptor: BorrowedFd<'a>,
    /// `struct bpf_func_info` one after the other.
    pub(crate) functions: &'a [u8],
    /// Bytes in each.
    pub(crate) record: usize,
}

/// Loads types in the BPF type format.
///
/// # Errors
/// Those of bpf(2).
pub(crate) fn load_types(bytes: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: as in `load_program`.
    let mut attr = unsafe { zeroed::<bpf_attr>() };
    // SAFETY: likewise.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = bytes.as_ptr() as u64;
    load.btf_size = bytes.len() as u32;
    bpf(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

/// Has a program verified. The verifier writes its figures into `log`, which may be empty: aya keeps a log only where
/// it refuses.
///
/// # Errors
/// Those of bpf(2); EACCES and EINVAL are the verifier's.
pub(crate) fn load_program(program: &RawProgram<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    /// linux/bpf_verifier.h: what `processed N insns` and `stack depth` are printed for.
    const BPF_LOG_STATS: u32 = 4;
    // SAFETY: all zeroes are a valid `bpf_attr`, and what the kernel wants in fields that a call does not use.
    let mut attr = unsafe { zeroed::<bpf_attr>() };
    // SAFETY: a union of plain integers, all of it initialised.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = program.kind as u32;
    load.prog_flags = program.flags;
    load.insns = program.instructions.as_ptr() as u64;
    load.insn_cnt = program.instructions.len() as u32;
    load.license = program.license.as_ptr() as u64;
    if let Some(types) = &program.types {
        load.prog_btf_fd = types.descriptor.as_raw_fd().cast_unsigned();
        load.func_info = types.functions.as_ptr() as u64;
        load.func_info_rec_size = types.record as u32;
        load.func_info_cnt = types.functions.len().checked_div(types.record).unwrap_or(0) as u32;
    }
    if !log.is_empty() {
        load.log_level = BPF_LOG_STATS;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Attaches a program to an interface of this thread's network namespace by a link. It goes with the descriptor.
///
/// # Errors
/// Those of bpf(2); EINVAL where the kernel has no links of this kind.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    interface: u32,
    place: bpf_attach_type,
) -> io::Result<OwnedFd> {
    // SAFETY: as in `load_program`.
    let mut attr = unsafe { zeroed::<bpf_attr>() };
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.link_create.__bindgen_anon_2.target_ifindex = interface;
    attr.link_create.attach_type = place as u32;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// The instructions of a loaded program, as the verifier left them: eight bytes each. Those that load a map have its number.
///
/// # Errors
/// Those of bpf(2).
pub(crate) fn translated(program: BorrowedFd<'_>) -> io::Result<Vec<[u8; 8]>> {
    // SAFETY: plain integers, of which all zeroes are a value.
    let mut info = unsafe { zeroed::<bpf_prog_info>() };
    program_info(program, &mut info)?;
    let mut instructions = vec![[0; 8]; info.xlated_prog_len as usize / 8];
    // SAFETY: as above.
    let mut wanted = unsafe { zeroed::<bpf_prog_info>() };
    wanted.xlated_prog_len = info.xlated_prog_len;
    wanted.xlated_prog_insns = instructions.as_mut_ptr() as u64;
    program_info(program, &mut wanted)?;
    Ok(instructions)
}

/// Has the kernel fill `info`, with what its pointers ask for, which must live across the call.
fn program_info(program: BorrowedFd<'_>, info: &mut bpf_prog_info) -> io::Result<()> {
    // SAFETY: as in `load_program`.
    let mut attr = unsafe { zeroed::<bpf_attr>() };
    attr.info.bpf_fd = program.as_raw_fd().cast_unsigned();
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = &raw mut *info as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(())
}

/// A command of bpf(2) that answers with a new descriptor.
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let descriptor = call(command, attr)?;
    // SAFETY: the callers' commands answer with a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Any command of bpf(2).
fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_int> {
    let length = size_of::<bpf_attr>();
    // SAFETY: `attr` is a whole `bpf_attr`, and the callers' pointers in it live across the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, length) };
    check(result as libc::c_int)
}
