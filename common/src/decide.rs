//! The verdict. The order of this file is the order of the verdict table: the first row that matches decides.

use network_types::ip::IpProto;

use crate::{
    abi::{
        AllowKey, Bucket, Class, Features, FragmentKey, FragmentRecord, Limit, Live, NO_COUNTER, NO_POLICY,
        NO_ZONE, NetPort, OpeningKey, PortTransport, Target, Until,
    },
    blocked::is_blocked,
    fields::{Address, Place, addresses, destination, destination_address, source, words},
    flow::{Carried, Ends},
    fragment::{First, later_fragment},
    icmp,
    limit::may_open,
    packet::Packet,
    parse::{Family, Headers, parse, parse_plain},
    reason::{Action, Reason},
    summary::{Form, Summary},
    tcp, zone,
};

/// Judges a frame.
#[inline(always)]
pub fn judge<P: Packet, T: Tables>(packet: P, tables: &T) -> Verdict {
    judge_and::<P, T, AsItIs>(packet, tables)
}

/// Judges a frame, and does what is to be done about it.
///
/// Frames of the usual form are judged on a short way of their own, by the same rows as the others. What is
/// done becomes part of each way, so that what is known of a verdict there need not be found out again.
#[inline(always)]
pub fn judge_and<P: Packet, T: Tables, S: Settle<P, T>>(packet: P, tables: &T) -> S::Output {
    let mut headers = Headers::UNREAD;
    match parse_plain(packet, &mut headers) {
        Some(PortTransport::Tcp) => {
            judge_ports::<P, T, S>(packet, tables, Ports::of(&headers, PortTransport::Tcp))
        }
        Some(PortTransport::Udp) => {
            judge_ports::<P, T, S>(packet, tables, Ports::of(&headers, PortTransport::Udp))
        }
        None => judge_other::<P, T, S>(packet, tables),
    }
}

/// What is done about a verdict.
pub trait Settle<P, T> {
    /// What comes of it.
    type Output;

    /// Does it.
    fn settle(packet: P, tables: &T, verdict: Verdict) -> Self::Output;
}

/// Nothing is done.
struct AsItIs;

impl<P, T> Settle<P, T> for AsItIs {
    type Output = Verdict;

    #[inline(always)]
    fn settle(_: P, _: &T, verdict: Verdict) -> Verdict {
        verdict
    }
}

/// Judges a TCP or UDP packet of the usual form.
#[inline(always)]
fn judge_ports<P: Packet, T: Tables, S: Settle<P, T>>(packet: P, tables: &T, ports: Ports) -> S::Output {
    let Some(judging) = Judging::now(tables) else {
        return S::settle(packet, tables, Verdict::of(Reason::Internal));
    };
    if judging.features == Features::default() {
        // The same once more for the compiler: here it knows of each feature that it is not used.
        let judging = Judging { features: Features::default(), ..judging };
        return decide_port::<P, T, S>(packet, tables, ports, judging);
    }
    let place = ports.place.in_zone(zone::of(packet, tables, judging));
    decide_port::<P, T, S>(packet, tables, Ports { place, ..ports }, judging)
}

/// Judges a frame of any form. Out of line: it is long, and would take the registers of the short way.
#[inline(never)]
fn judge_other<P: Packet, T: Tables, S: Settle<P, T>>(packet: P, tables: &T) -> S::Output {
    let mut headers = Headers::UNREAD;
    let parsed = parse(packet, &mut headers);
    let summary = Summary::new(parsed, &headers);
    let [first, second] = packet.forget([summary.first, summary.second]);
    let Some(judging) = Judging::now(tables) else {
        return S::settle(packet, tables, Verdict::of(Reason::Internal));
    };
    let summary = Summary { first, second }.in_zone(zone::of(packet, tables, judging));
    let verdict = decide(packet, tables, summary, judging);
    judging.settle::<P, T, S>(packet, tables, summary.placed(), verdict)
}

/// The generation that judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judging {
    /// Where it lies.
    pub slot: u32,
    /// What it makes use of.
    pub features: Features,
}

impl Judging {
    /// By the live record, which is read once for each frame.
    #[inline(always)]
    pub(crate) fn now<T: Rules>(tables: &T) -> Option<Self> {
        let (slot, features) = tables.live()?.judging(|| tables.jiffies());
        Some(Self { slot, features })
    }

    /// True where the generation makes use of all of these.
    #[inline(always)]
    pub(crate) const fn has(self, features: Features) -> bool {
        self.features.has(features)
    }

    /// True where the source is on the block-list.
    #[inline(always)]
    fn blocks<P: Packet, T: Tables>(self, packet: P, tables: &T, place: Place) -> bool {
        self.features.has(Features::BLOCKED) && is_blocked(packet, tables, place)
    }

    /// Ends with this verdict over a packet whose IP header lies at `place`, if it has one. Adds what does not depend on the
    /// row of the table.
    #[inline(always)]
    fn settle<P: Packet, T: Tables, S: Settle<P, T>>(
        self,
        packet: P,
        tables: &T,
        place: Option<Place>,
        verdict: Verdict,
    ) -> S::Output {
        let drops = matches!(verdict.judged, Action::Drop);
        if drops && !matches!(verdict.reason, Reason::Blocked) && self.spares(packet, tables, place) {
            // Some rows stand above the one that asks for the block-list, and what passes here may be taken by the kernel.
            let (reason, action) = match place {
                Some(place) if self.blocks(packet, tables, place) => (Reason::Blocked, Action::Drop),
                _ => (verdict.reason, Action::Pass),
            };
            return S::settle(packet, tables, Verdict { reason, action, slot: self.slot, ..verdict });
        }
        S::settle(packet, tables, Verdict { action: verdict.judged, slot: self.slot, ..verdict })
    }

    /// True where a packet that is to be dropped is let go, for audit mode.
    #[inline(always)]
    fn spares<P: Packet, T: Tables>(self, packet: P, tables: &T, place: Option<Place>) -> bool {
        self.has(Features::AUDIT) || self.has(Features::MODES) && tables.in_audit(packet, self, place)
    }
}

/// What is judged of a TCP or UDP packet.
#[derive(Clone, Copy)]
struct Ports {
    place: Place,
    transport: PortTransport,
    source: NetPort,
    destination: NetPort,
    /// TCP flags.
    flags: u8,
    /// True where it goes to a multicast group, or is a broadcast.
    to_many: bool,
}

impl Ports {
    #[inline(always)]
    const fn of(headers: &Headers, transport: PortTransport) -> Self {
        Self {
            place: Place::of(headers),
            transport,
            source: headers.source_port,
            destination: headers.destination_port,
            flags: headers.flags,
            // A frame of the usual form goes to one host.
            to_many: false,
        }
    }

    #[inline(always)]
    const fn of_summary(summary: Summary, transport: PortTransport) -> Self {
        Self {
            place: summary.place(),
            transport,
            source: summary.source_port(),
            destination: summary.destination_port(),
            flags: summary.flags(),
            to_many: summary.group() || summary.broadcast(),
        }
    }
}

/// What happens to a packet, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The row of the verdict table.
    pub reason: Reason,
    /// What the verdict table says.
    pub judged: Action,
    /// What is done: in audit mode a packet passes whatever was judged, but for [`Reason::Blocked`].
    pub action: Action,
    /// The counter of the rule that let it in, or [`NO_COUNTER`].
    pub counter: u32,
    /// The port that a drop is counted at; `None` where no port was judged.
    pub port: Option<(PortTransport, NetPort)>,
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
        Self { reason, judged: action, action, counter, port: None, slot: 0 }
    }
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

/// Look-ups that say what a rule lets in. `None` where a table is missing, which the kernel's tables never are.
pub trait Rules {
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
    /// The zone of what comes in, or goes out, by the interface at hand in this VLAN, 0 for untagged frames; `None` where the
    /// interface is in none. Asked with [`Features::ZONES`] only.
    fn zone(&self, slot: u32, vlan: u16) -> Option<u32>;
    /// The target of a zone that lists an address; `None` where none does. Asked with [`Features::TARGETS`] only.
    fn listed(&self, slot: u32, zone: u32, address: [u64; 2]) -> Option<Target>;
    /// The target of a destination in a zone: two words as in [`TargetEntry`](crate::abi::TargetEntry).
    fn target(&self, slot: u32, zone: u32, address: [u64; 2]) -> Target;
    /// What a port of a policy refers to: `Some(None)` where it is closed.
    fn port(&self, slot: u32, policy: u32, transport: PortTransport, port: NetPort) -> Option<Option<Class>>;
    /// The groups that an address is in, and everybody in the zone of a packet, as bits.
    fn groups(&self, slot: u32, zone: u32, address: Address) -> u32;
    /// The counter of the first allow rule that matches, for a destination of `policy` or [`NO_POLICY`].
    fn allow(&self, slot: u32, key: AllowKey, policy: u32, zone: u32, source: Address) -> Option<u32>;
    /// True where nothing is dropped that goes to a target of this policy or, with [`NO_POLICY`], that has no target. Asked with
    /// [`Features::MODES`] only.
    fn audits(&self, slot: u32, policy: u32) -> bool;
    /// True where destinations in no target of a zone pass.
    fn unmatched_pass(&self, slot: u32, zone: u32) -> bool;
}

/// What a verdict needs beside rules.
pub trait Tables: Rules {
    /// True where the interface that the packet came in by is a DHCP client.
    fn dhcp_client(&self, slot: u32) -> bool;
    /// What [`is_reply`](crate::flow::is_reply) says; the kernel's tables ask it where the verifier looks at it once.
    fn is_reply<P: Packet>(&self, packet: P, slot: u32, ends: Ends) -> bool;
    /// What [`in_audit`] says; the kernel's tables ask it where the verifier looks at it once.
    fn in_audit<P: Packet>(&self, packet: P, judging: Judging, place: Option<Place>) -> bool;
    /// Until when a source is blocked; `None` where no prefix of the block-list holds it.
    fn blocked(&self, source: Address) -> Option<Until>;
    /// How many connections a source may open to ports of a policy.
    fn limit(&self, slot: u32, policy: u32) -> Option<Limit>;
    /// Gives a source's bucket to `change`; `None` where it has none.
    fn change_bucket<R>(&self, key: &OpeningKey, change: impl FnOnce(&mut Bucket) -> R) -> Option<R>;
    /// Gives a source a bucket. Where there is no room, that of the source that opened nothing for longest goes.
    fn add_bucket(&self, key: &OpeningKey, bucket: Bucket);
    /// Takes one packet from a rate; false where it is exhausted.
    fn within(&self, rate: Rate) -> bool;
    /// What is remembered of a first fragment.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentRecord>;
    /// Remembers a first fragment.
    fn remember_fragment(&self, key: &FragmentKey, record: FragmentRecord);
    /// Forgets a first fragment.
    fn forget_fragment(&self, key: &FragmentKey);
    /// What [`remember`](crate::fragment::remember) does; the kernel's tables do it where the verifier looks at it once.
    fn first_fragment<P: Packet>(&self, packet: P, place: Place, first: First);
}

const SETTLED: u8 = Form::Settled as u8;
const LATER_FRAGMENT: u8 = Form::LaterFragment as u8;
const TCP: u8 = Form::Tcp as u8;
const UDP: u8 = Form::Udp as u8;
const ICMP: u8 = Form::Icmp as u8;
const OTHER: u8 = Form::Other as u8;

#[inline(always)]
fn decide<P: Packet, T: Tables>(packet: P, tables: &T, summary: Summary, judging: Judging) -> Verdict {
    let place = summary.place();
    let verdict = match summary.form() {
        form @ (TCP | UDP) => {
            let transport = if form == TCP { PortTransport::Tcp } else { PortTransport::Udp };
            decide_port::<P, T, AsItIs>(packet, tables, Ports::of_summary(summary, transport), judging)
        }
        ICMP if !icmp::is_neighbour_discovery(summary) && judging.blocks(packet, tables, place) => {
            Verdict::of(Reason::Blocked)
        }
        ICMP => Verdict::of(icmp::row(packet, tables, summary, judging)),
        OTHER if judging.blocks(packet, tables, place) => Verdict::of(Reason::Blocked),
        OTHER => other_protocol(packet, tables, summary, judging),
        LATER_FRAGMENT => {
            return Verdict::of(later_fragment(packet, tables, place, judging.blocks(packet, tables, place)));
        }
        SETTLED => return Verdict::of(Reason::from_value(summary.code()).unwrap_or(Reason::Internal)),
        _ => return Verdict::of(Reason::Internal),
    };
    if summary.fragmented() {
        tables.first_fragment(packet, place, First::of(verdict));
    }
    verdict
}

/// TCP and UDP, from "TCP with no flags" on.
#[inline(always)]
fn decide_port<P: Packet, T: Tables, S: Settle<P, T>>(
    packet: P,
    tables: &T,
    ports: Ports,
    judging: Judging,
) -> S::Output {
    match pass_or_drop::<P, T, S>(packet, tables, ports, judging) {
        Ok(output) => output,
        Err(reason) => {
            let port = Some((ports.transport, ports.destination));
            judging.settle::<P, T, S>(
                packet,
                tables,
                Some(ports.place),
                Verdict { port, ..Verdict::of(reason) },
            )
        }
    }
}

/// What passes is settled here, row by row; what is dropped is counted at its port, for whatever reason.
#[inline(always)]
fn pass_or_drop<P: Packet, T: Tables, S: Settle<P, T>>(
    packet: P,
    tables: &T,
    ports: Ports,
    judging: Judging,
) -> Result<S::Output, Reason> {
    let Ports { place, transport, destination: port, .. } = ports;
    let Judging { slot, features } = judging;
    if matches!(transport, PortTransport::Tcp) && tcp::is_bad(ports.flags) {
        return Err(Reason::TcpFlags);
    }
    let target = target(packet, tables, place, judging);
    if target.host && tables.management_port(transport, port) && is_from_management(packet, tables, place) {
        return Ok(judging.settle::<P, T, S>(packet, tables, None, Verdict::of(Reason::Management)));
    }
    if judging.blocks(packet, tables, place) {
        return Err(Reason::Blocked);
    }
    if matches!(transport, PortTransport::Udp) && is_dhcp_reply(ports) && tables.dhcp_client(slot) {
        return Ok(judging.settle::<P, T, S>(packet, tables, None, Verdict::of(Reason::Dhcp)));
    }
    if features.has(Features::ALLOW) {
        let key = AllowKey::Port(transport, port);
        let counter = allowed(packet, tables, place, key, Tested { slot, policy: target.policy });
        if counter != NO_COUNTER {
            return Ok(judging.settle::<P, T, S>(
                packet,
                tables,
                None,
                Verdict::by_rule(Reason::Allow, counter),
            ));
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
                && !in_scope::<P, T, false>(packet, tables, place, Scope { slot, groups }, target.outbound);
            if !for_others {
                let limited = features.has(Features::LIMIT) && opens;
                if limited && !may_open(packet, tables, place, slot, target.policy) {
                    return Err(Reason::Limit);
                }
                return Ok(judging.settle::<P, T, S>(
                    packet,
                    tables,
                    None,
                    Verdict::by_rule(Reason::Allowed, counter),
                ));
            }
        }
    }
    // An opening is no reply, so that a flood of them costs no look-up.
    if !opens {
        let carried = Carried::Ports(transport);
        let ends = Ends { place, carried, local: port, remote: ports.source };
        if tables.is_reply(packet, slot, ends) {
            return Ok(judging.settle::<P, T, S>(packet, tables, None, Verdict::of(Reason::Established)));
        }
    }
    if target.policy == NO_POLICY || target.outbound {
        if tables.unmatched_pass(slot, place.zone()) {
            let port = Some((transport, port));
            let (judged, action) = (Action::Pass, Action::Pass);
            let passed = Verdict { port, judged, action, ..Verdict::of(Reason::Unmatched) };
            return Ok(judging.settle::<P, T, S>(packet, tables, None, passed));
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

/// Out of line: few packets go to a management port.
#[inline(never)]
fn is_from_management<P: Packet, T: Rules>(packet: P, tables: &T, place: Place) -> bool {
    source(packet, place).is_some_and(|source| tables.management_source(source))
}

/// Groups, and where to look for who is in them.
#[derive(Clone, Copy)]
struct Scope {
    slot: u32,
    groups: u32,
}

/// True where the far side is in one of these groups: the source of a packet or, where it goes `outbound`, its destination;
/// of one that is to be `ANSWERED` by what is asked about, the other way round. Out of line: boxes without groups do not pay
/// for it. Each address is read by itself, as verifiers up to 6.1 refuse to copy an [`Address`] of IPv4, of which most
/// bytes were never written.
#[inline(never)]
fn in_scope<P: Packet, T: Rules, const ANSWERED: bool>(
    packet: P,
    tables: &T,
    place: Place,
    scope: Scope,
    outbound: bool,
) -> bool {
    // In which zone those are who are called is not known.
    let zone = if outbound { NO_ZONE } else { place.zone() };
    let groups = |address: Option<Address>| {
        address.is_some_and(|address| tables.groups(scope.slot, zone, address) & scope.groups != 0)
    };
    if outbound == ANSWERED {
        groups(source(packet, place))
    } else {
        groups(destination_address(packet, place))
    }
}

/// Where in the tables to look.
#[derive(Clone, Copy)]
struct Tested {
    slot: u32,
    policy: u32,
}

/// The counter of the first allow rule that matches, or [`NO_COUNTER`]. Out of line: boxes without such rules do not pay
/// for it.
#[inline(never)]
fn allowed<P: Packet, T: Rules>(packet: P, tables: &T, place: Place, key: AllowKey, tested: Tested) -> u32 {
    let Some(source) = source(packet, place) else { return NO_COUNTER };
    tables.allow(tested.slot, key, tested.policy, place.zone(), source).unwrap_or(NO_COUNTER)
}

/// IP protocols without ports.
#[inline(always)]
fn other_protocol<P: Packet, T: Tables>(
    packet: P,
    tables: &T,
    summary: Summary,
    judging: Judging,
) -> Verdict {
    let Judging { slot, features } = judging;
    let place = summary.place();
    if matches!(place.family(), Family::V4) && summary.code() == IpProto::Igmp as u8 && summary.group() {
        return Verdict::of(Reason::MulticastControl);
    }
    if features.has(Features::ALLOW) {
        let target = target(packet, tables, place, judging);
        let key = AllowKey::Protocol(summary.code());
        let counter = allowed(packet, tables, place, key, Tested { slot, policy: target.policy });
        if counter != NO_COUNTER {
            return Verdict::by_rule(Reason::Allow, counter);
        }
    }
    Verdict::of(Reason::Protocol)
}

/// A server's reply goes from 67 to 68 (RFC 2131), or from 547 to 546 (RFC 8415).
#[inline(always)]
fn is_dhcp_reply(ports: Ports) -> bool {
    let (server, client) = match ports.place.family() {
        Family::V4 => (67, 68),
        Family::V6 => (547, 546),
    };
    ports.destination == NetPort::new(client) && ports.source == NetPort::new(server)
}

/// True where the answer to a packet that goes out passes by a rule, whatever flows there are: the rows of
/// [`pass_or_drop`] for that answer, whose destination is this packet's source.
#[inline(always)]
pub(crate) fn passes_without_flow<P: Packet, T: Rules>(
    packet: P,
    tables: &T,
    judging: Judging,
    ends: Ends,
    transport: PortTransport,
) -> bool {
    let Judging { slot, features } = judging;
    let Some((local, remote)) = addresses(packet, ends.place) else { return false };
    let zone = ends.place.zone();
    let target =
        if features.has(Features::TARGETS) { tables.target(slot, zone, words(local)) } else { Target::HOST };
    if target.host && tables.management_port(transport, ends.local) && tables.management_source(remote) {
        return true;
    }
    if features.has(Features::ALLOW) {
        let key = AllowKey::Port(transport, ends.local);
        if tables.allow(slot, key, target.policy, zone, remote).is_some() {
            return true;
        }
    }
    if target.policy == NO_POLICY {
        return tables.unmatched_pass(slot, zone);
    }
    let Some(Some(class)) = tables.port(slot, target.policy, transport, ends.local) else { return false };
    let for_all = !features.has(Features::GROUPS) || class.groups == 0;
    let scope = Scope { slot, groups: class.groups };
    for_all || in_scope::<P, T, true>(packet, tables, ends.place, scope, target.outbound)
}

/// The target of a packet's destination.
#[inline(always)]
pub fn target<P: Packet, T: Rules>(packet: P, tables: &T, place: Place, judging: Judging) -> Target {
    if !judging.features.has(Features::TARGETS) {
        return Target::HOST;
    }
    match destination(packet, place) {
        Some(address) => tables.target(judging.slot, place.zone(), address),
        None => Target::NONE,
    }
}

/// True where a packet that is to be dropped goes on, as its target, or what has none, is in audit mode. What has no `place` has
/// no target. Asked with [`Features::MODES`] only.
#[inline(always)]
pub fn in_audit<P: Packet, T: Rules>(packet: P, tables: &T, judging: Judging, place: Option<Place>) -> bool {
    let policy = place.map_or(NO_POLICY, |place| target(packet, tables, place, judging).policy);
    tables.audits(judging.slot, policy)
}
