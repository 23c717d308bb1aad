//! Subprograms: functions that the verifier checks once, for any arguments (kernel 5.6), and not once for each way to
//! them. They take what such a function may take: the context, and numbers.
//!
//! What is here is long for the verifier and rare on the wire. Two files have subprograms of their own: `ctx` walks through
//! IPv4 options, `log` writes log lines.

use aya_ebpf::bindings::xdp_md;
use lyncwall_common::{
    abi::{Captured, Features, LONGEST_CAPTURE, Lost, NetPort, PortTransport},
    ends::{Carried, Ends},
    fields::IpAt,
    flow,
    fragment::{self, First},
    judging::Judging,
    packet::Packet,
    subprograms::Subprograms,
    target,
};

use crate::{
    ctx::Frame,
    log::{log_lost, log_verdict},
    maps::{self, Kernel},
    raw::{Context, monotonic, now},
};

impl Subprograms for Kernel<Context<'_>> {
    #[inline(always)]
    fn is_reply<P: Packet>(&self, _: P, slot: u32, ends: Ends) -> bool {
        is_reply(self.context(), slot, ends)
    }

    #[inline(always)]
    fn in_audit<P: Packet>(&self, _: P, judging: Judging, at: Option<IpAt>) -> bool {
        in_audit(self.context(), judging, at)
    }

    #[inline(always)]
    fn first_fragment<P: Packet>(&self, _: P, at: IpAt, first: First) {
        first_fragment(self.context(), at, first);
    }
}

/// The subprogram of [`report`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_report(context: *mut xdp_md, what: u32, length: u32) -> u32 {
    let context = Context::of_kernel(context);
    let frame = Frame::<false>::of(context);
    let sent = maps::send(what as u8, |event| {
        event.jiffies = now();
        event.ifindex = frame.ifindex();
        event.length = length;
        [event.reason, event.action, event.slot, _] = what.to_le_bytes();
        event.reserved = 0;
        let mut captured = 0;
        // Two bytes at a time: so the last bytes of a short frame come along, which may be of its transport header.
        for unit in event.frame.as_flattened_mut() {
            let Some(bytes) = frame.read(captured) else { break };
            *unit = bytes;
            captured += 2;
        }
        event.captured = captured as u8;
    });
    log_verdict(what, frame.ifindex(), length);
    if !sent {
        log_lost(Lost::Event);
    }
    0
}

/// Puts a packet into the ring buffer. `length` counts all buffers of the frame.
#[inline(always)]
pub(crate) fn report(context: Context<'_>, [reason, action, slot]: [u8; 3], length: u32) {
    subprogram_report(context.to_kernel(), u32::from_le_bytes([reason, action, slot, 0]), length);
}

/// The subprogram of [`capture`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_capture(context: *mut xdp_md, what: u32, length: u32, wanted: u32) -> u32 {
    let context = Context::of_kernel(context);
    let frame = Frame::<false>::of(context);
    let [reason, action, slot, reserved] = what.to_le_bytes();
    let (time, ifindex) = (monotonic(), frame.ifindex());
    let captured = length.min(wanted).min(LONGEST_CAPTURE);
    let mut what = Captured { time, ifindex, length, reason, action, slot, reserved, captured };
    if !maps::capture(context, &mut what) {
        log_lost(Lost::Capture);
    }
    0
}

/// Hands at most `wanted` bytes of a packet to a capture. `length` counts all buffers of the frame.
#[inline(always)]
pub(crate) fn capture(context: Context<'_>, [reason, action, slot]: [u8; 3], length: u32, wanted: u32) {
    subprogram_capture(context.to_kernel(), u32::from_le_bytes([reason, action, slot, 0]), length, wanted);
}

/// The subprogram of [`first_fragment`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_first_fragment(context: *mut xdp_md, at: u32, first: u32) -> u32 {
    let context = Context::of_kernel(context);
    if let Some(kernel) = Kernel::new(context) {
        let first = match first {
            PASSED => First::Passed,
            MANAGEMENT => First::Management,
            _ => First::Dropped,
        };
        fragment::remember(Frame::<false>::of(context), &kernel, IpAt::from_bits(at), first);
    }
    0
}

const PASSED: u32 = First::Passed as u32;
const MANAGEMENT: u32 = First::Management as u32;

/// See [`fragment::remember`]. With this subprogram, the chain of calls takes all of the stack (512 bytes): it may call no
/// other.
#[inline(always)]
pub(crate) fn first_fragment(context: Context<'_>, at: IpAt, first: First) {
    subprogram_first_fragment(context.to_kernel(), at.to_bits(), first as u32);
}

/// The subprogram of [`is_reply`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_is_reply(context: *mut xdp_md, at: u32, ports: u32, what: u32) -> u32 {
    let context = Context::of_kernel(context);
    let Some(kernel) = Kernel::new(context) else { return 0 };
    let carried = match what & 3 {
        TCP => Carried::Ports(PortTransport::Tcp),
        UDP => Carried::Ports(PortTransport::Udp),
        _ => Carried::Echo,
    };
    let ends = Ends {
        at: IpAt::from_bits(at),
        carried,
        local: NetPort(ports as u16),
        remote: NetPort((ports >> 16) as u16),
        flags: (what >> 2) as u8,
    };
    u32::from(flow::is_reply(Frame::<false>::of(context), &kernel, what >> 10, ends))
}

const TCP: u32 = 0;
const UDP: u32 = 1;
const ECHO: u32 = 2;

/// See [`flow::is_reply`].
#[inline(always)]
pub(crate) fn is_reply(context: Context<'_>, slot: u32, ends: Ends) -> bool {
    let carried = match ends.carried {
        Carried::Ports(PortTransport::Tcp) => TCP,
        Carried::Ports(PortTransport::Udp) => UDP,
        Carried::Echo => ECHO,
    };
    let ports = u32::from(ends.local.0) | u32::from(ends.remote.0) << 16;
    subprogram_is_reply(
        context.to_kernel(),
        ends.at.to_bits(),
        ports,
        slot << 10 | u32::from(ends.flags) << 2 | carried,
    ) != 0
}

/// The subprogram of [`in_audit`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_in_audit(context: *mut xdp_md, at: u32, judging: u32) -> u32 {
    let context = Context::of_kernel(context);
    let Some(kernel) = Kernel::new(context) else { return 0 };
    let at = (at != NOWHERE).then_some(IpAt::from_bits(at));
    let judging = Judging { slot: judging >> 8, features: Features(judging as u8) };
    u32::from(target::in_audit(Frame::<false>::of(context), &kernel, judging, at))
}

/// Stands for a packet without an IP header: no [`IpAt`] has all bits set.
const NOWHERE: u32 = u32::MAX;

/// See [`target::in_audit`].
#[inline(always)]
pub(crate) fn in_audit(context: Context<'_>, judging: Judging, at: Option<IpAt>) -> bool {
    let at = at.map_or(NOWHERE, IpAt::to_bits);
    subprogram_in_audit(context.to_kernel(), at, judging.slot << 8 | u32::from(judging.features.0)) != 0
}
