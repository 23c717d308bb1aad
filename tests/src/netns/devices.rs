//! Interfaces that are made of others, as a box in front of a pool has them. Most kernels have them as modules.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use rtnetlink::packet_route::link::{
    BondMode, InfoBond, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, VlanProtocol,
};
use rtnetlink::{
    LinkBond, LinkBridge, LinkDummy, LinkGre, LinkMessageBuilder, LinkUnspec, LinkVlan, LinkVrf,
};

use super::{Netns, wait_for};

/// Which header a tag has in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// 802.1Q, EtherType 8100.
    Customer,
    /// 802.1ad, EtherType 88a8.
    Service,
}

/// A tunnel of generic routing encapsulation over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gre {
    /// `gretap`: carries Ethernet frames.
    Frames,
    /// `gre`: carries IP packets.
    Packets,
}

impl Netns {
    /// Makes an interface for the frames of `parent` with this tag, and sets it up.
    ///
    /// # Errors
    /// Where the kernel has no VLANs, or the parent has this one already.
    pub fn add_vlan(&self, parent: &str, name: &str, tag: Tag, id: u16) -> Result<()> {
        let protocol = match tag {
            Tag::Customer => VlanProtocol::Ieee8021Q,
            Tag::Service => VlanProtocol::Ieee8021Ad,
        };
        let link =
            LinkVlan::new(name, self.index(parent)?, id).append_info_data(InfoVlan::Protocol(protocol));
        self.add_link(name, link)
    }

    /// Makes a bond that uses one member at a time, and sets it up.
    ///
    /// # Errors
    /// Where the kernel has no bonds.
    pub fn add_bond(&self, name: &str) -> Result<()> {
        // Asks for the members' carrier every 10 ms: without that a member that went down stays in use.
        self.add_link(name, LinkBond::new(name).mode(BondMode::ActiveBackup).miimon(10))
    }

    /// Makes a bond use this member whenever it has a carrier, and waits until it does.
    ///
    /// # Errors
    /// Where it is no member, or is not in use within 30 seconds.
    pub fn prefer(&self, bond: &str, member: &str) -> Result<()> {
        let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Bond)
            .index(self.index(bond)?)
            .set_info_data(InfoData::Bond(vec![InfoBond::Primary(self.index(member)?)]));
        // RTM_NEWLINK: what a kind of interface has of its own is not looked at in RTM_SETLINK.
        self.netlink(async |handle| Ok(handle.link().change(link.build()).execute().await?))
            .with_context(|| format!("preferring {member} in {bond}"))?;
        self.wait_until_used(bond, member)
    }

    /// Waits until a bond uses this member. What comes in by another one is dropped.
    ///
    /// # Errors
    /// Where that does not happen within 30 seconds.
    pub fn wait_until_used(&self, bond: &str, member: &str) -> Result<()> {
        let index = self.index(member)?;
        let is_used = |attribute: &LinkAttribute| {
            let LinkAttribute::LinkInfo(infos) = attribute else { return false };
            infos.iter().any(|info| {
                matches!(info, LinkInfo::Data(InfoData::Bond(data)) if data.contains(&InfoBond::ActivePort(index)))
            })
        };
        wait_for(|| Ok(self.link_attributes(bond)?.iter().any(is_used)))
            .with_context(|| format!("waiting for {bond} to use {member}"))
    }

    /// Makes a bridge without ports, and sets it up.
    ///
    /// # Errors
    /// Where the kernel has no bridges.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        self.add_link(name, LinkBridge::new(name))
    }

    /// Makes an interface that swallows what is sent, and sets it up.
    ///
    /// # Errors
    /// Where the kernel has no such interfaces.
    pub fn add_dummy(&self, name: &str) -> Result<()> {
        self.add_link(name, LinkDummy::new(name))
    }

    /// Makes a VRF with a routing table of this number, and sets it up. [`Netns::enslave`] puts interfaces into it.
    ///
    /// # Errors
    /// Where the kernel has no VRFs.
    pub fn add_vrf(&self, name: &str, table: u32) -> Result<()> {
        self.add_link(name, LinkVrf::new(name, table))
    }

    /// Makes an end of a tunnel, and sets it up.
    ///
    /// # Errors
    /// Where the kernel has no such tunnels.
    pub fn add_gre(&self, name: &str, what: Gre, local: Ipv4Addr, remote: Ipv4Addr) -> Result<()> {
        let link = match what {
            Gre::Frames => LinkGre::new_gretap(name),
            Gre::Packets => LinkGre::new(name),
        };
        self.add_link(name, link.local(local).remote(remote).ttl(64))
    }

    /// Makes `member` a member of a bond, a port of a bridge, or a part of a VRF. It is up afterwards.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn enslave(&self, member: &str, master: &str) -> Result<()> {
        // A bond takes interfaces that are down only.
        self.set_up(member, false)?;
        let link = LinkUnspec::new_with_index(self.index(member)?).controller(self.index(master)?);
        self.change_link(link.build()).with_context(|| format!("putting {member} into {master}"))?;
        self.set_up(member, true)
    }

    fn add_link<T>(&self, name: &str, link: LinkMessageBuilder<T>) -> Result<()> {
        let link = link.up().build();
        self.netlink(async |handle| Ok(handle.link().add(link).execute().await?)).with_context(|| {
            format!("making {name}; where the kernel does not know the kind, load its module")
        })
    }
}
