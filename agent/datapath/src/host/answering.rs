//! The interfaces by which the program may answer packets at closed ports (`on-closed = "reject"`), and why it may not by
//! the others.

use anyhow::{Context as _, Result};
use lyncwall_policy::config::{Attach, Config, OnClosed};
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::interfaces;
use super::tags::stripped_tags;
use crate::netlink::ask;

/// The numbers of the interfaces by which the program may answer, with their Ethernet addresses: those of `numbers`, and
/// of the `members` of bonds among them. Empty if no target rejects.
pub(super) fn answering(
    config: &Config,
    numbers: &[u32],
    members: &[(u32, u32)],
) -> Result<Vec<(u32, [u8; 6])>> {
    if !rejects(config) {
        return Ok(Vec::new());
    }
    let links = links()?;
    let may = |number: &u32| Some((*number, examine(&links, *number).ok()??.ok()?));
    // VLANs stand on the bond, not on its members.
    let bond_may = |bond: &u32| numbers.contains(bond) && may(bond).is_some();
    let of_bonds = members.iter().filter(|(bond, _)| bond_may(bond)).map(|(_, member)| member);
    Ok(numbers.iter().chain(of_bonds).filter_map(may).collect())
}

/// Warnings about interfaces by which closed ports of targets with `on-closed = "reject"` stay silent, or may.
#[must_use]
pub fn silent_interfaces(config: &Config) -> Vec<String> {
    if !rejects(config) {
        return Vec::new();
    }
    looked(config)
        .unwrap_or_else(|error| vec![format!("cannot tell which interfaces reject packets: {error:#}")])
}

fn looked(config: &Config) -> Result<Vec<String>> {
    let (links, known) = (links()?, interfaces::all()?);
    let mut warnings = Vec::new();
    for interface in &config.interfaces {
        let name = &interface.name;
        let Some((_, number)) = known.iter().find(|(known, _)| *known == **name) else { continue };
        match examine(&links, *number)? {
            Some(Ok(_)) | None => {}
            Some(Err(why)) => {
                warnings
                    .push(format!("{name} drops at closed ports in spite of on-closed = \"reject\": {why}"));
            }
        }
        let is_veth = links.iter().any(|link| link.number == *number && link.is_veth);
        if is_veth && interface.attach != Attach::Generic {
            warnings.push(format!(
                "answers of on-closed = \"reject\" by {name}, a veth, reach its other end only if that end has an XDP \
                 program, too; `attach = \"generic\"` does not need one"
            ));
        }
    }
    Ok(warnings)
}

fn rejects(config: &Config) -> bool {
    config.targets.iter().any(|target| target.on_closed == OnClosed::Reject)
}

/// The Ethernet address of an interface that may answer, or why it may not; `None` if it does not exist.
fn examine(links: &[Link], number: u32) -> Result<Option<Result<[u8; 6], String>>> {
    let Some(link) = links.iter().find(|link| link.number == number) else { return Ok(None) };
    let Some(address) = link.address else {
        return Ok(Some(Err("it has no Ethernet address".to_owned())));
    };
    // An answer to a packet without its tag would go out without a tag: to another network.
    let has_vlans = links.iter().any(|other| other.is_vlan && other.below == Some(number));
    if has_vlans {
        let stripped = stripped_tags(&link.name).context("asking for VLAN offloads")?;
        if !stripped.is_empty() {
            return Ok(Some(Err(format!(
                "it takes the tags out of the frames of its VLANs; disable that with `ethtool -K {}{}`",
                link.name,
                stripped.iter().map(|feature| format!(" {feature} off")).collect::<String>()
            ))));
        }
    }
    Ok(Some(Ok(address)))
}

/// An interface of this thread's network namespace.
struct Link {
    number: u32,
    name: String,
    /// `None` without Ethernet, as on `lo`.
    address: Option<[u8; 6]>,
    /// The interface that a VLAN is on.
    below: Option<u32>,
    is_vlan: bool,
    is_veth: bool,
}

fn links() -> Result<Vec<Link>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = ask(NETLINK_ROUTE, request, NLM_F_DUMP).context("listing the network interfaces")?;
    let link = |answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(Link::of(message)),
        _ => None,
    };
    Ok(answers.into_iter().filter_map(link).collect())
}

impl Link {
    fn of(message: LinkMessage) -> Self {
        let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
        let mut link = Self {
            number: message.header.index,
            name: String::new(),
            address: None,
            below: None,
            is_vlan: false,
            is_veth: false,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) if ethernet => {
                    link.address = bytes.try_into().ok().filter(|address| *address != [0; 6]);
                }
                LinkAttribute::Link(below) => link.below = Some(below),
                LinkAttribute::LinkInfo(infos) => {
                    let is = |kind: &InfoKind| {
                        infos.iter().any(|info| matches!(info, LinkInfo::Kind(own) if own == kind))
                    };
                    link.is_vlan = is(&InfoKind::Vlan);
                    link.is_veth = is(&InfoKind::Veth);
                }
                _ => {}
            }
        }
        link
    }
}
