//! Zones: which one a frame is in, and what holds there.

use std::path::Path;

use lyncwall_common::abi::{FlowTimes, PortTransport};
use lyncwall_common::reason::{Action, Reason};
use lyncwall_policy::compile::{Answers, GroupInput, Input, InterfaceInput, Rule, TargetInput, ZoneInput};
use lyncwall_policy::config::{self, Mode};
use lyncwall_policy::judge::HostTables;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::kernel;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Icmp4, Icmp6, Packet, Tcp, Udp};
use lyncwall_tests::prerequisites::require_root;

use crate::verdicts::firewall::{Entry, Firewall};
use crate::verdicts::policy::between;
use crate::verdicts::world::Policy;

/// The server behind the gateway, in both families; outside it is a target.
pub(crate) const SERVER: [&str; 2] = ["10.0.0.5", "fd00::5"];
/// Another host behind it.
pub(crate) const OTHER: [&str; 2] = ["10.0.0.6", "fd00::6"];
/// The gateway's own address.
pub(crate) const OWN: [&str; 2] = ["10.0.0.1", "fd00::1"];
/// Far away; the second is in the group that one port is for.
pub(crate) const FAR: [&str; 2] = ["203.0.113.200", "2001:db8:f::200"];
const PEER: [&str; 2] = ["203.0.113.201", "2001:db8:f::201"];
const ADMIN: [&str; 2] = ["203.0.113.77", "2001:db8:f::77"];

/// VLANs on the interface of test runs: `inside`, which the catalogue limits, and `open`, where all passes.
pub(crate) const INSIDE: u16 = 10;
pub(crate) const OPEN: u16 = 20;

/// Zone 0 is `outside`: untagged frames, and VLANs that nothing is said of. `others` are further interfaces and their zones.
pub(crate) fn input(others: &[(u32, usize)]) -> Input {
    let text = format!(
        "[management]\nfrom = {ADMIN:?}\ntcp = [22]\n[groups]\npeers = {PEER:?}\n\
         [[interface]]\nname = \"eth0\"\n[[target]]\nroles = []\n\
         [[allow]]\nname = \"resolver\"\ntransport = \"udp\"\nports = [53]\nfrom = {SERVER:?}\n"
    );
    let config =
        config::parse(&text, Path::new("zones.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    let addresses = |texts: [&str; 2]| {
        config::Address::List(texts.iter().map(|text| text.parse().expect("an address")).collect())
    };
    let rule = |transport, port, groups: &[&str], row: &str| Rule {
        transport,
        first: port,
        last: port,
        groups: groups.iter().map(ToString::to_string).collect(),
        rows: vec![row.to_owned()],
    };
    let target =
        |name: &str, zone, address, inbound| TargetInput { name: name.to_owned(), zone, address, inbound };
    let zone = |name: &str| ZoneInput { name: name.to_owned(), ..ZoneInput::default() };
    let calls = vec![
        rule(PortTransport::Tcp, 5081, &[], "gateway-call"),
        rule(PortTransport::Tcp, 5082, &["peers"], "peer-call"),
        rule(PortTransport::Udp, 6000, &[], "media-out"),
    ];
    let tcp = PortTransport::Tcp;
    let mut interfaces =
        vec![InterfaceInput { ifindex: 1, vlans: vec![(INSIDE, 1), (OPEN, 2)], ..InterfaceInput::default() }];
    interfaces.extend(others.iter().map(|&(ifindex, zone)| InterfaceInput {
        ifindex,
        zone,
        ..InterfaceInput::default()
    }));
    Input {
        zones: vec![
            zone("outside"),
            ZoneInput { outbound: Some(calls), ..zone("inside") },
            ZoneInput { unmatched: config::Unmatched::Pass, ..zone("open") },
        ],
        targets: vec![
            target("server", 0, addresses(SERVER), vec![rule(tcp, 5068, &[], "sip")]),
            target(
                "box",
                0,
                config::Address::Host,
                vec![rule(tcp, 443, &[], "https"), rule(tcp, 444, &["within"], "nobody")],
            ),
            // The same address in another role.
            target(
                "server-within",
                2,
                addresses(SERVER),
                vec![rule(tcp, 445, &[], "smb"), rule(tcp, 446, &["within"], "for-within")],
            ),
        ],
        allow: config.allow,
        groups: config
            .groups
            .iter()
            .map(GroupInput::from)
            // Everybody who comes in by the zone `open`.
            .chain([GroupInput { name: "within".to_owned(), prefixes: Vec::new(), zone: Some(2) }])
            .collect(),
        management: config.management,
        mode: Mode::Enforce,
        modes: vec![],
        interfaces,
        local: OWN.iter().map(|text| text.parse().expect("an address")).collect(),
        forwards: true,
        flow_times: FlowTimes::DEFAULT,
        early_fragments: 0,
        limits: Vec::new(),
        answers: Answers::default(),
    }
}

/// The firewall in the kernel and in memory, which must say the same.
pub(crate) struct Both<'a> {
    pub(crate) kernel: &'a Firewall,
    pub(crate) memory: HostTables<'a>,
    pub(crate) policy: &'a Policy,
}

impl Both<'_> {
    /// Judges a frame that comes in with these tags. `rule` is the row whose counter goes up.
    pub(crate) fn expect(&self, tags: &[u16], packet: Packet, reason: Reason, rule: Option<&str>) {
        self.expect_action(tags, packet, (reason, reason.action()), rule);
    }

    #[expect(clippy::needless_pass_by_value, reason = "a packet is made where it is judged")]
    pub(crate) fn expect_action(
        &self,
        tags: &[u16],
        packet: Packet,
        (reason, action): (Reason, Action),
        rule: Option<&str>,
    ) {
        let frame = tagged(tags, &packet);
        let verdict = self.memory.judge(&frame);
        let what = format!("{packet:?} with {tags:?}");
        assert_eq!((verdict.reason, verdict.action), (reason, action), "in memory: {what}");
        let before = self.kernel.counts();
        assert_eq!(self.kernel.judge(&frame), action, "{what}");
        let after = self.kernel.counts();
        assert_eq!(after.since(&before), [(Some(reason), action, 1)], "{what}");
        if let Some(rule) = rule {
            let counter = self.policy.counter(rule) as usize;
            assert_eq!(verdict.counter as usize, counter, "{what}");
            assert_eq!(after.rules[counter], before.rules[counter] + 1, "{what}");
        }
    }

    /// A frame that goes out with these tags, as bytes.
    #[expect(clippy::needless_pass_by_value, reason = "a packet is made where it is judged")]
    fn send(&self, tags: &[u16], packet: Packet) {
        let frame = tagged(tags, &packet);
        self.memory.track(&frame);
        self.kernel.send(&frame);
    }
}

/// The frame with these tags, the outer one first; of two, that is one of 802.1ad.
fn tagged(tags: &[u16], packet: &Packet) -> Vec<u8> {
    let frame = packet.build();
    let (addresses, rest) = frame.split_at(12);
    let mut bytes = addresses.to_vec();
    for (position, id) in tags.iter().enumerate() {
        bytes.extend(if position + 1 < tags.len() { [0x88, 0xa8] } else { [0x81, 0x00] });
        bytes.extend(id.to_be_bytes());
    }
    bytes.extend(rest);
    bytes
}

pub(crate) fn syn(from: &str, to: &str, port: u16) -> Packet {
    between(from, to).with(Tcp::syn(40_000, port))
}

pub(crate) fn in_each_family(both: &Both<'_>, check: impl Fn(&Both<'_>, usize)) {
    for side in 0..2 {
        both.kernel.forget();
        check(both, side);
    }
}

#[test]
fn a_frame_is_judged_in_the_zone_of_its_outer_tag() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let policy = Policy::from_input(&input(&[]));
    for entry in Entry::judging() {
        let kernel = Firewall::new(bpffs.path().join(format!("{entry:?}")), entry, &policy.compiled);
        let both = Both { kernel: &kernel, memory: HostTables::new(&policy.compiled, 1), policy: &policy };
        in_each_family(&both, zones_by_tag);
        in_each_family(&both, what_may_be_called);
        in_each_family(&both, flows_keep_to_their_zone);
        in_each_family(&both, fragments_keep_to_their_zone);
    }
}

fn zones_by_tag(both: &Both<'_>, side: usize) {
    let (far, server, own) = (FAR[side], SERVER[side], OWN[side]);
    // Untagged, tagged with a priority only, and VLANs that nothing is said of.
    for tags in [&[][..], &[0], &[30], &[30, INSIDE], &[0, 30], &[0, 0]] {
        both.expect(tags, syn(far, server, 5068), Reason::Allowed, Some("sip"));
        both.expect(tags, syn(far, server, 5081), Reason::Closed, None);
        both.expect(tags, syn(far, server, 445), Reason::Closed, None);
        both.expect(tags, syn(far, own, 443), Reason::Allowed, Some("https"));
        both.expect(tags, syn(far, OTHER[side], 443), Reason::Unmatched, None);
    }
    for tags in [&[OPEN][..], &[OPEN, INSIDE], &[OPEN, 30]] {
        both.expect(tags, syn(far, server, 445), Reason::Allowed, Some("smb"));
        both.expect(tags, syn(far, server, 5068), Reason::Closed, None);
        both.expect_action(tags, syn(far, OTHER[side], 80), (Reason::Unmatched, Action::Pass), None);
        // `host` is in the zone outside; here the box is one destination of many.
        both.expect_action(tags, syn(far, own, 443), (Reason::Unmatched, Action::Pass), None);
    }
    // A group that is a zone.
    both.expect(&[OPEN], syn(far, server, 446), Reason::Allowed, Some("for-within"));
    both.expect(&[], syn(far, own, 444), Reason::Source, None);
    // Management goes by the address alone: the box, and what may be it.
    for tags in [&[][..], &[INSIDE], &[OPEN]] {
        both.expect(tags, syn(ADMIN[side], own, 22), Reason::Management, None);
    }
    both.expect(&[], syn(ADMIN[side], server, 22), Reason::Closed, None);
}

fn what_may_be_called(both: &Both<'_>, side: usize) {
    let (server, far, peer, own) = (SERVER[side], FAR[side], PEER[side], OWN[side]);
    let inside = &[INSIDE][..];
    both.expect(inside, syn(server, far, 5081), Reason::Allowed, Some("gateway-call"));
    // The kernel takes a priority tag away and looks at the next one.
    both.expect(&[0, INSIDE], syn(server, far, 5081), Reason::Allowed, Some("gateway-call"));
    both.expect(&[0, 0, 0, INSIDE], syn(server, far, 5081), Reason::Allowed, Some("gateway-call"));
    both.expect(&[0, 0, INSIDE, OPEN], syn(server, far, 5080), Reason::Unmatched, None);
    both.expect(inside, syn(server, far, 5080), Reason::Unmatched, None);
    both.expect(inside, syn(server, far, 5068), Reason::Unmatched, None);
    // A row for a group: it is the destination that has to be in it.
    both.expect(inside, syn(server, peer, 5082), Reason::Allowed, Some("peer-call"));
    both.expect(inside, syn(server, far, 5082), Reason::Unmatched, None);
    both.expect(inside, syn(peer, far, 5082), Reason::Unmatched, None);
    // The box itself is not behind the box.
    both.expect(inside, syn(server, own, 5081), Reason::Unmatched, None);
    let udp = |to: &str, port| between(server, to).with(Udp::new(4000, port));
    both.expect(inside, udp(far, 6000), Reason::Allowed, Some("media-out"));
    both.expect(inside, udp(far, 6001), Reason::Unmatched, None);
    // Rules without a target hold for what goes out, too.
    both.expect(inside, udp(far, 53), Reason::Allow, Some("allow/resolver"));
    both.expect(inside, between(OTHER[side], far).with(Udp::new(4000, 53)), Reason::Unmatched, None);
    both.expect(inside, between(server, far).with(Tcp::ack(5068, 40_000)), Reason::Unmatched, None);
}

/// An echo request over either version of IP.
fn echo(from: &str, to: &str) -> Packet {
    let request = between(from, to);
    if to.contains(':') {
        request.with(Icmp6::echo_request(1, 1))
    } else {
        request.with(Icmp4::echo_request(1, 1))
    }
}

/// An ICMP error about a packet: unreachable.
fn error(from: &str, to: &str, about: &Packet) -> Packet {
    let (packet, quote) = (between(from, to), about.build()[14..].to_vec());
    if to.contains(':') {
        packet.with(Icmp6::new(1, 0)).with(quote)
    } else {
        packet.with(Icmp4::new(3, 1)).with(quote)
    }
}

/// Echo, errors and group membership are for the box and for targets; elsewhere a zone decides.
fn what_is_for_the_box_does_not_go_elsewhere(both: &Both<'_>, side: usize) {
    let (server, far, other, own) = (SERVER[side], FAR[side], OTHER[side], OWN[side]);
    for to in [server, own] {
        both.expect(&[], echo(far, to), Reason::IcmpEcho, None);
        both.expect(&[], error(far, to, &syn(to, far, 80)), Reason::IcmpError, None);
    }
    both.expect(&[], echo(far, other), Reason::Unmatched, None);
    let parts = echo(far, other).with(&[0; 64]).fragments(40, 9);
    both.expect(&[], parts[0].clone(), Reason::Unmatched, None);
    both.expect(&[], parts[1].clone(), Reason::FragmentOrphan, None);
    // What servers may call is said by port; everybody may be pinged from there.
    both.expect(&[INSIDE], echo(server, far), Reason::IcmpEcho, None);
    both.expect(&[OPEN], echo(far, other), Reason::IcmpEcho, None);
    // An error goes to the sender of the packet that it quotes.
    let call = || syn(other, far, 5090);
    both.expect(&[], error(far, other, &call()), Reason::Unmatched, None);
    both.send(&[], call());
    both.expect(&[], error(far, other, &call()), Reason::IcmpError, None);
    both.expect(&[], error(PEER[side], other, &call()), Reason::IcmpError, None);
    both.expect(&[], error(far, other, &syn(other, far, 5091)), Reason::Unmatched, None);
    // What the box, a target or another host sent is no pass to this one.
    for (sender, open) in [(own, 443), (server, 5068)] {
        let answer = between(sender, far).with(Tcp::ack(open, 40_000));
        both.expect(&[], error(far, other, &answer), Reason::Unmatched, None);
    }
    let calls = || between(other, far).with(Udp::new(4500, 4500));
    both.send(&[], calls());
    both.expect(&[], error(far, other, &calls()), Reason::IcmpError, None);
    both.expect(&[], error(far, SERVER[side], &calls()), Reason::IcmpError, None);
    if side == 1 {
        // A router says "packet too big" of the first fragment; a later one has no ports.
        let parts = calls().with(&[0; 128]).fragments(64, 7);
        both.expect(&[], error(far, other, &parts[0]), Reason::IcmpError, None);
        both.expect(&[], error(far, other, &parts[1]), Reason::Unmatched, None);
    }
    both.expect(&[OPEN], error(far, other, &syn(other, far, 5091)), Reason::IcmpError, None);
    if side == 1 {
        let query = |to: &str| between(far, to).with(Icmp6::new(130, 0)).with(&[0; 16]);
        both.expect(&[], query("ff02::1"), Reason::MulticastControl, None);
        both.expect(&[], query(own), Reason::MulticastControl, None);
        both.expect(&[], query(server), Reason::IcmpOther, None);
        both.expect(&[], query(other), Reason::Unmatched, None);
        both.expect(&[OPEN], query(other), Reason::MulticastControl, None);
    }
}

#[test]
fn a_gateway_that_drops_what_has_no_target_hides_the_hosts_behind_it() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    // With and without the box among the targets.
    for targets in [3, 1] {
        let mut input = input(&[]);
        input.targets.truncate(targets);
        let policy = Policy::from_input(&input);
        for entry in Entry::judging() {
            let place = bpffs.path().join(format!("{entry:?}-{targets}"));
            let kernel = Firewall::new(place, entry, &policy.compiled);
            let both =
                Both { kernel: &kernel, memory: HostTables::new(&policy.compiled, 1), policy: &policy };
            in_each_family(&both, what_is_for_the_box_does_not_go_elsewhere);
        }
    }
}

#[test]
fn a_dhcp_client_on_a_gateway_gets_its_replies_and_nobody_behind_it_does() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut input = input(&[]);
    input.interfaces[0].dhcp_client = true;
    let policy = Policy::from_input(&input);
    for entry in Entry::judging() {
        let kernel = Firewall::new(bpffs.path().join(format!("{entry:?}")), entry, &policy.compiled);
        let both = Both { kernel: &kernel, memory: HostTables::new(&policy.compiled, 1), policy: &policy };
        let reply = |to: &str| between(FAR[0], to).with(Udp::new(67, 68));
        for to in [OWN[0], "255.255.255.255"] {
            both.expect(&[], reply(to), Reason::Dhcp, None);
        }
        both.expect(&[], reply(OTHER[0]), Reason::Unmatched, None);
        both.expect(&[], reply(SERVER[0]), Reason::Closed, None);
        // A server may send to the address that it offers, which the box does not have yet.
        both.send(&[], between("0.0.0.0", "255.255.255.255").with(Udp::new(68, 67)));
        both.expect(&[], reply(OTHER[0]), Reason::Dhcp, None);
        both.expect(&[INSIDE], reply(OTHER[0]), Reason::Unmatched, None);
        let memory = both.memory;
        memory.jiffies.set(memory.jiffies.get() + 61 * memory.hz);
        assert_eq!(memory.judge(&reply(OTHER[0]).build()).reason, Reason::Unmatched);
        let both = Both { kernel: &kernel, memory, policy: &policy };
        let v6 = |to: &str| between("fe80::1", to).with(Udp::new(5547, 546));
        both.expect(&[], v6("fe80::2"), Reason::Dhcp, None);
        both.expect(&[], v6(OTHER[1]), Reason::Unmatched, None);
    }
}

fn flows_keep_to_their_zone(both: &Both<'_>, side: usize) {
    let (server, far) = (SERVER[side], FAR[side]);
    // Somebody opened 5068 from outside: that goes out by the inside leg, and its answer comes in there.
    let answer = || between(server, far).with(Tcp { flags: Tcp::SYN | Tcp::ACK, ..Tcp::new(5068, 40_000) });
    both.expect(&[INSIDE], answer(), Reason::Unmatched, None);
    both.send(&[INSIDE], syn(far, server, 5068));
    both.expect(&[INSIDE], answer(), Reason::Established, None);
    both.expect(&[INSIDE, 7], answer(), Reason::Established, None);
    both.expect(&[], answer(), Reason::Unmatched, None);
    both.expect_action(&[OPEN], answer(), (Reason::Unmatched, Action::Pass), None);
    // The server's call goes out by the outside leg; what answers it by another leg is no reply.
    let reply = || between(far, server).with(Tcp::ack(5081, 41_000));
    both.send(&[], between(server, far).with(Tcp::syn(41_000, 5081)));
    both.expect(&[], reply(), Reason::Established, None);
    both.expect(&[30], reply(), Reason::Established, None);
    both.expect(&[OPEN], reply(), Reason::NoFlow, None);
    // UDP that somebody else began is answered, and makes no flow where the answer is free to go.
    let question = || between(far, server).with(Udp::new(6001, 3478));
    let answered = || between(server, far).with(Udp::new(3478, 6001));
    both.expect(&[INSIDE], answered(), Reason::Unmatched, None);
    both.send(&[INSIDE], question());
    both.expect(&[INSIDE], answered(), Reason::Established, None);
    let before = both.kernel.counts().flows_added;
    both.send(&[INSIDE], between(far, server).with(Udp::new(6000, 3478)));
    assert_eq!(both.kernel.counts().flows_added, before, "6000 may be called");
}

fn fragments_keep_to_their_zone(both: &Both<'_>, side: usize) {
    let first = |to: &str| {
        let packet = between(FAR[side], to).with(Tcp::syn(40_000, 5068)).with(&[0; 64]);
        packet.fragments(40, 7)
    };
    let [head, rest @ ..] = &first(SERVER[side])[..] else { panic!("fragments") };
    both.expect(&[], head.clone(), Reason::Allowed, Some("sip"));
    both.expect(&[OPEN], rest[0].clone(), Reason::FragmentOrphan, None);
    both.expect(&[INSIDE], rest[0].clone(), Reason::FragmentOrphan, None);
    both.expect(&[30], rest[0].clone(), Reason::Fragment, None);
}

#[test]
fn each_interface_has_its_zone_and_an_unknown_one_has_none() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let pair = Pair::new().expect("a pair");
    let index = pair.host.index(Pair::HOST_LINK).expect("an index");
    for entry in Entry::judging() {
        let stranger = index + 1000;
        for (known, reason) in [(index, Reason::Allowed), (stranger, Reason::Unmatched)] {
            let policy = Policy::from_input(&input(&[(known, 2)]));
            let place = bpffs.path().join(format!("{entry:?}-{known}"));
            let mut firewall = Firewall::new(place, entry, &policy.compiled);
            let smb = syn(FAR[0], SERVER[0], 445).build();
            let management = syn(ADMIN[0], SERVER[0], 22).build();
            assert_eq!(HostTables::new(&policy.compiled, index).judge(&smb).reason, reason);
            if !kernel::takes_interface_in_test_runs(firewall.program()).expect("test runs") {
                println!("test runs of this kernel cannot name an interface");
                continue;
            }
            let before = firewall.counts();
            let action = pair.host.run(|| firewall.judge_on(&smb, index));
            assert_eq!(action, reason.action());
            assert_eq!(firewall.counts().since(&before), [(Some(reason), action, 1)]);
            // Whatever the zone is, management is not locked out of an interface that is new.
            if known == stranger {
                assert_eq!(pair.host.run(|| firewall.judge_on(&management, index)), Action::Pass);
                // The box is in audit mode, and one target is enforced: this may be for it.
                let modes = vec![Mode::Audit, Mode::Audit, Mode::Enforce];
                let mixed = Policy::from_input(&Input { mode: Mode::Audit, modes, ..input(&[(known, 2)]) });
                firewall.install(&mixed.compiled);
                assert_eq!(pair.host.run(|| firewall.judge_on(&smb, index)), Action::Drop);
                assert_eq!(HostTables::new(&mixed.compiled, index).judge(&smb).action, Action::Drop);
            }
        }
    }
}
