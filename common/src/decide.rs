//! The rows of the verdict table, in its order: the first row that matches decides. The parser has the rows above them,
//! and [`icmp`] those of ICMP.

use network_types::ip::IpProto;

use crate::{
    abi::{AllowKey, Class, Features, NO_COUNTER, NO_POLICY, PortTransport},
    dhcp,
    ends::Ports,
    fields::{IpAt, source},
    fragment::{First, later_fragment},
    icmp,
    judging::Judging,
    limit::may_open,
    mode::Place,
    packet::Packet,
    parse::Family,
    reason::{Action, Reason},
    subprograms::Subprograms,
    summary::{Form, Summary},
    tables::Rules,
    target, tcp,
    unasked::{Groups, in_groups},
    verdict::{Settle, Verdict, VerdictOnly},
};

const SETTLED: u8 = Form::Settled as u8;
const LATER_FRAGMENT: u8 = Form::LaterFragment as u8;
const TCP: u8 = Form::Tcp as u8;
const UDP: u8 = Form::Udp as u8;
const ICMP: u8 = Form::Icmp as u8;
const OTHER: u8 = Form::Other as u8;

/// Decides over a frame of any form.
#[inline(always)]
pub(crate) fn decide<P: Packet, T: Subprograms>(
    packet: P,
    tables: &T,
    summary: Summary,
    judging: Judging,
) -> Verdict {
    let at = summary.ip();
    let verdict = match summary.form() {
        SETTLED => return Verdict::of(Reason::from_value(summary.code()).unwrap_or(Reason::Internal)),
        LATER_FRAGMENT => {
            return Verdict::of(later_fragment(packet, tables, at, judging.blocks(packet, tables, at)));
        }
        ICMP if !icmp::is_neighbour_discovery(summary) && judging.blocks(packet, tables, at) => {
            Verdict::of(Reason::Blocked)
        }
        ICMP => Verdict::of(icmp::row(packet, tables, summary, judging)),
        OTHER if judging.blocks(packet, tables, at) => Verdict::of(Reason::Blocked),
        OTHER => other_protocol(packet, tables, summary, judging),
        form @ (TCP | UDP) => {
            let transport = if form == TCP { PortTransport::Tcp } else { PortTransport::Udp };
            decide_port::<P, T, VerdictOnly>(packet, tables, Ports::of_summary(summary, transport), judging)
        }
        _ => return Verdict::of(Reason::Internal),
    };
    if summary.fragmented() {
        tables.first_fragment(packet, at, First::of(verdict));
    }
    verdict
}

/// The rows of IP protocols without ports, from "MLD; IGMP to a multicast group" on.
#[inline(always)]
fn other_protocol<P: Packet, T: Rules>(packet: P, tables: &T, summary: Summary, judging: Judging) -> Verdict {
    let Judging { slot, features } = judging;
    let at = summary.ip();
    if matches!(at.family(), Family::V4) && summary.code() == IpProto::Igmp as u8 && summary.group() {
        return Verdict::of(Reason::MulticastControl);
    }
    if features.has(Features::ALLOW) {
        let target = target::of(packet, tables, at, judging);
        let key = AllowKey::Protocol(summary.code());
        let counter = allowed(packet, tables, at, key, AllowScope { slot, policy: target.policy });
        if counter != NO_COUNTER {
            return Verdict::by_rule(Reason::Allow, counter);
        }
    }
    Verdict::of(Reason::Protocol)
}

/// Decides over a TCP or UDP packet.
#[inline(always)]
pub(crate) fn decide_port<P: Packet, T: Subprograms, S: Settle<P, T>>(
    packet: P,
    tables: &T,
    ports: Ports,
    judging: Judging,
) -> S::Output {
    match pass_or_drop::<P, T, S>(packet, tables, ports, judging) {
        Ok(output) => output,
        Err(reason) => {
            let port = Some((ports.transport, ports.destination));
            let dropped = Verdict { port, ..Verdict::of(reason) };
            judging.settle::<P, T, S>(packet, tables, Place::Known(ports.at), dropped)
        }
    }
}

/// The rows of TCP and UDP, from "TCP without flags" on. A row that passes settles its own verdict. A row that drops
/// returns its reason: every drop is counted at its port.
#[inline(always)]
fn pass_or_drop<P: Packet, T: Subprograms, S: Settle<P, T>>(
    packet: P,
    tables: &T,
    ports: Ports,
    judging: Judging,
) -> Result<S::Output, Reason> {
    let Ports { at, transport, destination: port, .. } = ports;
    let Judging { slot, features } = judging;
    if matches!(transport, PortTransport::Tcp) && tcp::is_bad(ports.flags) {
        return Err(Reason::TcpFlags);
    }
    let target = target::of(packet, tables, at, judging);
    if target.host && tables.management_port(transport, port) && is_from_management(packet, tables, at) {
        return pass::<P, T, S>(packet, tables, judging, Verdict::of(Reason::Management));
    }
    if judging.blocks(packet, tables, at) {
        return Err(Reason::Blocked);
    }
    if matches!(transport, PortTransport::Udp)
        && dhcp::is_to_client(ports)
        && tables.is_for_dhcp_client(packet, judging, at, ports.to_many)
    {
        return pass::<P, T, S>(packet, tables, judging, Verdict::of(Reason::Dhcp));
    }
    if features.has(Features::ALLOW) {
        let key = AllowKey::Port(transport, port);
        let counter = allowed(packet, tables, at, key, AllowScope { slot, policy: target.policy });
        if counter != NO_COUNTER {
            return pass::<P, T, S>(packet, tables, judging, Verdict::by_rule(Reason::Allow, counter));
        }
    }
    if ports.to_many {
        return Err(Reason::Multicast);
    }
    let opens = matches!(transport, PortTransport::Tcp) && tcp::opens(ports.flags);
    let mut for_others = false;
    if target.policy != NO_POLICY {
        let class = tables.port(slot, target.policy, transport, port).ok_or(Reason::Internal)?;
        if let Some(Class { counter, groups }) = class {
            for_others = features.has(Features::GROUPS)
                && groups != 0
                && !in_groups::<P, T, false>(packet, tables, at, Groups { slot, groups }, target.outbound);
            if !for_others {
                let limited = features.has(Features::LIMIT) && opens;
                if limited && !may_open(packet, tables, at, slot, target.policy) {
                    return Err(Reason::Limit);
                }
                return pass::<P, T, S>(packet, tables, judging, Verdict::by_rule(Reason::Allowed, counter));
            }
        }
    }
    // An opening is no reply, so that a flood of openings costs no look-up.
    if !opens && tables.is_reply(packet, slot, ports.ends()) {
        return pass::<P, T, S>(packet, tables, judging, Verdict::of(Reason::Established));
    }
    if target.policy == NO_POLICY || target.outbound {
        if tables.unmatched_pass(slot, at.zone()) {
            let port = Some((transport, port));
            let (judged, action) = (Action::Pass, Action::Pass);
            return pass::<P, T, S>(
                packet,
                tables,
                judging,
                Verdict { port, judged, action, ..Verdict::of(Reason::Unmatched) },
            );
        }
        return Err(Reason::Unmatched);
    }
    let goes_on = matches!(transport, PortTransport::Tcp) && !opens;
    Err(match (for_others, goes_on) {
        (true, _) => Reason::Source,
        (false, true) => Reason::NoFlow,
        (false, false) => Reason::Closed,
    })
}

/// Settles the verdict of a row that passes.
#[inline(always)]
fn pass<P: Packet, T: Subprograms, S: Settle<P, T>>(
    packet: P,
    tables: &T,
    judging: Judging,
    verdict: Verdict,
) -> Result<S::Output, Reason> {
    Ok(judging.settle::<P, T, S>(packet, tables, Place::NOWHERE, verdict))
}

/// True for a packet from a management source. Out of line: few packets go to a management port.
#[inline(never)]
fn is_from_management<P: Packet, T: Rules>(packet: P, tables: &T, at: IpAt) -> bool {
    source(packet, at).is_some_and(|source| tables.management_source(source))
}

/// The allow rules of a slot that hold for a policy.
#[derive(Clone, Copy)]
struct AllowScope {
    slot: u32,
    policy: u32,
}

/// The counter of the first allow rule that matches, or [`NO_COUNTER`]. Out of line: boxes without such rules do not pay
/// for it.
#[inline(never)]
fn allowed<P: Packet, T: Rules>(packet: P, tables: &T, at: IpAt, key: AllowKey, scope: AllowScope) -> u32 {
    let Some(source) = source(packet, at) else { return NO_COUNTER };
    tables.allow(scope.slot, key, scope.policy, at.zone(), source).unwrap_or(NO_COUNTER)
}
