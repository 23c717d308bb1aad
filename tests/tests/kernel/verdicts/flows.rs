//! What the box sends, and what comes back.

use lyncwall_common::reason::{Action, Reason};
use lyncwall_tests::packet::{Extension, Icmp4, Icmp6, Packet, Tcp, Udp};

use crate::verdicts::fixture::{Expected, Fixture, List, allowed, at_tcp, at_udp, by_rule};
use crate::verdicts::policy::{ADMIN, HOST, VIP, between};
use crate::verdicts::world::World;

pub(crate) fn fixtures() -> Vec<Fixture> {
    [tcp(), udp(), echo(), not_for_many(), only_openings(), targets(), fragments()].concat()
}

/// A host far away that no rule knows.
const FAR: [&str; 2] = ["203.0.113.200", "2001:db8:f::200"];
const OTHER: [&str; 2] = ["203.0.113.201", "2001:db8:f::201"];

/// A packet out, and the same with its ends exchanged.
struct Ends {
    out: Packet,
    back: Packet,
}

fn ends(local: &str, remote: &str) -> Ends {
    Ends { out: between(local, remote), back: between(remote, local) }
}

fn tcp() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for side in 0..2 {
        let Ends { out, back } = ends(HOST[side], FAR[side]);
        let what = |text: &str| format!("{text}: {}", FAR[side]);
        let reply = |flags| back.clone().with(Tcp { flags, ..Tcp::new(4443, 40_000) });
        let no_flow = at_tcp(Reason::NoFlow, 40_000);
        list.add(what("SYN and ACK before SYN"), &reply(Tcp::SYN | Tcp::ACK), no_flow);
        list.send(&out.clone().with(Tcp::syn(40_000, 4443)));
        list.add(what("SYN and ACK"), &reply(Tcp::SYN | Tcp::ACK), Reason::Established);
        list.add(what("RST"), &reply(Tcp::RST | Tcp::ACK), Reason::Established);
        list.send(&out.clone().with(Tcp::ack(40_000, 4443)));
        list.add(what("data after RST"), &reply(Tcp::ACK | Tcp::PSH), Reason::Established);
        list.add(what("a bad reply"), &reply(Tcp::SYN | Tcp::FIN), at_tcp(Reason::TcpFlags, 40_000));
        // The far side may not open, with whatever port.
        list.add(what("SYN back"), &reply(Tcp::SYN), at_tcp(Reason::Closed, 40_000));
        // Each part of the key counts.
        let from = back.clone().with(Tcp::ack(4444, 40_000));
        list.add(what("from another port"), &from, at_tcp(Reason::NoFlow, 40_000));
        let to = back.clone().with(Tcp::ack(4443, 40_001));
        list.add(what("to another port"), &to, at_tcp(Reason::NoFlow, 40_001));
        let other = between(OTHER[side], HOST[side]).with(Tcp::ack(4443, 40_000));
        list.add(what("from another host"), &other, at_tcp(Reason::NoFlow, 40_000));
        let elsewhere = between(FAR[side], OTHER[side]).with(Tcp::ack(4443, 40_000));
        list.add(what("to another address"), &elsewhere, at_tcp(Reason::NoFlow, 40_000));
        let udp = back.clone().with(Udp::new(4443, 40_000));
        list.add(what("by UDP"), &udp, at_udp(Reason::Closed, 40_000));
        // The same the other way round is another flow.
        let mirrored = between(HOST[side], FAR[side]).with(Tcp::ack(4443, 40_000));
        list.add(what("mirrored"), &mirrored, at_tcp(Reason::NoFlow, 40_000));
        list.send(&out.clone().with(Tcp { flags: Tcp::FIN | Tcp::ACK, ..Tcp::new(40_000, 4443) }));
        list.add(what("FIN after FIN"), &reply(Tcp::FIN | Tcp::ACK), Reason::Established);
    }
    list.fixtures
}

fn udp() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for side in 0..2 {
        let Ends { out, back } = ends(HOST[side], FAR[side]);
        // A resolver's client, NTP between two servers, IKE, SIP, a port below the ephemeral ones.
        for (local, remote) in [(40_000, 53), (123, 123), (500, 500), (5060, 5060), (7, 4000), (0, 9)] {
            let what = |text: &str| format!("{text}: UDP {local} to {remote} of {}", FAR[side]);
            let reply = back.clone().with(Udp::new(remote, local)).with(b"answer");
            list.add(what("an answer before the question"), &reply, at_udp(Reason::Closed, local));
            list.send(&out.clone().with(Udp::new(local, remote)).with(b"question"));
            list.add(what("an answer"), &reply, Reason::Established);
            list.add(what("a second answer"), &reply, Reason::Established);
            let other = back.clone().with(Udp::new(remote + 1, local));
            list.add(what("an answer from the next port"), &other, at_udp(Reason::Closed, local));
            let tcp = back.clone().with(Tcp::ack(remote, local));
            list.add(what("by TCP"), &tcp, at_tcp(Reason::NoFlow, local));
        }
    }
    list.fixtures
}

fn echo() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    let Ends { out, back } = ends(HOST[0], FAR[0]);
    let reply = |id| back.clone().with(Icmp4::echo_reply(id, 1)).with(&[7; 20]);
    list.add("an echo reply before the request", &reply(77), Reason::IcmpOther);
    list.send(&out.clone().with(Icmp4::echo_request(77, 1)).with(&[7; 20]));
    list.add("an echo reply", &reply(77), Reason::Established);
    list.add("an echo reply to somebody else", &reply(78), Reason::IcmpOther);
    list.add("ports that look like it", &back.clone().with(Udp::new(0, 77)), at_udp(Reason::Closed, 77));
    let Ends { out, back } = ends(HOST[1], FAR[1]);
    let reply = |id| back.clone().with(Icmp6::echo_reply(id, 1)).with(&[7; 20]);
    list.add("an ICMPv6 echo reply before the request", &reply(77), Reason::IcmpOther);
    // What is an echo request of IPv4 is none here.
    list.send(&out.clone().with(Icmp6::new(8, 0)).with(&[0; 20]));
    list.send(&out.clone().with(Icmp6::echo_reply(77, 1)));
    list.add("an ICMPv6 echo reply after others", &reply(77), Reason::IcmpOther);
    list.send(&out.clone().with(Icmp6::echo_request(77, 1)).with(&[7; 20]));
    list.add("an ICMPv6 echo reply", &reply(77), Reason::Established);
    list.add("an ICMPv6 echo reply to somebody else", &reply(78), Reason::IcmpOther);
    list.fixtures
}

/// Who answers a packet to many does so from another address, so nothing is to be remembered of it.
fn not_for_many() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for (side, group) in [(0, "224.0.0.251"), (1, "ff02::fb")] {
        list.send(&between(HOST[side], group).with(Udp::new(40_000, 5000)));
        let back = between(group, HOST[side]).with(Udp::new(5000, 40_000));
        list.add(format!("from {group}"), &back, at_udp(Reason::Closed, 40_000));
    }
    list.send(&between(HOST[0], "255.255.255.255").with(Udp::new(68, 67)));
    let back = between(FAR[0], HOST[0]).with(Udp::new(67, 68));
    list.add("a DHCP reply to an interface without the mark", &back, at_udp(Reason::Closed, 68));
    list.fixtures
}

/// What goes out from an open port answers, and opens nothing. It is seen after a switch that closes the port.
fn only_openings() -> Vec<Fixture> {
    let mut list = List::new(World::Host);
    for side in 0..2 {
        let Ends { out, .. } = ends(HOST[side], FAR[side]);
        // From an open port of the role and to one of a rule.
        list.send(&out.clone().with(Udp::new(3478, 6000)));
        list.send(&out.clone().with(Udp::new(514, 6000)));
        list.send(&out.clone().with(Tcp { flags: Tcp::SYN | Tcp::ACK, ..Tcp::new(445, 6000) }));
        list.send(&out.clone().with(Tcp::ack(446, 6000)));
        list.send(&out.clone().with(Tcp { flags: Tcp::RST, ..Tcp::new(447, 6000) }));
        let back = |port| between(FAR[side], HOST[side]).with(Tcp::ack(6000, port));
        for port in [445, 446, 447] {
            let what = format!("no flow of what did not open from {port}: {}", FAR[side]);
            list.add(what, &back(port), at_tcp(Reason::NoFlow, port));
        }
        // Rows before that of flows go on to decide.
        let udp = |port| between(FAR[side], HOST[side]).with(Udp::new(6000, port));
        list.add("to an open port", &udp(3478), allowed("stun"));
        list.add("to the port of a rule", &udp(514), by_rule("allow/syslog"));
        // The port is open to others than this one: the rule takes the administrator's whole network.
        let admin = between(HOST[side], ADMIN[side]).with(Udp::new(7000, 6000));
        let back = between(ADMIN[side], HOST[side]).with(Udp::new(6000, 7000));
        list.add("to the port of a rule for others", &back, by_rule("allow/both"));
        list.send(&admin);
        let far = between(FAR[side], HOST[side]).with(Udp::new(6000, 7000));
        list.add("to the port of a rule for others: not of this rule", &far, at_udp(Reason::Closed, 7000));
        list.send(&between(HOST[side], FAR[side]).with(Udp::new(7000, 6000)));
        list.add("a flow from the port of a rule for others", &far, Reason::Established);
    }
    list.fixtures
}

fn targets() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for world in [World::Targets, World::VipDrop] {
        let mut list = List::new(world);
        for side in 0..2 {
            // From a listed address, from the box, and from a host that is behind it.
            for local in [VIP[side], HOST[side], OTHER[side]] {
                let Ends { out, back } = ends(local, FAR[side]);
                list.send(&out.clone().with(Tcp::syn(40_000, 4443)));
                let reply = back.clone().with(Tcp::ack(4443, 40_000));
                list.add(format!("a reply to {local}"), &reply, Reason::Established);
                list.send(&out.clone().with(Udp::new(40_000, 53)));
                let reply = back.clone().with(Udp::new(53, 40_000));
                list.add(format!("an answer to {local}"), &reply, Reason::Established);
            }
        }
        fixtures.extend(list.fixtures);
    }
    // Where everything passes to destinations in no target, none of their traffic needs a flow.
    let mut list = List::new(World::VipPass);
    for side in 0..2 {
        list.send(&between(HOST[side], FAR[side]).with(Udp::new(40_000, 53)));
        let reply = between(FAR[side], HOST[side]).with(Udp::new(53, 40_000));
        let passed = Expected { judged: Action::Pass, ..Reason::Unmatched.into() };
        list.add("an answer to no target", &reply, passed);
    }
    fixtures.extend(list.fixtures);
    fixtures
}

/// A first fragment has ports, in both directions; and headers between IP and transport are looked through.
fn fragments() -> Vec<Fixture> {
    let mut list = List::untagged(World::Host);
    let Ends { out, back } = ends(HOST[0], FAR[0]);
    let question = out.with(Udp::new(40_000, 53)).with(&[1; 100]);
    for part in question.fragments(40, 900) {
        list.send(&part);
    }
    let answer = back.with(Udp::new(53, 40_000)).with(&[1; 100]);
    for (number, part) in answer.fragments(40, 901).iter().enumerate() {
        let expected = if number == 0 { Reason::Established } else { Reason::Fragment };
        list.add(format!("part {number} of a long answer"), part, expected);
    }
    let Ends { out, back } = ends(HOST[1], FAR[1]);
    list.send(&out.with(Extension::destination_options(&[])).with(Udp::new(40_000, 53)));
    let answer = back.with(Udp::new(53, 40_000));
    list.add("an answer to a question behind options", &answer, Reason::Established);
    list.fixtures
}
