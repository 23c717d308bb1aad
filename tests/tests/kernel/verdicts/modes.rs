//! Audit mode here and enforcement there: a frame goes by the mode of its target, and one without a target by that of the box.

use std::net::IpAddr;

use lyncwall_common::reason::{Action, Reason};
use lyncwall_policy::compile::Input;
use lyncwall_policy::config::Mode::{self, Audit, Enforce};
use lyncwall_policy::judge::HostTables;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ethernet, Extension, Ipv4, Packet, Payload, Tcp, Udp, protocol};
use lyncwall_tests::prerequisites::require_root;

use crate::verdicts::firewall::{Entry, Firewall};
use crate::verdicts::policy::between;
use crate::verdicts::world::{self, Policy, World};
use crate::verdicts::zones::{Both, FAR, INSIDE, OPEN, OTHER, OWN, SERVER, in_each_family, input, syn};

/// Judges under these modes: of what has no target, and of the targets.
fn under(input: Input, mode: Mode, modes: &[Mode], check: impl Fn(&Both<'_>, usize)) {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let policy = Policy::from_input(&Input { mode, modes: modes.to_vec(), ..input });
    for entry in Entry::judging() {
        let kernel = Firewall::new(bpffs.path().join(format!("{entry:?}")), entry, &policy.compiled);
        let both = Both { kernel: &kernel, memory: HostTables::new(&policy.compiled, 1), policy: &policy };
        in_each_family(&both, &check);
    }
}

/// A frame that is dropped where its target, or the box, is enforced.
#[track_caller]
fn expect(both: &Both<'_>, tags: &[u16], packet: Packet, reason: Reason, mode: Mode) {
    let action = if mode == Audit { Action::Pass } else { Action::Drop };
    both.expect_action(tags, packet, (reason, action), None);
}

/// TCP with no flags, which no stack sends.
fn null(from: &str, to: &str) -> Packet {
    between(from, to).with(Tcp { flags: 0, ..Tcp::new(40_000, 443) })
}

/// An IP protocol that nothing lets in.
fn gre(from: &str, to: &str) -> Packet {
    between(from, to).with(Payload::of_protocol(protocol::GRE, vec![0; 8]))
}

/// The targets are the server, the box itself, and the server in the zone of a VLAN; behind another VLAN is who may call only
/// what the catalogue says.
fn frames(both: &Both<'_>, side: usize, [rest, server, own, within]: [Mode; 4]) {
    let (far, to_server, to_box, elsewhere) = (FAR[side], SERVER[side], OWN[side], OTHER[side]);
    for (to, mode) in [(to_server, server), (to_box, own)] {
        expect(both, &[], syn(far, to, 5081), Reason::Closed, mode);
        expect(both, &[], between(far, to).with(Tcp::ack(40_000, 5081)), Reason::NoFlow, mode);
        expect(both, &[], null(far, to), Reason::TcpFlags, mode);
        expect(both, &[], gre(far, to), Reason::Protocol, mode);
        // What follows a first fragment that was to be dropped.
        let parts = syn(far, to, 5081).with(&[0; 64]).fragments(40, 7);
        expect(both, &[], parts[0].clone(), Reason::Closed, mode);
        expect(both, &[], parts[1].clone(), Reason::FragmentOrphan, mode);
    }
    expect(both, &[], syn(far, to_box, 444), Reason::Source, own);
    expect(both, &[OPEN], syn(far, to_server, 5068), Reason::Closed, within);
    both.expect(&[], syn(far, to_server, 5068), Reason::Allowed, Some("sip"));
    // In no target: by its address, by its direction, or as it has none that could be read.
    expect(both, &[], syn(far, elsewhere, 443), Reason::Unmatched, rest);
    expect(both, &[INSIDE], syn(to_server, far, 5080), Reason::Unmatched, rest);
    // Forms that Linux takes all the same, so they go by the target as well.
    for (to, mode) in [(to_server, server), (to_box, own), (elsewhere, rest)] {
        let tiny = syn(far, to, 5068).fragments(8, 8).remove(0);
        expect(both, &[], tiny, Reason::FragmentTiny, mode);
        let empty = between(far, to).with(Udp { length: Some(0), ..Udp::new(4000, 161) });
        expect(both, &[], empty, Reason::MalformedUdp, mode);
    }
    // Nobody knows the target of these: they may be for any of the zone.
    let strictest = |modes: &[Mode]| if modes.contains(&Enforce) { Enforce } else { Audit };
    let zones = [
        (&[][..], &[rest, server, own][..]),
        (&[INSIDE], &[rest]),
        (&[OPEN], &[rest, within]),
        (&[7], &[rest, server, own]),
    ];
    for (tags, modes) in zones {
        let mode = strictest(modes);
        expect(both, tags, hidden(), Reason::Encapsulated, mode);
        for to in [to_server, to_box, elsewhere] {
            let deep = [tags, &[30; 9]].concat();
            expect(both, &deep[..9], syn(far, to, 5081), Reason::VlanDepth, mode);
            expect(both, tags, sent_on(far, to), Reason::IpSourceRoute, mode);
            if side == 1 {
                expect(both, tags, sent_on_by_type_0(far, to), Reason::Ipv6Rh0, mode);
                expect(both, tags, with_a_chain(far, to), Reason::Ipv6Chain, mode);
            }
        }
    }
    // Nine priority tags: nobody knows the zone.
    let everywhere = strictest(&[rest, server, own, within]);
    expect(both, &[0; 9], syn(far, to_server, 5081), Reason::VlanDepth, everywhere);
    // Linux takes priority tags away: the packet inside has a target.
    for tags in [&[0, 0, 0][..], &[0; 8]] {
        expect(both, tags, syn(far, to_server, 5081), Reason::Closed, server);
        expect(both, tags, syn(far, to_box, 5081), Reason::Closed, own);
        expect(both, tags, syn(far, elsewhere, 443), Reason::Unmatched, rest);
        both.expect(tags, syn(far, to_server, 5068), Reason::Allowed, Some("sip"));
    }
    expect(both, &[0, 0, 0, OPEN], syn(far, to_server, 5068), Reason::Closed, within);
}

fn hidden() -> Packet {
    Packet::ethernet(Ethernet::default()).with(Payload::of_ether_type(0x8847, vec![0; 46]))
}

/// A packet that goes on to another host than its destination.
fn sent_on(from: &str, to: &str) -> Packet {
    match (from.parse().expect("an address"), to.parse().expect("an address")) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let options = vec![131, 7, 4, 10, 0, 0, 5, 0];
            Pair::frame().with(Ipv4 { options, ..Ipv4::new(from, to) }).with(Tcp::syn(40_000, 5081))
        }
        _ => between(from, to)
            .with(Extension::routing(2, 1, &[SERVER[1].parse().expect("an address")]))
            .with(Tcp::syn(40_000, 5081)),
    }
}

fn sent_on_by_type_0(from: &str, to: &str) -> Packet {
    between(from, to)
        .with(Extension::routing(0, 1, &[SERVER[1].parse().expect("an address")]))
        .with(Tcp::syn(40_000, 5081))
}

fn with_a_chain(from: &str, to: &str) -> Packet {
    let options = |packet: Packet, _| packet.with(Extension::destination_options(&[]));
    (0..7).fold(between(from, to), options).with(Tcp::syn(40_000, 5081))
}

#[test]
fn a_frame_goes_by_the_mode_of_its_target() {
    // Each of them alone on one side, and all on the other.
    for at in 0..4 {
        for (one, others) in [(Audit, Enforce), (Enforce, Audit)] {
            let mut modes = [others; 4];
            modes[at] = one;
            let [rest, targets @ ..] = modes;
            under(input(&[]), rest, &targets, |both, side| frames(both, side, modes));
        }
    }
}

#[test]
fn a_box_that_is_the_only_target_has_its_mode_and_what_has_none_another() {
    for (target, rest) in [(Audit, Enforce), (Enforce, Audit)] {
        under(world::input(World::Host, rest), rest, &[target], |both, side| {
            let (far, own) = (FAR[side], OWN[side]);
            expect(both, &[], syn(far, own, 5081), Reason::Closed, target);
            expect(both, &[], null(far, own), Reason::TcpFlags, target);
            let tiny = syn(far, own, 443).fragments(8, 8).remove(0);
            expect(both, &[], tiny, Reason::FragmentTiny, target);
            // What is enforced is one of the two, and nobody knows which one these are for.
            expect(both, &[], hidden(), Reason::Encapsulated, Enforce);
            expect(both, &[0; 9], syn(far, own, 5081), Reason::VlanDepth, Enforce);
            expect(both, &[0; 3], syn(far, own, 5081), Reason::Closed, target);
        });
    }
}
