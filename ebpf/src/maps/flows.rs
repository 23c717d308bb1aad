//! Tracked flows.

use aya_ebpf::{bindings::BPF_NOEXIST, maps::LruHashMap};
use lyncwall_common::abi::{Flow, FlowKeyV4, FlowKeyV6, FlowPorts, Lost, NetPort, PortTransport};

use super::{constants::is_explaining, counters::with_cpu, map};
use crate::{log::log_lost, raw};

map!(FLOWS_V4: LruHashMap<FlowKeyV4, Flow>);
map!(FLOWS_V6: LruHashMap<FlowKeyV6, Flow>);
map!(FLOW_PORTS: Array<FlowPorts>);

#[inline(always)]
pub(super) fn change_v4<R>(key: &FlowKeyV4, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
    raw::changed(&FLOWS_V4, key, !is_explaining(), change)
}

#[inline(always)]
pub(super) fn change_v6<R>(key: &FlowKeyV6, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
    raw::changed(&FLOWS_V6, key, !is_explaining(), change)
}

#[inline(always)]
pub(super) fn add_v4(key: &FlowKeyV4, flow: Flow) {
    add(&FLOWS_V4, key, flow);
}

#[inline(always)]
pub(super) fn add_v6(key: &FlowKeyV6, flow: Flow) {
    add(&FLOWS_V6, key, flow);
}

#[inline(always)]
fn add<K>(flows: &LruHashMap<K, Flow>, key: &K, flow: Flow) {
    /// Another CPU was faster.
    const EEXIST: i32 = 17;
    if is_explaining() {
        return;
    }
    match flows.insert(key, flow, BPF_NOEXIST.into()) {
        Ok(()) => with_cpu(|cpu| cpu.flows_added += 1),
        Err(error) if error == -EEXIST => {}
        Err(_) => {
            with_cpu(|cpu| cpu.flows_lost += 1);
            log_lost(Lost::Flow);
        }
    }
}

/// The stamp of a local port.
#[inline(always)]
pub(super) fn port(transport: PortTransport, port: NetPort) -> u8 {
    FLOW_PORTS.get(0).map_or(0, |ports| ports.0[transport as usize][port.index()])
}

#[inline(always)]
pub(super) fn stamp_port(transport: PortTransport, port: NetPort, stamp: u8) {
    if !is_explaining() {
        raw::stamp(&FLOW_PORTS, transport, port, stamp);
    }
}
