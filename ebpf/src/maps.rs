//! The maps. Each is private to the file with the code that reads it; [`Kernel`] answers the look-ups of a verdict.

mod blocked;
mod constants;
mod control;
pub(crate) mod counters;
mod flows;
mod fragments;
mod generations;
mod openings;
mod reports;
mod sources;
mod state;

use lyncwall_common::{
    abi::{
        AllowKey, Bucket, Class, CpuRecord, Flow, FlowKeyV4, FlowKeyV6, FlowTimes, FragmentKey,
        FragmentRecord, Limit, Live, NetPort, OpeningKey, PortSet, PortTransport, Target, Until,
    },
    fields::Address,
    tables::{Flows, Rate, Rules, Tables, Tracking},
};

pub(crate) use self::reports::{capture, send};
use crate::raw::{Context, ControlPage, Outgoing, PerCpu, now};

/// Declares a map of the list in `abi::map`, which says how large it is. `$flags` go to the kernel.
macro_rules! map {
    ($name:ident: Array<$value:ty>) => {
        $crate::maps::map!($name: Array<$value>, flags: 0);
    };
    ($name:ident: Array<$value:ty>, flags: $flags:expr) => {
        $crate::maps::map!($name: aya_ebpf::maps::Array<$value> = pinned($flags), Array, 4, size_of::<$value>());
    };
    ($name:ident: PerCpuArray<$value:ty>) => {
        $crate::maps::map!($name: aya_ebpf::maps::PerCpuArray<$value> = pinned(0), PerCpuArray, 4, size_of::<$value>());
    };
    ($name:ident: LpmTrie<$key:ty, $value:ty>) => {
        $crate::maps::map!(
            $name: aya_ebpf::maps::LpmTrie<$key, $value> = pinned(0), LpmTrie, 4 + size_of::<$key>(), size_of::<$value>()
        );
    };
    ($name:ident: LruHashMap<$key:ty, $value:ty>) => {
        $crate::maps::map!(
            $name: aya_ebpf::maps::LruHashMap<$key, $value> = pinned(0), LruHash, size_of::<$key>(), size_of::<$value>()
        );
    };
    ($name:ident: RingBuf) => {
        $crate::maps::map!($name: aya_ebpf::maps::RingBuf = pinned(0), RingBuffer, 0, 0);
    };
    ($name:ident: $type:ty = pinned($flags:expr), $kind:ident, $key:expr, $value:expr) => {
        #[aya_ebpf::macros::map]
        static $name: $type = {
            use lyncwall_common::abi::map::{Definition, Kind, definition};
            const LISTED: Definition = definition(stringify!($name));
            const { assert!(matches!(LISTED.kind, Kind::$kind) && LISTED.pinned) };
            const { assert!(LISTED.key_size as usize == $key && LISTED.value_size as usize == $value) };
            <$type>::pinned(LISTED.entries, $flags)
        };
    };
}
use map;

/// The kernel's tables, as one packet sees them.
///
/// What every packet needs is looked up once, before the program keeps anything else: a look-up is a call, and only four
/// registers survive a call.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<C> {
    /// The context that came with the packet.
    context: C,
    control: ControlPage,
    cpu: PerCpu<CpuRecord>,
}

impl<C: Interface> Kernel<C> {
    /// `None` where a map of the program is missing, which the kernel rules out.
    #[inline(always)]
    pub(crate) fn new(context: C) -> Option<Self> {
        Some(Self { context, control: control::page()?, cpu: counters::cpu()? })
    }

    /// The context that came with the packet.
    #[inline(always)]
    pub(crate) fn context(&self) -> C {
        self.context
    }

    /// True where targets of this policy answer packets at closed ports.
    #[inline(always)]
    pub(crate) fn target_answers(&self, slot: u32, policy: u32) -> bool {
        generations::get(slot).is_some_and(|generation| generation.answers(policy))
    }

    /// The Ethernet address of the packet's interface, where it may answer; 0 elsewhere.
    #[inline(always)]
    pub(crate) fn ethernet(&self, slot: u32) -> [u16; 3] {
        let ifindex = self.context.ifindex();
        generations::get(slot).map_or([0; 3], |generation| generation.ethernet(ifindex))
    }

    /// The interface that the verdict goes by.
    #[inline(always)]
    fn judged_interface(&self) -> u32 {
        match constants::explained_interface() {
            0 => self.context.ifindex(),
            explained => explained,
        }
    }
}

/// A context with the interface of its packet.
pub(crate) trait Interface: Copy {
    /// The number of the interface that the packet comes in or goes out by.
    fn ifindex(self) -> u32;
}

impl Interface for Context<'_> {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        Context::ifindex(self)
    }
}

impl Interface for Outgoing<'_> {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        Outgoing::ifindex(self)
    }
}

impl<C: Interface> Rules for Kernel<C> {
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
        constants::hz()
    }

    #[inline(always)]
    fn management_port(&self, transport: PortTransport, port: NetPort) -> bool {
        let (byte, mask) = PortSet::cell(port);
        self.control.management(transport, byte) & mask != 0
    }

    #[inline(always)]
    fn management_source(&self, source: Address) -> bool {
        control::is_management_source(source)
    }

    #[inline(always)]
    fn zone(&self, slot: u32, vlan: u16) -> Option<u32> {
        generations::zone(slot, self.judged_interface(), vlan)
    }

    #[inline(always)]
    fn listed(&self, slot: u32, zone: u32, address: [u64; 2]) -> Option<Target> {
        generations::listed(slot, zone, address)
    }

    #[inline(always)]
    fn target(&self, slot: u32, zone: u32, address: [u64; 2]) -> Target {
        generations::target(slot, zone, address)
    }

    #[inline(always)]
    fn is_elsewhere(&self, slot: u32, zone: u32, address: [u64; 2]) -> bool {
        generations::is_elsewhere(slot, zone, address)
    }

    #[inline(always)]
    fn port(&self, slot: u32, policy: u32, transport: PortTransport, port: NetPort) -> Option<Option<Class>> {
        generations::port(slot, policy, transport, port)
    }

    #[inline(always)]
    fn groups(&self, slot: u32, zone: u32, address: Address) -> u32 {
        sources::record(slot, zone, address).groups
    }

    #[inline(always)]
    fn allow(&self, slot: u32, key: AllowKey, policy: u32, zone: u32, source: Address) -> Option<u32> {
        sources::allow(slot, key, policy, zone, source)
    }

    #[inline(always)]
    fn audits(&self, slot: u32, policy: u32) -> bool {
        generations::get(slot).is_some_and(|generation| generation.audits(policy))
    }

    #[inline(always)]
    fn audits_zone(&self, slot: u32, zone: u32) -> bool {
        generations::get(slot).is_some_and(|generation| generation.audits_zone(zone))
    }

    #[inline(always)]
    fn unmatched_pass(&self, slot: u32, zone: u32) -> bool {
        generations::get(slot).is_some_and(|generation| generation.passes_unmatched(zone))
    }
}

impl Tables for Kernel<Context<'_>> {
    #[inline(always)]
    fn dhcp_client(&self, slot: u32) -> bool {
        let ifindex = self.judged_interface();
        generations::get(slot).is_some_and(|generation| generation.is_dhcp_client(ifindex))
    }

    #[inline(always)]
    fn blocked(&self, source: Address) -> Option<Until> {
        blocked::until(source)
    }

    #[inline(always)]
    fn limit(&self, slot: u32, policy: u32) -> Option<Limit> {
        generations::limit(slot, policy)
    }

    #[inline(always)]
    fn change_bucket<R>(&self, key: &OpeningKey, change: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
        openings::change(key, change)
    }

    #[inline(always)]
    fn add_bucket(&self, key: &OpeningKey, bucket: Bucket) {
        openings::add(key, bucket);
    }

    #[inline(always)]
    fn within(&self, rate: Rate) -> bool {
        self.take(rate)
    }

    #[inline(always)]
    fn may_come_early(&self, slot: u32) -> bool {
        self.take_early(generations::early_fragments(slot))
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentRecord> {
        fragments::get(key)
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, record: FragmentRecord) {
        fragments::remember(key, record);
    }

    #[inline(always)]
    fn forget_fragment(&self, key: &FragmentKey) {
        fragments::forget(key);
    }
}

impl<C: Interface> Tracking for Kernel<C> {
    #[inline(always)]
    fn flow_times(&self, slot: u32) -> Option<FlowTimes> {
        Some(generations::get(slot)?.flow_times)
    }

    #[inline(always)]
    fn flow_port(&self, transport: PortTransport, port: NetPort) -> u8 {
        flows::port(transport, port)
    }

    #[inline(always)]
    fn stamp_flow_port(&self, transport: PortTransport, port: NetPort, stamp: u8) {
        flows::stamp_port(transport, port, stamp);
    }

    #[inline(always)]
    fn learning(&self) -> bool {
        now() < self.control.learning()
    }
}

impl<C: Copy> Flows<FlowKeyV4> for Kernel<C> {
    #[inline(always)]
    fn change<R>(&self, key: &FlowKeyV4, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
        flows::change_v4(key, change)
    }

    #[inline(always)]
    fn add(&self, key: &FlowKeyV4, flow: Flow) {
        flows::add_v4(key, flow);
    }
}

impl<C: Copy> Flows<FlowKeyV6> for Kernel<C> {
    #[inline(always)]
    fn change<R>(&self, key: &FlowKeyV6, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
        flows::change_v6(key, change)
    }

    #[inline(always)]
    fn add(&self, key: &FlowKeyV6, flow: Flow) {
        flows::add_v6(key, flow);
    }
}
