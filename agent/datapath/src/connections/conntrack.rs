//! Connections from the kernel's connection tracking, if it is loaded: those that this box forwards, with the
//! addresses of source NAT on the wire.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Protocol as Number,
    Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rtnetlink::packet_core::{DefaultNla, NLM_F_DUMP, Nla as _};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use crate::host;
use crate::netlink;
use lyncwall_policy::connection::{Connection, Protocol};

/// Exists exactly while `nf_conntrack` is built in or loaded: the module creates it for each network
/// namespace (`nf_conntrack_standalone_init_sysctl`), in every kernel configuration. `/proc/net/nf_conntrack`
/// needs `CONFIG_NF_CONNTRACK_PROCFS`, and `/sys/module` lacks some built-in modules and may not be mounted.
///
/// The check is needed because the question itself would change the machine: `nfnetlink_rcv_msg` answers one
/// for a missing subsystem with `request_module("nfnetlink-subsys-1")`, which loads `nf_conntrack_netlink`
/// and with it `nf_conntrack`. If `nf_conntrack` is loaded already, that adds only the interface for
/// questions.
const LOADED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// The replies of each connection. A reply from an address of this box itself means that the other side
/// began: no reply comes from the wire, and a TCP connection of that kind has a socket.
pub(super) fn connections() -> Result<Vec<Connection>> {
    by_ways(|tracked| [tracked.reply, None])
}

/// Like [`connections`], with the requests of each connection that began elsewhere: the tuple of the first
/// packet, as on the
/// wire.
pub(super) fn both_ways() -> Result<Vec<Connection>> {
    by_ways(|tracked| [tracked.reply, tracked.original.filter(|_| tracked.established)])
}

/// Chosen directions of each connection. Packets from an address of this box are not incoming. The kernel
/// walks its whole table: ten milliseconds for a large, empty one.
fn by_ways(ways: fn(Tracked) -> [Option<Way>; 2]) -> Result<Vec<Connection>> {
    if !Path::new(LOADED).try_exists().with_context(|| format!("looking for {LOADED}"))? {
        return Ok(Vec::new());
    }
    let request = NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
        ConntrackMessage::Get(Vec::new()),
    );
    let answers = netlink::ask(NETLINK_NETFILTER, request, NLM_F_DUMP)
        .context("listing the connections that conntrack tracks")?;
    let own = host::own(&[])?;
    let ways = answers.into_iter().filter_map(tracked).flat_map(ways).flatten();
    let all = ways.filter_map(|way| Connection::new(way.protocol, way.destination, way.source));
    Ok(all.filter(|connection| !own.contains(connection.remote.ip())).collect())
}

/// A connection by its two directions; `None` for a direction that cannot be parsed or needs no flow.
struct Tracked {
    original: Option<Way>,
    reply: Option<Way>,
    /// False while it is still opening.
    established: bool,
}

/// `None` for an ended connection.
fn tracked(answer: NetfilterMessage) -> Option<Tracked> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = answer.inner else {
        return None;
    };
    let (mut original, mut reply) = (None, None);
    let mut tcp_state = None;
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuples) => original = Way::of(&tuples),
            ConntrackAttribute::CtaTupleReply(tuples) => reply = Way::of(&tuples),
            ConntrackAttribute::CtaProtoInfo(infos) => tcp_state = infos.iter().find_map(state),
            _ => {}
        }
    }
    let is_tcp = [&original, &reply].into_iter().flatten().any(|way| way.protocol == Protocol::Tcp);
    let established = !is_tcp || tcp_state.is_some_and(|state| matches!(state, ESTABLISHED..=CLOSE_WAIT));
    (!is_tcp || tcp_state.is_some_and(is_open)).then_some(Tracked { original, reply, established })
}

/// Values of `enum tcp_conntrack`.
const ESTABLISHED: u8 = 3;
const CLOSE_WAIT: u8 = 5;
/// Both sides have sent a SYN.
const SYN_SENT2: u8 = 9;

fn state(info: &ProtoInfo) -> Option<u8> {
    let ProtoInfo::TCP(attributes) = info else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        ProtoInfoTCP::State(state) => Some(*state),
        _ => None,
    })
}

/// True for an open or opening connection (`enum tcp_conntrack`), false after both sides have closed it.
fn is_open(state: u8) -> bool {
    const SYN_SENT: u8 = 1;
    matches!(state, SYN_SENT..=CLOSE_WAIT | SYN_SENT2)
}

/// The tuple of one direction.
struct Way {
    protocol: Protocol,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Way {
    /// `None` for other protocols, and for ICMP that is no echo reply.
    fn of(tuples: &[Tuple]) -> Option<Self> {
        let (source, destination) = tuples.iter().find_map(addresses)?;
        let of_transport = tuples.iter().find_map(|tuple| match tuple {
            Tuple::Proto(attributes) => Some(attributes),
            _ => None,
        })?;
        let (protocol, source_port, destination_port) = ports(of_transport)?;
        Some(Self {
            protocol,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        })
    }
}

/// Source and destination.
fn addresses(tuple: &Tuple) -> Option<(IpAddr, IpAddr)> {
    let Tuple::Ip(attributes) = tuple else { return None };
    let source = attributes.iter().find_map(|attribute| match attribute {
        IPTuple::SourceAddress(address) => Some(*address),
        _ => None,
    });
    let destination = attributes.iter().find_map(|attribute| match attribute {
        IPTuple::DestinationAddress(address) => Some(*address),
        _ => None,
    });
    Some((source?, destination?))
}

/// The protocol with its source and destination port.
fn ports(attributes: &[ProtoTuple]) -> Option<(Protocol, u16, u16)> {
    let number = attributes.iter().find_map(|attribute| match attribute {
        ProtoTuple::Protocol(number) => Some(*number),
        _ => None,
    })?;
    let protocol = match number {
        Number::Tcp => Protocol::Tcp,
        Number::Udp => Protocol::Udp,
        Number::Icmp => return echo(attributes, &ECHO_V4),
        Number::Ipv6Icmp => return echo(attributes, &ECHO_V6),
        _ => return None,
    };
    let source = attributes.iter().find_map(|attribute| match attribute {
        ProtoTuple::SourcePort(port) => Some(*port),
        _ => None,
    });
    let destination = attributes.iter().find_map(|attribute| match attribute {
        ProtoTuple::DestinationPort(port) => Some(*port),
        _ => None,
    });
    Some((protocol, source?, destination?))
}

/// ICMP attributes that the crate does not parse, by the numbers of `enum ctattr_l4proto`.
struct Echo {
    /// The attribute of the identifier, in network byte order.
    identifier: u16,
    /// The attribute of the type, one byte.
    kind: u16,
    /// The type of an echo reply.
    reply: u8,
}

const ECHO_V4: Echo = Echo { identifier: 4, kind: 5, reply: 0 };
const ECHO_V6: Echo = Echo { identifier: 7, kind: 8, reply: 129 };

fn echo(attributes: &[ProtoTuple], wanted: &Echo) -> Option<(Protocol, u16, u16)> {
    let kind: [u8; 1] = raw(attributes, wanted.kind)?;
    let identifier = u16::from_be_bytes(raw(attributes, wanted.identifier)?);
    (kind == [wanted.reply]).then_some((Protocol::IcmpEcho, identifier, identifier))
}

/// The value of an attribute that the crate leaves as bytes.
fn raw<const N: usize>(attributes: &[ProtoTuple], kind: u16) -> Option<[u8; N]> {
    let attribute: &DefaultNla = attributes.iter().find_map(|attribute| match attribute {
        ProtoTuple::Other(raw) if raw.kind() == kind => Some(raw),
        _ => None,
    })?;
    let mut value = [0; N];
    (attribute.value_len() == N).then(|| attribute.emit_value(&mut value))?;
    Some(value)
}
