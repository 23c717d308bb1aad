//! What a source may open.

use lyncwall_common::abi::Limit;
use lyncwall_common::reason::{Action, Reason};
use lyncwall_policy::config::Mode;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::packet::{Packet, Tcp, Udp};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::run::measure;

use crate::verdicts::firewall::{Entry, Firewall};
use crate::verdicts::fixture::{Fixture, List, allowed, at_tcp, by_rule};
use crate::verdicts::kernel::directory;
use crate::verdicts::policy::{ADMIN, CLIENT, HOST, VIP, between};
use crate::verdicts::world::{Policy, World, input};

/// In [`World::Limited`] a source may open one connection a second to the box, and two at once to the virtual address.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut list = List::new(World::Limited);
    for side in 0..2 {
        let syn = |source: &str, to: &str, port| between(source, to).with(Tcp::syn(1, port));
        let to_box = |source: &str| syn(source, HOST[side], 443);
        list.add("the first opening", &to_box(CLIENT[side]), allowed("https"));
        list.add("the second", &to_box(CLIENT[side]), at_tcp(Reason::Limit, 443));
        let sip = syn(CLIENT[side], HOST[side], 5061);
        list.add("another port has the same limit", &sip, at_tcp(Reason::Limit, 5061));
        let closed = syn(CLIENT[side], HOST[side], 444);
        list.add("a closed port is closed", &closed, at_tcp(Reason::Closed, 444));
        // Only openings count, and only of TCP.
        let goes_on = between(CLIENT[side], HOST[side]).with(Tcp::ack(1, 443));
        list.add("what goes on", &goes_on, allowed("https"));
        let udp = between(CLIENT[side], HOST[side]).with(Udp::new(1, 3478));
        for _ in 0..3 {
            list.add("UDP", &udp, allowed("stun"));
        }
        // Nothing of this is for others, for management or for rules.
        list.add("another source", &to_box(["192.0.2.3", "2001:db8:0:1::1"][side]), allowed("https"));
        for _ in 0..3 {
            let management = syn(ADMIN[side], HOST[side], 22);
            list.add("management", &management, Reason::Management);
            let rule = syn(CLIENT[side], HOST[side], 9300);
            list.add("a rule", &rule, by_rule("allow/anywhere"));
        }
        // A target with a limit of its own.
        let to_vip = || syn(CLIENT[side], VIP[side], 25);
        list.add("to the virtual address", &to_vip(), allowed("smtp"));
        list.add("to the virtual address", &to_vip(), allowed("smtp"));
        list.add("to the virtual address", &to_vip(), at_tcp(Reason::Limit, 25));
    }
    // Whoever has one address of a network has all of them.
    let from = |source: &str| between(source, HOST[1]).with(Tcp::syn(1, 443));
    list.add("one address of a network", &from("2001:db8:0:2::1"), allowed("https"));
    list.add("another one of it", &from("2001:db8:0:2:ffff::9"), at_tcp(Reason::Limit, 443));
    list.fixtures
}

#[test]
fn a_source_may_open_so_many_connections() {
    crate::verdicts::check::check(&fixtures());
}

#[test]
fn a_flood_gets_its_burst_and_its_rate_and_others_are_not_touched() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    for entry in Entry::judging() {
        let mut wanted = input(World::Host, Mode::Enforce);
        wanted.limits = vec![Limit::of_box(10, 50)];
        let mut firewall =
            Firewall::new(directory(&bpffs, entry), entry, &Policy::from_input(&wanted).compiled);
        let syn = |source: &str, port| -> Vec<u8> {
            let packet: Packet = between(source, HOST[usize::from(source.contains(':'))]);
            packet.with(Tcp::syn(1, port)).build()
        };
        for scanner in ["198.51.100.9", "2001:db8:bad::9"] {
            let start = std::time::Instant::now();
            let before = firewall.counts();
            measure(firewall.program(), &syn(scanner, 443), 100_000).expect("test runs");
            let seconds = start.elapsed().as_secs() + 1;
            let after = firewall.counts();
            let grown = |reason, action| after.of(reason, action) - before.of(reason, action);
            let passed = grown(Reason::Allowed, Action::Pass);
            assert!((50..=50 + 10 * seconds).contains(&passed), "{passed} in {seconds} s");
            assert_eq!(passed + grown(Reason::Limit, Action::Drop), 100_000);
            for other in [CLIENT[0], CLIENT[1], "198.51.100.10"] {
                assert_eq!(firewall.judge(&syn(other, 443)), Action::Pass, "{other}");
            }
        }
        if entry != Entry::best() {
            continue;
        }
        // More sources than there is room for: those that came last are known.
        for n in 0..70_000u32 {
            let source = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).to_string();
            assert_eq!(firewall.judge(&syn(&source, 443)), Action::Pass, "{source}");
        }
        assert!(firewall.openings() <= 65_536);
        let before = firewall.counts();
        measure(firewall.program(), &syn("10.1.17.111", 443), 1000).expect("test runs");
        let passed =
            firewall.counts().of(Reason::Allowed, Action::Pass) - before.of(Reason::Allowed, Action::Pass);
        assert!((49..=80).contains(&passed), "{passed}");
        // Without the limit nobody is limited.
        firewall.install(&Policy::of(World::Host, Mode::Enforce).compiled);
        assert_eq!(firewall.judge(&syn("10.1.17.111", 443)), Action::Pass);
    }
}
