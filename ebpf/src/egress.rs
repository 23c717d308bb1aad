//! Outgoing packets: the program tracks the flows that they open, and never changes or drops a packet.

use aya_ebpf::programs::TcContext;
use lyncwall_common::{
    outgoing,
    packet::{Ipv4Options, Packet, Wire},
    wire::EthernetHeader,
};
use network_types::eth::EtherType;

use crate::{maps::Kernel, raw::Outgoing};

/// Bytes that the headers of a packet may take: two tags, IPv6 with some extension headers, TCP.
const HEADERS: usize = 128;

/// Bytes that the usual headers take: Ethernet, IPv6, TCP without options. The kernel has those of its own packets at
/// hand; to pull more than that copies the packet.
const USUAL: usize = 14 + 40 + 20;
/// Bytes that the usual headers take with IPv4.
const USUAL_V4: usize = 14 + 20 + 20;

/// Tracks a packet.
#[inline(always)]
pub(crate) fn track(context: &TcContext) {
    let packet = Outgoing::new(context);
    let usual = if is_ipv4(packet) { USUAL_V4 } else { USUAL };
    if packet.readable() < usual && packet.readable() < packet.length() {
        packet.pull(HEADERS.min(packet.length()));
    }
    if let Some(kernel) = Kernel::new(packet) {
        outgoing::track(Frame(packet), &kernel);
    }
}

#[inline(always)]
fn is_ipv4(packet: Outgoing<'_>) -> bool {
    let header = packet.header::<EthernetHeader>(0);
    header.is_some_and(|header| header.ether_type == EtherType::Ipv4 as u16)
}

/// An outgoing frame. The kernel keeps its outer tag beside it.
#[derive(Clone, Copy)]
struct Frame<'a>(Outgoing<'a>);

impl<'a> Packet for Frame<'a> {
    type Header<T: Wire> = &'a T;

    #[inline(always)]
    fn length(self) -> usize {
        self.0.length()
    }

    #[inline(always)]
    fn header<T: Wire>(self, offset: usize) -> Option<&'a T> {
        self.0.header(offset)
    }

    #[inline(always)]
    fn tag(self) -> Option<u16> {
        self.0.tag()
    }

    #[inline(always)]
    fn is_forwarded(self) -> bool {
        self.0.came_in_by() != 0
    }

    #[inline(always)]
    fn is_sent_back(self) -> bool {
        self.0.came_in_by() == self.0.ifindex()
    }

    /// Outgoing packets are not judged.
    #[inline(always)]
    fn ipv4_options(self, _: usize, _: usize) -> Ipv4Options {
        Ipv4Options::Sound
    }

    #[inline(always)]
    fn forget(self, values: [u64; 2]) -> [u64; 2] {
        crate::ctx::forget(values)
    }
}
