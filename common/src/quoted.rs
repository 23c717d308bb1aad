//! What an ICMP error is about: it quotes the beginning of a packet (RFC 792, RFC 4443), which this side should have sent.

use network_types::ip::IpProto;

use crate::{
    abi::{AllowKey, Features, ICMP_ERROR_LANES, NetPort, PortTransport},
    ends::{Carried, Ends},
    fields::{Address, IpAt, addresses, destination_address, end, source},
    flow::{Clock, Way, may_live, with_flow},
    judging::Judging,
    packet::Packet,
    parse::Family,
    tables::{Rules, Tracking},
    target,
    unasked::passes_without_flow,
    wire::{ExtensionHeader, IcmpHeader, Ipv4Header, Ipv6Header, UdpHeader},
};

/// Where the error at `at` quotes, from `offset` on, a packet of a live flow: the number of the rate for it, as of
/// [`quotes_open`]. The flow does not live longer for that.
#[inline(always)]
pub fn quotes_flow<P: Packet, T: Tracking>(
    packet: P,
    tables: &T,
    judging: Judging,
    at: IpAt,
    offset: usize,
) -> Option<u8> {
    let Quote { inner, ends, .. } = Quote::read(packet, at, offset)?;
    let (ends, times) = (ends?, tables.flow_times(judging.slot)?);
    if !may_live(tables, times, ends) {
        return None;
    }
    let clock = Clock { now: tables.jiffies(), hz: tables.hz(), times };
    let lives = with_flow(packet, tables, ends, Way::Out, |flow| clock.lives(*flow)) == Some(true);
    if lives { lane(packet, inner) } else { None }
}

/// Where the error at `at` quotes, from `offset` on, the answer of an open port, or a protocol that an `[[allow]]` rule
/// names: the number of the rate for it, below [`ICMP_ERROR_LANES`]. Few far sides share one.
#[inline(always)]
pub fn quotes_open<P: Packet, T: Rules>(
    packet: P,
    tables: &T,
    judging: Judging,
    at: IpAt,
    offset: usize,
) -> Option<u8> {
    let quote = Quote::read(packet, at, offset)?;
    let passes = match quote.ends {
        Some(ends) => match ends.carried {
            Carried::Ports(transport) => passes_without_flow(packet, tables, judging, ends, transport),
            Carried::Echo => false,
        },
        None => is_allowed(packet, tables, judging, quote),
    };
    if passes { lane(packet, quote.inner) } else { None }
}

/// The packet that an error quotes.
#[derive(Clone, Copy)]
struct Quote {
    /// Its IP header.
    inner: IpAt,
    protocol: u8,
    /// Those of TCP, UDP, or an echo request.
    ends: Option<Ends>,
}

impl Quote {
    #[inline(always)]
    fn read<P: Packet>(packet: P, at: IpAt, offset: usize) -> Option<Self> {
        let inner = at.quoting(offset);
        if !went_out_from(packet, at, inner) {
            return None;
        }
        let (protocol, transport) = headers(packet, inner)?;
        // What lies behind the packet is padding.
        if transport + size_of::<UdpHeader>() > end(packet, at)? {
            return None;
        }
        Some(Self { inner, protocol, ends: ends(packet, inner, protocol, transport) })
    }
}

/// True where an error goes to the sender of the packet that it quotes: any other has no business with the receiver.
/// Out of line: the caller has no room for the addresses.
#[inline(never)]
fn went_out_from<P: Packet>(packet: P, at: IpAt, inner: IpAt) -> bool {
    match (destination_address(packet, at), source(packet, inner)) {
        (Some(to), Some(from)) => to == from,
        _ => false,
    }
}

/// The IP protocol of a quoted packet that is no later fragment, and where its transport header begins.
#[inline(always)]
fn headers<P: Packet>(packet: P, inner: IpAt) -> Option<(u8, usize)> {
    const NOT_THE_FIRST: u16 = 0x1fff_u16.to_be();
    const NOT_THE_FIRST_V6: u16 = 0xfff8_u16.to_be();
    let offset = inner.network();
    match inner.family() {
        Family::V4 => {
            let ip = packet.header::<Ipv4Header>(offset)?;
            let length = usize::from(ip.version_and_length & 0xf) * 4;
            let sound = ip.version_and_length >> 4 == 4
                && length >= size_of::<Ipv4Header>()
                && ip.fragment & NOT_THE_FIRST == 0;
            sound.then_some((ip.protocol, offset + length))
        }
        Family::V6 => {
            let ip = packet.header::<Ipv6Header>(offset)?;
            let (next, at) = (ip.next_header, offset + size_of::<Ipv6Header>());
            if ip.version >> 4 != 6 {
                return None;
            }
            if next != IpProto::Ipv6Frag as u8 {
                return Some((next, at));
            }
            // A router says "packet too big" of the first fragment, too.
            let fragment = packet.header::<ExtensionHeader>(at)?;
            let first = fragment.fragment & NOT_THE_FIRST_V6 == 0;
            first.then_some((fragment.next_header, at + size_of::<ExtensionHeader>()))
        }
    }
}

/// The ends of a quoted packet of TCP, UDP, or an echo request.
#[inline(always)]
fn ends<P: Packet>(packet: P, inner: IpAt, protocol: u8, transport: usize) -> Option<Ends> {
    const TCP: u8 = IpProto::Tcp as u8;
    const UDP: u8 = IpProto::Udp as u8;
    let carried = match protocol {
        TCP => Carried::Ports(PortTransport::Tcp),
        UDP => Carried::Ports(PortTransport::Udp),
        _ => {
            let (icmp, request) = match inner.family() {
                Family::V4 => (IpProto::Icmp as u8, 8),
                Family::V6 => (IpProto::Ipv6Icmp as u8, 128),
            };
            let message = packet.header::<IcmpHeader>(transport)?;
            let local = NetPort(message.identifier);
            let is_request = protocol == icmp && message.kind == request;
            return is_request.then_some(Ends {
                flags: 0,
                at: inner,
                carried: Carried::Echo,
                local,
                remote: NetPort(0),
            });
        }
    };
    let ports = packet.header::<UdpHeader>(transport)?;
    Some(Ends {
        at: inner,
        carried,
        flags: 0,
        local: NetPort(ports.source),
        remote: NetPort(ports.destination),
    })
}

/// True where an `[[allow]]` rule lets in the protocol of a quoted packet from its far side.
#[inline(always)]
fn is_allowed<P: Packet, T: Rules>(
    packet: P,
    tables: &T,
    judging: Judging,
    Quote { inner, protocol, .. }: Quote,
) -> bool {
    if !judging.has(Features::ALLOW) {
        return false;
    }
    let Some((local, remote)) = addresses(packet, inner) else { return false };
    let policy = target::of_address(tables, judging, inner, local).policy;
    tables.allow(judging.slot, AllowKey::Protocol(protocol), policy, inner.zone(), remote).is_some()
}

/// The number of the far side of a quoted packet.
#[inline(always)]
fn lane<P: Packet>(packet: P, inner: IpAt) -> Option<u8> {
    let folded = match destination_address(packet, inner)? {
        Address::V4([a, b]) => a ^ b,
        Address::V6([a, b, c, d, e, f, g, h]) => a ^ b ^ c ^ d ^ e ^ f ^ g ^ h,
    };
    // Spreads neighbouring addresses.
    let spread = folded.wrapping_mul(0x9e37) >> 8;
    Some(spread as u8 & (ICMP_ERROR_LANES as u8 - 1))
}
