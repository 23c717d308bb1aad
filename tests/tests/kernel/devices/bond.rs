//! A bond of two wires that uses one of them at a time.

use std::collections::BTreeMap;

use lyncwall_datapath::{Attach, Mode};
use lyncwall_tests::agent::Instance;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::{End, Pair, veth};
use lyncwall_tests::scene::Config;
use lyncwall_tests::traffic::{Outcome, eventually};

use super::{Bench, CLOSED, HOST};

const BOND: &str = "bond0";
const MEMBERS: [&str; 2] = [Pair::HOST_LINK, "host1"];

/// Both ends are bonds: a frame goes by whichever wire is in use.
fn with_bond(bench: &Bench) {
    let pair = &bench.pair;
    veth(
        End { namespace: &pair.client, name: "client1", mac: [2, 0, 0, 0, 0x20, 1] },
        End { namespace: &pair.host, name: MEMBERS[1], mac: [2, 0, 0, 0, 0x20, 2] },
    )
    .expect("a second wire");
    for (namespace, members) in [(&pair.client, [Pair::CLIENT_LINK, "client1"]), (&pair.host, MEMBERS)] {
        namespace.add_bond(BOND).expect("a bond");
        for member in members {
            namespace.enslave(member, BOND).expect("a member");
        }
    }
    // Where the two ends used different wires, nothing would arrive.
    for (namespace, member) in [(&pair.client, Pair::CLIENT_LINK), (&pair.host, MEMBERS[0])] {
        namespace.wait_until_up(BOND).expect("a carrier");
        namespace.prefer(BOND, member).expect("the first wire");
    }
    bench.address(BOND, BOND);
}

/// Cuts the wire in use: both bonds go over to the other one.
fn fail_over(bench: &Bench) {
    bench.pair.client.set_up(Pair::CLIENT_LINK, false).expect("down");
    bench.pair.client.wait_until_used(BOND, "client1").expect("the other wire");
    bench.pair.host.wait_until_used(BOND, MEMBERS[1]).expect("the other wire");
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_bond_is_guarded_whichever_member_is_in_use() {
    for wanted in [Attach::Auto, Attach::Generic] {
        let mut bench = Bench::new();
        with_bond(&bench);
        let client = bench.pair.client.clone();
        bench.expect_open(&client, HOST);
        let attached = bench.attach(BOND, wanted).expect("a link");
        println!("{BOND}, {wanted:?}: {}, {:?}", attached.mode, attached.native_refused);
        match (wanted, attached.mode) {
            (Attach::Generic, mode) => assert_eq!(mode, Mode::Generic),
            (_, Mode::Native) => assert_eq!(attached.native_refused, None),
            // The kernel's bonds take none before 5.15.
            (_, Mode::Generic) => assert!(attached.native_refused.is_some()),
        }
        bench.expect_guarded(&client, HOST);
        fail_over(&bench);
        bench.expect_guarded(&client, HOST);

        // The next agent replaces the program on all of it.
        let mut bench = bench.reopened();
        let again = bench.attach(BOND, wanted).expect("the link");
        assert_eq!((again.replaced, again.mode), (true, attached.mode));
        bench.expect_guarded(&client, HOST);
        bench.detach();
        bench.expect_open(&client, HOST);
    }
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn members_with_the_program_guard_the_bond() {
    for wanted in [Attach::Native, Attach::Generic] {
        let mut bench = Bench::new();
        with_bond(&bench);
        let client = bench.pair.client.clone();
        for member in MEMBERS {
            bench.attached(member, wanted);
        }
        bench.expect_guarded(&client, HOST);
        fail_over(&bench);
        bench.expect_guarded(&client, HOST);
    }
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_member_without_the_program_is_a_hole_that_the_bond_does_not_have() {
    let mut bench = Bench::new();
    with_bond(&bench);
    let client = bench.pair.client.clone();
    bench.attached(MEMBERS[0], Attach::Generic);
    bench.expect_guarded(&client, HOST);
    fail_over(&bench);
    bench.expect_open(&client, HOST);
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_member_takes_no_program_beside_the_native_one_of_its_bond() {
    let mut bench = Bench::new();
    with_bond(&bench);
    let client = bench.pair.client.clone();
    let member = MEMBERS[0];
    match bench.attached(BOND, Attach::Auto) {
        Mode::Native => {
            // The bond holds its members' drivers: the kernel says that there is one already (EEXIST).
            for wanted in [Attach::Auto, Attach::Native, Attach::Generic] {
                let error = bench.attach(member, wanted).expect_err("the bond has one");
                println!("{member}, {wanted:?}: {error:#}");
                let text = format!("{error:#}");
                assert!(
                    text.contains(member) && (text.contains("File exists") || text.contains("EEXIST")),
                    "{text}"
                );
            }
            bench.expect_guarded(&client, HOST);
            assert_eq!(bench.detach(), [BOND]);
        }
        // Beside a generic one there is room, and a frame that the member drops never gets to the bond.
        Mode::Generic => {
            assert_eq!(bench.attached(member, Attach::Auto), Mode::Native);
            bench.expect_guarded(&client, HOST);
            let mut detached = bench.detach();
            detached.sort();
            assert_eq!(detached, [BOND, member]);
        }
    }
    bench.expect_open(&client, HOST);
    assert_eq!(bench.attached(member, Attach::Native), Mode::Native);
}

#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn packets_of_a_bond_are_counted_for_whoever_takes_them() {
    let bench = Bench::new();
    with_bond(&bench);
    let instance = Instance::new(&bench.pair.host, &bench.bpffs, "agent").expect("a place");
    let config = Config::default().toml().replace(Pair::HOST_LINK, BOND);
    instance.configure(&config).expect("a file");
    let agent = instance.start().expect("an agent");
    let api = instance.api().expect("a client");
    let native = api.status().expect("a status").interfaces[0].mode == "native";
    let dropped = || -> BTreeMap<String, u64> {
        let counters = api.counters().expect("counters").0.interfaces.into_iter();
        counters.map(|interface| (interface.name, interface.dropped)).collect()
    };
    for (member, used) in MEMBERS.into_iter().zip([false, true]) {
        if used {
            fail_over(&bench);
        }
        let name = if native { member } else { BOND };
        let before = dropped();
        bench.expect(&bench.pair.client, HOST, CLOSED, Outcome::TimedOut);
        let counted = eventually(PATIENT, || dropped()[name] > before[name]);
        assert!(counted, "{name}: {before:?}, {:?}\n{}", dropped(), agent.stderr());
    }
    assert_eq!(dropped().contains_key(MEMBERS[0]), native, "{:?}", dropped());
}

/// The kernel puts a bond's native program on its members, and refuses to where one has its own.
#[test]
#[ignore = "needs the devices of a guest: cargo xtask vm"]
fn a_bond_whose_member_has_a_native_program_takes_the_generic_mode() {
    let mut bench = Bench::new();
    with_bond(&bench);
    let client = bench.pair.client.clone();
    assert_eq!(bench.attached(MEMBERS[0], Attach::Native), Mode::Native);
    bench.attached_generic_for_want_of_native(BOND);
    bench.expect_guarded(&client, HOST);
    fail_over(&bench);
    bench.expect_guarded(&client, HOST);
}
