//! A pair of load balancers that share a virtual address.

use std::net::IpAddr;

use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::packet::{Ethernet, Packet, Payload, ip as header, protocol};
use lyncwall_tests::traffic::Outcome::{Answered, Refused, TimedOut};
use lyncwall_tests::traffic::{FrameSocket, eventually};

use super::site::{LINK, Site, expect_call, expect_tcp, ip, tcp, text, whole};

const SAMPLE: &str = "director-vip.toml";
/// The interface of the sample.
const OWN: &str = "eth0";
const BOXES: [[&str; 2]; 2] = [["198.51.100.2", "2001:db8:100::2"], ["198.51.100.3", "2001:db8:100::3"]];
const VIP: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];
const DIRECTOR: [&str; 2] = ["10.1.0.11", "2001:db8:1::11"];
const RULE: &str = "vrrp from the other balancer";

/// Whoever is for and against the pair.
struct Around {
    edge: Netns,
    client: Netns,
    proxy: Netns,
    admin: Netns,
    stranger: Netns,
}

impl Around {
    /// The box `holder` has the virtual address: it is served by its ports there, and no box by its own addresses.
    #[track_caller]
    fn expect_served(&self, holder: &Netns) {
        for side in 0..2 {
            for (who, ports) in [
                (&self.edge, [5061].as_slice()),
                (&self.client, &[80, 443]),
                (&self.proxy, &[4443, 8080]),
                (&self.admin, &[22]),
            ] {
                expect_tcp(who, VIP[side], ports, Answered);
                expect_tcp(&self.stranger, VIP[side], ports, TimedOut);
            }
            expect_tcp(&self.client, VIP[side], &[5061, 4443, 8080], TimedOut);
            expect_tcp(&self.admin, VIP[side], &[9100], TimedOut);
            for own in BOXES {
                expect_tcp(&self.edge, own[side], &[5061], TimedOut);
                expect_tcp(&self.client, own[side], &[443], TimedOut);
                expect_tcp(&self.admin, own[side], &[22], Answered);
            }
            // What the balancer opens to the pool.
            expect_call(holder, DIRECTOR[side], 5061);
            expect_tcp(holder, DIRECTOR[side], &[443], Answered);
        }
        for own in BOXES {
            expect_tcp(&self.admin, own[0], &[9100], Answered);
            expect_tcp(&self.admin, own[0], &[9101], Refused);
        }
    }

    /// The virtual address goes over, and everybody learns it, as by the unsolicited ARP of a balancer.
    fn move_address(&self, from: &Netns, to: &Netns) {
        for vip in VIP {
            let vip: IpAddr = vip.parse().expect("an address");
            from.remove_address(OWN, vip, whole(vip)).expect("it was there");
            to.add_address(OWN, vip, whole(vip)).expect("an address");
        }
        for host in [&self.edge, &self.client, &self.proxy, &self.admin, &self.stranger] {
            ip(host, &format!("neighbour flush dev {LINK}"));
        }
    }
}

#[test]
pub(crate) fn a_virtual_address_is_guarded_on_whichever_box_holds_it() {
    let first = Site::new();
    let second = first.twin();
    let own = ["198.51.100.2/24", "2001:db8:100::2/64", "198.51.100.10/32", "2001:db8:100::10/128"];
    let mut leg = first.leg(OWN, &own);
    leg.join(&second, &["198.51.100.3/24", "2001:db8:100::3/64"]);
    let around = Around {
        edge: leg.host(&["192.0.2.20", "2001:db8:2::20"]),
        client: leg.host(&["10.0.0.7", "2001:db8:10::7"]),
        proxy: leg.host(&["192.0.2.10", "2001:db8:2::10"]),
        admin: leg.host(&["10.20.0.5", "2001:db8:20::5"]),
        stranger: leg.host(&["203.0.113.9", "2001:db8:3::9"]),
    };
    let director = leg.host(&DIRECTOR);
    let ports = [22, 80, 443, 4443, 5061, 8080, 9100];
    let _servers = [tcp(&first.host, &ports), tcp(&second.host, &ports)];
    let _director = tcp(&director, &[443, 5061]);
    let (_agent, api) = first.guard(SAMPLE);
    let (_twin, twin) = second.guard_by(&for_the_twin(&text(SAMPLE)));

    around.expect_served(&first.host);
    expect_vrrp(&second.host, &first.host, ["198.51.100.3", "fe80::3"], &api);
    expect_vrrp(&first.host, &second.host, ["198.51.100.2", "fe80::2"], &twin);
    around.move_address(&first.host, &second.host);
    around.expect_served(&second.host);
    expect_vrrp(&second.host, &first.host, ["198.51.100.3", "fe80::3"], &api);
    around.move_address(&second.host, &first.host);
    around.expect_served(&first.host);
}

/// The file of the second box, changed as the comment in the sample says.
fn for_the_twin(text: &str) -> String {
    let (mine, its) = (r#"from = ["198.51.100.3", "fe80::3"]"#, r#"from = ["198.51.100.2", "fe80::2"]"#);
    assert_eq!((text.matches(its).count(), text.matches(mine).count()), (1, 1), "the comment and the rule");
    text.replace(mine, its)
}

/// An advertisement of the other box gets in by the rule, and one of somebody else does not.
#[track_caller]
fn expect_vrrp(from: &Netns, to: &Netns, sources: [&str; 2], api: &Api) {
    let sender = FrameSocket::open(from, OWN).expect("a socket");
    let receiver = FrameSocket::open(to, OWN).expect("a socket");
    for (own, stranger, group) in
        [(sources[0], "203.0.113.9", "224.0.0.18"), (sources[1], "fe80::9", "ff02::12")]
    {
        let count = || {
            let counters = api.counters().expect("counters");
            (counters.allow(RULE), counters.of("protocol", "drop"))
        };
        let (passed, dropped) = count();
        let forged = advertisement(stranger, group);
        sender.send(&forged).expect("a frame");
        assert!(eventually(PATIENT, || count() == (passed, dropped + 1)), "{stranger}: {:?}", count());
        let sound = advertisement(own, group);
        sender.send(&sound).expect("a frame");
        let got = receiver.receive(PATIENT, |frame| frame == sound || frame == forged).expect("a frame");
        assert_eq!(got, Some(sound), "the first that gets in");
        assert!(eventually(PATIENT, || count() == (passed + 1, dropped + 1)), "{own}: {:?}", count());
    }
}

/// VRRP of version 3 (RFC 5798, 5.2) to the group of all routers that speak it. The firewall looks at the header of IP.
fn advertisement(source: &str, group: &str) -> Vec<u8> {
    let (source, group): (IpAddr, IpAddr) =
        (source.parse().expect("an address"), group.parse().expect("a group"));
    let (mac, vip) = match group {
        IpAddr::V4(_) => ([0x01, 0, 0x5e, 0, 0, 0x12], vec![198, 51, 100, 10]),
        IpAddr::V6(_) => ([0x33, 0x33, 0, 0, 0, 0x12], vec![0; 16]),
    };
    let bytes = [vec![0x31, 51, 150, 1, 0, 100, 0, 0], vip].concat();
    Packet::ethernet(Ethernet::new([0, 0, 0x5e, 0, 1, 51], mac))
        .with(header(source, group))
        .with(Payload::of_protocol(protocol::VRRP, bytes))
        .build()
}
