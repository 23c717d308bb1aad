//! Why a packet passed or was dropped.

use core::fmt;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// It goes on to the kernel's network stack.
    Pass = 0,
    /// It ends here.
    Drop = 1,
}

impl Action {
    /// Every action, by value.
    pub const ALL: [Self; 2] = [Self::Pass, Self::Drop];

    /// `pass` or `drop`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $value:literal, $name:literal, $action:ident;)*) => {
        /// The one code that says why a packet got its verdict: a row of docs/architecture/verdict-table.md.
        ///
        /// Values are part of the map layout: new ones are added at the end, and one that goes raises
        /// [`ABI_VERSION`](crate::abi::ABI_VERSION).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])* $variant = $value,)*
        }

        impl Reason {
            /// Every reason, by value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that users see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, in a sentence: its line in this file.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii(),)* }
            }

            /// What enforcing does to a packet with this reason. [`Reason::Unmatched`] passes where the zone
            /// says so; audit mode passes all but [`Reason::Blocked`].
            #[must_use]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)* }
            }
        }
    };
}

reasons! {
    /// No IP inside: ARP, LLDP, LACP, STP, EAPOL and the like.
    NonIp = 0, "non-ip", Pass;
    /// IP that cannot be judged: PPPoE session, MPLS, MACsec and other tunnelling EtherTypes, or IP behind an LLC header.
    Encapsulated = 1, "encapsulated", Drop;
    /// More than eight VLAN tags.
    VlanDepth = 2, "vlan-depth", Drop;
    /// The frame ends inside its Ethernet header or a VLAN tag.
    MalformedEthernet = 3, "malformed-ethernet", Drop;
    /// A truncated or inconsistent IPv4 header.
    MalformedIpv4 = 4, "malformed-ipv4", Drop;
    /// A truncated or inconsistent IPv6 header or extension header.
    MalformedIpv6 = 5, "malformed-ipv6", Drop;
    /// A truncated or inconsistent TCP header.
    MalformedTcp = 6, "malformed-tcp", Drop;
    /// A truncated or inconsistent UDP header.
    MalformedUdp = 7, "malformed-udp", Drop;
    /// A truncated ICMP or ICMPv6 header.
    MalformedIcmp = 8, "malformed-icmp", Drop;
    /// IPv4 loose or strict source route, or an IPv6 routing header (not of type 0) with segments left.
    IpSourceRoute = 9, "ip-source-route", Drop;
    /// More IPv6 extension headers than the walk takes.
    Ipv6Chain = 10, "ipv6-chain", Drop;
    /// IPv6 routing header type 0 (RFC 5095).
    Ipv6Rh0 = 11, "ipv6-rh0", Drop;
    /// A later fragment whose first fragment was allowed.
    Fragment = 12, "fragment", Pass;
    /// A first fragment without the whole transport header (RFC 1858, RFC 7112).
    FragmentTiny = 13, "fragment-tiny", Drop;
    /// A later fragment that overlaps the first one.
    FragmentOverlap = 14, "fragment-overlap", Drop;
    /// A later fragment whose first was denied, was not seen, or was seen too long ago.
    FragmentOrphan = 15, "fragment-orphan", Drop;
    /// TCP with no flags, SYN and FIN, or SYN and RST.
    TcpFlags = 16, "tcp-flags", Drop;
    /// A management port, from a management source.
    Management = 17, "management", Pass;
    /// The source is on the block-list.
    Blocked = 18, "blocked", Drop;
    /// An ICMP error within the rate.
    IcmpError = 19, "icmp-error", Pass;
    /// An ICMP error or echo request above the rate.
    IcmpRate = 20, "icmp-rate", Drop;
    /// IPv6 neighbour discovery from the link.
    Neighbour = 21, "neighbour", Pass;
    /// Multicast group membership: MLD and IGMP.
    MulticastControl = 22, "multicast-control", Pass;
    /// Neighbour discovery that did not come from the link (RFC 4861, hop limit below 255).
    NdHopLimit = 23, "nd-hop-limit", Drop;
    /// An echo request within the rate.
    IcmpEcho = 24, "icmp-echo", Pass;
    /// Any other ICMP.
    IcmpOther = 25, "icmp-other", Drop;
    /// A DHCP reply to an interface that is marked as a DHCP client.
    Dhcp = 26, "dhcp", Pass;
    /// An `[[allow]]` rule.
    Allow = 27, "allow", Pass;
    /// An IP protocol that no rule allows.
    Protocol = 28, "protocol", Drop;
    /// Multicast or broadcast that no rule allows.
    Multicast = 29, "multicast", Drop;
    /// An open port of the target.
    Allowed = 30, "allowed", Pass;
    /// The reply of a tracked flow.
    Established = 31, "established", Pass;
    /// The port is open, but not for this source.
    Source = 32, "source", Drop;
    /// The destination belongs to no target.
    Unmatched = 33, "unmatched", Drop;
    /// TCP that opens nothing and belongs to no flow.
    NoFlow = 34, "no-flow", Drop;
    /// A port that no rule opens.
    Closed = 35, "closed", Drop;
    /// The program could not read its own tables. Stays at 0 unless there is a defect.
    Internal = 36, "internal", Drop;
    /// An opening to a port of a role, beyond what its source may open.
    Limit = 37, "limit", Drop;
    /// A later fragment that came before its first one, within the rate of `early` under `[fragments]`.
    FragmentEarly = 38, "fragment-early", Pass;
}

impl Reason {
    /// The reason with this value.
    #[must_use]
    pub fn from_value(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn values_are_positions_and_names_are_unique() {
        for (position, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(usize::from(*reason as u8), position);
            assert_eq!(Reason::from_value(*reason as u8), Some(*reason));
            let meaning = reason.meaning();
            assert!(meaning.ends_with('.') && !meaning.starts_with(' '), "{reason}: {meaning:?}");
            assert_eq!(Reason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }
}
