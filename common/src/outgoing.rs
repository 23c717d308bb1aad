//! Outgoing packets: the flows that they make and keep alive.
//!
//! Only openings make a flow, and only openings whose replies no rule lets in. Otherwise every inbound connection would
//! fill the table, and no switch would cut anything.

use crate::{
    abi::{Features, Flow, FlowState, NO_POLICY, NetPort, PortTransport},
    dhcp,
    ends::{Carried, Ends},
    fields::{IpAt, source},
    flow::{Clock, Key, Way, key, may_live, stamp, with_flow},
    icmp,
    judging::Judging,
    packet::Packet,
    parse::{Family, Headers, parse},
    summary::{Form, Summary},
    tables::{Flows, Rules, Tracking},
    tcp,
    unasked::passes_without_flow,
    zone,
};

const TCP: u8 = Form::Tcp as u8;
const UDP: u8 = Form::Udp as u8;
const ICMP: u8 = Form::Icmp as u8;

/// Tracks an outgoing packet.
#[inline(always)]
pub fn track<P: Packet, T: Tracking>(packet: P, tables: &T) {
    let mut headers = Headers::UNREAD;
    let parsed = parse(packet, &mut headers);
    let summary = Summary::new(parsed, &headers);
    let [first, second] = packet.forget([summary.first, summary.second]);
    let summary = Summary { first, second };
    let asks = summary.form() == UDP && dhcp::asks(summary);
    // The answer to a packet to many hosts has another source address.
    if (summary.group() || summary.broadcast()) && !asks {
        return;
    }
    let Some(judging) = Judging::now(tables) else { return };
    let Some(times) = tables.flow_times(judging.slot) else { return };
    let summary = summary.in_zone(zone::of(packet, tables, judging));
    if asks {
        if !packet.is_forwarded() {
            dhcp::note(tables, summary.ip(), tables.jiffies());
        }
        return;
    }
    if packet.is_forwarded() && is_forged(packet, tables, judging, summary.ip()) {
        return;
    }
    let clock = Clock { now: tables.jiffies(), hz: tables.hz(), times };
    let tracker = Tracker { packet, tables, judging, clock };
    let ends = |carried| Ends {
        at: summary.ip(),
        carried,
        local: summary.source_port(),
        remote: summary.destination_port(),
        flags: 0,
    };
    match summary.form() {
        TCP => tracker.tcp(ends(Carried::Ports(PortTransport::Tcp)), summary.flags()),
        UDP => tracker.udp(ends(Carried::Ports(PortTransport::Udp))),
        ICMP if icmp::is_echo_request(summary) => {
            tracker.echo(Ends { local: summary.identifier(), remote: NetPort(0), ..ends(Carried::Echo) });
        }
        _ => {}
    }
}

/// True where a forwarded packet cannot come from its source: it leaves by the leg that it came in by, and its source is
/// a target that is guarded against that leg, so the target is behind another leg. The sender of such packets would open
/// ports in the name of another host. Out of line: few boxes forward.
#[inline(never)]
fn is_forged<P: Packet, T: Rules>(packet: P, tables: &T, judging: Judging, at: IpAt) -> bool {
    if !judging.has(Features::TARGETS) {
        return false;
    }
    let Some(source) = source(packet, at) else { return false };
    // A box with one leg sends back what it forwards. Only zones say that there are several legs.
    if !judging.has(Features::ZONES) || !packet.is_sent_back() {
        return false;
    }
    let listed = tables.listed(judging.slot, at.zone(), source.words());
    // Source NAT puts the box's own address here as well. Linux accepts no IPv4 packet that comes in with that address
    // (`fib_validate_source`); NAT of IPv6 that sends packets back is rare.
    let may_be_own = matches!(at.family(), Family::V4);
    listed.is_some_and(|target| target.policy != NO_POLICY && !(target.host && may_be_own))
}

/// An outgoing packet, and what tracks it.
struct Tracker<'a, P, T> {
    packet: P,
    tables: &'a T,
    judging: Judging,
    clock: Clock,
}

impl<P: Packet, T: Tracking> Tracker<'_, P, T> {
    #[inline(always)]
    fn tcp(&self, ends: Ends, flags: u8) {
        if tcp::opens(flags) {
            return self.open(ends, FlowState::Opening);
        }
        let ends_it = flags & (tcp::FIN | tcp::RST) != 0;
        // A host in front of the box may forge a forwarded packet, and nobody here knows the sequence numbers.
        let is_sure = !self.packet.is_forwarded();
        // A reset in answer to a forged reply ends that reply, and not the connection.
        let resets = flags & tcp::RST != 0;
        if may_live(self.tables, self.clock.times, ends)
            && self.go_on(ends, |flow| {
                let opening = flow.state() == FlowState::Opening as u8;
                if opening && resets {
                    return;
                }
                let next = match (ends_it, is_sure) {
                    (true, true) => FlowState::Closing,
                    (true, false) if flow.state() == FlowState::Established as u8 => FlowState::Ending,
                    _ if opening => FlowState::Established,
                    // What sends data did not end. The last segment of one that did is a plain ACK.
                    (false, _) if flags & tcp::PSH != 0 && flow.state() == FlowState::Ending as u8 => {
                        FlowState::Established
                    }
                    _ => return,
                };
                *flow = Flow::new(next, self.clock.now);
            })
        {
            return;
        }
        // A packet with SYN that is no opening has ACK, and answers an opening of the far side.
        if self.tables.learning() && !ends_it && flags & tcp::SYN == 0 && !self.passes_without(ends) {
            self.open(ends, FlowState::Established);
        }
    }

    #[inline(always)]
    fn udp(&self, ends: Ends) {
        if may_live(self.tables, self.clock.times, ends) && self.go_on(ends, |_| {}) {
            return;
        }
        if !self.passes_without(ends) {
            self.open(ends, FlowState::Udp);
        }
    }

    #[inline(always)]
    fn echo(&self, ends: Ends) {
        if !self.go_on(ends, |_| {}) {
            self.open(ends, FlowState::Echo);
        }
    }

    /// Applies `change` to the flow of the packet, and keeps the flow alive; false where the packet has no flow.
    #[inline(always)]
    fn go_on(&self, ends: Ends, change: impl FnOnce(&mut Flow)) -> bool {
        let found = with_flow(self.packet, self.tables, ends, Way::Out, |flow| {
            change(flow);
            self.clock.touch(flow);
        });
        if found.is_some() {
            stamp(self.tables, ends);
        }
        found.is_some()
    }

    /// Makes a flow, or begins an existing one anew; an established connection goes on.
    #[inline(always)]
    fn open(&self, ends: Ends, state: FlowState) {
        let flow = Flow::new(state, self.clock.now);
        let Some(key) = key(self.packet, ends, Way::Out) else { return };
        match key {
            Key::V4(key) => open(self.tables, &key, flow, self.clock),
            Key::V6(key) => open(self.tables, &key, flow, self.clock),
        }
        stamp(self.tables, ends);
    }

    /// True where a rule lets the replies in.
    #[inline(always)]
    fn passes_without(&self, ends: Ends) -> bool {
        let Carried::Ports(transport) = ends.carried else { return false };
        passes_without_flow(self.packet, self.tables, self.judging, ends, transport)
    }
}

#[inline(always)]
fn open<K, T: Flows<K>>(tables: &T, key: &K, flow: Flow, clock: Clock) {
    let renew = |old: &mut Flow| {
        // A SYN in the middle of a connection is forged, or opens another connection in its place, which ends this one.
        if old.stands() && clock.lives(*old) {
            clock.touch(old);
        } else {
            *old = flow;
        }
    };
    if tables.change(key, renew).is_none() {
        tables.add(key, flow);
    }
}
