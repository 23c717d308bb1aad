//! What each reason means to whoever reads it, in one sentence: the only place that says so to people.

use lyncwall_common::reason::Reason;

/// What happened to a packet with this reason, and why.
#[must_use]
pub const fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::NonIp => "it carries no IP: ARP, LLDP, LACP, spanning tree and the like pass",
        Reason::Encapsulated => "IP inside PPPoE, MPLS, MACsec or another tunnel cannot be judged",
        Reason::VlanDepth => "it has more than two VLAN tags",
        Reason::MalformedEthernet => "the frame ends inside its Ethernet header or a VLAN tag",
        Reason::MalformedIpv4 => "its IPv4 header is cut off or contradicts itself",
        Reason::MalformedIpv6 => "its IPv6 header or an extension header is cut off or contradicts itself",
        Reason::MalformedTcp => "its TCP header is cut off or contradicts itself",
        Reason::MalformedUdp => "its UDP header is cut off or contradicts itself",
        Reason::MalformedIcmp => "its ICMP header is cut off",
        Reason::IpSourceRoute => {
            "it wants to choose its own way: a source route, or a routing header with segments left"
        }
        Reason::Ipv6Chain => "it has more IPv6 extension headers than are looked at",
        Reason::Ipv6Rh0 => "it has a routing header of type 0, which RFC 5095 forbids",
        Reason::Fragment => "it is the rest of a packet whose first fragment was let in",
        Reason::FragmentTiny => "it is a first fragment that ends before its ports",
        Reason::FragmentOverlap => "it would write over what its first fragment says",
        Reason::FragmentOrphan => {
            "it is the rest of a packet whose first fragment was dropped, or not seen within 30 seconds"
        }
        Reason::TcpFlags => "no TCP sends these flags: none at all, SYN with FIN, or SYN with RST",
        Reason::Management => "its port and its source are those of [management]",
        Reason::Blocked => "its source is on the block-list",
        Reason::IcmpError => "an ICMP error, as path MTU discovery needs it, within the rate",
        Reason::IcmpRate => "more ICMP errors or echo requests came than each CPU lets in per second",
        Reason::Neighbour => "IPv6 neighbour discovery from the link",
        Reason::MulticastControl => "membership of multicast groups: IGMP or MLD",
        Reason::NdHopLimit => {
            "neighbour discovery that did not come from the link: its hop limit is below 255"
        }
        Reason::IcmpEcho => "an echo request within the rate",
        Reason::IcmpOther => "ICMP that nobody here asked for",
        Reason::Dhcp => "the reply of a DHCP server, at an interface that is marked as a DHCP client",
        Reason::Allow => "an [[allow]] rule lets it in",
        Reason::Protocol => "no [[allow]] rule lets this IP protocol in",
        Reason::Multicast => "it goes to a multicast group or is a broadcast, and no rule lets it in",
        Reason::Allowed => "the roles of the target open this port to its source",
        Reason::Established => "it answers what this side opened",
        Reason::Source => "the port is open, but not to this source",
        Reason::Unmatched => "its destination is no address of a target",
        Reason::NoFlow => "it belongs to a TCP connection that is not known here",
        Reason::Closed => "no rule opens this port",
        Reason::Internal => "the program could not read its own tables: please report it",
        Reason::Limit => "its source has opened more connections than [limit] allows",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lyncwall_common::reason::Reason;

    use super::meaning;

    #[test]
    fn each_reason_has_a_sentence_of_its_own() {
        let all: BTreeSet<&str> = Reason::ALL.iter().map(|reason| meaning(*reason)).collect();
        assert_eq!(all.len(), Reason::ALL.len());
    }
}
