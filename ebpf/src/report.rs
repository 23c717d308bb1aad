//! Counting and reporting a verdict.

use lyncwall_common::{
    abi::{Event, NO_COUNTER},
    decide::{Tables as _, Verdict},
    packet::Packet as _,
    parse::{Family, Headers},
    reason::{Action, Reason},
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{ctx::Frame, maps::Kernel};

/// Counts the packet, and reports it where it was dropped or, in audit mode, would have been.
#[inline(always)]
pub(crate) fn account<const FRAGS: bool>(
    frame: &Frame<'_, FRAGS>,
    kernel: &Kernel,
    headers: &Headers,
    verdict: Verdict,
) {
    kernel.count(verdict.reason, verdict.action);
    if verdict.counter != NO_COUNTER {
        kernel.count_rule(verdict.counter);
        return;
    }
    if matches!(verdict.judged, Action::Pass) {
        return;
    }
    if let Some(transport) = headers.ports
        && matches!(verdict.action, Action::Drop)
    {
        kernel.count_port(transport, headers.destination_port);
    }
    // Multicast and broadcast are noise on most links: counted, never reported.
    if !matches!(verdict.reason, Reason::Multicast) {
        kernel.report(|event| describe(frame, kernel, headers, verdict, event));
    }
}

#[inline(always)]
fn describe<const FRAGS: bool>(
    frame: &Frame<'_, FRAGS>,
    kernel: &Kernel,
    headers: &Headers,
    verdict: Verdict,
    event: &mut Event,
) {
    event.jiffies = kernel.jiffies();
    event.ifindex = frame.ifindex();
    event.length = frame.len() as u32;
    event.vlan = headers.vlan;
    event.ether_type = u16::from_be(headers.ether_type);
    event.reason = verdict.reason as u8;
    event.action = verdict.action as u8;
    event.protocol = headers.protocol;
    event.source_port = headers.source_port.number();
    event.destination_port = headers.destination_port.number();
    event.flags = headers.flags;
    event.code = headers.code;
    event.slot = verdict.slot;
    match headers.family {
        Some(Family::V4) => {
            if let Some(ip) = frame.read::<Ipv4Hdr>(headers.network) {
                event.family = 4;
                event.source[..4].copy_from_slice(&ip.src_addr);
                event.destination[..4].copy_from_slice(&ip.dst_addr);
            }
        }
        Some(Family::V6) => {
            if let Some(ip) = frame.read::<Ipv6Hdr>(headers.network) {
                event.family = 6;
                event.source = ip.src_addr;
                event.destination = ip.dst_addr;
            }
        }
        None => {}
    }
}
