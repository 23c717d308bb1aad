//! The maps, each beside what is asked of it. All are pinned by name; ARCHITECTURE.md lists them.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_md},
    helpers::bpf_jiffies64,
    macros::map,
    maps::{Array, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::XdpContext,
};
use lyncwall_common::{
    abi::{
        AllowKey, AllowTable, Class, Control, CounterBlock, CpuRecord, Event, FragmentKey, FragmentRecord,
        Generation, Live, MAX_POLICIES, NetPort, PORT_DROP_BLOCKS, PolicyTable, PortSet, PortTransport,
        RULE_BLOCKS, SLOTS, STATE_BYTES, STATE_ELEMENTS, SourceV4, SourceV6, Target, TargetTable,
        policy_index, port_drop_cell,
    },
    decide::{ICMP_ECHO_RATE, ICMP_ERROR_RATE, Rate, Tables},
    fields::Address,
    reason::{Action, Reason},
};

#[map]
static CONTROL: Array<Control> = Array::pinned(1, BPF_F_MMAPABLE);
#[map]
static MANAGEMENT_V4: LpmTrie<SourceV4, u64> = LpmTrie::pinned(PREFIXES, 0);
#[map]
static MANAGEMENT_V6: LpmTrie<SourceV6, u64> = LpmTrie::pinned(PREFIXES, 0);
#[map]
static GENERATIONS: Array<Generation> = Array::pinned(SLOTS, 0);
#[map]
static TARGETS: Array<TargetTable> = Array::pinned(SLOTS, 0);
#[map]
static POLICIES: Array<PolicyTable> = Array::pinned(SLOTS * MAX_POLICIES * 2, 0);
#[map]
static ALLOW: Array<AllowTable> = Array::pinned(SLOTS, 0);
#[map]
static ALLOW_SOURCES_V4: LpmTrie<SourceV4, u64> = LpmTrie::pinned(SLOTS * PREFIXES, 0);
#[map]
static ALLOW_SOURCES_V6: LpmTrie<SourceV6, u64> = LpmTrie::pinned(SLOTS * PREFIXES, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentRecord> = LruHashMap::pinned(16_384, 0);
#[map]
static CPU: PerCpuArray<CpuRecord> = PerCpuArray::pinned(1, 0);
#[map]
static RULE_HITS: PerCpuArray<CounterBlock> = PerCpuArray::pinned(RULE_BLOCKS, 0);
#[map]
static PORT_DROPS: PerCpuArray<CounterBlock> = PerCpuArray::pinned(PORT_DROP_BLOCKS, 0);
#[map]
static EVENTS: RingBuf = RingBuf::pinned(256 * 1024, 0);
// Created and pinned with the others so that it lives as long as they do; only the agent uses it.
#[map]
static STATE: Array<[u8; STATE_BYTES]> = Array::pinned(STATE_ELEMENTS, 0);

/// Prefixes in one trie and slot.
const PREFIXES: u32 = 65_536;

/// Ticks per second. The loader sets it; see `abi::program::HZ`.
#[unsafe(no_mangle)]
static HZ: u64 = 250;

/// Drops that each CPU reports, per second.
const EVENT_RATE: u64 = 100;

/// The kernel's tables, as one packet sees them.
///
/// What every packet needs is looked up once, before there is anything else to keep: a look-up is a call for the compiler,
/// and only four registers survive one.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    context: *const xdp_md,
    control: *const Control,
    cpu: *mut CpuRecord,
}

impl Kernel {
    /// `None` where the kernel has not the maps that the program was loaded with, which cannot happen.
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Option<Self> {
        Some(Self { context: context.ctx, control: CONTROL.get_ptr(0)?, cpu: CPU.get_ptr_mut(0)? })
    }

    /// Counts a packet.
    #[inline(always)]
    pub(crate) fn count(&self, reason: Reason, action: Action) {
        self.cpu().reasons[reason as usize][action as usize] += 1;
    }

    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "no two of these live at the same time: each caller uses it up at once"
    )]
    fn cpu(&self) -> &mut CpuRecord {
        // SAFETY: this CPU's map value; XDP programs on one CPU do not interrupt each other, and the agent only reads.
        unsafe { &mut *self.cpu }
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

    /// True where this CPU may report one more drop; counts it as lost otherwise.
    #[inline(always)]
    pub(crate) fn may_report(&self) -> bool {
        let cpu = self.cpu();
        let within = cpu.events.take(self.jiffies(), self.hz(), EVENT_RATE);
        if !within {
            cpu.events_lost += 1;
        }
        within
    }
}

/// Puts an event, every field of which `fill` sets, into the ring buffer; counts it as lost where that is full.
#[inline(always)]
pub(crate) fn send(fill: impl FnOnce(&mut Event)) {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        with_cpu(|cpu| cpu.events_lost += 1);
        return;
    };
    // SAFETY: the ring buffer handed out the room of an `Event`, and any bytes are one.
    fill(unsafe { entry.assume_init_mut() });
    entry.submit(0);
}

/// The same values, by way of memory that the verifier does not track; zeros where the CPU has no record, which cannot
/// happen.
#[inline(always)]
pub(crate) fn forget(values: [u64; 2]) -> [u64; 2] {
    let Some(record) = CPU.get_ptr_mut(0) else { return [0; 2] };
    // SAFETY: this CPU's map value.
    let scratch = unsafe { &raw mut (*record).scratch };
    // SAFETY: nobody else writes it. Volatile, or the compiler would leave it out.
    unsafe { scratch.write_volatile(values) };
    // SAFETY: as above.
    unsafe { scratch.read_volatile() }
}

/// Jiffies.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments (kernel 5.6); the verifier inlines it.
    unsafe { bpf_jiffies64() }
}

#[inline(always)]
fn with_cpu<R>(f: impl FnOnce(&mut CpuRecord) -> R) -> Option<R> {
    let record = CPU.get_ptr_mut(0)?;
    // SAFETY: this CPU's map value; XDP programs on one CPU do not interrupt each other, and the agent only reads.
    Some(f(unsafe { &mut *record }))
}

#[inline(always)]
fn add_one(counters: &PerCpuArray<CounterBlock>, block: u32, cell: usize) {
    if let Some(values) = counters.get_ptr_mut(block) {
        // SAFETY: this CPU's map value, which nobody else writes.
        unsafe { (*values).0[cell] += 1 };
    }
}

impl Tables for Kernel {
    #[inline(always)]
    fn live(&self) -> Option<Live> {
        // SAFETY: a map value.
        let live = unsafe { &raw const (*self.control).live };
        // SAFETY: the agent stores the word whole, and it is read once.
        Some(Live(unsafe { live.read_volatile() }))
    }

    #[inline(always)]
    fn jiffies(&self) -> u64 {
        now()
    }

    #[inline(always)]
    fn hz(&self) -> u64 {
        // SAFETY: a read-only constant; volatile, as the loader and not the compiler knows it.
        unsafe { read_volatile(addr_of!(HZ)) }
    }

    #[inline(always)]
    fn management_port(&self, transport: PortTransport, port: NetPort) -> bool {
        let (byte, mask) = PortSet::cell(port);
        // SAFETY: a map value; `byte` is below 8,192.
        let bits = unsafe { (*self.control).management[transport as usize].0[byte] };
        bits & mask != 0
    }

    #[inline(always)]
    fn management_source(&self, source: Address) -> bool {
        match source {
            Address::V4(address) => {
                MANAGEMENT_V4.get(Key::new(64, SourceV4 { slot: [0; 4], address })).is_some()
            }
            Address::V6(address) => {
                MANAGEMENT_V6.get(Key::new(160, SourceV6 { slot: [0; 4], address })).is_some()
            }
        }
    }

    #[inline(always)]
    fn target(&self, slot: u32, address: [u64; 2]) -> Target {
        TARGETS.get(slot).map_or(Target::NONE, |table| table.find(address))
    }

    #[inline(always)]
    fn port(&self, slot: u32, policy: u32, transport: PortTransport, port: NetPort) -> Option<Option<Class>> {
        Some(POLICIES.get(policy_index(slot, policy, transport))?.open(port))
    }

    #[inline(always)]
    fn allow(&self, slot: u32, key: AllowKey, policy: u32, source: Address) -> Option<u32> {
        let table = ALLOW.get(slot)?;
        let candidates = table.candidates(key, policy);
        if candidates == 0 {
            return None;
        }
        let slot = [slot as u8, 0, 0, 0];
        let sources = match source {
            Address::V4(address) => ALLOW_SOURCES_V4.get(Key::new(64, SourceV4 { slot, address })),
            Address::V6(address) => ALLOW_SOURCES_V6.get(Key::new(160, SourceV6 { slot, address })),
        };
        table.first(candidates, sources.copied().unwrap_or(0))
    }

    #[inline(never)]
    fn dhcp_client(&self, slot: u32) -> bool {
        // SAFETY: the context that the kernel handed in.
        let ifindex = unsafe { (*self.context).ingress_ifindex };
        GENERATIONS.get(slot).is_some_and(|generation| generation.is_dhcp_client(ifindex))
    }

    #[inline(always)]
    fn ephemeral(&self, slot: u32) -> (u16, u16) {
        match GENERATIONS.get(slot) {
            Some(generation) => (generation.ephemeral_first, generation.ephemeral_last),
            // An empty range.
            None => (1, 0),
        }
    }

    #[inline(always)]
    fn unmatched_pass(&self, slot: u32) -> bool {
        GENERATIONS.get(slot).is_some_and(|generation| generation.unmatched_pass != 0)
    }

    #[inline(always)]
    fn within(&self, rate: Rate) -> bool {
        match rate {
            Rate::IcmpError => self.cpu().icmp_errors.take(self.jiffies(), self.hz(), ICMP_ERROR_RATE),
            Rate::IcmpEcho => self.cpu().icmp_echo.take(self.jiffies(), self.hz(), ICMP_ECHO_RATE),
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentRecord> {
        // SAFETY: copied out at once. A record that is reused meanwhile is a neighbour's: worth one wrong fragment
        // verdict, as any collision of identifications is.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, record: FragmentRecord) {
        if FRAGMENTS.insert(key, record, 0).is_err() {
            with_cpu(|cpu| cpu.fragments_lost += 1);
        }
    }

    #[inline(always)]
    fn forget_fragment(&self, key: &FragmentKey) {
        // The key need not be there.
        if FRAGMENTS.remove(key).is_err() {}
    }
}
