//! A box that gets its address by DHCP: dnsmasq serves, dhclient asks.

use std::net::Ipv6Addr;

use lyncwall_tests::agent::{Api, Instance};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::{End, Netns, veth};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::programs::{Folder, Program};
use lyncwall_tests::traffic::eventually;

use super::ip;

const SERVER_LINK: &str = "server0";
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const LINK: &str = "box0";

/// What dhclient does with its lease: the address, and a line in a file. The usual script would change the machine's
/// resolver.
const SCRIPT: &str = "#!/bin/sh
case $reason in
    PREINIT) ip link set dev \"$interface\" up ;;
    BOUND | RENEW | REBIND | REBOOT) ip address replace \"$new_ip_address/24\" dev \"$interface\" ;;
    BOUND6) ip -6 address replace \"$new_ip6_address/64\" dev \"$interface\" ;;
    EXPIRE | FAIL | RELEASE | STOP) ip -4 address flush dev \"$interface\" ;;
esac
echo \"$reason $new_ip_address$new_ip6_address\" >> events
";

/// A box without an address and a server, on one wire.
struct Bench {
    server: Netns,
    host: Netns,
    instance: Instance,
    folder: Folder,
    /// Agents pin there. Last, as fields are dropped in their order.
    _bpffs: Bpffs,
}

impl Bench {
    fn new() -> Self {
        require_root();
        let bpffs = Bpffs::mount().expect("a BPF file system");
        let [server, host] = [(); 2].map(|()| Netns::new().expect("a namespace"));
        veth(
            End { namespace: &server, name: SERVER_LINK, mac: [2, 0, 0, 0, 0x40, 1] },
            End { namespace: &host, name: LINK, mac: [2, 0, 0, 0, 0x40, 2] },
        )
        .expect("a wire");
        server.add_address(SERVER_LINK, [192, 0, 2, 1].into(), 24).expect("an address");
        server.add_address(SERVER_LINK, SERVER_V6.into(), 64).expect("an address");
        let instance = Instance::new(&host, &bpffs, "lyncwall").expect("a place");
        let folder = Folder::new().expect("a folder");
        folder.script("dhclient-script", SCRIPT).expect("a script");
        // The client's own delays are there for a thousand machines that are switched on together.
        folder
            .write("dhclient.conf", "initial-delay 0;\ninitial-interval 1;\nbackoff-cutoff 2;\nreboot 5;\n")
            .expect("a file");
        Self { server, host, instance, folder, _bpffs: bpffs }
    }

    fn configure(&self, dhcp_client: bool) {
        let file = format!(
            "[management]\nfrom = [\"203.0.113.0/24\"]\ntcp = [22]\n\n\
             [[interface]]\nname = \"{LINK}\"\ndhcp-client = {dhcp_client}\n\n\
             [[target]]\nroles = [\"reverse-proxy\"]\n"
        );
        self.instance.configure(&file).expect("a file");
    }

    /// Leases of two minutes, the shortest that dnsmasq gives, which are to be renewed after seconds (options 58
    /// and 59).
    fn dnsmasq(&self) -> Program {
        let leases = format!("--dhcp-leasefile={}", self.folder.file("server.leases"));
        let arguments = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file=",
            "--port=0",
            "--log-facility=-",
            "--log-dhcp",
            "--no-ping",
            "--dhcp-authoritative",
            "--bind-interfaces",
            "--interface=server0",
            "--dhcp-range=192.0.2.100,192.0.2.110,255.255.255.0,2m",
            "--dhcp-range=2001:db8::100,2001:db8::110,64,2m",
            "--dhcp-option-force=option:T1,4s",
            "--dhcp-option-force=option:T2,60s",
            &leases,
        ];
        let program = Program::start(&self.server, &self.folder, "dnsmasq", arguments).expect("dnsmasq");
        program.ready(PATIENT, |wrote| wrote.contains("sockets bound")).expect("it serves")
    }

    /// Asks for an address of the family `-4` or `-6`.
    fn dhclient(&self, family: &str) -> Program {
        let file = |name: &str| self.folder.file(name);
        let (script, config) = (file("dhclient-script"), file("dhclient.conf"));
        let (leases, pid) = (file(&format!("client{family}.leases")), file(&format!("client{family}.pid")));
        let arguments =
            [family, "-d", "-v", "-sf", &script, "-cf", &config, "-lf", &leases, "-pf", &pid, LINK];
        Program::start(&self.host, &self.folder, "dhclient", arguments).expect("dhclient")
    }

    /// How often dhclient's script was called for this reason.
    fn events(&self, reason: &str) -> usize {
        let events = self.folder.read("events");
        events.lines().filter(|line| line.split(' ').next() == Some(reason)).count()
    }

    /// Waits until the client has been through this so often.
    #[track_caller]
    fn expect(&self, reason: &str, times: usize, programs: [&Program; 2]) {
        assert!(
            eventually(PATIENT, || self.events(reason) >= times),
            "no {reason}, only:\n{}\n{}\n{}",
            self.folder.read("events"),
            programs[0].output(),
            programs[1].output()
        );
        let addresses = ip(&self.host, &format!("-oneline address show dev {LINK}"));
        let lease = if reason.ends_with('6') { " 2001:db8::1" } else { " 192.0.2.1" };
        assert!(addresses.contains(lease), "{addresses}");
    }
}

fn passed(api: &Api) -> u64 {
    api.counters().expect("counters").of("dhcp", "pass")
}

#[test]
fn a_lease_is_got_renewed_and_got_again_while_enforcing() {
    let bench = Bench::new();
    bench.configure(true);
    let _agent = bench.instance.start().expect("an agent");
    let api = bench.instance.api().expect("a client");
    let server = bench.dnsmasq();
    let client = bench.dhclient("-4");
    bench.expect("BOUND", 1, [&server, &client]);
    let offered_and_given = passed(&api);
    assert!(offered_and_given >= 2, "{offered_and_given}");
    // From the address, to the server alone.
    bench.expect("RENEW", 2, [&server, &client]);
    assert!(
        client.output().contains("DHCPREQUEST for 192.0.2.1") && client.output().contains(" to 192.0.2.1 ")
    );
    // A box that starts again asks all servers for the address that it had.
    client.stop(PATIENT).expect("it ends");
    ip(&bench.host, &format!("-4 address flush dev {LINK}"));
    let client = bench.dhclient("-4");
    bench.expect("REBOOT", 1, [&server, &client]);
    assert!(client.output().contains(" to 255.255.255.255 "), "{}", client.output());
    bench.expect("RENEW", 3, [&server, &client]);
    let before = passed(&api);
    let client = bench.dhclient("-6");
    bench.expect("BOUND6", 1, [&server, &client]);
    assert!(passed(&api) >= before + 2, "an offer and a lease by DHCPv6");
}

#[test]
fn without_the_mark_no_lease_is_got_by_either_family() {
    let bench = Bench::new();
    bench.configure(false);
    let _agent = bench.instance.start().expect("an agent");
    let api = bench.instance.api().expect("a client");
    let server = bench.dnsmasq();
    let clients = ["-4", "-6"].map(|family| bench.dhclient(family));
    // The server answers both, again and again: it is the firewall that keeps the answers out.
    for answer in ["DHCPOFFER", "DHCPADVERTISE"] {
        let answers = || server.output().matches(answer).count() >= 3;
        assert!(eventually(PATIENT, answers), "{answer}: {}", server.output());
    }
    let counters = api.counters().expect("counters");
    assert!(counters.port("udp", 68) >= 2 && counters.port("udp", 546) >= 2, "{counters:?}");
    assert_eq!((bench.events("BOUND"), bench.events("BOUND6"), passed(&api)), (0, 0, 0));
    let addresses = ip(&bench.host, &format!("-oneline address show scope global dev {LINK}"));
    assert_eq!(addresses, "");
    // The same clients get their leases once the interface is marked.
    bench.configure(true);
    api.reload().expect("a reload");
    bench.expect("BOUND", 1, [&server, &clients[0]]);
    bench.expect("BOUND6", 1, [&server, &clients[1]]);
}
