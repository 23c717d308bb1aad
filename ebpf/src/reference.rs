//! The yardstick of the benchmark, never part of a release: the least that a port filter has to do, and nothing.
//!
//! It parses Ethernet with up to two VLAN tags, IPv4 and IPv6, finds the ports of TCP and UDP, looks the destination port
//! up in an array, and counts. No fragments, no extension headers, no ICMP, no flags, no reasons, no events, no second
//! policy: everything that lyncwall costs beyond this program is the price of those.
#![no_std]
#![no_main]

#[expect(dead_code, reason = "lyncwall needs more of it")]
mod raw;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use lyncwall_common::packet::Wire;

use crate::raw::{Context, PerCpu};

/// The class of each port, by transport (TCP 0, UDP 1) and port in network byte order; 0 is closed.
#[map]
static REFERENCE_PORTS: Array<[u8; 2 << 16]> = Array::with_max_entries(1, 0);

/// Packets by class; drops are in 0, packets without ports in 256.
#[map]
static REFERENCE_COUNTS: PerCpuArray<[u64; 257]> = PerCpuArray::with_max_entries(1, 0);

#[xdp]
fn empty_pass(_: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp]
fn empty_drop(_: XdpContext) -> u32 {
    XDP_DROP
}

#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context in by value")]
fn reference(context: XdpContext) -> u32 {
    let class = class(&context).unwrap_or(0);
    if let Some(counts) = PerCpu::of(&REFERENCE_COUNTS, 0) {
        counts.with(|counts| counts[class] += 1);
    }
    if class == 0 { XDP_DROP } else { XDP_PASS }
}

/// What the packet is counted as; `None` where it is malformed.
#[inline(always)]
fn class(context: &XdpContext) -> Option<usize> {
    const NO_PORTS: usize = 256;
    let mut at = 12;
    let mut ether_type: u16 = read(context, at)?;
    at += 2;
    for _ in 0..2 {
        if ether_type == 0x8100_u16.to_be() || ether_type == 0x88a8_u16.to_be() {
            ether_type = read(context, at + 2)?;
            at += 4;
        }
    }
    let protocol: u8;
    if ether_type == 0x0800_u16.to_be() {
        let first: u8 = read(context, at)?;
        protocol = read(context, at + 9)?;
        let length = usize::from(first & 0xf) * 4;
        if length < 20 {
            return None;
        }
        at += length;
    } else if ether_type == 0x86dd_u16.to_be() {
        protocol = read(context, at + 6)?;
        at += 40;
    } else {
        return Some(NO_PORTS);
    }
    let (transport, header) = match protocol {
        6 => (0, 20),
        17 => (1, 8),
        _ => return None,
    };
    // The last 16 bits of the header, so that it is there as a whole.
    let _: u16 = read(context, at + header - 2)?;
    let port: u16 = read(context, at + 2)?;
    let ports = REFERENCE_PORTS.get(0)?;
    Some(usize::from(ports[transport << 16 | usize::from(port)]))
}

/// One or two bytes as they lie in the packet.
#[inline(always)]
fn read<T: Wire>(context: &XdpContext, at: usize) -> Option<T> {
    Context::new(context).header(at).copied()
}

#[expect(unsafe_code, reason = "the attributes name a section and a symbol")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
