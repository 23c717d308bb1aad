//! The two ends of a packet: its ports, and what its flow is looked up by.

use network_types::ip::IpProto;

use crate::{
    abi::{NetPort, PortTransport},
    fields::IpAt,
    parse::{Family, Headers},
    summary::Summary,
};

/// What the rows read of a TCP or UDP packet.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) at: IpAt,
    pub(crate) transport: PortTransport,
    pub(crate) source: NetPort,
    pub(crate) destination: NetPort,
    /// TCP flags.
    pub(crate) flags: u8,
    /// True where the destination is a multicast group or a broadcast.
    pub(crate) to_many: bool,
}

impl Ports {
    /// Those of a frame of the usual form, which goes to one host.
    #[inline(always)]
    pub(crate) const fn of(headers: &Headers, transport: PortTransport) -> Self {
        Self {
            at: IpAt::of(headers),
            transport,
            source: headers.source_port,
            destination: headers.destination_port,
            flags: headers.flags,
            to_many: false,
        }
    }

    /// Those of a frame of any form.
    #[inline(always)]
    pub(crate) const fn of_summary(summary: Summary, transport: PortTransport) -> Self {
        Self {
            at: summary.ip(),
            transport,
            source: summary.source_port(),
            destination: summary.destination_port(),
            flags: summary.flags(),
            to_many: summary.group() || summary.broadcast(),
        }
    }

    /// The ends of an incoming packet.
    #[inline(always)]
    pub(crate) const fn ends(self) -> Ends {
        Ends {
            at: self.at,
            carried: Carried::Ports(self.transport),
            local: self.destination,
            remote: self.source,
            flags: self.flags,
        }
    }
}

/// The two ends of a packet, by which its flow is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Its IP header.
    pub at: IpAt,
    /// What it carries.
    pub carried: Carried,
    /// The port of this side; of an echo the identifier.
    pub local: NetPort,
    /// The port of the far side; 0 for an echo.
    pub remote: NetPort,
    /// TCP flags of an incoming packet; without meaning elsewhere.
    pub flags: u8,
}

/// What a flow carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// TCP or UDP.
    Ports(PortTransport),
    /// ICMP echo.
    Echo,
}

impl Carried {
    /// The IP protocol.
    #[inline(always)]
    pub(crate) const fn protocol(self, family: Family) -> u8 {
        match (self, family) {
            (Self::Ports(PortTransport::Tcp), _) => IpProto::Tcp as u8,
            (Self::Ports(PortTransport::Udp), _) => IpProto::Udp as u8,
            (Self::Echo, Family::V4) => IpProto::Icmp as u8,
            (Self::Echo, Family::V6) => IpProto::Ipv6Icmp as u8,
        }
    }
}
