//! Events and captured packets, on their way to the agent.

use aya_ebpf::{macros::map as bpf_map, maps::PerfEventArray};
use lyncwall_common::abi::{Captured, Event};

use super::{counters::with_cpu, map};
use crate::raw::{self, Context};

map!(EVENTS: RingBuf);

#[bpf_map]
static CAPTURES: PerfEventArray<Captured> = PerfEventArray::new(0);

/// Puts an event into the ring buffer; `fill` sets every field of it. Counts the event as lost where the buffer is full,
/// and returns false.
#[inline(always)]
pub(crate) fn send(reason: u8, fill: impl FnOnce(&mut Event)) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        with_cpu(|cpu| cpu.events_lost[reason as usize] += 1);
        return false;
    };
    fill(raw::event(&mut entry));
    entry.submit(0);
    true
}

/// Hands a packet to a capture. Counts the packet as lost where the buffer has no room, and returns false.
#[inline(always)]
pub(crate) fn capture(context: Context<'_>, header: &mut Captured) -> bool {
    let handed = raw::output(context, &CAPTURES, header);
    if !handed {
        with_cpu(|cpu| cpu.captures_lost += 1);
    }
    handed
}
