//! The sockets of this network namespace, from `NETLINK_SOCK_DIAG` (sock_diag(7)).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use lyncwall_common::abi::PortTransport;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

use crate::netlink;
use lyncwall_policy::connection::{Connection, Listener, Protocol};

pub(super) fn connections() -> Result<Vec<Connection>> {
    Ok([tcp(&open_tcp())?, udp()?].concat())
}

/// Leaves out connections that are being opened from outside.
pub(super) fn inbound() -> Result<Vec<Connection>> {
    Ok([sessions()?, udp()?].concat())
}

/// The TCP ones among these connections, sorted.
pub(super) fn sessions() -> Result<Vec<Connection>> {
    let mut sessions = tcp(&(open_tcp() - StateFlags::SYN_RECV))?;
    sessions.sort_unstable();
    Ok(sessions)
}

fn tcp(states: &StateFlags) -> Result<Vec<Connection>> {
    let sockets = listed("TCP", IPPROTO_TCP, states)?;
    Ok(sockets.into_iter().filter_map(|socket| connection(Protocol::Tcp, &socket)).collect())
}

/// A UDP socket with a peer has the state of an established connection, any other UDP socket that of a closed
/// one.
fn udp() -> Result<Vec<Connection>> {
    let sockets = listed("UDP", IPPROTO_UDP, &StateFlags::ESTABLISHED)?;
    Ok(sockets.into_iter().filter_map(|socket| connection(Protocol::Udp, &socket)).collect())
}

fn connection(protocol: Protocol, socket: &InetResponseHeader) -> Option<Connection> {
    let id = &socket.socket_id;
    let local = SocketAddr::new(id.source_address, id.source_port);
    let remote = SocketAddr::new(id.destination_address, id.destination_port);
    (remote.port() != 0).then_some(())?;
    Connection::new(protocol, local, remote)
}

/// TCP ports with a listening socket.
pub(super) fn accepting() -> Result<BTreeSet<u16>> {
    let listening = listed("TCP", IPPROTO_TCP, &StateFlags::LISTEN)?.into_iter();
    Ok(listening.map(|socket| socket.socket_id.source_port).collect())
}

/// Listening sockets, including several that share a port.
pub(super) fn listeners() -> Result<Vec<Listener>> {
    let listener = |transport| {
        move |InetResponseHeader { socket_id, inode, .. }| {
            let address = socket_id.source_address.to_canonical();
            let outside = !address.is_loopback() && socket_id.source_port != 0;
            outside.then_some(Listener {
                transport,
                address,
                port: socket_id.source_port,
                inode,
                process: None,
            })
        }
    };
    let tcp = listed("TCP", IPPROTO_TCP, &StateFlags::LISTEN)?;
    let mut all: Vec<Listener> = tcp.into_iter().filter_map(listener(PortTransport::Tcp)).collect();
    // A UDP socket without a peer has the state of a closed connection.
    let udp = listed("UDP", IPPROTO_UDP, &StateFlags::CLOSE)?;
    all.extend(udp.into_iter().filter_map(listener(PortTransport::Udp)));
    Ok(all)
}

/// All states except those without a peer and `TIME_WAIT`, in which no data comes any more.
fn open_tcp() -> StateFlags {
    StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE - StateFlags::TIME_WAIT
}

fn listed(name: &str, protocol: u8, states: &StateFlags) -> Result<Vec<InetResponseHeader>> {
    let mut found = Vec::new();
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let request = InetRequest {
            family,
            protocol,
            extensions: ExtensionFlags::empty(),
            states: states.clone(),
            socket_id,
        };
        let answers = netlink::ask(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(request), NLM_F_DUMP)
            .with_context(|| format!("listing the {name} sockets (the kernel's inet_diag)"))?;
        found.extend(answers.into_iter().filter_map(|answer| match answer {
            SockDiagMessage::InetResponse(response) => Some(response.header),
            _ => None,
        }));
    }
    Ok(found)
}
