//! The usual picture: a client, the host with the firewall, a wire between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::{End, Netns, veth};
use crate::packet::{Ethernet, Mac, Packet, ip};

/// Two namespaces, joined by a veth pair, in 192.0.2.0/24 and 2001:db8::/64 (documentation prefixes of RFC 5737
/// and 3849). The firewall goes on [`Pair::HOST_LINK`].
#[derive(Debug, Clone)]
pub struct Pair {
    /// Who calls.
    pub client: Netns,
    /// Who is protected.
    pub host: Netns,
}

impl Pair {
    /// The client's interface.
    pub const CLIENT_LINK: &'static str = "client0";
    /// The host's interface.
    pub const HOST_LINK: &'static str = "host0";
    /// The client's MAC, locally administered.
    pub const CLIENT_MAC: Mac = [0x02, 0, 0, 0, 0x10, 0x01];
    /// The host's MAC, locally administered.
    pub const HOST_MAC: Mac = [0x02, 0, 0, 0, 0x10, 0x02];
    /// The client's IPv4 address.
    pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// The host's IPv4 address.
    pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    /// The client's IPv6 address.
    pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    /// The host's IPv6 address.
    pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
    /// The host's interface to what is [`behind`](Self::behind) it.
    pub const INNER_LINK: &'static str = "inner0";
    /// The host's addresses there, in 10.1.0.0/24 and fd00:1::/64.
    pub const INNER: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1))];
    /// The IPv4 address of what is behind the host.
    pub const BEHIND_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
    /// The IPv6 address of what is behind the host.
    pub const BEHIND_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);

    /// Makes both namespaces and the wire; traffic flows when this returns.
    ///
    /// # Errors
    /// Those of [`Netns::new`] and [`veth`].
    pub fn new() -> Result<Self> {
        let pair = Self { client: Netns::new()?, host: Netns::new()? };
        veth(
            End { namespace: &pair.client, name: Self::CLIENT_LINK, mac: Self::CLIENT_MAC },
            End { namespace: &pair.host, name: Self::HOST_LINK, mac: Self::HOST_MAC },
        )?;
        let sides = [
            (&pair.client, Self::CLIENT_LINK, IpAddr::from(Self::CLIENT_V4), IpAddr::from(Self::CLIENT_V6)),
            (&pair.host, Self::HOST_LINK, Self::HOST_V4.into(), Self::HOST_V6.into()),
        ];
        for (namespace, link, v4, v6) in sides {
            namespace.add_address(link, v4, 24)?;
            namespace.add_address(link, v6, 64)?;
        }
        Ok(pair)
    }

    /// Makes a namespace behind the host, which forwards for it and which the client reaches it by.
    ///
    /// # Errors
    /// As [`Pair::new`]; where there is one already.
    pub fn behind(&self) -> Result<Netns> {
        let behind = self.hidden()?;
        self.client.add_route(Self::BEHIND_V4.into(), 32, Self::HOST_V4.into())?;
        self.client.add_route(Self::BEHIND_V6.into(), 128, Self::HOST_V6.into())?;
        Ok(behind)
    }

    /// The same, but that the client knows no way there: for a host that translates addresses.
    ///
    /// # Errors
    /// As [`Pair::behind`].
    pub fn hidden(&self) -> Result<Netns> {
        const LINK: &str = "uplink0";
        let hidden = Netns::new()?;
        veth(
            End { namespace: &self.host, name: Self::INNER_LINK, mac: [0x02, 0, 0, 0, 0x20, 0x01] },
            End { namespace: &hidden, name: LINK, mac: [0x02, 0, 0, 0, 0x20, 0x02] },
        )?;
        let own = [IpAddr::from(Self::BEHIND_V4), Self::BEHIND_V6.into()];
        let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        for (side, prefix) in [24, 64].into_iter().enumerate() {
            self.host.add_address(Self::INNER_LINK, Self::INNER[side], prefix)?;
            hidden.add_address(LINK, own[side], prefix)?;
            hidden.add_route(any[side], 0, Self::INNER[side])?;
        }
        self.host.forward(true)?;
        Ok(hidden)
    }

    /// Makes each side know the other's MAC, so that no ARP or neighbour discovery passes: for tests of a host
    /// that drops everything, and for exact counts.
    ///
    /// # Errors
    /// Where they know already.
    pub fn introduce(&self) -> Result<()> {
        for address in [IpAddr::from(Self::HOST_V4), Self::HOST_V6.into()] {
            self.client.add_neighbour(Self::CLIENT_LINK, address, Self::HOST_MAC)?;
        }
        for address in [IpAddr::from(Self::CLIENT_V4), Self::CLIENT_V6.into()] {
            self.host.add_neighbour(Self::HOST_LINK, address, Self::CLIENT_MAC)?;
        }
        Ok(())
    }

    /// A frame from the client to the host, up to and without the IP header.
    pub fn frame() -> Packet {
        Packet::ethernet(Ethernet::new(Self::CLIENT_MAC, Self::HOST_MAC))
    }

    /// A frame from the client to the host, up to and with the IPv4 header.
    pub fn frame_v4() -> Packet {
        Self::frame().with(ip(Self::CLIENT_V4.into(), Self::HOST_V4.into()))
    }

    /// A frame from the client to the host, up to and with the IPv6 header.
    pub fn frame_v6() -> Packet {
        Self::frame().with(ip(Self::CLIENT_V6.into(), Self::HOST_V6.into()))
    }
}
