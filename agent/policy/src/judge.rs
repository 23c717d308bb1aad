//! The program's own verdict over a [`Compiled`] in memory.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;

use lyncwall_common::abi::{
    AllowKey, BlockRecord, Bucket, Class, Features, Flow, FlowKeyV4, FlowKeyV6, FlowTimes, FragmentKey,
    FragmentRecord, ICMP_ERROR_LANES, Limit, Live, NetPort, OpeningKey, PortSet, PortTransport, SourceRecord,
    Target, Until,
};
use lyncwall_common::fields::Address;
use lyncwall_common::subprograms::Subprograms;
use lyncwall_common::tables::{
    Flows, ICMP_ECHO_RATE, ICMP_ERROR_RATE, ICMP_LANE_RATE, Rate, Rules, Tables, Tracking,
};
use lyncwall_common::verdict::Verdict;
use lyncwall_common::{judge, outgoing};

use crate::compile::Compiled;
use crate::net::Prefix;

/// Judges one frame from interface `ifindex`, without state from earlier frames.
#[must_use]
pub fn judge(compiled: &Compiled, ifindex: u32, frame: &[u8]) -> Verdict {
    HostTables::new(compiled, ifindex).judge(frame)
}

/// The tables of one generation as one CPU sees them: fragments and rates carry over from frame to frame.
pub struct HostTables<'a> {
    /// The live generation, in slot 0.
    pub compiled: &'a Compiled,
    /// The features of the generation, from the live record.
    pub features: Features,
    /// The interface of the frames.
    pub ifindex: u32,
    /// The block-list; `None` if it is empty.
    pub blocked: Vec<(Prefix, BlockRecord)>,
    /// The clock, in ticks.
    pub jiffies: Cell<u64>,
    /// Ticks per second.
    pub hz: u64,
    /// The stored verdicts of first fragments.
    pub fragments: RefCell<HashMap<FragmentKey, FragmentRecord>>,
    /// True while the program picks up TCP connections midway.
    pub learning: bool,
    flows_v4: RefCell<HashMap<FlowKeyV4, Flow>>,
    flows_v6: RefCell<HashMap<FlowKeyV6, Flow>>,
    flow_ports: RefCell<HashMap<(PortTransport, u16), u8>>,
    icmp_errors: Cell<Bucket>,
    icmp_flow_errors: [Cell<Bucket>; ICMP_ERROR_LANES],
    icmp_port_errors: [Cell<Bucket>; ICMP_ERROR_LANES],
    icmp_echo: Cell<Bucket>,
    early_fragments: Cell<Bucket>,
    openings: RefCell<HashMap<OpeningKey, Bucket>>,
}

impl<'a> HostTables<'a> {
    /// An empty state, an hour after boot at 250 ticks a second.
    #[must_use]
    pub fn new(compiled: &'a Compiled, ifindex: u32) -> Self {
        Self {
            compiled,
            features: compiled.features,
            ifindex,
            blocked: Vec::new(),
            jiffies: Cell::new(3600 * 250),
            hz: 250,
            fragments: RefCell::default(),
            learning: false,
            flows_v4: RefCell::default(),
            flows_v6: RefCell::default(),
            flow_ports: RefCell::default(),
            icmp_errors: Cell::default(),
            icmp_flow_errors: [const { Cell::new(Bucket { last: 0, credit: 0 }) }; ICMP_ERROR_LANES],
            icmp_port_errors: [const { Cell::new(Bucket { last: 0, credit: 0 }) }; ICMP_ERROR_LANES],
            icmp_echo: Cell::default(),
            early_fragments: Cell::default(),
            openings: RefCell::default(),
        }
    }

    /// The verdict.
    #[must_use]
    pub fn judge(&self, frame: &[u8]) -> Verdict {
        judge::judge(frame, self)
    }

    /// The zone of frames of a VLAN on the interface, 0 for untagged ones; `None` if it has no zone.
    #[must_use]
    pub fn zone_of(&self, vlan: u16) -> Option<u32> {
        self.zone(0, vlan)
    }

    /// Notes an outgoing frame.
    pub fn track(&self, frame: &[u8]) {
        outgoing::track(frame, self);
    }
}

impl Rules for HostTables<'_> {
    fn live(&self) -> Option<Live> {
        Some(Live::new(0, self.features).blocking(!self.blocked.is_empty()))
    }

    fn jiffies(&self) -> u64 {
        self.jiffies.get()
    }

    fn hz(&self) -> u64 {
        self.hz
    }

    fn management_port(&self, transport: PortTransport, port: NetPort) -> bool {
        let (byte, mask) = PortSet::cell(port);
        self.compiled.management.ports[transport as usize].0[byte] & mask != 0
    }

    fn management_source(&self, source: Address) -> bool {
        let source = source.ip();
        self.compiled.management.sources.iter().any(|prefix| prefix.contains(source))
    }

    fn zone(&self, _slot: u32, vlan: u16) -> Option<u32> {
        let interface = self.compiled.generation.interface(self.ifindex)?;
        if vlan == 0 || interface.vlans == 0 {
            return Some(interface.zone.into());
        }
        let table = self.compiled.vlans.get(usize::from(interface.vlans) - 1)?;
        Some(table.zone(vlan))
    }

    fn listed(&self, _slot: u32, zone: u32, address: [u64; 2]) -> Option<Target> {
        self.compiled.targets.as_ref()?.listed(zone, address)
    }

    fn target(&self, _slot: u32, zone: u32, address: [u64; 2]) -> Target {
        self.compiled.targets.as_ref().map_or(Target::NONE, |table| table.find(zone, address))
    }

    fn is_elsewhere(&self, _slot: u32, zone: u32, address: [u64; 2]) -> bool {
        self.compiled.targets.as_ref().is_some_and(|table| table.code(zone, address).is_elsewhere())
    }

    fn port(
        &self,
        _slot: u32,
        policy: u32,
        transport: PortTransport,
        port: NetPort,
    ) -> Option<Option<Class>> {
        let tables = self.compiled.policies.get(policy as usize)?;
        Some(tables[transport as usize].open(port))
    }

    fn groups(&self, _slot: u32, zone: u32, address: Address) -> u32 {
        source_record(self.compiled, zone, address).groups
    }

    fn allow(&self, _slot: u32, key: AllowKey, policy: u32, zone: u32, source: Address) -> Option<u32> {
        let table = self.compiled.allow.as_ref()?;
        let candidates = table.candidates(key, policy);
        if candidates == 0 {
            return None;
        }
        table.first(candidates, source_record(self.compiled, zone, source).rules)
    }

    fn audits(&self, _slot: u32, policy: u32) -> bool {
        self.compiled.generation.audits(policy)
    }

    fn audits_zone(&self, _slot: u32, zone: u32) -> bool {
        self.compiled.generation.audits_zone(zone)
    }

    fn unmatched_pass(&self, _slot: u32, zone: u32) -> bool {
        self.compiled.generation.passes_unmatched(zone)
    }
}

impl Tables for HostTables<'_> {
    fn dhcp_client(&self, _slot: u32) -> bool {
        self.compiled.generation.is_dhcp_client(self.ifindex)
    }

    fn blocked(&self, source: Address) -> Option<Until> {
        longest_match(&self.blocked, source.ip()).map(|record| record.until)
    }

    fn limit(&self, _slot: u32, policy: u32) -> Option<Limit> {
        self.compiled.generation.limits.get(policy as usize).copied()
    }

    fn change_bucket<R>(&self, key: &OpeningKey, change: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
        self.openings.borrow_mut().get_mut(key).map(change)
    }

    fn add_bucket(&self, key: &OpeningKey, bucket: Bucket) {
        self.openings.borrow_mut().insert(*key, bucket);
    }

    fn within(&self, rate: Rate) -> bool {
        let (cell, rate) = match rate {
            Rate::IcmpError => (&self.icmp_errors, ICMP_ERROR_RATE),
            Rate::IcmpErrorOfFlow(lane) => (&self.icmp_flow_errors[usize::from(lane)], ICMP_LANE_RATE),
            Rate::IcmpErrorOfPort(lane) => (&self.icmp_port_errors[usize::from(lane)], ICMP_LANE_RATE),
            Rate::IcmpEcho => (&self.icmp_echo, ICMP_ECHO_RATE),
        };
        let mut bucket = cell.get();
        let within = bucket.take(self.jiffies(), self.hz, rate);
        cell.set(bucket);
        within
    }

    fn may_come_early(&self, _slot: u32) -> bool {
        let rate = self.compiled.generation.early_fragments;
        let mut bucket = self.early_fragments.get();
        let within = rate != 0 && bucket.take(self.jiffies(), self.hz, rate.into());
        self.early_fragments.set(bucket);
        within
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentRecord> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey, record: FragmentRecord) {
        self.fragments.borrow_mut().insert(*key, record);
    }

    fn forget_fragment(&self, key: &FragmentKey) {
        self.fragments.borrow_mut().remove(key);
    }
}

impl Subprograms for HostTables<'_> {}

impl Tracking for HostTables<'_> {
    fn flow_times(&self, _slot: u32) -> Option<FlowTimes> {
        Some(self.compiled.generation.flow_times)
    }

    fn flow_port(&self, transport: PortTransport, port: NetPort) -> u8 {
        self.flow_ports.borrow().get(&(transport, port.number())).copied().unwrap_or_default()
    }

    fn stamp_flow_port(&self, transport: PortTransport, port: NetPort, stamp: u8) {
        self.flow_ports.borrow_mut().insert((transport, port.number()), stamp);
    }

    fn learning(&self) -> bool {
        self.learning
    }
}

impl Flows<FlowKeyV4> for HostTables<'_> {
    fn change<R>(&self, key: &FlowKeyV4, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
        self.flows_v4.borrow_mut().get_mut(key).map(change)
    }

    fn add(&self, key: &FlowKeyV4, flow: Flow) {
        self.flows_v4.borrow_mut().insert(*key, flow);
    }
}

impl Flows<FlowKeyV6> for HostTables<'_> {
    fn change<R>(&self, key: &FlowKeyV6, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
        self.flows_v6.borrow_mut().get_mut(key).map(change)
    }

    fn add(&self, key: &FlowKeyV6, flow: Flow) {
        self.flows_v6.borrow_mut().insert(*key, flow);
    }
}

/// The result of the kernel's trie.
pub(crate) fn longest_match<T: Copy>(prefixes: &[(Prefix, T)], address: IpAddr) -> Option<T> {
    prefixes
        .iter()
        .filter(|(prefix, _)| prefix.contains(address))
        .max_by_key(|(prefix, _)| prefix.length())
        .map(|(_, record)| *record)
}

fn source_record(compiled: &Compiled, zone: u32, address: Address) -> SourceRecord {
    let zone = compiled.generation.sources_behind(zone);
    // The prefixes are sorted, and may be 100,000.
    let find = |prefix: Prefix| compiled.sources.binary_search_by_key(&prefix, |(known, _)| *known).ok();
    let found = Prefix::around(address.ip()).find_map(find).map(|at| compiled.sources[at].1);
    found.unwrap_or_default().and(zone)
}

#[cfg(test)]
mod tests;
