//! DHCP: which datagrams are for the client on this box.

use network_types::ip::IpProto;

use crate::{
    abi::{Flow, FlowKeyV4, FlowState, NetPort},
    ends::Ports,
    fields::{Address, IpAt, destination_address},
    flow::Clock,
    judging::Judging,
    packet::Packet,
    parse::Family,
    summary::Summary,
    tables::{Flows, Tables, Tracking},
    target,
};

const CLIENT_V4: u16 = 68;
const SERVER_V4: u16 = 67;
const CLIENT_V6: u16 = 546;

/// True for a client's port. Neither RFC 2131 nor RFC 8415 says by which port a server or relay sends.
#[inline(always)]
pub(crate) fn is_to_client(ports: Ports) -> bool {
    let client = match ports.at.family() {
        Family::V4 => CLIENT_V4,
        Family::V6 => CLIENT_V6,
    };
    ports.destination == NetPort::new(client)
}

/// True where a datagram at a client's port may be for a client on this box. With DHCPv6 clients ask by their link-local
/// address (RFC 8415, 17.2); the answer to any other question has a flow. With DHCPv4 a server may already send to the
/// address that it offers (RFC 2131, 4.1), which this box does not have yet.
#[inline(always)]
pub fn is_for_client<P: Packet, T: Tables + Tracking>(
    packet: P,
    tables: &T,
    judging: Judging,
    at: IpAt,
    to_many: bool,
) -> bool {
    if !tables.dhcp_client(judging.slot) {
        return false;
    }
    if to_many {
        return true;
    }
    match at.family() {
        Family::V4 => target::is_box(packet, tables, at, judging) || has_asked(tables, judging, at),
        Family::V6 => destination_address(packet, at).is_some_and(
            |address| matches!(address, Address::V6([first, ..]) if u16::from_be(first) & 0xffc0 == 0xfe80),
        ),
    }
}

/// True where the client asked for an address a moment ago.
#[inline(always)]
fn has_asked<T: Tracking>(tables: &T, judging: Judging, at: IpAt) -> bool {
    let Some(times) = tables.flow_times(judging.slot) else { return false };
    let clock = Clock { now: tables.jiffies(), hz: tables.hz(), times };
    tables.change(&question(at), |flow| clock.lives(*flow)) == Some(true)
}

/// True for a datagram by which a client asks for an address.
#[inline(always)]
pub(crate) fn asks(summary: Summary) -> bool {
    matches!(summary.ip().family(), Family::V4)
        && summary.broadcast()
        && summary.source_port() == NetPort::new(CLIENT_V4)
        && summary.destination_port() == NetPort::new(SERVER_V4)
}

/// Notes that the client asks for an address.
#[inline(always)]
pub(crate) fn note<T: Tracking>(tables: &T, at: IpAt, now: u64) {
    let (key, flow) = (question(at), Flow::new(FlowState::Echo, now));
    if tables.change(&key, |old: &mut Flow| *old = flow).is_none() {
        Flows::<FlowKeyV4>::add(tables, &key, flow);
    }
}

/// The key under which a question for an address is noted: its sender has no address yet.
#[inline(always)]
const fn question(at: IpAt) -> FlowKeyV4 {
    FlowKeyV4 {
        local: [0; 2],
        remote: [0xffff; 2],
        local_port: NetPort::new(CLIENT_V4),
        remote_port: NetPort::new(SERVER_V4),
        protocol: IpProto::Udp as u8,
        reserved: 0,
        zone: at.zone() as u16,
    }
}
