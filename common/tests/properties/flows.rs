//! Flows against a second statement of their rules, over frames that go out and come in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use lyncwall_common::abi::PortTransport;
use lyncwall_common::judge::judge;
use lyncwall_common::outgoing::track;
use proptest::prelude::*;

use crate::frames::{Ip, Payload, Spec, spec};
use crate::verdict::{Firsts, ends, expected, unsound, unspared};
use crate::world::{HZ, State, World, world};

/// Zone, protocol, this side and its port, the far side and its port.
type Key = (Option<u32>, u8, (IpAddr, u16), (IpAddr, u16));

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Syn,
    Talking,
    Ended,
    Datagrams,
    Echo,
}

/// Every flow, with the time of its last packet.
#[derive(Debug, Default)]
pub(crate) struct Model {
    flows: HashMap<Key, (Phase, u64)>,
    learning: bool,
    /// When a client asked for an address, by zone.
    asked: HashMap<Option<u32>, u64>,
    /// When a source opened connections that counted, by the policy that counts them alone.
    openings: HashMap<(IpAddr, Option<u32>), Vec<u64>>,
}

impl Model {
    /// Whether a source may open one more connection, counted from the first one on.
    pub(crate) fn may_open(&mut self, world: &World, policy: u32, source: IpAddr, now: u64) -> bool {
        let Some((rate, burst, alone)) = world.limits[policy as usize] else { return true };
        let network = match source {
            IpAddr::V4(_) => source,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        };
        let openings = self.openings.entry((network, alone.then_some(policy))).or_default();
        // In parts of an opening, HZ of which are one.
        let full = u64::from(burst) * HZ;
        let mut left = full;
        let mut last = now;
        for opened in &*openings {
            left = (left + opened.saturating_sub(last) * u64::from(rate)).min(full) - HZ;
            last = *opened;
        }
        left = (left + (now - last) * u64::from(rate)).min(full);
        let within = left >= HZ;
        if within {
            openings.push(now);
        }
        within
    }

    /// Whether the client on this box asked for an address a moment ago.
    pub(crate) fn has_asked(&self, zone: Option<u32>, now: u64) -> bool {
        self.asked.get(&zone).is_some_and(|asked| now - asked <= 30 * HZ)
    }

    /// What goes out.
    fn send(&mut self, world: &World, spec: &Spec, now: u64) {
        let v6 = matches!(spec.ip, Ip::V6 { .. });
        if spec.tags.len() > 8
            || (v6 && unsound(spec).is_some())
            || spec.part().is_some_and(|part| part.start != 0)
        {
            return;
        }
        let (local, remote) = ends(spec);
        let zone = world.zone(&spec.tags);
        let is_broadcast = spec.link_broadcast || remote.to_string() == "255.255.255.255";
        if !v6 && is_broadcast && matches!(spec.payload, Payload::Udp { source: 68, destination: 67, .. }) {
            self.asked.insert(zone, now);
        }
        if is_broadcast || remote.is_multicast() {
            return;
        }
        match spec.payload {
            Payload::Tcp { source, destination, flags, .. } => {
                let key = (zone, 6, (local, source), (remote, destination));
                let [fin, syn, rst, ack] = [1, 2, 4, 16].map(|bit| flags & bit != 0);
                // What was silent for so long that its port's stamp tells that no flow lives there is not picked up again.
                let known = self.flows.get(&key).filter(|(_, last)| now - last < 7900 * HZ);
                let phase = match known {
                    // A connection that lives is not begun anew.
                    Some((Phase::Talking, last)) if syn && !ack && now - last <= 7200 * HZ => {
                        Some(Phase::Talking)
                    }
                    _ if syn && !ack => Some(Phase::Syn),
                    Some((Phase::Syn, _)) if rst => Some(Phase::Syn),
                    Some(_) if fin || rst => Some(Phase::Ended),
                    Some((Phase::Syn, _)) => Some(Phase::Talking),
                    Some((phase, _)) => Some(*phase),
                    None => (self.learning && !fin && !rst && !syn)
                        .then_some(Phase::Talking)
                        .filter(|_| !answer_passes(world, zone, (local, source), remote, PortTransport::Tcp)),
                };
                if let Some(phase) = phase {
                    self.flows.insert(key, (phase, now));
                }
            }
            Payload::Udp { source, destination, .. } => {
                let key = (zone, 17, (local, source), (remote, destination));
                let known = self.flows.contains_key(&key);
                if known || !answer_passes(world, zone, (local, source), remote, PortTransport::Udp) {
                    self.flows.insert(key, (Phase::Datagrams, now));
                }
            }
            Payload::Icmp { kind, .. } => {
                let (request, protocol) = if v6 { (128, 58) } else { (8, 1) };
                if kind == request {
                    self.flows.insert((zone, protocol, (local, ID), (remote, 0)), (Phase::Echo, now));
                }
            }
            Payload::Other { .. } => {}
        }
    }

    /// True for what comes in and belongs to a flow, which then lives on.
    pub(crate) fn is_reply(&mut self, zone: Option<u32>, spec: &Spec, now: u64) -> bool {
        let (remote, local) = ends(spec);
        let key = match spec.payload {
            Payload::Tcp { flags, .. } if flags & 0x12 == 0x02 => return false,
            Payload::Tcp { source, destination, .. } => (zone, 6, (local, destination), (remote, source)),
            Payload::Udp { source, destination, .. } => (zone, 17, (local, destination), (remote, source)),
            Payload::Icmp { kind: 0, .. } if local.is_ipv4() => (zone, 1, (local, ID), (remote, 0)),
            Payload::Icmp { kind: 129, .. } if local.is_ipv6() => (zone, 58, (local, ID), (remote, 0)),
            Payload::Icmp { .. } | Payload::Other { .. } => return false,
        };
        let Some((phase, last)) = self.flows.get_mut(&key) else { return false };
        let seconds = match phase {
            Phase::Syn => 130,
            Phase::Talking => 7200,
            Phase::Ended => 120,
            Phase::Datagrams => 180,
            Phase::Echo => 30,
        };
        let lives = now - *last <= seconds * HZ;
        if lives {
            *last = now;
        }
        lives
    }
}

/// Of every echo request and reply here: the frames' ICMP data is zeroes.
const ID: u16 = 0;

/// Whether a rule lets in what `remote` answers.
fn answer_passes(
    world: &World,
    zone: Option<u32>,
    (local, port): (IpAddr, u16),
    remote: IpAddr,
    transport: PortTransport,
) -> bool {
    let listed = world.listed(zone, local);
    let policy = listed.or(world.rest(zone));
    let (far, by) = if listed.is_none() && world.limits(zone) { (local, None) } else { (remote, zone) };
    let managed = listed.is_none()
        && world.management_ports.contains(&(transport, port))
        && world.management_sources.contains(&remote);
    managed
        || world.first_allow(Ok((transport, port)), policy, remote).is_some()
        || match policy {
            Some(policy) => world
                .open(policy, transport, port)
                .is_some_and(|(_, open)| world.in_scope(&open.groups, far, by)),
            None => world.passes_unmatched(zone),
        }
}

/// Which way a frame goes, and what it is.
#[derive(Debug, Clone, Copy)]
enum Way {
    Out,
    In,
    /// The answer to the frame before it.
    Back,
    /// The frame before it, once more.
    Again,
}

fn steps() -> impl Strategy<Value = Vec<(Spec, u64, Way)>> {
    let way =
        prop_oneof![3 => Just(Way::Out), 1 => Just(Way::In), 4 => Just(Way::Back), 2 => Just(Way::Again)];
    let seconds = prop_oneof![
        4 => Just(0u64),
        2 => prop::sample::select(vec![1, 29, 30, 31, 119, 120, 121, 130, 131, 180, 181, 7200, 7201]),
    ];
    prop::collection::vec((spec(), seconds, way, any::<u8>()), 1..10).prop_map(|steps| {
        let mut last: Option<Spec> = None;
        let mut done = Vec::new();
        for (spec, seconds, way, flags) in steps {
            let (spec, way) = match (way, &last) {
                (Way::Back, Some(before)) => (before.answered(flags), Way::Back),
                (Way::Again, Some(before)) => (before.with_flags(flags), Way::Out),
                (Way::In, _) => (spec, Way::In),
                _ => (spec, Way::Out),
            };
            if matches!(way, Way::Out) {
                last = Some(spec.clone());
            }
            done.push((spec, seconds, way));
        }
        done
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    #[test]
    fn replies_pass_by_their_flows(world in world(), learning in any::<bool>(), steps in steps()) {
        let mut state = State::new(&world);
        state.learning = learning;
        let mut model = Model { learning, ..Model::default() };
        let mut firsts = Firsts::new();
        for (spec, seconds, way) in &steps {
            state.jiffies += seconds * HZ;
            let built = spec.build();
            if matches!(way, Way::Out) {
                track(&built.bytes[..], &state);
                model.send(&world, spec, state.jiffies);
                continue;
            }
            let (reason, _) = expected(&world, &mut model, spec, &built, state.jiffies, &mut firsts);
            let reason = unspared(&world, spec, reason, state.jiffies);
            prop_assert_eq!(judge(&built.bytes[..], &state).reason, reason, "{:?}", spec);
        }
    }
}

/// The property above proves nothing where its frames never meet a flow.
#[test]
fn the_frames_meet_flows() {
    use lyncwall_common::reason::Reason;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut replies = HashMap::new();
    let steps = steps();
    for _ in 0..20_000 {
        let world = world().new_tree(&mut runner).expect("a world").current();
        let mut state = State::new(&world);
        for (spec, seconds, way) in steps.new_tree(&mut runner).expect("frames").current() {
            state.jiffies += seconds * HZ;
            let bytes = spec.build().bytes;
            if matches!(way, Way::Out) {
                track(&bytes[..], &state);
            } else if judge(&bytes[..], &state).reason == Reason::Established {
                let (protocol, family) = (spec.protocol(), ends(&spec).0.is_ipv4());
                *replies.entry((protocol, family)).or_insert(0) += 1;
            }
        }
    }
    for key in [(6, true), (6, false), (17, true), (17, false), (1, true), (58, false)] {
        assert!(replies.get(&key).is_some_and(|count| *count > 2), "{key:?}: {replies:?}");
    }
}
