//! The verdict. The order of this file is the order of the verdict table: the first row that matches decides.

use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};

use crate::{
    abi::{
        AllowKey, Class, Features, FragmentKey, FragmentRecord, Live, NO_COUNTER, NO_POLICY, NetPort,
        PortTransport, Target, mapped,
    },
    packet::Packet,
    parse::{Family, Fragment, Headers, Kind, parse},
    reason::{Action, Reason},
};

/// Judges a frame. `headers` is filled as far as the frame could be read.
#[inline(always)]
pub fn judge<P: Packet + ?Sized, T: Tables>(packet: &P, tables: &T, headers: &mut Headers) -> Verdict {
    let Some(live) = tables.live() else { return Verdict::of(Reason::Internal) };
    let (slot, features) = live.judging(|| tables.jiffies());
    let mut verdict = match parse(packet, headers) {
        Ok(Kind::NonIp) => Verdict::of(Reason::NonIp),
        Ok(Kind::LaterFragment) => Verdict::of(later_fragment(packet, tables, headers)),
        Ok(kind) => {
            let verdict = decide(packet, tables, headers, kind, slot, features);
            if let Fragment::First { id, payload } = headers.fragment {
                remember(packet, tables, headers, id, payload, verdict.judged);
            }
            verdict
        }
        Err(error) => Verdict::of(error.reason()),
    };
    verdict.slot = slot;
    if features.has(Features::AUDIT) && !matches!(verdict.reason, Reason::Blocked) {
        verdict.action = Action::Pass;
    }
    verdict
}

/// What happens to a packet, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The row of the verdict table.
    pub reason: Reason,
    /// What the verdict table says.
    pub judged: Action,
    /// What is done: in audit mode a packet passes whatever was judged.
    pub action: Action,
    /// The counter of the rule that let it in, or [`NO_COUNTER`].
    pub counter: u32,
    /// The slot that judged.
    pub slot: u32,
}

impl Verdict {
    /// What the reason says.
    #[inline(always)]
    const fn of(reason: Reason) -> Self {
        Self::by_rule(reason, NO_COUNTER)
    }

    #[inline(always)]
    const fn by_rule(reason: Reason, counter: u32) -> Self {
        let action = reason.action();
        Self { reason, judged: action, action, counter, slot: 0 }
    }
}

/// An address as it lies in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// Network byte order.
    V4([u8; 4]),
    /// Network byte order.
    V6([u8; 16]),
}

/// Which limit a packet is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// [`ICMP_ERROR_RATE`].
    IcmpError,
    /// [`ICMP_ECHO_RATE`].
    IcmpEcho,
}

/// ICMP errors that each CPU lets in, per second.
pub const ICMP_ERROR_RATE: u64 = 1000;

/// Echo requests that each CPU lets in, per second.
pub const ICMP_ECHO_RATE: u64 = 1000;

/// How long the verdict of a first fragment holds, in seconds: as long as Linux waits for the rest
/// (`net.ipv4.ipfrag_time`).
pub const FRAGMENT_SECONDS: u64 = 30;

/// Look-ups that a verdict needs. `None` where a table is missing, which the kernel's tables never are.
pub trait Tables {
    /// The live record.
    fn live(&self) -> Option<Live>;
    /// The kernel's tick counter.
    fn jiffies(&self) -> u64;
    /// Ticks per second.
    fn hz(&self) -> u64;
    /// True for a management port.
    fn management_port(&self, transport: PortTransport, port: NetPort) -> bool;
    /// True for a management source.
    fn management_source(&self, source: Address) -> bool;
    /// The target of a destination: two words as in [`TargetEntry`](crate::abi::TargetEntry).
    fn target(&self, slot: u32, address: [u64; 2]) -> Target;
    /// What a port of a policy refers to: `Some(None)` where it is closed.
    fn port(&self, slot: u32, policy: u32, transport: PortTransport, port: NetPort) -> Option<Option<Class>>;
    /// The counter of the first allow rule that matches, for a destination of `policy` or [`NO_POLICY`].
    fn allow(&self, slot: u32, key: AllowKey, policy: u32, source: Address) -> Option<u32>;
    /// True where the interface that the packet came in by is a DHCP client.
    fn dhcp_client(&self, slot: u32) -> bool;
    /// The local ephemeral ports, first and last, host byte order.
    fn ephemeral(&self, slot: u32) -> (u16, u16);
    /// True where destinations in no target pass.
    fn unmatched_pass(&self, slot: u32) -> bool;
    /// Takes one packet from a rate; false where it is exhausted.
    fn within(&self, rate: Rate) -> bool;
    /// What is remembered of a first fragment.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentRecord>;
    /// Remembers a first fragment.
    fn remember_fragment(&self, key: &FragmentKey, record: FragmentRecord);
    /// Forgets a first fragment.
    fn forget_fragment(&self, key: &FragmentKey);
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// FIN, SYN, RST, PSH, ACK, URG: what RFC 9293 calls the control bits, without those of congestion notification.
const CONTROL_BITS: u8 = 0x3f;

/// From "TCP with no flags" down to the last row.
#[inline(always)]
fn decide<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    headers: &Headers,
    kind: Kind,
    slot: u32,
    features: Features,
) -> Verdict {
    let Some(family) = headers.family else { return Verdict::of(Reason::Internal) };
    let flags = headers.flags;
    if matches!(kind, Kind::Ports(PortTransport::Tcp))
        && (flags & CONTROL_BITS == 0 || flags & (SYN | FIN) == SYN | FIN || flags & (SYN | RST) == SYN | RST)
    {
        return Verdict::of(Reason::TcpFlags);
    }
    let transport = match kind {
        Kind::Ports(transport) => transport,
        Kind::IcmpV4 => return Verdict::of(icmp_v4(tables, headers)),
        Kind::IcmpV6 => return Verdict::of(icmp_v6(tables, headers)),
        Kind::Other => return other_protocol(packet, tables, headers, family, slot, features),
        Kind::NonIp | Kind::LaterFragment => return Verdict::of(Reason::Internal),
    };
    let port = headers.destination_port;
    let target = target(packet, tables, headers, family, slot, features);

    if target.host
        && tables.management_port(transport, port)
        && let Some(source) = source(packet, headers, family)
        && tables.management_source(source)
    {
        return Verdict::of(Reason::Management);
    }
    if matches!(transport, PortTransport::Udp) && is_dhcp_reply(family, headers) && tables.dhcp_client(slot) {
        return Verdict::of(Reason::Dhcp);
    }
    if features.has(Features::ALLOW)
        && let Some(source) = source(packet, headers, family)
        && let Some(counter) = tables.allow(slot, AllowKey::Port(transport, port), target.policy, source)
    {
        return Verdict::by_rule(Reason::Allow, counter);
    }
    if is_multicast(packet, headers, family) {
        return Verdict::of(Reason::Multicast);
    }
    if target.policy != NO_POLICY {
        match tables.port(slot, target.policy, transport, port) {
            Some(Some(class)) => return Verdict::by_rule(Reason::Allowed, class.counter),
            Some(None) => {}
            None => return Verdict::of(Reason::Internal),
        }
    }
    if may_be_reply(tables, headers, transport, slot) {
        return Verdict::of(Reason::Provisional);
    }
    if target.policy == NO_POLICY {
        return unmatched(tables, slot);
    }
    Verdict::of(Reason::Closed)
}

#[inline(always)]
fn unmatched<T: Tables>(tables: &T, slot: u32) -> Verdict {
    let mut verdict = Verdict::of(Reason::Unmatched);
    if tables.unmatched_pass(slot) {
        verdict.judged = Action::Pass;
        verdict.action = Action::Pass;
    }
    verdict
}

#[inline(always)]
fn icmp_v4<T: Tables>(tables: &T, headers: &Headers) -> Reason {
    const ECHO_REPLY: u8 = 0;
    const UNREACHABLE: u8 = 3;
    const ECHO: u8 = 8;
    const TIME_EXCEEDED: u8 = 11;
    const PARAMETER_PROBLEM: u8 = 12;

    match headers.flags {
        UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => {
            limited(tables, Rate::IcmpError, Reason::IcmpError)
        }
        ECHO => limited(tables, Rate::IcmpEcho, Reason::IcmpEcho),
        ECHO_REPLY => Reason::Provisional,
        _ => Reason::IcmpOther,
    }
}

#[inline(always)]
fn icmp_v6<T: Tables>(tables: &T, headers: &Headers) -> Reason {
    const ECHO: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    match headers.flags {
        // Unreachable, packet too big, time exceeded, parameter problem.
        1..=4 => limited(tables, Rate::IcmpError, Reason::IcmpError),
        // Router and neighbour solicitation and advertisement (RFC 4861).
        133..=136 if headers.hop_limit == 255 => Reason::Neighbour,
        133..=136 => Reason::NdHopLimit,
        // MLD queries, reports and done; version 2 reports (RFC 2710, RFC 3810).
        130..=132 | 143 => Reason::MulticastControl,
        ECHO => limited(tables, Rate::IcmpEcho, Reason::IcmpEcho),
        ECHO_REPLY => Reason::Provisional,
        _ => Reason::IcmpOther,
    }
}

#[inline(always)]
fn limited<T: Tables>(tables: &T, rate: Rate, within: Reason) -> Reason {
    if tables.within(rate) { within } else { Reason::IcmpRate }
}

/// IP protocols without ports.
#[inline(always)]
fn other_protocol<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    headers: &Headers,
    family: Family,
    slot: u32,
    features: Features,
) -> Verdict {
    if headers.protocol == IpProto::Igmp as u8
        && matches!(family, Family::V4)
        && is_group(packet, headers, family)
    {
        return Verdict::of(Reason::MulticastControl);
    }
    if features.has(Features::ALLOW) {
        let target = target(packet, tables, headers, family, slot, features);
        if let Some(source) = source(packet, headers, family) {
            let key = AllowKey::Protocol(headers.protocol);
            if let Some(counter) = tables.allow(slot, key, target.policy, source) {
                return Verdict::by_rule(Reason::Allow, counter);
            }
        }
    }
    Verdict::of(Reason::Protocol)
}

/// A server's reply goes from 67 to 68 (RFC 2131), or from 547 to 546 (RFC 8415).
#[inline(always)]
fn is_dhcp_reply(family: Family, headers: &Headers) -> bool {
    let (server, client) = match family {
        Family::V4 => (67, 68),
        Family::V6 => (547, 546),
    };
    headers.destination_port == NetPort::new(client) && headers.source_port == NetPort::new(server)
}

/// While flows are not tracked: what may answer something that this box sent.
#[inline(always)]
fn may_be_reply<T: Tables>(tables: &T, headers: &Headers, transport: PortTransport, slot: u32) -> bool {
    if matches!(transport, PortTransport::Tcp) {
        return headers.flags & (SYN | ACK) != SYN;
    }
    if headers.source_port == NetPort::new(53) || headers.source_port == NetPort::new(123) {
        return true;
    }
    let (first, last) = tables.ephemeral(slot);
    (first..=last).contains(&headers.destination_port.number())
}

/// The target of the destination.
#[inline(always)]
fn target<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    headers: &Headers,
    family: Family,
    slot: u32,
    features: Features,
) -> Target {
    if !features.has(Features::TARGETS) {
        return Target::HOST;
    }
    let address = match family {
        Family::V4 => packet.read::<u32>(headers.network + V4_DESTINATION).map(mapped),
        Family::V6 => packet
            .read::<u64>(headers.network + V6_DESTINATION)
            .and_then(|high| Some([high, packet.read::<u64>(headers.network + V6_DESTINATION + 8)?])),
    };
    match address {
        Some(address) => tables.target(slot, address),
        None => Target::NONE,
    }
}

const V4_SOURCE: usize = core::mem::offset_of!(Ipv4Hdr, src_addr);
const V4_DESTINATION: usize = core::mem::offset_of!(Ipv4Hdr, dst_addr);
const V6_SOURCE: usize = core::mem::offset_of!(Ipv6Hdr, src_addr);
const V6_DESTINATION: usize = core::mem::offset_of!(Ipv6Hdr, dst_addr);

#[inline(always)]
fn source<P: Packet + ?Sized>(packet: &P, headers: &Headers, family: Family) -> Option<Address> {
    Some(match family {
        Family::V4 => Address::V4(packet.read(headers.network + V4_SOURCE)?),
        Family::V6 => Address::V6(packet.read(headers.network + V6_SOURCE)?),
    })
}

/// Multicast or broadcast: by the address, or by a frame to ff:ff:ff:ff:ff:ff, as a broadcast to a subnet is one. A
/// multicast frame with a unicast packet is left alone, because load-balanced clusters use such addresses.
#[inline(always)]
fn is_multicast<P: Packet + ?Sized>(packet: &P, headers: &Headers, family: Family) -> bool {
    headers.link_broadcast
        || is_group(packet, headers, family)
        || is_limited_broadcast(packet, headers, family)
}

/// 224.0.0.0/4 or ff00::/8.
#[inline(always)]
fn is_group<P: Packet + ?Sized>(packet: &P, headers: &Headers, family: Family) -> bool {
    match family {
        Family::V4 => {
            packet.read::<u8>(headers.network + V4_DESTINATION).is_none_or(|first| first & 0xf0 == 0xe0)
        }
        Family::V6 => packet.read::<u8>(headers.network + V6_DESTINATION).is_none_or(|first| first == 0xff),
    }
}

/// 255.255.255.255.
#[inline(always)]
fn is_limited_broadcast<P: Packet + ?Sized>(packet: &P, headers: &Headers, family: Family) -> bool {
    matches!(family, Family::V4)
        && packet.read::<u32>(headers.network + V4_DESTINATION).is_none_or(|address| address == u32::MAX)
}

#[inline(always)]
fn later_fragment<P: Packet + ?Sized, T: Tables>(packet: &P, tables: &T, headers: &Headers) -> Reason {
    let Fragment::Later { id, start } = headers.fragment else { return Reason::Internal };
    let Some(key) = fragment_key(packet, headers, id) else { return Reason::Internal };
    match tables.fragment(&key) {
        Some(record) if tables.jiffies() >= record.expires => Reason::FragmentOrphan,
        Some(record) if start < record.end => Reason::FragmentOverlap,
        Some(_) => Reason::Fragment,
        None => Reason::FragmentOrphan,
    }
}

/// An allowed first fragment is remembered; a denied one makes an earlier one of the same key forgotten.
#[inline(always)]
fn remember<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    headers: &Headers,
    id: u32,
    payload: usize,
    action: Action,
) {
    let Some(key) = fragment_key(packet, headers, id) else { return };
    match action {
        Action::Pass => {
            let expires = tables.jiffies() + FRAGMENT_SECONDS * tables.hz();
            let end = (headers.end - payload) as u32;
            tables.remember_fragment(&key, FragmentRecord { expires, end, reserved: 0 });
        }
        Action::Drop => tables.forget_fragment(&key),
    }
}

#[inline(always)]
fn fragment_key<P: Packet + ?Sized>(packet: &P, headers: &Headers, id: u32) -> Option<FragmentKey> {
    let mut key = FragmentKey { source: [0; 16], destination: [0; 16], id, protocol: 0, family: 6, zone: 0 };
    match headers.family? {
        Family::V4 => {
            key.family = 4;
            key.protocol = headers.protocol;
            key.source[..4].copy_from_slice(&packet.read::<[u8; 4]>(headers.network + V4_SOURCE)?);
            key.destination[..4].copy_from_slice(&packet.read::<[u8; 4]>(headers.network + V4_DESTINATION)?);
        }
        Family::V6 => {
            key.source = packet.read(headers.network + V6_SOURCE)?;
            key.destination = packet.read(headers.network + V6_DESTINATION)?;
        }
    }
    Some(key)
}
