//! Tables without any cleverness: lists that are searched from the front.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use lyncwall_common::abi::{
    AllowKey, Bucket, Class, Features, Flow, FlowKeyV4, FlowKeyV6, FlowTimes, FragmentKey, FragmentRecord,
    Limit, Live, NO_POLICY, NO_ZONE, NetPort, OpeningKey, PortTransport, Target, Until,
};
use lyncwall_common::fields::Address;
use lyncwall_common::subprograms::Subprograms;
use lyncwall_common::tables::{Flows, Rate, Rules, Tables, Tracking};
use proptest::prelude::*;

use crate::frames::{address_v4, address_v6, port};

/// What the machine and its configuration are, for one packet after the other.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The modes of policies 0 to 2, and of what has no target: true for audit.
    pub(crate) audit: [bool; 4],
    pub(crate) management_ports: Vec<(PortTransport, u16)>,
    pub(crate) management_sources: Vec<IpAddr>,
    /// Blocked sources, and until when, in seconds from the start; `None` is for good.
    pub(crate) blocked: Vec<(IpAddr, Option<u64>)>,
    /// What a source may open, by policy: a second, at once, and whether that is for the policy alone.
    pub(crate) limits: [Option<(u32, u32, bool)>; 3],
    /// The zone of each VLAN that has one of its own, or is in none. None at all means that there is one zone, 0, which
    /// all others are in.
    pub(crate) vlans: Vec<(u16, Option<u32>)>,
    /// Zone, address and policy; none at all, and one zone, means that `host` is the only target.
    pub(crate) targets: Vec<(u32, IpAddr, u32)>,
    /// The policy of the box itself beside those targets, by zone.
    pub(crate) hosts: Vec<Option<u32>>,
    /// A zone where the policy of `hosts` says what may be called.
    pub(crate) outbound: Option<u32>,
    /// Open ports; the position is the counter.
    pub(crate) open: Vec<Open>,
    /// Groups by number, below 32, with a source that is in each.
    pub(crate) members: Vec<(u32, IpAddr)>,
    /// Groups that are zones, with the zone of each.
    pub(crate) zone_groups: Vec<(u32, u32)>,
    pub(crate) allow: Vec<AllowRule>,
    pub(crate) dhcp_client: bool,
    /// True where the box forwards: what no target lists and no `host` has is elsewhere.
    pub(crate) forwards: bool,
    /// By zone.
    pub(crate) unmatched_pass: Vec<bool>,
    pub(crate) errors_within: bool,
    pub(crate) echo_within: bool,
    pub(crate) early_within: bool,
}

/// An open port of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) policy: u32,
    pub(crate) transport: PortTransport,
    pub(crate) port: u16,
    /// Who may use it; none for anybody.
    pub(crate) groups: Vec<u32>,
}

/// An allow rule; its counter is 1000 and its position.
#[derive(Debug, Clone)]
pub(crate) struct AllowRule {
    /// Transport and port, or a protocol.
    pub(crate) what: Result<(PortTransport, u16), u8>,
    pub(crate) from: Option<IpAddr>,
    pub(crate) policy: Option<u32>,
}

pub(crate) const FIRST_ALLOW: u32 = 1000;

impl World {
    pub(crate) fn features(&self) -> Features {
        let mut features = Features::default();
        for (used, feature) in [
            (self.audit.iter().all(|audit| *audit), Features::AUDIT),
            (self.has_modes(), Features::MODES),
            (!self.allow.is_empty(), Features::ALLOW),
            (!self.has_one_target(), Features::TARGETS),
            (!self.vlans.is_empty(), Features::ZONES),
            (self.open.iter().any(|open| !open.groups.is_empty()), Features::GROUPS),
            (self.limits.iter().any(Option::is_some), Features::LIMIT),
        ] {
            if used {
                features = features.with(feature);
            }
        }
        features
    }

    /// True where some are in audit mode and some are not.
    fn has_modes(&self) -> bool {
        self.audit.contains(&true) && self.audit.contains(&false)
    }

    /// True where nothing is dropped but what is blocked.
    pub(crate) fn audits(&self, policy: Option<u32>) -> bool {
        self.audit[policy.map_or(3, |policy| policy as usize)]
    }

    /// True where nothing of a zone is dropped but what is blocked, whatever its target.
    pub(crate) fn audits_zone(&self, zone: Option<u32>) -> bool {
        let listed = self.targets.iter().filter(|(of, ..)| Some(*of) == zone).map(|(.., policy)| *policy);
        let mut all = listed.map(Some).chain([self.rest(zone), None]);
        zone.is_some() && all.all(|policy| self.audits(policy))
    }

    /// True where one of the entries says so.
    pub(crate) fn is_blocked(&self, source: IpAddr, now: u64) -> bool {
        let lasts = |until: Option<u64>| until.is_none_or(|until| now < START + until * HZ);
        self.blocked.iter().any(|(blocked, until)| *blocked == source && lasts(*until))
    }

    /// True where the box itself is all there is.
    pub(crate) fn has_one_target(&self) -> bool {
        self.targets.is_empty() && self.vlans.is_empty()
    }

    /// The zone of a frame with these VLAN identifiers, the outer one first; `None` where it is in none.
    pub(crate) fn zone(&self, tags: &[(bool, u16)]) -> Option<u32> {
        // A tag of priority counts as none. Where too many of them come first, nobody knows the VLAN.
        if !self.vlans.is_empty() && tags.len() > 8 && tags[..8].iter().all(|(_, id)| *id == 0) {
            return None;
        }
        let outer = tags.iter().map(|(_, id)| *id).find(|id| *id != 0).unwrap_or(0);
        self.vlans.iter().find(|(id, _)| *id == outer).map_or(Some(0), |(_, zone)| *zone)
    }

    /// The policy of the target that lists an address.
    pub(crate) fn listed(&self, zone: Option<u32>, address: IpAddr) -> Option<u32> {
        let here = |(of, target, _): &&(u32, IpAddr, u32)| Some(*of) == zone && *target == address;
        self.targets.iter().find(here).map(|(.., policy)| *policy)
    }

    /// The policy for addresses that no target of a zone lists.
    pub(crate) fn rest(&self, zone: Option<u32>) -> Option<u32> {
        if self.has_one_target() { Some(0) } else { self.hosts[zone? as usize] }
    }

    /// True where that one says what may be called.
    pub(crate) fn limits(&self, zone: Option<u32>) -> bool {
        !self.has_one_target() && zone.is_some() && zone == self.outbound
    }

    /// True for a destination that is neither the box nor a target.
    pub(crate) fn is_elsewhere(&self, zone: Option<u32>, address: IpAddr) -> bool {
        let is_one = !address.is_multicast() && address.to_string() != "255.255.255.255";
        self.forwards
            && !self.has_one_target()
            && is_one
            && self.listed(zone, address).is_none()
            && (self.rest(zone).is_none() || self.limits(zone))
    }

    /// True where such a destination gets nothing that is for the box.
    pub(crate) fn bars(&self, zone: Option<u32>, address: IpAddr) -> bool {
        self.is_elsewhere(zone, address) && !self.passes_unmatched(zone) && !self.limits(zone)
    }

    /// True where destinations in no target of a zone pass.
    pub(crate) fn passes_unmatched(&self, zone: Option<u32>) -> bool {
        zone.is_some_and(|zone| self.unmatched_pass[zone as usize])
    }

    pub(crate) fn first_allow(
        &self,
        what: Result<(PortTransport, u16), u8>,
        policy: Option<u32>,
        source: IpAddr,
    ) -> Option<u32> {
        (FIRST_ALLOW..)
            .zip(&self.allow)
            .find(|(_, rule)| {
                rule.what == what
                    && rule.from.is_none_or(|from| from == source)
                    && (rule.policy.is_none() || rule.policy == policy)
            })
            .map(|(counter, _)| counter)
    }

    /// The first that holds, and its counter.
    pub(crate) fn open(&self, policy: u32, transport: PortTransport, port: u16) -> Option<(u32, &Open)> {
        let here = |open: &&Open| (open.policy, open.transport, open.port) == (policy, transport, port);
        (0..).zip(&self.open).find(|(_, open)| here(open))
    }

    /// True where `far`, who came in by a zone, may use what is open to `groups`.
    pub(crate) fn in_scope(&self, groups: &[u32], far: IpAddr, zone: Option<u32>) -> bool {
        groups.is_empty()
            || self.members.iter().any(|(group, member)| *member == far && groups.contains(group))
            || self.zone_groups.iter().any(|(group, of)| Some(*of) == zone && groups.contains(group))
    }
}

/// A world, and what changes in it.
pub(crate) struct State<'a> {
    pub(crate) world: &'a World,
    pub(crate) jiffies: u64,
    pub(crate) fragments: RefCell<HashMap<FragmentKey, FragmentRecord>>,
    pub(crate) learning: bool,
    buckets: RefCell<HashMap<OpeningKey, Bucket>>,
    v4: RefCell<HashMap<FlowKeyV4, Flow>>,
    v6: RefCell<HashMap<FlowKeyV6, Flow>>,
    ports: RefCell<HashMap<(PortTransport, u16), u8>>,
}

impl<'a> State<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self {
            world,
            jiffies: START,
            fragments: RefCell::default(),
            learning: false,
            buckets: RefCell::default(),
            v4: RefCell::default(),
            v6: RefCell::default(),
            ports: RefCell::default(),
        }
    }
}

pub(crate) const HZ: u64 = 250;

/// When a world begins, in jiffies.
const START: u64 = 1_000_000;

impl Rules for State<'_> {
    fn live(&self) -> Option<Live> {
        Some(Live::new(1, self.world.features()).blocking(!self.world.blocked.is_empty()))
    }

    fn jiffies(&self) -> u64 {
        self.jiffies
    }

    fn hz(&self) -> u64 {
        HZ
    }

    fn management_port(&self, transport: PortTransport, port: NetPort) -> bool {
        self.world.management_ports.contains(&(transport, port.number()))
    }

    fn management_source(&self, source: Address) -> bool {
        self.world.management_sources.contains(&source.ip())
    }

    fn zone(&self, _: u32, vlan: u16) -> Option<u32> {
        self.world.zone(&[(false, vlan)])
    }

    fn listed(&self, slot: u32, zone: u32, address: [u64; 2]) -> Option<Target> {
        Some(self.target(slot, zone, address)).filter(|target| !target.host)
    }

    fn target(&self, _: u32, zone: u32, address: [u64; 2]) -> Target {
        let zone = Some(zone).filter(|zone| *zone != NO_ZONE);
        let address = of_words(address);
        match self.world.listed(zone, address) {
            Some(policy) => Target { policy, host: false, outbound: false },
            None => {
                let policy = self.world.rest(zone).unwrap_or(NO_POLICY);
                Target { policy, host: true, outbound: self.world.limits(zone) }
            }
        }
    }

    fn is_elsewhere(&self, _: u32, zone: u32, address: [u64; 2]) -> bool {
        self.world.is_elsewhere(Some(zone).filter(|zone| *zone != NO_ZONE), of_words(address))
    }

    fn port(&self, _: u32, policy: u32, transport: PortTransport, port: NetPort) -> Option<Option<Class>> {
        let found = self.world.open(policy, transport, port.number());
        Some(found.map(|(counter, open)| Class { counter, groups: bits(open.groups.iter().copied()) }))
    }

    fn groups(&self, _: u32, zone: u32, address: Address) -> u32 {
        let address = address.ip();
        let members = self.world.members.iter().filter(|(_, member)| *member == address);
        let zones = self.world.zone_groups.iter().filter(|(_, of)| *of == zone);
        bits(members.map(|(group, _)| *group).chain(zones.map(|(group, _)| *group)))
    }

    fn allow(&self, _: u32, key: AllowKey, policy: u32, _: u32, source: Address) -> Option<u32> {
        let what = match key {
            AllowKey::Port(transport, port) => Ok((transport, port.number())),
            AllowKey::Protocol(protocol) => Err(protocol),
        };
        self.world.first_allow(what, Some(policy).filter(|policy| *policy != NO_POLICY), source.ip())
    }

    fn audits(&self, slot: u32, policy: u32) -> bool {
        assert_eq!(slot, 1);
        assert!(self.world.has_modes(), "asked for nothing");
        self.world.audits((policy != NO_POLICY).then_some(policy))
    }

    fn audits_zone(&self, slot: u32, zone: u32) -> bool {
        assert_eq!(slot, 1);
        assert!(self.world.has_modes(), "asked for nothing");
        self.world.audits_zone(Some(zone).filter(|zone| *zone != NO_ZONE))
    }

    fn unmatched_pass(&self, _: u32, zone: u32) -> bool {
        self.world.passes_unmatched(Some(zone).filter(|zone| *zone != NO_ZONE))
    }
}

impl Tables for State<'_> {
    fn dhcp_client(&self, _: u32) -> bool {
        self.world.dhcp_client
    }

    /// One of the entries, as a trie has one for an address: the one that lasts longest.
    fn blocked(&self, source: Address) -> Option<Until> {
        let source = source.ip();
        let entries = self.world.blocked.iter().filter(|(blocked, _)| *blocked == source);
        let ends = entries.map(|(_, until)| until.map_or(u64::MAX, |until| START + until * HZ));
        ends.max().map(|end| if end == u64::MAX { Until::FOR_GOOD } else { Until(end) })
    }

    fn limit(&self, _: u32, policy: u32) -> Option<Limit> {
        let limit = self.world.limits[policy as usize];
        Some(limit.map_or(Limit::NONE, |(rate, burst, alone)| Limit {
            scope: if alone { policy } else { NO_POLICY },
            ..Limit::of_box(rate, burst)
        }))
    }

    fn change_bucket<R>(&self, key: &OpeningKey, change: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
        self.buckets.borrow_mut().get_mut(key).map(change)
    }

    fn add_bucket(&self, key: &OpeningKey, bucket: Bucket) {
        assert!(self.buckets.borrow_mut().insert(*key, bucket).is_none());
    }

    fn within(&self, rate: Rate) -> bool {
        match rate {
            Rate::IcmpError | Rate::IcmpErrorOfFlow(_) | Rate::IcmpErrorOfPort(_) => self.world.errors_within,
            Rate::IcmpEcho => self.world.echo_within,
        }
    }

    fn may_come_early(&self, slot: u32) -> bool {
        assert_eq!(slot, 1);
        self.world.early_within
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

fn of_words([first, second]: [u64; 2]) -> IpAddr {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_ne_bytes());
    bytes[8..].copy_from_slice(&second.to_ne_bytes());
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

fn bits(numbers: impl Iterator<Item = u32>) -> u32 {
    numbers.fold(0, |bits, number| bits | 1 << number)
}

impl Subprograms for State<'_> {}

impl Tracking for State<'_> {
    fn flow_times(&self, _: u32) -> Option<FlowTimes> {
        Some(FlowTimes::DEFAULT)
    }

    fn flow_port(&self, transport: PortTransport, port: NetPort) -> u8 {
        self.ports.borrow().get(&(transport, port.number())).copied().unwrap_or(0)
    }

    fn stamp_flow_port(&self, transport: PortTransport, port: NetPort, stamp: u8) {
        self.ports.borrow_mut().insert((transport, port.number()), stamp);
    }

    fn learning(&self) -> bool {
        self.learning
    }
}

impl Flows<FlowKeyV4> for State<'_> {
    fn change<R>(&self, key: &FlowKeyV4, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
        self.v4.borrow_mut().get_mut(key).map(change)
    }

    fn add(&self, key: &FlowKeyV4, flow: Flow) {
        assert!(self.v4.borrow_mut().insert(*key, flow).is_none());
    }
}

impl Flows<FlowKeyV6> for State<'_> {
    fn change<R>(&self, key: &FlowKeyV6, change: impl FnOnce(&mut Flow) -> R) -> Option<R> {
        self.v6.borrow_mut().get_mut(key).map(change)
    }

    fn add(&self, key: &FlowKeyV6, flow: Flow) {
        assert!(self.v6.borrow_mut().insert(*key, flow).is_none());
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![address_v4().prop_map(IpAddr::V4), address_v6().prop_map(IpAddr::V6)]
}

fn transport() -> impl Strategy<Value = PortTransport> {
    prop_oneof![Just(PortTransport::Tcp), Just(PortTransport::Udp)]
}

fn open() -> impl Strategy<Value = Open> {
    let groups = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::sample::subsequence(vec![0u32, 7, 31], 1..=3),
    ];
    (0..3u32, transport(), port(), groups).prop_map(|(policy, transport, port, groups)| Open {
        policy,
        transport,
        port,
        groups,
    })
}

/// Few, so that frames meet them.
fn limits() -> impl Strategy<Value = [Option<(u32, u32, bool)>; 3]> {
    let whole = prop::option::of((1..3u32, 1..3u32));
    let own = || prop::option::weighted(0.3, (1..3u32, 1..3u32));
    (whole, [own(), own(), own()]).prop_map(|(whole, own)| {
        own.map(|own| match (own, whole) {
            (Some((rate, burst)), _) => Some((rate, burst, true)),
            (None, Some((rate, burst))) => Some((rate, burst, false)),
            (None, None) => None,
        })
    })
}

/// Where there is one zone, all are in it.
fn targets(vlans: &[(u16, Option<u32>)], all: BTreeMap<(u32, IpAddr), u32>) -> Vec<(u32, IpAddr, u32)> {
    let there = all.into_iter().filter(|((zone, _), _)| *zone == 0 || !vlans.is_empty());
    there.map(|((zone, address), policy)| (zone, address, policy)).collect()
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let rule = (
        prop_oneof![
            4 => (transport(), port()).prop_map(Ok),
            1 => prop_oneof![Just(112u8), Just(50), Just(47), Just(2), Just(132)].prop_map(Err),
        ],
        prop::option::of(address()),
        prop::option::of(0..3u32),
    )
        .prop_map(|(what, from, policy)| AllowRule { what, from, policy });
    (
        prop::collection::vec((transport(), port()), 0..3),
        (
            prop::collection::vec(address(), 0..4),
            prop_oneof![
                1 => Just(Vec::new()),
                1 => prop::collection::vec((address(), prop::option::of(0..60u64)), 1..4),
            ],
            limits(),
        ),
        (
            // The frames have few VLANs. Often there is one zone.
            prop_oneof![
                Just(Vec::new()),
                prop::collection::btree_map(1..6u16, prop::option::weighted(0.9, 0..3u32), 1..4)
                    .prop_map(|vlans| vlans.into_iter().collect()),
            ],
            // An address belongs to one target of a zone.
            prop::collection::btree_map((0..3u32, address()), 0..3u32, 0..6),
            prop::collection::vec(prop::option::of(0..3u32), 3),
            prop::option::of(0..3u32),
        ),
        (
            prop::collection::vec(open(), 0..20),
            prop::collection::vec((prop::sample::select(vec![0u32, 7, 31]), address()), 0..6),
            prop::collection::vec((prop::sample::select(vec![0u32, 7, 31]), 0..3u32), 0..2),
        ),
        prop::collection::vec(rule, 0..8),
        (prop::collection::vec(any::<bool>(), 8), any::<[bool; 4]>()),
    )
        .prop_map(
            |(management_ports, sources, zones, (open, members, zone_groups), allow, (flags, modes))| World {
                audit: if flags[0] { modes } else { [modes[3]; 4] },
                management_ports,
                management_sources: sources.0,
                blocked: sources.1,
                limits: sources.2,
                targets: targets(&zones.0, zones.1),
                hosts: zones.2,
                outbound: zones.3.filter(|_| !zones.0.is_empty()),
                vlans: zones.0,
                open,
                members,
                zone_groups,
                allow,
                dhcp_client: flags[1],
                forwards: flags[7],
                unmatched_pass: vec![flags[2], flags[5], flags[6]],
                errors_within: flags[3],
                echo_within: flags[4],
                early_within: flags[7],
            },
        )
}
