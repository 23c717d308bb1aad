//! Functions that the verifier looks at by themselves, once and for any arguments (kernel 5.6), and not again for each way
//! that leads to them. They take what such a function may: the context, and numbers.
//!
//! What is here is long for the verifier and rare on the wire.

use aya_ebpf::bindings::xdp_md;
use aya_log_ebpf::{
    debug,
    macro_support::{Level, level_enabled},
    warn,
};
use lyncwall_common::{
    abi::{Captured, Features, LOG_TARGET, LONGEST_CAPTURE, Lost, NetPort, PortTransport},
    decide::{self, Judging},
    fields::Place,
    flow::{self, Carried, Ends},
    fragment::{self, First},
    packet::Packet as _,
    parse::{self, Options},
};

use crate::{
    ctx::Frame,
    maps::{self, Kernel},
    raw::{Context, monotonic, now},
};

/// Reports a packet; see [`report`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_report(context: *mut xdp_md, what: u32, length: u32) -> u32 {
    let context = Context::of_kernel(context);
    let frame = Frame::<false>::of(context);
    let sent = maps::send(what as u8, |event| {
        event.jiffies = now();
        event.ifindex = frame.ifindex();
        event.length = length;
        [event.reason, event.action, event.slot, _] = what.to_le_bytes();
        event.reserved = 0;
        let mut captured = 0;
        // Pairs of bytes, so that the last of a short frame, which may be of its transport header, come along.
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

/// Reports a packet of this length in all its buffers.
#[inline(always)]
pub(crate) fn report(context: Context<'_>, [reason, action, slot]: [u8; 3], length: u32) {
    once_report(context.to_kernel(), u32::from_le_bytes([reason, action, slot, 0]), length);
}

/// Hands a packet to a capture; see [`capture`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_capture(context: *mut xdp_md, what: u32, length: u32, wanted: u32) -> u32 {
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

/// Hands at most `wanted` bytes of a packet of this length to a capture.
#[inline(always)]
pub(crate) fn capture(context: Context<'_>, [reason, action, slot]: [u8; 3], length: u32, wanted: u32) {
    once_capture(context.to_kernel(), u32::from_le_bytes([reason, action, slot, 0]), length, wanted);
}

/// Writes a line of the log; see [`log_verdict`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_log_verdict(what: u32, ifindex: u32, length: u32) -> u32 {
    let [reason, action, ..] = what.to_le_bytes().map(u32::from);
    debug!(
        (),
        target: LOG_TARGET,
        "packet reason={} action={} ifindex={} length={}",
        reason,
        action,
        ifindex,
        length
    );
    0
}

/// Writes a line of the log about a packet that is reported, where lines of this level are asked for. Where they are not, the
/// verifier knows it and takes the call out of the program: see `abi::program::LOG_LEVEL`.
#[inline(always)]
fn log_verdict(what: u32, ifindex: u32, length: u32) {
    if level_enabled(Level::Debug) {
        once_log_verdict(what, ifindex, length);
    }
}

/// Writes a line of the log; see [`log_lost`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_log_lost(what: u32) -> u32 {
    if maps::may_warn() {
        warn!((), target: LOG_TARGET, "lost what={}", what);
    }
    0
}

/// Writes a line of the log about something that is lost, where lines of this level are asked for: one a second on each CPU, as
/// the counters have all of it.
#[inline(always)]
pub(crate) fn log_lost(what: Lost) {
    if level_enabled(Level::Warn) {
        once_log_lost(what as u32);
    }
}

/// Looks at IPv4 options; see [`options`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_options(context: *mut xdp_md, start: u32, end: u32) -> u32 {
    let frame = Frame::<false>::of(Context::of_kernel(context));
    parse::walk_options(frame, start as usize & parse::OPTIONS_MASK, end as usize & parse::OPTIONS_MASK)
        as u32
}

/// Looks at the IPv4 options at `start..end`, which lie in the first buffer.
#[inline(always)]
pub(crate) fn options(context: Context<'_>, start: usize, end: usize) -> Options {
    Options::from_number(once_options(context.to_kernel(), start as u32, end as u32))
}

/// Remembers or forgets a first fragment; see [`first_fragment`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_first_fragment(context: *mut xdp_md, place: u32, first: u32) -> u32 {
    let context = Context::of_kernel(context);
    if let Some(kernel) = Kernel::new(context) {
        let first = match first {
            PASSED => First::Passed,
            MANAGEMENT => First::Management,
            _ => First::Dropped,
        };
        fragment::remember(Frame::<false>::of(context), &kernel, Place::from_bits(place), first);
    }
    0
}

const PASSED: u32 = First::Passed as u32;
const MANAGEMENT: u32 = First::Management as u32;

/// Remembers a first fragment that was allowed, or forgets it.
#[inline(always)]
pub(crate) fn first_fragment(context: Context<'_>, place: Place, first: First) {
    once_first_fragment(context.to_kernel(), place.to_bits(), first as u32);
}

/// Looks for the flow of a packet; see [`is_reply`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_is_reply(context: *mut xdp_md, place: u32, ports: u32, what: u32) -> u32 {
    let context = Context::of_kernel(context);
    let Some(kernel) = Kernel::new(context) else { return 0 };
    let carried = match what & 3 {
        TCP => Carried::Ports(PortTransport::Tcp),
        UDP => Carried::Ports(PortTransport::Udp),
        _ => Carried::Echo,
    };
    let ends = Ends {
        place: Place::from_bits(place),
        carried,
        local: NetPort(ports as u16),
        remote: NetPort((ports >> 16) as u16),
    };
    u32::from(flow::is_reply(Frame::<false>::of(context), &kernel, what >> 2, ends))
}

const TCP: u32 = 0;
const UDP: u32 = 1;
const ECHO: u32 = 2;

/// True where the packet is the reply of a flow, by the time-outs of the generation in `slot`.
#[inline(always)]
pub(crate) fn is_reply(context: Context<'_>, slot: u32, ends: Ends) -> bool {
    let carried = match ends.carried {
        Carried::Ports(PortTransport::Tcp) => TCP,
        Carried::Ports(PortTransport::Udp) => UDP,
        Carried::Echo => ECHO,
    };
    let ports = u32::from(ends.local.0) | u32::from(ends.remote.0) << 16;
    once_is_reply(context.to_kernel(), ends.place.to_bits(), ports, slot << 2 | carried) != 0
}

/// Looks for the mode of a packet's target; see [`in_audit`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_in_audit(context: *mut xdp_md, place: u32, judging: u32) -> u32 {
    let context = Context::of_kernel(context);
    let Some(kernel) = Kernel::new(context) else { return 0 };
    let place = (place != NOWHERE).then_some(Place::from_bits(place));
    let judging = Judging { slot: judging >> 8, features: Features(judging as u8) };
    u32::from(decide::in_audit(Frame::<false>::of(context), &kernel, judging, place))
}

/// No place has all bits.
const NOWHERE: u32 = u32::MAX;

/// True where a packet that is to be dropped goes on.
#[inline(always)]
pub(crate) fn in_audit(context: Context<'_>, judging: Judging, place: Option<Place>) -> bool {
    let place = place.map_or(NOWHERE, Place::to_bits);
    once_in_audit(context.to_kernel(), place, judging.slot << 8 | u32::from(judging.features.0)) != 0
}
