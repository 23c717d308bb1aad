//! The network interfaces and their XDP programs, over netlink: only netlink also shows programs that were
//! attached without a link.

use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use aya::programs::xdp::XdpMode;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use crate::netlink::ask;

/// The mode of an attached program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the kernel's network stack.
    Generic,
}

impl Mode {
    /// `native` or `generic`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    pub(super) const fn xdp(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An interface of the calling thread's network namespace.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    /// Its kind if it has no device, as `veth`.
    pub(super) kind: Option<String>,
    /// True if frames begin with an Ethernet header.
    pub(super) ethernet: bool,
    /// The ids of the XDP programs on it.
    pub(super) programs: Vec<u32>,
    /// The mode of the program; `None` without one, with several, or in hardware.
    pub(super) mode: Option<Mode>,
}

/// All interfaces.
pub(super) fn all() -> Result<Vec<Interface>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = ask(NETLINK_ROUTE, request, NLM_F_DUMP).context("listing the network interfaces")?;
    Ok(answers.into_iter().filter_map(interface).collect())
}

/// Removes a program that was attached over netlink from an interface, if it is still there.
pub(super) fn clear(index: u32, mode: Mode, program: BorrowedFd<'_>) -> Result<()> {
    const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
    const XDP_FLAGS_REPLACE: u32 = 1 << 4;
    let mode = match mode {
        Mode::Native => XDP_FLAGS_DRV_MODE,
        Mode::Generic => XDP_FLAGS_SKB_MODE,
    };
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::Xdp(vec![
        LinkXdp::Fd(-1),
        LinkXdp::ExpectedFd(program.as_raw_fd().cast_unsigned()),
        LinkXdp::Flags(mode | XDP_FLAGS_REPLACE),
    ]));
    ask(NETLINK_ROUTE, RouteNetlinkMessage::SetLink(link), NLM_F_ACK)
        .context("detaching an XDP program over netlink")?;
    Ok(())
}

fn interface(message: RouteNetlinkMessage) -> Option<Interface> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let ethernet = matches!(link.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback);
    let mut found = Interface {
        index: link.header.index,
        name: String::new(),
        kind: None,
        ethernet,
        programs: Vec::new(),
        mode: None,
    };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name = name,
            LinkAttribute::LinkInfo(infos) => {
                found.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(attributes) => {
                for attribute in attributes {
                    match attribute {
                        LinkXdp::Attached(XdpAttached::Driver) => found.mode = Some(Mode::Native),
                        LinkXdp::Attached(XdpAttached::SocketBuffer) => found.mode = Some(Mode::Generic),
                        LinkXdp::ProgId(id)
                        | LinkXdp::DrvProgId(id)
                        | LinkXdp::SkbProgId(id)
                        | LinkXdp::HwProgId(id)
                            if id != 0 && !found.programs.contains(&id) =>
                        {
                            found.programs.push(id);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(found)
}
