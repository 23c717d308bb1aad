//! Tracked flows: what keeps a flow alive, and whether a packet is its reply. [`outgoing`](crate::outgoing) makes them.

use crate::{
    abi::{FLOW_GRACE, Flow, FlowKeyV4, FlowKeyV6, FlowPorts, FlowState, FlowTimes, PortTransport},
    ends::{Carried, Ends},
    fields::{Address, addresses},
    packet::Packet,
    tables::Tracking,
    tcp,
};

/// True where an incoming packet is the reply of a flow, which then lives on. A keepalive's probe shortly after the life
/// of a flow passes as well, but only the answer of this side prolongs it: the stack knows whether there is a connection.
#[inline(always)]
pub fn is_reply<P: Packet, T: Tracking>(packet: P, tables: &T, slot: u32, ends: Ends) -> bool {
    let Some(times) = tables.flow_times(slot) else { return false };
    if !may_live(tables, times, ends) {
        return false;
    }
    let clock = Clock { now: tables.jiffies(), hz: tables.hz(), times };
    let found = with_flow(packet, tables, ends, Way::In, |flow| {
        if clock.lives(*flow) {
            clock.touch(flow);
            return Found::Live;
        }
        if probes(ends) && clock.may_go_on(*flow) { Found::Probed } else { Found::Over }
    });
    match found {
        Some(Found::Live) => {
            stamp(tables, ends);
            true
        }
        Some(Found::Probed) => true,
        Some(Found::Over) | None => false,
    }
}

/// True for TCP with no other control bit than ACK: what a keepalive sends to find out whether the other side lives.
#[inline(always)]
const fn probes(ends: Ends) -> bool {
    matches!(ends.carried, Carried::Ports(PortTransport::Tcp)) && tcp::is_plain_ack(ends.flags)
}

/// How a packet that comes in finds a flow.
#[derive(Clone, Copy)]
enum Found {
    Live,
    /// The flow is over, and the packet may ask whether its connection goes on.
    Probed,
    Over,
}

/// The direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// The time, and how long flows live.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: u64,
    pub(crate) hz: u64,
    pub(crate) times: FlowTimes,
}

impl Clock {
    #[inline(always)]
    pub(crate) fn lives(self, flow: Flow) -> bool {
        self.times.lives(flow, self.now, self.hz)
    }

    #[inline(always)]
    fn may_go_on(self, flow: Flow) -> bool {
        self.times.may_go_on(flow, self.now, self.hz)
    }

    /// Notes that a flow carried a packet. Once a second is enough, and keeps a busy flow's memory from moving between
    /// CPUs.
    #[inline(always)]
    pub(crate) fn touch(self, flow: &mut Flow) {
        if self.now.wrapping_sub(flow.last()) >= self.hz {
            *flow = flow.at(self.now);
        }
    }
}

/// False where no flow can have this local port.
#[inline(always)]
pub(crate) fn may_live<T: Tracking>(tables: &T, times: FlowTimes, ends: Ends) -> bool {
    match ends.carried {
        Carried::Ports(transport) => {
            let now = FlowPorts::stamp(tables.jiffies(), tables.hz());
            FlowPorts::may_live(tables.flow_port(transport, ends.local), now, longest(times, transport))
        }
        Carried::Echo => true,
    }
}

/// How long the flows of a port may be silent and still be of use, in seconds.
#[inline(always)]
const fn longest(times: FlowTimes, transport: PortTransport) -> u32 {
    match transport {
        PortTransport::Tcp => times.of(FlowState::Established as u8) + FLOW_GRACE,
        PortTransport::Udp => times.of(FlowState::Udp as u8),
    }
}

/// Notes that a flow used its local port now.
#[inline(always)]
pub(crate) fn stamp<T: Tracking>(tables: &T, ends: Ends) {
    if let Carried::Ports(transport) = ends.carried {
        let now = FlowPorts::stamp(tables.jiffies(), tables.hz());
        if tables.flow_port(transport, ends.local) != now {
            tables.stamp_flow_port(transport, ends.local, now);
        }
    }
}

/// A key of either kind.
pub(crate) enum Key {
    V4(FlowKeyV4),
    V6(FlowKeyV6),
}

/// Applies `change` to the flow of a packet; `None` where the packet has no flow.
#[inline(always)]
pub(crate) fn with_flow<P: Packet, T: Tracking, R>(
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

/// The key of a packet's flow.
#[inline(always)]
pub(crate) fn key<P: Packet>(packet: P, ends: Ends, way: Way) -> Option<Key> {
    let (source, destination) = addresses(packet, ends.at)?;
    let (local, remote) = match way {
        Way::In => (destination, source),
        Way::Out => (source, destination),
    };
    let protocol = ends.carried.protocol(ends.at.family());
    let (local_port, remote_port) = (ends.local, ends.remote);
    let zone = ends.at.zone() as u16;
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
