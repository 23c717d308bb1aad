//! The interfaces of this thread's network namespace, from the kernel.

use anyhow::{Context as _, Result};
use nix::net::if_::{if_indextoname, if_nameindex, if_nametoindex};
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use crate::netlink::ask;

/// The members of bonds: the number of the bond, and that of the member.
pub fn members() -> Result<Vec<(u32, u32)>> {
    let member = |link: LinkMessage| {
        let is_member = link.attributes.iter().any(|attribute| {
            let LinkAttribute::LinkInfo(infos) = attribute else { return false };
            infos.iter().any(|info| matches!(info, LinkInfo::PortKind(InfoPortKind::Bond)))
        });
        let bond = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(bond) => Some(*bond),
            _ => None,
        });
        Some((bond.filter(|_| is_member)?, link.header.index))
    };
    Ok(links()?.into_iter().filter_map(member).collect())
}

/// All interfaces with their attributes.
pub(super) fn links() -> Result<Vec<LinkMessage>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = ask(NETLINK_ROUTE, request, NLM_F_DUMP).context("listing the network interfaces")?;
    let link = |answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    };
    Ok(answers.into_iter().filter_map(link).collect())
}

/// True if one of these interfaces is up and has sent a packet. Over others, no connection can stand.
pub fn have_sent(names: &[String]) -> Result<bool> {
    Ok(links()?.into_iter().any(|link| {
        let (mut wanted, mut sent) = (false, 0);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => wanted = names.contains(name),
                LinkAttribute::Stats64(stats) => sent = stats.tx_packets,
                _ => {}
            }
        }
        wanted && sent > 0 && link.header.flags.contains(LinkFlags::Up)
    }))
}

/// The name of an interface; `None` for an unknown number.
pub fn name(number: u32) -> Option<String> {
    if_indextoname(number).ok()?.into_string().ok()
}

/// The number of an interface; `None` for an unknown name.
pub fn number(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// Names and numbers.
pub fn all() -> Result<Vec<(String, u32)>> {
    let interfaces = if_nameindex().context("listing the network interfaces")?;
    let known = interfaces.iter();
    Ok(known.map(|interface| (interface.name().to_string_lossy().into_owned(), interface.index())).collect())
}
