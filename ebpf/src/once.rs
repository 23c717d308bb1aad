//! Functions that the verifier looks at by themselves, once and for any arguments (kernel 5.6), and not again for each way
//! that leads to them. They take what such a function may: the context, and numbers.
//!
//! What is here is long for the verifier and rare on the wire.

use aya_ebpf::bindings::xdp_md;
use lyncwall_common::{
    decide,
    fields::Place,
    packet::Packet as _,
    parse::{self, Options},
    reason::Action,
};

use crate::{
    ctx::Frame,
    maps::{self, Kernel},
    raw::{Context, now},
};

/// Reports a packet; see [`report`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn once_report(context: *mut xdp_md, what: u32, length: u32) -> u32 {
    let context = Context::of_kernel(context);
    let frame = Frame::<false>::of(context);
    maps::send(|event| {
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
    0
}

/// Reports a packet of this length in all its buffers.
#[inline(always)]
pub(crate) fn report(context: Context<'_>, [reason, action, slot]: [u8; 3], length: u32) {
    once_report(context.to_kernel(), u32::from_le_bytes([reason, action, slot, 0]), length);
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
extern "C" fn once_first_fragment(context: *mut xdp_md, place: u32, dropped: u32) -> u32 {
    let context = Context::of_kernel(context);
    if let Some(kernel) = Kernel::of(context) {
        let judged = if dropped == 0 { Action::Pass } else { Action::Drop };
        decide::remember(Frame::<false>::of(context), &kernel, Place::from_bits(place), judged);
    }
    0
}

/// Remembers a first fragment that was allowed, or forgets it.
#[inline(always)]
pub(crate) fn first_fragment(context: Context<'_>, place: Place, judged: Action) {
    once_first_fragment(context.to_kernel(), place.to_bits(), judged as u32);
}
