//! The verdict against a second statement of the verdict table, which knows what a frame says instead of reading it.

use std::collections::HashMap;
use std::net::IpAddr;

use lyncwall_common::abi::PortTransport;
use lyncwall_common::judge::judge;
use lyncwall_common::reason::{Action, Reason};
use lyncwall_common::verdict::Verdict;
use proptest::prelude::*;

use crate::flows::Model;
use crate::frames::{Built, Extension, Ip, Opt, Payload, Spec, sequence, spec};
use crate::parse::{damaged, noise};
use crate::world::{HZ, State, World, world};

/// Zone, source, destination, identification, and the protocol for IPv4.
type Datagram = (Option<u32>, IpAddr, IpAddr, u16, Option<u8>);

/// First fragments that were let in: when they are forgotten, where they end, and whether management let them in.
pub(crate) type Firsts = HashMap<Datagram, (u64, usize, bool)>;

/// The row of the table and the counter.
pub(crate) fn expected(
    world: &World,
    flows: &mut Model,
    spec: &Spec,
    built: &Built,
    now: u64,
    firsts: &mut Firsts,
) -> (Reason, Option<u32>) {
    let (source, destination) = ends(spec);
    if let Some(reason) = unsound(spec) {
        return (reason, None);
    }
    let Some(part) = spec.part() else { return judge_whole(world, flows, spec, now) };
    let v4 = matches!(spec.ip, Ip::V4 { .. });
    let zone = world.zone(&spec.tags);
    let key = (zone, source, destination, part.id, v4.then_some(spec.protocol()));
    if part.start != 0 {
        let first = firsts.get(&key).filter(|(until, ..)| now < *until);
        let reason = match first {
            Some((_, end, true)) if usize::from(part.start) * 8 < *end => Reason::FragmentOverlap,
            Some((.., true)) => Reason::Fragment,
            _ if world.is_blocked(source, now) => Reason::Blocked,
            Some((_, end, false)) if usize::from(part.start) * 8 < *end => Reason::FragmentOverlap,
            Some((.., false)) => Reason::Fragment,
            None => Reason::FragmentOrphan,
        };
        return (reason, None);
    }
    let (reason, counter) = judge_whole(world, flows, spec, now);
    if passes(world, zone, reason) {
        firsts.insert(key, (now + 30 * HZ, built.end - built.part, reason == Reason::Management));
    } else {
        firsts.remove(&key);
    }
    (reason, counter)
}

/// The rows about headers that end the matter before anything is looked up.
pub(crate) fn unsound(spec: &Spec) -> Option<Reason> {
    if spec.tags.len() > 8 {
        return Some(Reason::VlanDepth);
    }
    match &spec.ip {
        Ip::V4 { options, .. } => options
            .split(|option| *option == Opt::End)
            .next()?
            .iter()
            .any(|option| matches!(option, Opt::LooseSourceRoute | Opt::StrictSourceRoute))
            .then_some(Reason::IpSourceRoute),
        Ip::V6 { extensions, .. } => {
            // Behind a later fragment's header lies data.
            let later = |extension: &Extension| matches!(extension, Extension::Fragment(p) if p.start != 0);
            let readable = extensions.iter().position(later).map_or(extensions.len(), |last| last + 1);
            let rh0 = extensions[..readable]
                .iter()
                .position(|extension| matches!(extension, Extension::Routing { kind: 0, .. }));
            match rh0 {
                Some(position) if position < 6 => Some(Reason::Ipv6Rh0),
                _ if readable > 6 => Some(Reason::Ipv6Chain),
                _ => None,
            }
        }
    }
}

/// The table from "TCP with no flags" on.
fn judge_whole(world: &World, flows: &mut Model, spec: &Spec, now: u64) -> (Reason, Option<u32>) {
    let (source, destination) = ends(spec);
    let zone = world.zone(&spec.tags);
    let listed = world.listed(zone, destination);
    let policy = listed.or(world.rest(zone));
    // What goes out of a zone is for the groups of its destination.
    let goes_out = listed.is_none() && world.limits(zone);
    let (far, by) = if goes_out { (destination, None) } else { (source, zone) };
    let (transport, to) = match spec.payload {
        Payload::Tcp { destination, flags, .. } => {
            let [fin, syn, rst] = [1, 2, 4].map(|bit| flags & bit != 0);
            if flags.trailing_zeros() >= 6 || (syn && (fin || rst)) {
                return (Reason::TcpFlags, None);
            }
            (PortTransport::Tcp, destination)
        }
        Payload::Udp { destination, .. } => (PortTransport::Udp, destination),
        Payload::Icmp { kind, .. } => {
            let hop_limit = if let Ip::V6 { hop_limit, .. } = spec.ip { hop_limit } else { 0 };
            let from_the_link = hop_limit == 255 && (133..=136).contains(&kind);
            if world.is_blocked(source, now) && !from_the_link {
                return (Reason::Blocked, None);
            }
            return (icmp(world, flows, spec, kind, now), None);
        }
        Payload::Other { .. } if world.is_blocked(source, now) => return (Reason::Blocked, None),
        Payload::Other { protocol, .. } => {
            if protocol == 2 && destination.is_ipv4() && destination.is_multicast() {
                return (Reason::MulticastControl, None);
            }
            return match world.first_allow(Err(protocol), policy, source) {
                Some(counter) => (Reason::Allow, Some(counter)),
                None => (Reason::Protocol, None),
            };
        }
    };
    if listed.is_none()
        && world.management_ports.contains(&(transport, to))
        && world.management_sources.contains(&source)
    {
        return (Reason::Management, None);
    }
    if world.is_blocked(source, now) {
        return (Reason::Blocked, None);
    }
    let to_many =
        spec.link_broadcast || destination.is_multicast() || destination.to_string() == "255.255.255.255";
    let for_client = match destination {
        IpAddr::V4(_) => {
            let asked = flows.has_asked(zone, now);
            let to_box = world.listed(zone, destination).is_none() && !world.is_elsewhere(zone, destination);
            to == 68 && (to_many || asked || to_box)
        }
        IpAddr::V6(address) => to == 546 && (to_many || address.is_unicast_link_local()),
    };
    if world.dhcp_client && transport == PortTransport::Udp && for_client {
        return (Reason::Dhcp, None);
    }
    if let Some(counter) = world.first_allow(Ok((transport, to)), policy, source) {
        return (Reason::Allow, Some(counter));
    }
    if to_many {
        return (Reason::Multicast, None);
    }
    let open = policy.and_then(|policy| world.open(policy, transport, to));
    if let Some((counter, open)) = open
        && world.in_scope(&open.groups, far, by)
    {
        let opens = matches!(spec.payload, Payload::Tcp { flags, .. } if flags & 0x12 == 0x02);
        let policy = policy.expect("it has an open port");
        if opens && !flows.may_open(world, policy, source, now) {
            return (Reason::Limit, None);
        }
        return (Reason::Allowed, Some(counter));
    }
    if flows.is_reply(zone, spec, now) {
        return (Reason::Established, None);
    }
    let goes_on = matches!(spec.payload, Payload::Tcp { flags, .. } if flags & 0x12 != 0x02);
    match policy.filter(|_| !goes_out) {
        Some(_) if open.is_some() => (Reason::Source, None),
        Some(_) if goes_on => (Reason::NoFlow, None),
        Some(_) => (Reason::Closed, None),
        None => (Reason::Unmatched, None),
    }
}

fn icmp(world: &World, flows: &mut Model, spec: &Spec, kind: u8, now: u64) -> Reason {
    let error = if world.errors_within { Reason::IcmpError } else { Reason::IcmpRate };
    let echo = if world.echo_within { Reason::IcmpEcho } else { Reason::IcmpRate };
    let (zone, destination) = (world.zone(&spec.tags), ends(spec).1);
    match (&spec.ip, kind) {
        (Ip::V4 { .. }, 3 | 11 | 12 | 8) | (Ip::V6 { .. }, 1..=4 | 128) if world.bars(zone, destination) => {
            Reason::Unmatched
        }
        (Ip::V4 { .. }, 3 | 11 | 12) | (Ip::V6 { .. }, 1..=4) => error,
        (Ip::V4 { .. }, 8) | (Ip::V6 { .. }, 128) => echo,
        (Ip::V4 { .. }, 0) | (Ip::V6 { .. }, 129) if flows.is_reply(zone, spec, now) => Reason::Established,
        (Ip::V6 { hop_limit, .. }, 133..=136) => {
            if *hop_limit == 255 {
                Reason::Neighbour
            } else {
                Reason::NdHopLimit
            }
        }
        (Ip::V6 { .. }, 130..=132 | 143) if destination.is_multicast() => Reason::MulticastControl,
        (Ip::V6 { .. }, 130..=132 | 143) if world.bars(zone, destination) => Reason::Unmatched,
        (Ip::V6 { .. }, 130..=132 | 143) if world.listed(zone, destination).is_none() => {
            Reason::MulticastControl
        }
        (Ip::V4 { .. } | Ip::V6 { .. }, _) => Reason::IcmpOther,
    }
}

pub(crate) fn ends(spec: &Spec) -> (IpAddr, IpAddr) {
    match spec.ip {
        Ip::V4 { source, destination, .. } => (source.into(), destination.into()),
        Ip::V6 { source, destination, .. } => (source.into(), destination.into()),
    }
}

/// What enforcing does, written out again.
fn passes(world: &World, zone: Option<u32>, reason: Reason) -> bool {
    match reason {
        Reason::Unmatched => world.passes_unmatched(zone),
        Reason::NonIp
        | Reason::Fragment
        | Reason::Management
        | Reason::IcmpError
        | Reason::Neighbour
        | Reason::MulticastControl
        | Reason::IcmpEcho
        | Reason::Dhcp
        | Reason::Allow
        | Reason::Allowed
        | Reason::Established => true,
        _ => false,
    }
}

/// Whether audit mode lets a frame go that is to be dropped.
fn is_spared(world: &World, spec: &Spec, reason: Reason) -> bool {
    let (_, destination) = ends(spec);
    let zone = world.zone(&spec.tags);
    if zone.is_none() {
        // It may be for any zone.
        let everywhere = world.audit.iter().all(|audit| *audit);
        return everywhere && (reason != Reason::VlanDepth || world.blocked.is_empty());
    }
    if matches!(reason, Reason::VlanDepth | Reason::IpSourceRoute | Reason::Ipv6Rh0 | Reason::Ipv6Chain) {
        // It may be for another target than its destination says.
        let everywhere = world.audit.iter().all(|audit| *audit);
        return (everywhere || world.audits_zone(zone))
            && (reason != Reason::VlanDepth || world.blocked.is_empty());
    }
    world.audits(world.listed(zone, destination).or(world.rest(zone)))
}

/// A source that is blocked is not spared, for whatever reason above the block-list's it was to be dropped.
pub(crate) fn unspared(world: &World, spec: &Spec, reason: Reason, now: u64) -> Reason {
    let (source, _) = ends(spec);
    let spared = !passes(world, world.zone(&spec.tags), reason) && is_spared(world, spec, reason);
    if spared && world.is_blocked(source, now) { Reason::Blocked } else { reason }
}

/// `spared` is whether audit mode lets the frame go; `None` where that is not known.
fn check_action(world: &World, zone: Option<u32>, verdict: Verdict, spared: Option<bool>) {
    let action = if passes(world, zone, verdict.reason) { Action::Pass } else { Action::Drop };
    assert_eq!(verdict.judged, action, "{verdict:?}");
    match spared.filter(|_| verdict.reason != Reason::Blocked) {
        Some(true) => assert_eq!(verdict.action, Action::Pass, "{verdict:?}"),
        None if verdict.reason != Reason::Blocked && world.audit.contains(&true) => {}
        Some(false) | None => assert_eq!(verdict.action, action, "{verdict:?}"),
    }
    assert_ne!(verdict.reason, Reason::Internal);
    assert!(matches!(verdict.reason, Reason::Allow | Reason::Allowed) || verdict.counter == u32::MAX);
    assert_eq!(verdict.slot, 1);
}

/// The zone of a frame of any bytes.
fn zone_of(world: &World, bytes: &[u8]) -> Option<u32> {
    let is_tag = |at: usize| matches!(bytes.get(at..), Some([0x81, 0x00, ..] | [0x88, 0xa8, ..]));
    let tag =
        |at: usize| Some((false, u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]) & 0xfff));
    // Where the frame ends inside a tag, nothing that is read names a VLAN.
    let tags =
        (12..).step_by(4).take_while(|at| is_tag(*at)).map(|at| tag(at).filter(|_| bytes.len() >= at + 6));
    let tags: Vec<_> = tags.take(9).map(|tag| tag.unwrap_or((false, 0))).collect();
    world.zone(&tags)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_sound_frame_gets_the_row_of_the_table(
        world in world(),
        specs in sequence(),
    ) {
        let mut state = State::new(&world);
        let (mut firsts, mut flows) = (Firsts::new(), Model::default());
        for (spec, seconds) in &specs {
            state.jiffies += seconds * HZ;
            let built = spec.build();
            let (reason, counter) = expected(&world, &mut flows, spec, &built, state.jiffies, &mut firsts);
            let row = reason;
            let reason = unspared(&world, spec, reason, state.jiffies);
            let verdict = judge(&built.bytes[..], &state);
            prop_assert_eq!(verdict.reason, reason, "{:?}", spec);
            prop_assert_eq!(verdict.counter, counter.unwrap_or(u32::MAX), "{:?}", spec);
            check_action(&world, world.zone(&spec.tags), verdict, Some(is_spared(&world, spec, row)));
        }
    }

    #[test]
    fn any_bytes_get_one_row_and_its_action(
        world in world(),
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..120), noise(), damaged()],
    ) {
        let verdict = judge(&bytes[..], &State::new(&world));
        // Too many tags may hide a source that is blocked.
        let hidden = verdict.reason == Reason::VlanDepth && !world.blocked.is_empty();
        let spared = world.audit.iter().all(|audit| *audit).then_some(!hidden);
        check_action(&world, zone_of(&world, &bytes), verdict, spared);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn cutting_a_frame_off_never_opens_a_door(world in world(), spec in spec()) {
        let built = spec.build();
        let judge = |bytes: &[u8]| judge(bytes, &State::new(&world));
        let whole = judge(&built.bytes);
        for length in 0..built.bytes.len() {
            let cut = judge(&built.bytes[..length]);
            if length >= built.end {
                prop_assert_eq!(cut, whole, "{} bytes: only padding is missing", length);
            } else {
                prop_assert_eq!(cut.judged, Action::Drop, "{} bytes: {:?}", length, cut);
            }
        }
    }

    #[test]
    fn padding_of_any_content_changes_nothing(
        world in world(),
        spec in spec(),
        padding in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let built = spec.build();
        let judge = |bytes: &[u8]| judge(bytes, &State::new(&world));
        let padded = [&built.bytes[..built.end], &padding].concat();
        prop_assert_eq!(judge(&padded), judge(&built.bytes));
    }
}

/// The properties above prove nothing about rows that their frames never meet.
#[test]
fn the_frames_meet_every_row_that_sound_frames_can_meet() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut met = std::collections::BTreeMap::new();
    let several = sequence();
    for _ in 0..12_000 {
        let world = world().new_tree(&mut runner).expect("a world").current();
        let mut state = State::new(&world);
        for (spec, seconds) in several.new_tree(&mut runner).expect("frames").current() {
            state.jiffies += seconds * HZ;
            let verdict = judge(&spec.build().bytes[..], &state);
            *met.entry(verdict.reason.name()).or_insert(0) += 1;
        }
    }
    let built_otherwise = [
        Reason::NonIp,
        Reason::Encapsulated,
        Reason::MalformedEthernet,
        Reason::MalformedIpv4,
        Reason::MalformedIpv6,
        Reason::MalformedTcp,
        Reason::MalformedUdp,
        Reason::MalformedIcmp,
        Reason::FragmentTiny,
        Reason::Established,
        Reason::Internal,
    ];
    for reason in Reason::ALL {
        let count = met.get(reason.name()).copied().unwrap_or(0);
        let reachable = !built_otherwise.contains(reason);
        assert_eq!(count > 0, reachable, "{reason}: {count}; {met:?}");
    }
}
