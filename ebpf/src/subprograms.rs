//! Subprograms: functions that the verifier checks once, for any arguments (kernel 5.6), and not once for each way to
//! them. They take what such a function may take: the context, and numbers.
//!
//! What is here is long for the verifier and rare on the wire. Two files have subprograms of their own: `ctx` walks through
//! IPv4 options, `log` writes log lines.

use core::hint::black_box;

use aya_ebpf::bindings::xdp_md;
use lyncwall_common::{
    abi::{Captured, Features, LONGEST_CAPTURE, Lost, NetPort, PortTransport},
    dhcp,
    ends::{Carried, Ends},
    fields::IpAt,
    flow,
    fragment::{self, First},
    judging::Judging,
    packet::Packet,
    quoted,
    reason::Action,
    subprograms::Subprograms,
    target,
};

use crate::{
    ctx::Frame,
    log::{log_lost, log_verdict},
    maps::{self, Kernel},
    raw::{Context, monotonic, now},
    report::Fate,
};

impl Subprograms for Kernel<Context<'_>> {
    #[inline(always)]
    fn is_reply<P: Packet>(&self, _: P, slot: u32, ends: Ends) -> bool {
        is_reply(self.context(), slot, ends)
    }

    #[inline(always)]
    fn in_audit<P: Packet>(&self, _: P, judging: Judging, at: IpAt) -> bool {
        in_audit(self.context(), judging, at)
    }

    #[inline(always)]
    fn is_for_dhcp_client<P: Packet>(&self, _: P, judging: Judging, at: IpAt, to_many: bool) -> bool {
        is_for_dhcp_client(self.context(), judging, at, to_many)
    }

    #[inline(always)]
    fn quotes_flow<P: Packet>(&self, _: P, judging: Judging, at: IpAt, offset: usize) -> Option<u8> {
        quotes_flow(self.context(), judging, at, offset)
    }

    #[inline(always)]
    fn quotes_open<P: Packet>(&self, _: P, judging: Judging, at: IpAt, offset: usize) -> Option<u8> {
        quotes_open(self.context(), judging, at, offset)
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
    let [reason, action, slot, answer] = what.to_le_bytes();
    if wanted != 0 {
        let (time, ifindex) = (monotonic(), frame.ifindex());
        let captured = length.min(wanted).min(LONGEST_CAPTURE);
        let mut what = Captured { time, ifindex, length, reason, action, slot, reserved: 0, captured };
        if !maps::capture(context, &mut what) {
            log_lost(Lost::Capture);
        }
    }
    let drops = action == Action::Drop as u8;
    if answer != 0 && drops { Fate::Answered as u32 } else { u32::from(action) }
}

/// Hands at most `wanted` bytes of a packet to a capture, 0 for none. `length` counts all buffers of the frame. Returns
/// the fate of the packet: that of the action; a dropped one may get an `answer`.
#[inline(always)]
pub(crate) fn capture(
    context: Context<'_>,
    [reason, action, slot]: [u8; 3],
    length: u32,
    (wanted, answer): (u32, bool),
) -> Fate {
    let what = u32::from_le_bytes([reason, action, slot, u8::from(answer)]);
    Fate::from_number(subprogram_capture(context.to_kernel(), what, length, wanted))
}

/// The subprogram of [`first_fragment`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_first_fragment(context: *mut xdp_md, at: u32, first: u32) -> u32 {
    let context = Context::of_kernel(context);
    if let Some(kernel) = Kernel::new(context) {
        let first = First::from_value(first);
        fragment::remember(Frame::<false>::of(context), &kernel, IpAt::from_bits(at), first);
    }
    0
}

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
    let at = IpAt::from_bits(at);
    u32::from(target::in_audit(Frame::<false>::of(context), &kernel, of_number(judging), at))
}

/// Which generation judges, as a number.
#[inline(always)]
fn to_number(judging: Judging) -> u32 {
    judging.slot << 8 | u32::from(judging.features.0)
}

/// Made again from [`to_number`].
#[inline(always)]
fn of_number(number: u32) -> Judging {
    Judging { slot: number >> 8, features: Features(number as u8) }
}

/// See [`target::in_audit`].
#[inline(always)]
pub(crate) fn in_audit(context: Context<'_>, judging: Judging, at: IpAt) -> bool {
    subprogram_in_audit(context.to_kernel(), at.to_bits(), to_number(judging)) != 0
}

/// The subprogram of [`is_for_dhcp_client`].
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_is_for_dhcp_client(
    context: *mut xdp_md,
    at: u32,
    judging: u32,
    to_many: u32,
) -> u32 {
    let context = Context::of_kernel(context);
    let Some(kernel) = Kernel::new(context) else { return 0 };
    let (frame, at) = (Frame::<false>::of(context), IpAt::from_bits(at));
    u32::from(dhcp::is_for_client(frame, &kernel, of_number(judging), at, to_many != 0))
}

/// See [`dhcp::is_for_client`].
#[inline(always)]
fn is_for_dhcp_client(context: Context<'_>, judging: Judging, at: IpAt, to_many: bool) -> bool {
    let (at, judging, to_many) = (at.to_bits(), to_number(judging), u32::from(to_many));
    subprogram_is_for_dhcp_client(context.to_kernel(), at, judging, to_many) != 0
}

/// The subprogram of [`quotes_flow`]. 0 stands for nothing.
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_quotes_flow(context: *mut xdp_md, at: u32, judging: u32, offset: u32) -> u32 {
    let context = Context::of_kernel(context);
    let Some(kernel) = Kernel::new(context) else { return 0 };
    let (frame, at) = (Frame::<false>::of(context), IpAt::from_bits(at));
    let lane = quoted::quotes_flow(frame, &kernel, of_number(judging), at, unknown(offset));
    lane.map_or(0, |lane| u32::from(lane) + 1)
}

/// An offset of which the compiler knows nothing: the verifier needs each mask, and the compiler would drop those that the
/// caller makes needless.
#[inline(always)]
fn unknown(offset: u32) -> usize {
    black_box(offset as usize)
}

/// See [`quoted::quotes_flow`].
#[inline(always)]
fn quotes_flow(context: Context<'_>, judging: Judging, at: IpAt, offset: usize) -> Option<u8> {
    let found = subprogram_quotes_flow(context.to_kernel(), at.to_bits(), to_number(judging), offset as u32);
    found.checked_sub(1).map(|lane| lane as u8)
}

/// The subprogram of [`quotes_open`]. 0 stands for nothing.
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_quotes_open(context: *mut xdp_md, at: u32, judging: u32, offset: u32) -> u32 {
    let context = Context::of_kernel(context);
    let Some(kernel) = Kernel::new(context) else { return 0 };
    let (frame, at) = (Frame::<false>::of(context), IpAt::from_bits(at));
    let lane = quoted::quotes_open(frame, &kernel, of_number(judging), at, unknown(offset));
    lane.map_or(0, |lane| u32::from(lane) + 1)
}

/// See [`quoted::quotes_open`].
#[inline(always)]
fn quotes_open(context: Context<'_>, judging: Judging, at: IpAt, offset: usize) -> Option<u8> {
    let found = subprogram_quotes_open(context.to_kernel(), at.to_bits(), to_number(judging), offset as u32);
    found.checked_sub(1).map(|lane| lane as u8)
}
