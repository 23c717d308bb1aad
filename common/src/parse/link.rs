//! The Ethernet header, VLAN tags, and what may hide IP.

use core::hint::black_box;

use network_types::eth::EtherType;

use super::NETWORK_MASK;
use super::headers::{Family, Headers, MAX_TAGS, ParseError, TAGGED, USUAL_TAGS};
use crate::{
    packet::Packet,
    wire::{EthernetHeader, LlcHeader, VlanTag},
};

/// Reads the Ethernet header and the first VLAN tags.
#[inline(always)]
pub(super) fn usual_tags<P: Packet>(packet: P, headers: &mut Headers) -> Result<(), ParseError> {
    let ethernet = packet.header::<EthernetHeader>(0).ok_or(ParseError::Ethernet)?;
    let [a, b, c] = ethernet.destination;
    headers.broadcast = a & b & c == 0xffff;
    headers.ether_type = ethernet.ether_type;
    headers.network = size_of::<EthernetHeader>();
    for tag in 0..USUAL_TAGS {
        if !is_vlan(headers.ether_type) {
            break;
        }
        let vlan = packet.header::<VlanTag>(headers.network).ok_or(ParseError::Ethernet)?;
        headers.vlan[tag] = TAGGED | (u16::from_be(vlan.control) & 0xfff);
        headers.ether_type = vlan.ether_type;
        headers.network += size_of::<VlanTag>();
    }
    Ok(())
}

/// The version of IP that this EtherType stands for.
#[inline(always)]
pub(super) const fn family(ether_type: u16) -> Option<Family> {
    if ether_type == EtherType::Ipv4 as u16 {
        Some(Family::V4)
    } else if ether_type == EtherType::Ipv6 as u16 {
        Some(Family::V6)
    } else {
        None
    }
}

/// Reads the tags behind the usual ones, and says which version of IP comes after them; `None` where there is no IP
/// inside.
#[inline(always)]
pub(super) fn ip_inside<P: Packet>(packet: P, headers: &mut Headers) -> Result<Option<Family>, ParseError> {
    if is_vlan(headers.ether_type) {
        let last = tag_behind(packet, USUAL_TAGS, false).ok_or(ParseError::Ethernet)?;
        headers.ether_type = last.ether_type();
        headers.network = last.end();
    }
    let ether_type = headers.ether_type;
    match family(ether_type) {
        Some(family) => Ok(Some(family)),
        None if is_vlan(ether_type) => Err(ParseError::VlanDepth),
        None if hides_ip(ether_type) => Err(ParseError::Encapsulated),
        None if has_llc(ether_type) && llc_hides_ip(packet, headers.network) => Err(ParseError::Encapsulated),
        None => Ok(None),
    }
}

/// A VLAN tag, in one word: a function that fills a structure of its caller may read it before it has written it, and
/// verifiers before 6.4 refuse that.
#[derive(Clone, Copy)]
pub(crate) struct Tag(u64);

impl Tag {
    /// A tag with this identifier and the EtherType of what follows, which ends at `end`.
    #[inline(always)]
    const fn new(id: u16, ether_type: u16, end: usize) -> Self {
        Self((end as u64) << 32 | (ether_type as u64) << 16 | id as u64)
    }

    /// Its VLAN identifier.
    #[inline(always)]
    pub(crate) const fn id(self) -> u16 {
        self.0 as u16
    }

    /// EtherType of what follows.
    #[inline(always)]
    pub(crate) const fn ether_type(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Where it ends; 0 for no tag.
    #[inline(always)]
    const fn end(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// The tag of [`last_tag`]; `None` where the frame ends inside a tag.
#[inline(always)]
pub(crate) fn tag_behind<P: Packet>(packet: P, before: usize, named: bool) -> Option<Tag> {
    let tag = last_tag(packet, before, named);
    (tag.end() != 0).then_some(tag)
}

/// The last tag of a frame that has more than `before` tags, and at most [`MAX_TAGS`]; with `named`, the first that is
/// behind `before` tags and names a VLAN. One that ends at 0 where the frame ends inside a tag. Out of line: hardly a
/// frame has so many.
#[inline(never)]
fn last_tag<P: Packet>(packet: P, before: usize, named: bool) -> Tag {
    let mut at = size_of::<EthernetHeader>() + before * size_of::<VlanTag>();
    let mut last = Tag(0);
    for _ in before..MAX_TAGS {
        let Some(tag) = packet.header::<VlanTag>(at) else { return Tag(0) };
        at += size_of::<VlanTag>();
        let (id, ether_type) = (u16::from_be(tag.control) & 0xfff, tag.ether_type);
        last = Tag::new(id, ether_type, at);
        if !is_vlan(ether_type) || named && id != 0 {
            break;
        }
    }
    last
}

#[inline(always)]
pub(crate) const fn is_vlan(ether_type: u16) -> bool {
    ether_type == EtherType::Ieee8021q as u16 || ether_type == EtherType::Ieee8021ad as u16
}

/// EtherTypes (IEEE registry) that carry, or may carry, an IP packet or a whole frame that this program cannot judge.
#[inline(always)]
const fn hides_ip(ether_type: u16) -> bool {
    matches!(
        u16::from_be(ether_type),
        0x8847 | 0x8848          // MPLS, unicast and multicast
            | 0x8864             // PPPoE session
            | 0x88e5             // MACsec (802.1AE)
            | 0x88e7             // provider backbone bridges (802.1ah)
            | 0x9100 | 0x9200 | 0x9300 // stacked tags from before 802.1ad
            | 0x893f             // E-TAG (802.1BR)
            | 0xf1c1             // R-TAG (802.1CB)
            | 0x892f             // HSR
            | 0x880b             // PPP
            | 0x22f3 | 0x893b    // TRILL
            | 0x894f             // NSH
            | 0x6558             // transparent Ethernet bridging
            | 0x4305             // B.A.T.M.A.N. advanced
            | 0x88be | 0x22eb // ERSPAN
    )
}

/// True for a length (IEEE 802.3), and for the EtherType of longer frames of that kind: an LLC header follows.
#[inline(always)]
const fn has_llc(ether_type: u16) -> bool {
    let number = u16::from_be(ether_type);
    number < 0x600 || number == 0x8870
}

/// True where an LLC header (IEEE 802.2) is followed by IP, by a tag or by what may hide IP. Linux does not read IP there,
/// other systems do (RFC 1042), and may be behind a guarded port of a bridge.
#[inline(never)]
fn llc_hides_ip<P: Packet>(packet: P, at: usize) -> bool {
    /// The service access point of SNAP, and that of IP without SNAP.
    const SNAP: u16 = 0xaa;
    const IP: u16 = 0x06;
    /// Without the bits for groups, and for commands and responses.
    const POINT: u16 = 0xfe;
    /// Identifiers of an organization whose types are EtherTypes: that of RFC 1042, and that of bridges (802.1H).
    const ETHERNET: u32 = 0;
    const BRIDGED_ETHERNET: u32 = 0x00_00f8;
    /// That of 802.1 itself: whole frames.
    const BRIDGED_FRAME: u32 = 0x00_80c2;

    // Verifiers do not see the bound of a number that was packed.
    let at = black_box(at) & NETWORK_MASK;
    let Some(llc) = packet.header::<LlcHeader>(at) else { return false };
    let [points, control, organization, ether_type] =
        [llc.points, llc.control, llc.organization, llc.ether_type];
    let points = u16::from_be(points);
    let (to, from) = (points >> 8 & POINT, points & POINT);
    if to == IP || from == IP {
        return true;
    }
    if to != SNAP || from != SNAP {
        return false;
    }
    match u32::from(u16::from_be(control) & 0xff) << 16 | u32::from(u16::from_be(organization)) {
        BRIDGED_FRAME => true,
        ETHERNET | BRIDGED_ETHERNET => {
            family(ether_type).is_some() || is_vlan(ether_type) || hides_ip(ether_type)
        }
        _ => false,
    }
}
