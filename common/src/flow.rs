//! Tracked flows: what makes one, what keeps it alive, and whether a packet is its reply.
//!
//! Only openings make a flow, and only those whose replies no rule lets in. Otherwise every inbound connection would fill
//! the table, and no switch would cut anything.

use network_types::ip::IpProto;

use crate::{
    abi::{
        Features, Flow, FlowKeyV4, FlowKeyV6, FlowPorts, FlowState, FlowTimes, NO_POLICY, NetPort,
        PortTransport,
    },
    decide::{self, Judging, Rules},
    fields::{Address, Place, addresses, source, words},
    icmp,
    packet::Packet,
    parse::{Family, Headers, parse},
    summary::{Form, Summary},
    tcp, zone,
};

/// A table of flows with keys of one kind.
pub trait Flows<K> {
    /// Gives a flow to `change`, and keeps what that makes of it. `None` where there is no such flow.
    fn change<R>(&self, key: &K, change: impl FnOnce(&mut Flow) -> R) -> Option<R>;

    /// Adds a flow. Where the table is full, the least recently used one goes.
    fn add(&self, key: &K, flow: Flow);
}

/// What tracking needs beside the tables that a verdict is made by.
pub trait Tracking: Rules + Flows<FlowKeyV4> + Flows<FlowKeyV6> {
    /// The time-outs of a generation; `None` where the table is missing, which the kernel's never is.
    fn flow_times(&self, slot: u32) -> Option<FlowTimes>;
    /// The [`FlowPorts::stamp`] of a local port.
    fn flow_port(&self, transport: PortTransport, port: NetPort) -> u8;
    /// Sets it.
    fn stamp_flow_port(&self, transport: PortTransport, port: NetPort, stamp: u8);
    /// True where TCP connections are picked up in the middle: for a moment before enforcement begins.
    fn learning(&self) -> bool;
}

/// The two ends of a packet, as flows are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Where the IP header lies.
    pub place: Place,
    /// What it carries.
    pub carried: Carried,
    /// The port of this side; of an echo its identifier.
    pub local: NetPort,
    /// The port of the far side; 0 for an echo.
    pub remote: NetPort,
}

/// What a flow carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// TCP or UDP.
    Ports(PortTransport),
    /// ICMP echo.
    Echo,
}

impl Carried {
    #[inline(always)]
    const fn protocol(self, family: Family) -> u8 {
        match (self, family) {
            (Self::Ports(PortTransport::Tcp), _) => IpProto::Tcp as u8,
            (Self::Ports(PortTransport::Udp), _) => IpProto::Udp as u8,
            (Self::Echo, Family::V4) => IpProto::Icmp as u8,
            (Self::Echo, Family::V6) => IpProto::Ipv6Icmp as u8,
        }
    }
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// The longest time that a port's flows may be silent, in seconds.
#[inline(always)]
const fn longest(times: FlowTimes, transport: PortTransport) -> u32 {
    match transport {
        PortTransport::Tcp => times.of(FlowState::Established as u8),
        PortTransport::Udp => times.of(FlowState::Udp as u8),
    }
}

/// True where the packet that came in is the reply of a flow, which then lives on.
#[inline(always)]
pub fn is_reply<P: Packet, T: Tracking>(packet: P, tables: &T, slot: u32, ends: Ends) -> bool {
    let Some(times) = tables.flow_times(slot) else { return false };
    if !may_live(tables, times, ends) {
        return false;
    }
    let alive = Alive { now: tables.jiffies(), hz: tables.hz(), times };
    let found = with_flow(packet, tables, ends, Way::In, |flow| {
        let lives = alive.lives(*flow);
        if lives {
            alive.touch(flow);
        }
        lives
    });
    if found != Some(true) {
        return false;
    }
    stamp(tables, ends);
    true
}

/// What of a flow depends on the time.
#[derive(Clone, Copy)]
struct Alive {
    now: u64,
    hz: u64,
    times: FlowTimes,
}

impl Alive {
    #[inline(always)]
    fn lives(self, flow: Flow) -> bool {
        self.times.lives(flow, self.now, self.hz)
    }

    /// Once a second is enough, and keeps a busy flow's memory from moving between CPUs.
    #[inline(always)]
    fn touch(self, flow: &mut Flow) {
        if self.now.wrapping_sub(flow.last()) >= self.hz {
            *flow = flow.at(self.now);
        }
    }
}

/// False where surely no flow has this local port.
#[inline(always)]
fn may_live<T: Tracking>(tables: &T, times: FlowTimes, ends: Ends) -> bool {
    match ends.carried {
        Carried::Ports(transport) => {
            let now = FlowPorts::stamp(tables.jiffies(), tables.hz());
            FlowPorts::may_live(tables.flow_port(transport, ends.local), now, longest(times, transport))
        }
        Carried::Echo => true,
    }
}

#[inline(always)]
fn stamp<T: Tracking>(tables: &T, ends: Ends) {
    if let Carried::Ports(transport) = ends.carried {
        let now = FlowPorts::stamp(tables.jiffies(), tables.hz());
        if tables.flow_port(transport, ends.local) != now {
            tables.stamp_flow_port(transport, ends.local, now);
        }
    }
}

/// Takes notice of a packet that goes out.
#[inline(always)]
pub fn track<P: Packet, T: Tracking>(packet: P, tables: &T) {
    let mut headers = Headers::UNREAD;
    let parsed = parse(packet, &mut headers);
    let summary = Summary::new(parsed, &headers);
    let [first, second] = packet.forget([summary.first, summary.second]);
    let summary = Summary { first, second };
    // Who answers a packet to many does so from another address.
    if summary.group() || summary.broadcast() {
        return;
    }
    let Some(judging) = Judging::now(tables) else { return };
    let Some(times) = tables.flow_times(judging.slot) else { return };
    let summary = summary.in_zone(zone::of(packet, tables, judging));
    if packet.is_forwarded() && is_forged(packet, tables, judging, summary.place()) {
        return;
    }
    let tracker =
        Tracker { packet, tables, judging, alive: Alive { now: tables.jiffies(), hz: tables.hz(), times } };
    let ends = |carried| Ends {
        place: summary.place(),
        carried,
        local: summary.source_port(),
        remote: summary.destination_port(),
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

/// True where a packet that is forwarded cannot come from its source: one that goes out by the leg that it came in by, in the name
/// of a target that is guarded against those behind this leg, and so lies behind another. Who sends such packets would open
/// doors in another's name. Out of line: few boxes forward.
#[inline(never)]
fn is_forged<P: Packet, T: Rules>(packet: P, tables: &T, judging: Judging, place: Place) -> bool {
    if !judging.has(Features::TARGETS) {
        return false;
    }
    let Some(source) = source(packet, place) else { return false };
    // A box with one leg sends back what it forwards, so zones have to say that there are several.
    if !judging.has(Features::ZONES) || !packet.is_sent_back() {
        return false;
    }
    let listed = tables.listed(judging.slot, place.zone(), words(source));
    // The box's own address is there after source NAT as well. Linux takes no IPv4 packet that comes with it
    // (`fib_validate_source`); NAT of IPv6 that sends packets back is rare.
    let may_be_own = matches!(place.family(), Family::V4);
    listed.is_some_and(|target| target.policy != NO_POLICY && !(target.host && may_be_own))
}

const TCP: u8 = Form::Tcp as u8;
const UDP: u8 = Form::Udp as u8;
const ICMP: u8 = Form::Icmp as u8;

/// A packet that goes out, and what it is judged by.
struct Tracker<'a, P, T> {
    packet: P,
    tables: &'a T,
    judging: Judging,
    alive: Alive,
}

impl<P: Packet, T: Tracking> Tracker<'_, P, T> {
    #[inline(always)]
    fn tcp(&self, ends: Ends, flags: u8) {
        if tcp::opens(flags) {
            return self.open(ends, FlowState::Opening);
        }
        // What is forwarded may be forged by those in front of the box, and nobody here knows its sequence numbers.
        let ends_it = flags & (tcp::FIN | tcp::RST) != 0 && !self.packet.is_forwarded();
        // Whoever gets a forged answer to an opening resets that one, not the connection.
        let resets = flags & tcp::RST != 0;
        if may_live(self.tables, self.alive.times, ends)
            && self.go_on(ends, |flow| {
                let opening = flow.state() == FlowState::Opening as u8;
                if opening && resets {
                    return;
                }
                if ends_it {
                    *flow = Flow::new(FlowState::Closing, self.alive.now);
                } else if opening {
                    *flow = Flow::new(FlowState::Established, self.alive.now);
                }
            })
        {
            return;
        }
        // SYN and ACK answer an opening of the far side.
        let ends_it = flags & (tcp::FIN | tcp::RST) != 0;
        if self.tables.learning() && !ends_it && flags & tcp::SYN == 0 && !self.passes_without(ends) {
            self.open(ends, FlowState::Established);
        }
    }

    #[inline(always)]
    fn udp(&self, ends: Ends) {
        if may_live(self.tables, self.alive.times, ends) && self.go_on(ends, |_| {}) {
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

    /// Keeps a flow alive that there is.
    #[inline(always)]
    fn go_on(&self, ends: Ends, change: impl FnOnce(&mut Flow)) -> bool {
        let found = with_flow(self.packet, self.tables, ends, Way::Out, |flow| {
            change(flow);
            self.alive.touch(flow);
        });
        if found.is_some() {
            stamp(self.tables, ends);
        }
        found.is_some()
    }

    /// Makes a flow, or makes one that there is new; a connection that lives goes on.
    #[inline(always)]
    fn open(&self, ends: Ends, state: FlowState) {
        let flow = Flow::new(state, self.alive.now);
        let Some(key) = key(self.packet, ends, Way::Out) else { return };
        match key {
            Key::V4(key) => open(self.tables, &key, flow, self.alive),
            Key::V6(key) => open(self.tables, &key, flow, self.alive),
        }
        stamp(self.tables, ends);
    }

    /// True where a rule lets the replies in.
    #[inline(always)]
    fn passes_without(&self, ends: Ends) -> bool {
        let Carried::Ports(transport) = ends.carried else { return false };
        decide::passes_without_flow(self.packet, self.tables, self.judging, ends, transport)
    }
}

#[inline(always)]
fn open<K, T: Flows<K>>(tables: &T, key: &K, flow: Flow, alive: Alive) {
    let renew = |old: &mut Flow| {
        // A SYN in the middle of a connection is forged, or a try to open another in its place, which ends this one.
        if old.state() == FlowState::Established as u8 && alive.lives(*old) {
            alive.touch(old);
        } else {
            *old = flow;
        }
    };
    if tables.change(key, renew).is_none() {
        tables.add(key, flow);
    }
}

/// A key of either kind.
enum Key {
    V4(FlowKeyV4),
    V6(FlowKeyV6),
}

#[inline(always)]
fn with_flow<P: Packet, T: Tracking, R>(
    packet: P,
    tables: &T,
    ends: Ends,
    way: Way,
    change: impl FnOnce(&mut Flow) -> R,
) -> Option<R> {
    match key(packet, ends, way)? {
        Key::V4(key) => tables.change(&key, change),
        Key::V6(key) => tables.change(&key, change),
    }
}

#[inline(always)]
fn key<P: Packet>(packet: P, ends: Ends, way: Way) -> Option<Key> {
    let (source, destination) = addresses(packet, ends.place)?;
    let (local, remote) = match way {
        Way::In => (destination, source),
        Way::Out => (source, destination),
    };
    let protocol = ends.carried.protocol(ends.place.family());
    let (local_port, remote_port) = (ends.local, ends.remote);
    let zone = ends.place.zone() as u16;
    Some(match (local, remote) {
        (Address::V4(local), Address::V4(remote)) => {
            Key::V4(FlowKeyV4 { local, remote, local_port, remote_port, protocol, reserved: 0, zone })
        }
        (Address::V6(local), Address::V6(remote)) => {
            Key::V6(FlowKeyV6 { local, remote, local_port, remote_port, protocol, reserved: 0, zone })
        }
        _ => return None,
    })
}
