//! Counters and rates, for each CPU.
//!
//! [`Kernel`] imports this file and has methods here. Functions that take parts of a [`Kernel`] would need no import of
//! it, but compile to a program with more stack than the kernel grants.

use core::hint::black_box;

use aya_ebpf::maps::PerCpuArray;
use lyncwall_common::{
    abi::{
        CounterBlock, CpuRecord, Explained, ICMP_ERROR_LANES, NetPort, PortTransport, WARNINGS,
        interface_cell, port_drop_cell,
    },
    reason::{Action, Reason},
    tables::{ANSWER_RATE, ICMP_ECHO_RATE, ICMP_ERROR_RATE, ICMP_LANE_RATE, Rate},
};

use super::{
    Interface, Kernel,
    constants::{hz, is_explaining},
    map,
};
use crate::raw::{PerCpu, now};

map!(CPU: PerCpuArray<CpuRecord>);
map!(RULE_HITS: PerCpuArray<CounterBlock>);
map!(PORT_DROPS: PerCpuArray<CounterBlock>);

/// Drops of each reason that each CPU reports, per second.
const EVENT_RATE: u64 = 100;

/// Log lines about losses that each CPU writes, per second.
const WARNING_RATE: u64 = 1;

/// Packets that each CPU hands to a capture, per second.
const CAPTURE_RATE: u64 = 10_000;

impl<C: Interface> Kernel<C> {
    /// Counts a packet.
    #[inline(always)]
    pub(crate) fn count(&self, reason: Reason, action: Action) {
        let cell = interface_cell(self.context.ifindex());
        self.cpu.with(|cpu| {
            cpu.reasons[reason as usize][action as usize] += 1;
            cpu.interfaces[cell][action as usize] += 1;
        });
    }

    /// Counts a packet that a rule let in. `NO_COUNTER` is in no block, and counts nothing.
    #[inline(always)]
    pub(crate) fn count_rule(&self, counter: u32) {
        add_one(&RULE_HITS, counter >> 12, counter as usize & 0xfff);
    }

    /// Counts a drop at its port.
    #[inline(always)]
    pub(crate) fn count_port(&self, transport: PortTransport, port: NetPort) {
        let (block, cell) = port_drop_cell(transport, port);
        add_one(&PORT_DROPS, block, cell);
    }

    /// Stores the verdict over a made-up frame.
    #[inline(always)]
    pub(crate) fn explain(&self, explained: Explained) {
        self.cpu.with(|cpu| cpu.explained = explained.0.into());
    }

    /// The verdict that [`Kernel::explain`] stored.
    #[inline(always)]
    pub(crate) fn explained(&self) -> u32 {
        self.cpu.with(|cpu| cpu.explained) as u32
    }

    /// True where this CPU may report one more drop for this reason; counts the event as lost otherwise.
    #[inline(always)]
    pub(crate) fn may_report(&self, reason: Reason) -> bool {
        self.cpu.with(|cpu| {
            let within = cpu.events[reason as usize].take(now(), hz(), EVENT_RATE);
            if !within {
                cpu.events_lost[reason as usize] += 1;
            }
            within
        })
    }

    /// How many bytes a capture wants of a packet that was dropped for this reason; 0 for none. Counts the packet as lost
    /// where this CPU has handed out enough.
    #[inline(always)]
    pub(crate) fn may_capture(&self, reason: Reason) -> u32 {
        let wanted = self.control.capture().wanted(now);
        if wanted == 0 || !self.control.captured().contains(reason) {
            return 0;
        }
        self.cpu.with(|cpu| {
            let within = cpu.captures.take(now(), hz(), CAPTURE_RATE);
            if !within {
                cpu.captures_lost += 1;
            }
            if within { wanted } else { 0 }
        })
    }

    /// True where the generation of some slot answers packets at closed ports.
    #[inline(always)]
    pub(crate) fn answers(&self) -> bool {
        self.control.answering() != 0
    }

    /// True where this CPU may send one more answer.
    #[inline(always)]
    pub(crate) fn may_answer(&self, transport: PortTransport) -> bool {
        self.cpu.with(|cpu| cpu.answers[transport as usize].take(now(), hz(), ANSWER_RATE))
    }

    /// Counts an answer.
    #[inline(always)]
    pub(crate) fn count_answer(&self, transport: PortTransport) {
        self.cpu.with(|cpu| cpu.answered[transport as usize] += 1);
    }

    /// Takes one packet from a rate; a made-up frame takes none.
    #[inline(always)]
    pub(super) fn take(&self, rate: Rate) -> bool {
        self.cpu.with(|cpu| {
            let (bucket, rate) = match rate {
                Rate::IcmpError => (&mut cpu.icmp_errors, ICMP_ERROR_RATE),
                Rate::IcmpErrorOfFlow(lane) => (&mut cpu.icmp_flow_errors[lane_index(lane)], ICMP_LANE_RATE),
                Rate::IcmpErrorOfPort(lane) => (&mut cpu.icmp_port_errors[lane_index(lane)], ICMP_LANE_RATE),
                Rate::IcmpEcho => (&mut cpu.icmp_echo, ICMP_ECHO_RATE),
            };
            let mut after = *bucket;
            let within = after.take(now(), hz(), rate);
            if !is_explaining() {
                *bucket = after;
            }
            within
        })
    }

    /// Takes one from the rate of later fragments that may come early, in fragments per second; a made-up frame takes
    /// none.
    #[inline(always)]
    pub(super) fn take_early(&self, rate: u32) -> bool {
        rate != 0
            && self.cpu.with(|cpu| {
                let mut after = cpu.early_fragments;
                let within = after.take(now(), hz(), rate.into());
                if !is_explaining() {
                    cpu.early_fragments = after;
                }
                within
            })
    }
}

/// The place of a rate's bucket. The compiler knows what numbers there are, and would drop the mask; the verifier does not,
/// and needs it.
#[inline(always)]
fn lane_index(lane: u8) -> usize {
    usize::from(black_box(lane)) & (ICMP_ERROR_LANES - 1)
}

/// The record of this CPU.
#[inline(always)]
pub(super) fn cpu() -> Option<PerCpu<CpuRecord>> {
    PerCpu::of(&CPU, 0)
}

/// Changes the record of this CPU, where no [`Kernel`] is at hand.
#[inline(always)]
pub(super) fn with_cpu(f: impl FnOnce(&mut CpuRecord)) {
    if let Some(cpu) = cpu() {
        cpu.with(f);
    }
}

/// True where this CPU may write one more log line about a loss.
#[inline(always)]
pub(crate) fn may_warn() -> bool {
    cpu().is_some_and(|cpu| cpu.with(|cpu| cpu.events[WARNINGS].take(now(), hz(), WARNING_RATE)))
}

#[inline(always)]
fn add_one(counters: &PerCpuArray<CounterBlock>, block: u32, cell: usize) {
    if let Some(values) = PerCpu::of(counters, block) {
        values.with(|values| values.0[cell] += 1);
    }
}
