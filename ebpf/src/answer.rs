//! Answers packets at closed ports of the targets that say so. What an answer consists of is `common`'s.
//!
//! Two subprograms, as one would take more stack than the chain of calls has left: the first one reads, the second one
//! writes. Boxes without such a target read one bit of the control page at each drop of this kind, and nothing else.

use aya_ebpf::bindings::xdp_md;
use lyncwall_common::{
    abi::PortTransport,
    answer::{self, Shape},
    fields::IpAt,
    judging::Judging,
    packet::Packet as _,
    parse::{Family, Headers, parse_plain},
    target,
    wire::{ErrorV4, ErrorV6, EthernetHeader, SegmentV4, SegmentV6, TcpHeader, VlanTag},
    zone,
};

use crate::{ctx::Frame, maps::Kernel, raw::Context};

/// True where the frame now is the answer to a packet that was dropped. After false, the frame must be dropped.
#[inline(always)]
pub(crate) fn is_made(context: Context<'_>) -> bool {
    subprogram_may_answer(context.to_kernel()) != 0 && subprogram_answer(context.to_kernel()) != 0
}

/// 1 where a packet at a closed port gets an answer: by its form, its target, its interface, and the rate.
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_may_answer(context: *mut xdp_md) -> u32 {
    let context = Context::of_kernel(context);
    let frame = Frame::<false>::of(context);
    let Some(kernel) = Kernel::new(context) else { return 0 };
    let mut headers = Headers::UNREAD;
    // Only whole frames in one buffer: the length of all is that of the first.
    let Some(transport) = parse_plain(frame, &mut headers) else { return 0 };
    // After a switch meanwhile, the new generation decides.
    let Some(judging) = Judging::now(&kernel) else { return 0 };
    let at = IpAt::of(&headers).in_zone(zone::of(frame, &kernel, judging));
    let policy = target::of(frame, &kernel, at, judging).policy;
    let may = kernel.target_answers(judging.slot, policy)
        && answer::may_have(frame, &headers, kernel.ethernet(judging.slot))
        && kernel.may_answer(transport);
    u32::from(may)
}

/// Makes a packet of the usual form its own answer; 0 where that fails, and the frame is of no use any more.
#[expect(unsafe_code, reason = "the attribute names a symbol")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn subprogram_answer(context: *mut xdp_md) -> u32 {
    let context = Context::of_kernel(context);
    let frame = Frame::<false>::of(context);
    let mut headers = Headers::UNREAD;
    let Some(transport) = parse_plain(frame, &mut headers) else { return 0 };
    let Some(family) = headers.family else { return 0 };
    let network = headers.network & NETWORK_MASK;
    let data = data(frame, &headers);
    let Shape { keep, front } = Shape::of(family, transport, network);
    if !context.resize(frame.length().wrapping_sub(keep), front) || relink(context, network, front).is_none()
    {
        return 0;
    }
    let made = match (family, transport) {
        (Family::V4, PortTransport::Tcp) => context.change(network, |it: &mut SegmentV4| it.reset(data)),
        (Family::V6, PortTransport::Tcp) => context.change(network, |it: &mut SegmentV6| it.reset(data)),
        (Family::V4, PortTransport::Udp) => context.change(network, ErrorV4::port_unreachable),
        (Family::V6, PortTransport::Udp) => context.change(network, ErrorV6::port_unreachable),
    };
    if made.is_none() {
        return 0;
    }
    if let Some(kernel) = Kernel::new(context) {
        kernel.count_answer(transport);
    }
    1
}

/// The IP header follows the Ethernet header and at most two tags.
const NETWORK_MASK: usize = 0x1f;

/// The bytes that a TCP segment carries.
#[inline(always)]
fn data(frame: Frame<'_, false>, headers: &Headers) -> u32 {
    let offset = frame.header::<TcpHeader>(headers.transport).map_or(0, |tcp| tcp.offset >> 4);
    headers.end.wrapping_sub(headers.transport).wrapping_sub(usize::from(offset) * 4) as u32
}

/// Puts the Ethernet header, which lies at `front`, before the answer, the other way; and its tags.
#[inline(always)]
fn relink(context: Context<'_>, network: usize, front: usize) -> Option<()> {
    const TAG: usize = size_of::<VlanTag>();
    const LINK: usize = size_of::<EthernetHeader>();
    if front == 0 {
        return context.change(0, answer::turn);
    }
    let before = *context.header::<EthernetHeader>(front)?;
    context.change(0, |ethernet: &mut EthernetHeader| {
        *ethernet = before;
        answer::turn(ethernet);
    })?;
    for at in [LINK, LINK + TAG] {
        if network >= at + TAG {
            let tag = *context.header::<VlanTag>(front + at)?;
            context.change(at, |own: &mut VlanTag| *own = tag)?;
        }
    }
    Some(())
}
