//! The maps, each beside what is asked of it. All are pinned by name; ARCHITECTURE.md lists them.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    macros::map,
    maps::{Array, LpmTrie, LruHashMap, PerCpuArray, PerfEventArray, RingBuf, lpm_trie::Key},
};
use lyncwall_common::{
    abi::{
        AllowKey, AllowTable, BlockRecord, Bucket, Captured, Class, Control, CounterBlock, CpuRecord, Event,
        Explained, FLOWS, Flow, FlowKeyV4, FlowKeyV6, FlowPorts, FlowTimes, FragmentKey, FragmentRecord,
        Generation, Limit, Live, Lost, MAX_BLOCKED, MAX_POLICIES, MAX_PREFIXES, MAX_SOURCES, NetPort,
        OPENING_SOURCES, OpeningKey, PORT_DROP_BLOCKS, PolicyTable, PortSet, PortTransport, RULE_BLOCKS,
        SLOTS, STATE_BYTES, STATE_ELEMENTS, SourceRecord, SourceV4, SourceV6, Target, TargetTable, Until,
        VLAN_TABLES, VlanTable, WARNINGS, interface_cell, policy_index, port_drop_cell, vlans_index,
    },
    decide::{ICMP_ECHO_RATE, ICMP_ERROR_RATE, Judging, Rate, Rules, Tables},
    fields::{Address, Place},
    flow::{Ends, Flows, Tracking},
    fragment::First,
    packet::Packet,
    reason::{Action, Reason},
};

use crate::{
    once,
    raw::{self, Context, ControlPage, Outgoing, PerCpu, now},
};

#[map]
static CONTROL: Array<Control> = Array::pinned(1, BPF_F_MMAPABLE);
#[map]
static MANAGEMENT_V4: LpmTrie<SourceV4, u64> = LpmTrie::pinned(MAX_PREFIXES, 0);
#[map]
static MANAGEMENT_V6: LpmTrie<SourceV6, u64> = LpmTrie::pinned(MAX_PREFIXES, 0);
#[map]
static BLOCKED_V4: LpmTrie<SourceV4, BlockRecord> = LpmTrie::pinned(MAX_BLOCKED, 0);
#[map]
static BLOCKED_V6: LpmTrie<SourceV6, BlockRecord> = LpmTrie::pinned(MAX_BLOCKED, 0);
#[map]
static GENERATIONS: Array<Generation> = Array::pinned(SLOTS, 0);
#[map]
static TARGETS: Array<TargetTable> = Array::pinned(SLOTS, 0);
#[map]
static VLANS: Array<VlanTable> = Array::pinned(VLAN_TABLES, 0);
#[map]
static POLICIES: Array<PolicyTable> = Array::pinned(SLOTS * MAX_POLICIES * 2, 0);
#[map]
static ALLOW: Array<AllowTable> = Array::pinned(SLOTS, 0);
#[map]
static SOURCES_V4: LpmTrie<SourceV4, SourceRecord> = LpmTrie::pinned(SLOTS * MAX_SOURCES, 0);
#[map]
static SOURCES_V6: LpmTrie<SourceV6, SourceRecord> = LpmTrie::pinned(SLOTS * MAX_SOURCES, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentRecord> = LruHashMap::pinned(16_384, 0);
#[map]
static FLOWS_V4: LruHashMap<FlowKeyV4, Flow> = LruHashMap::pinned(FLOWS, 0);
#[map]
static FLOWS_V6: LruHashMap<FlowKeyV6, Flow> = LruHashMap::pinned(FLOWS, 0);
#[map]
static OPENINGS: LruHashMap<OpeningKey, Bucket> = LruHashMap::pinned(OPENING_SOURCES, 0);
#[map]
static FLOW_PORTS: Array<FlowPorts> = Array::pinned(1, 0);
#[map]
static CPU: PerCpuArray<CpuRecord> = PerCpuArray::pinned(1, 0);
#[map]
static RULE_HITS: PerCpuArray<CounterBlock> = PerCpuArray::pinned(RULE_BLOCKS, 0);
#[map]
static PORT_DROPS: PerCpuArray<CounterBlock> = PerCpuArray::pinned(PORT_DROP_BLOCKS, 0);
#[map]
static EVENTS: RingBuf = RingBuf::pinned(256 * 1024, 0);
#[map]
static CAPTURES: PerfEventArray<Captured> = PerfEventArray::new(0);
// Created and pinned with the others so that it lives as long as they do; only the agent uses it.
#[map]
static STATE: Array<[u8; STATE_BYTES]> = Array::pinned(STATE_ELEMENTS, 0);

/// Ticks per second. The loader sets it; see `abi::program::HZ`.
#[unsafe(no_mangle)]
static HZ: Global<u64> = Global::new(250);

/// The interface that frames seem to come in by, where the object is loaded to explain verdicts; 0 elsewhere. The verifier knows
/// it, and takes what is done for the other case out of the program.
#[unsafe(no_mangle)]
static EXPLAINED: Global<u32> = Global::new(0);

/// True where nothing may be left behind of a packet that nobody sent.
#[inline(always)]
fn rehearses() -> bool {
    EXPLAINED.load() != 0
}

/// Drops of each reason that each CPU reports, per second.
const EVENT_RATE: u64 = 100;

/// Lines of the log about what is lost that each CPU writes, per second.
const WARNING_RATE: u64 = 1;

/// Packets that each CPU hands to a capture, per second.
const CAPTURE_RATE: u64 = 10_000;

/// The kernel's tables, as one packet sees them.
///
/// What every packet needs is looked up once, before there is anything else to keep: a look-up is a call for the compiler,
/// and only four registers survive one.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<C> {
    /// What the kernel handed in with the packet.
    context: C,
    control: ControlPage,
    cpu: PerCpu<CpuRecord>,
}

impl<C: Passage> Kernel<C> {
    /// `None` where the kernel has not the maps that the program was loaded with, which cannot happen.
    #[inline(always)]
    pub(crate) fn new(context: C) -> Option<Self> {
        Some(Self { context, control: ControlPage::of(&CONTROL)?, cpu: PerCpu::of(&CPU, 0)? })
    }

    /// Counts a packet.
    #[inline(always)]
    pub(crate) fn count(&self, reason: Reason, action: Action) {
        let cell = interface_cell(self.context.ifindex());
        self.cpu.with(|cpu| {
            cpu.reasons[reason as usize][action as usize] += 1;
            cpu.interfaces[cell][action as usize] += 1;
        });
    }

    /// Takes down the verdict over a frame that nobody sent.
    #[inline(always)]
    pub(crate) fn explain(&self, explained: Explained) {
        self.cpu.with(|cpu| cpu.explained = explained.0.into());
    }

    /// The verdict that [`Kernel::explain`] took down.
    #[inline(always)]
    pub(crate) fn explained(&self) -> u32 {
        self.cpu.with(|cpu| cpu.explained) as u32
    }

    /// Counts a packet that a rule let in. There is no block for `NO_COUNTER`, so that counts nothing.
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

    /// True where this CPU may report one more drop for this reason; counts it as lost otherwise.
    #[inline(always)]
    pub(crate) fn may_report(&self, reason: Reason) -> bool {
        self.cpu.with(|cpu| {
            let within = cpu.events[reason as usize].take(now(), HZ.load(), EVENT_RATE);
            if !within {
                cpu.events_lost[reason as usize] += 1;
            }
            within
        })
    }

    /// Bytes of a packet that somebody wants that was dropped for this reason; 0 where nobody does. Counts it as lost where this CPU
    /// has handed out enough.
    #[inline(always)]
    pub(crate) fn may_capture(&self, reason: Reason) -> u32 {
        let wanted = self.control.capture().wanted(now);
        if wanted == 0 || !self.control.captured().contains(reason) {
            return 0;
        }
        self.cpu.with(|cpu| {
            let within = cpu.captures.take(now(), HZ.load(), CAPTURE_RATE);
            if !within {
                cpu.captures_lost += 1;
            }
            if within { wanted } else { 0 }
        })
    }
}

/// Hands a packet to whoever captures; counts it as lost where there is no room, and returns false.
#[inline(always)]
pub(crate) fn capture(context: Context<'_>, what: &mut Captured) -> bool {
    let handed = raw::output(context, &CAPTURES, what);
    if !handed {
        with_cpu(|cpu| cpu.captures_lost += 1);
    }
    handed
}

/// Puts an event, every field of which `fill` sets, into the ring buffer; counts it as lost where that is full, and returns false.
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

/// True where this CPU may write one more line of the log about what is lost.
#[inline(always)]
pub(crate) fn may_warn() -> bool {
    PerCpu::of(&CPU, 0)
        .is_some_and(|cpu| cpu.with(|cpu| cpu.events[WARNINGS].take(now(), HZ.load(), WARNING_RATE)))
}

#[inline(always)]
fn with_cpu(f: impl FnOnce(&mut CpuRecord)) {
    if let Some(cpu) = PerCpu::of(&CPU, 0) {
        cpu.with(f);
    }
}

#[inline(always)]
fn add_one(counters: &PerCpuArray<CounterBlock>, block: u32, cell: usize) {
    if let Some(values) = PerCpu::of(counters, block) {
        values.with(|values| values.0[cell] += 1);
    }
}

/// What is known of somebody: by the address, where a prefix holds it, and by the zone.
#[inline(always)]
fn source_record(slot: u32, zone: u32, address: Address) -> SourceRecord {
    let Some(generation) = GENERATIONS.get(slot) else { return SourceRecord::default() };
    let set = [generation.sources as u8, 0, 0, 0];
    let record = match address {
        Address::V4(address) => SOURCES_V4.get(Key::new(64, SourceV4 { set, address })),
        Address::V6(address) => SOURCES_V6.get(Key::new(160, SourceV6 { set, address })),
    };
    record.copied().unwrap_or_default().and(generation.sources_behind(zone))
}

/// The interface that a packet is judged to come in or go out by.
#[inline(always)]
fn seen_at<C: Passage>(context: C) -> u32 {
    match EXPLAINED.load() {
        0 => context.ifindex(),
        explained => explained,
    }
}

/// What came with a packet.
pub(crate) trait Passage: Copy {
    /// The number of the interface that it comes in or goes out by.
    fn ifindex(self) -> u32;
}

impl Passage for Context<'_> {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        Context::ifindex(self)
    }
}

impl Passage for Outgoing<'_> {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        Outgoing::ifindex(self)
    }
}

impl<C: Passage> Rules for Kernel<C> {
    #[inline(always)]
    fn live(&self) -> Option<Live> {
        Some(self.control.live())
    }

    #[inline(always)]
    fn jiffies(&self) -> u64 {
        now()
    }

    #[inline(always)]
    fn hz(&self) -> u64 {
        HZ.load()
    }

    #[inline(always)]
    fn management_port(&self, transport: PortTransport, port: NetPort) -> bool {
        let (byte, mask) = PortSet::cell(port);
        self.control.management(transport, byte) & mask != 0
    }

    #[inline(always)]
    fn management_source(&self, source: Address) -> bool {
        match source {
            Address::V4(address) => {
                MANAGEMENT_V4.get(Key::new(64, SourceV4 { set: [0; 4], address })).is_some()
            }
            Address::V6(address) => {
                MANAGEMENT_V6.get(Key::new(160, SourceV6 { set: [0; 4], address })).is_some()
            }
        }
    }

    #[inline(always)]
    fn zone(&self, slot: u32, vlan: u16) -> Option<u32> {
        let interface = GENERATIONS.get(slot)?.interface(seen_at(self.context))?;
        if vlan == 0 || interface.vlans == 0 {
            return Some(interface.zone.into());
        }
        let table = VLANS.get(vlans_index(slot, u32::from(interface.vlans) - 1))?;
        Some(table.zone(vlan))
    }

    #[inline(always)]
    fn listed(&self, slot: u32, zone: u32, address: [u64; 2]) -> Option<Target> {
        TARGETS.get(slot)?.listed(zone, address)
    }

    #[inline(always)]
    fn target(&self, slot: u32, zone: u32, address: [u64; 2]) -> Target {
        TARGETS.get(slot).map_or(Target::NONE, |table| table.find(zone, address))
    }

    #[inline(always)]
    fn port(&self, slot: u32, policy: u32, transport: PortTransport, port: NetPort) -> Option<Option<Class>> {
        Some(POLICIES.get(policy_index(slot, policy, transport))?.open(port))
    }

    #[inline(always)]
    fn groups(&self, slot: u32, zone: u32, address: Address) -> u32 {
        source_record(slot, zone, address).groups
    }

    #[inline(always)]
    fn allow(&self, slot: u32, key: AllowKey, policy: u32, zone: u32, source: Address) -> Option<u32> {
        let table = ALLOW.get(slot)?;
        let candidates = table.candidates(key, policy);
        if candidates == 0 {
            return None;
        }
        table.first(candidates, source_record(slot, zone, source).rules)
    }

    #[inline(always)]
    fn audits(&self, slot: u32, policy: u32) -> bool {
        GENERATIONS.get(slot).is_some_and(|generation| generation.audits(policy))
    }

    #[inline(always)]
    fn unmatched_pass(&self, slot: u32, zone: u32) -> bool {
        GENERATIONS.get(slot).is_some_and(|generation| generation.passes_unmatched(zone))
    }
}

impl Tables for Kernel<Context<'_>> {
    #[inline(always)]
    fn dhcp_client(&self, slot: u32) -> bool {
        let ifindex = seen_at(self.context);
        GENERATIONS.get(slot).is_some_and(|generation| generation.is_dhcp_client(ifindex))
    }

    #[inline(always)]
    fn is_reply<P: Packet>(&self, _: P, slot: u32, ends: Ends) -> bool {
        once::is_reply(self.context, slot, ends)
    }

    #[inline(always)]
    fn in_audit<P: Packet>(&self, _: P, judging: Judging, place: Option<Place>) -> bool {
        once::in_audit(self.context, judging, place)
    }

    #[inline(always)]
    fn blocked(&self, source: Address) -> Option<Until> {
        let record = match source {
            Address::V4(address) => BLOCKED_V4.get(Key::new(64, SourceV4 { set: [0; 4], address })),
            Address::V6(address) => BLOCKED_V6.get(Key::new(160, SourceV6 { set: [0; 4], address })),
        };
        record.map(|record| record.until)
    }

    #[inline(always)]
    fn limit(&self, slot: u32, policy: u32) -> Option<Limit> {
        // The mask keeps the index in range for the verifier.
        Some(GENERATIONS.get(slot)?.limits[(policy % MAX_POLICIES) as usize])
    }

    #[inline(always)]
    fn change_bucket<R>(&self, key: &OpeningKey, change: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
        raw::changed(&OPENINGS, key, !rehearses(), change)
    }

    #[inline(always)]
    fn add_bucket(&self, key: &OpeningKey, bucket: Bucket) {
        if rehearses() {
            return;
        }
        // Where there is no room at all, the source is as one that comes for the first time.
        if OPENINGS.insert(key, bucket, 0).is_err() {}
    }

    #[inline(always)]
    fn within(&self, rate: Rate) -> bool {
        self.cpu.with(|cpu| {
            let (bucket, rate) = match rate {
                Rate::IcmpError => (&mut cpu.icmp_errors, ICMP_ERROR_RATE),
                Rate::IcmpEcho => (&mut cpu.icmp_echo, ICMP_ECHO_RATE),
            };
            let mut after = *bucket;
            let within = after.take(now(), HZ.load(), rate);
            if !rehearses() {
                *bucket = after;
            }
            within
        })
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentRecord> {
        raw::copied(&FRAGMENTS, key)
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, record: FragmentRecord) {
        if !rehearses() && FRAGMENTS.insert(key, record, 0).is_err() {
            with_cpu(|cpu| cpu.fragments_lost += 1);
        }
    }

    #[inline(always)]
    fn first_fragment<P: Packet>(&self, _: P, place: Place, first: First) {
        once::first_fragment(self.context, place, first);
    }

    #[inline(always)]
    fn forget_fragment(&self, key: &FragmentKey) {
        // The key need not be there.
        if !rehearses() && FRAGMENTS.remove(key).is_err() {}
    }
}

impl<C: Passage> Tracking for Kernel<C> {
    #[inline(always)]
    fn flow_times(&self, slot: u32) -> Option<FlowTimes> {
        Some(GENERATIONS.get(slot)?.flow_times)
    }

    #[inline(always)]
    fn flow_port(&self, transport: PortTransport, port: NetPort) -> u8 {
        FLOW_PORTS.get(0).map_or(0, |ports| ports.0[transport as usize][port.index()])
    }

    #[inline(always)]
    fn stamp_flow_port(&self, transport: PortTransport, port: NetPort, stamp: u8) {
        if !rehearses() {
            raw::stamp(&FLOW_PORTS, transport, port, stamp);
        }
    }

    #[inline(always)]
    fn learning(&self) -> bool {
        now() < self.control.learning()
    }
}

impl<C: Copy> Flows<FlowKeyV4> for Kernel<C> {
    #[inline(always)]
    fn change<R>(&self, key: &FlowKeyV4, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
        raw::changed(&FLOWS_V4, key, !rehearses(), change)
    }

    #[inline(always)]
    fn add(&self, key: &FlowKeyV4, flow: Flow) {
        add_flow(&FLOWS_V4, key, flow);
    }
}

impl<C: Copy> Flows<FlowKeyV6> for Kernel<C> {
    #[inline(always)]
    fn change<R>(&self, key: &FlowKeyV6, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
        raw::changed(&FLOWS_V6, key, !rehearses(), change)
    }

    #[inline(always)]
    fn add(&self, key: &FlowKeyV6, flow: Flow) {
        add_flow(&FLOWS_V6, key, flow);
    }
}

#[inline(always)]
fn add_flow<K>(flows: &LruHashMap<K, Flow>, key: &K, flow: Flow) {
    /// Another CPU was faster.
    const EEXIST: i32 = 17;
    if rehearses() {
        return;
    }
    match flows.insert(key, flow, BPF_NOEXIST.into()) {
        Ok(()) => with_cpu(|cpu| cpu.flows_added += 1),
        Err(error) if error == -EEXIST => {}
        Err(_) => {
            with_cpu(|cpu| cpu.flows_lost += 1);
            once::log_lost(Lost::Flow);
        }
    }
}
