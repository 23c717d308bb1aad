//! Every TCP and UDP port of every role, in both readings, over IPv4 and IPv6, through the kernel's program.
//!
//! The expectation is a plain set of ports made from what the catalogue resolves to; the catalogue itself is checked
//! against the printed tables elsewhere. What lies between the two is all that is tested here: plan, compiler, class
//! tables, maps, byte order, and the program.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use lyncwall_common::abi::PortTransport;
use lyncwall_common::reason::{Action as Verdict, Reason};
use lyncwall_datapath::Datapath;
use lyncwall_policy::catalogue::{Catalogue, Kind, Reading};
use lyncwall_policy::compile::{CounterBook, Identity, compile};
use lyncwall_policy::plan::{Machine, Plan};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Packet, Tcp, Udp};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::run::{Action, judge};

#[test]
fn strict_reading_of_every_role() {
    every_role(Reading::Strict);
}

#[test]
fn literal_reading_of_every_role() {
    every_role(Reading::Literal);
}

fn every_role(reading: Reading) {
    require_root();
    let start = Instant::now();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut bench = Bench::new(&bpffs.path().join("roles"));
    let catalogue = Catalogue::load("lync-2013", Path::new("")).expect("the built-in catalogue is in order");
    let mut boxes: Vec<Vec<&str>> = catalogue
        .roles()
        .iter()
        .map(|role| role.extends.as_deref().into_iter().chain([role.key.as_str()]).collect())
        .collect();
    assert!(boxes.len() >= 18, "the catalogue has {} roles", boxes.len());
    assert!(catalogue.roles().iter().any(|role| role.kind == Kind::Client));
    boxes.push(vec!["front-end", "collocated-mediation", "central-management-store"]);
    boxes.push(vec![]);
    for roles in &boxes {
        bench.check(roles, reading);
    }
    println!("{} boxes in {:?}, {} frames", boxes.len(), start.elapsed(), bench.frames);
    assert_eq!(bench.frames, boxes.len() as u64 * 4 * 65_536);
}

/// A data path that takes one set of roles after the other.
struct Bench {
    datapath: Datapath,
    book: CounterBook,
    frames: u64,
}

/// Which ports are open, by number.
type Open = Vec<bool>;

impl Bench {
    fn new(directory: &Path) -> Self {
        let object = lyncwall_tests::object::object();
        let datapath = Datapath::open(object, directory).expect("the data path opens");
        Self { datapath, book: CounterBook::default(), frames: 0 }
    }

    /// Every port of a box with these roles.
    fn check(&mut self, roles: &[&str], reading: Reading) {
        let what = format!("{roles:?} in the {} reading", reading.as_str());
        let open = self.install(roles, reading);
        let before = self.counts();
        let mut passed = 0;
        let mut wrong = Vec::new();
        for (transport, frames) in [(PortTransport::Tcp, syns()), (PortTransport::Udp, datagrams())] {
            for (family, frame) in frames {
                let answers = self.judge_every_port(frame);
                for (port, answer) in (0..=u16::MAX).zip(answers) {
                    let open = open[transport as usize][usize::from(port)];
                    passed += u64::from(open);
                    let expected = if open { Action::Pass } else { Action::Drop };
                    if answer != expected {
                        let transport = transport.name();
                        wrong.push(format!("{transport} {port} over {family}: {answer:?}, not {expected:?}"));
                    }
                }
            }
        }
        let first: Vec<_> = wrong.iter().take(5).collect();
        assert!(wrong.is_empty(), "{what}: {} ports differ, the first are {first:#?}", wrong.len());
        self.check_counts(&what, &before, passed);
    }

    /// Makes the generation of these roles live; returns the open ports by transport.
    fn install(&mut self, roles: &[&str], reading: Reading) -> [Open; 2] {
        let quoted: Vec<String> = roles.iter().map(|role| format!("\"{role}\"")).collect();
        let text = format!(
            "reading = \"{}\"\nmanagement = \"none\"\n[[interface]]\nname = \"eth0\"\n[[target]]\nroles = [{}]\n",
            reading.as_str(),
            quoted.join(", ")
        );
        let plan =
            Plan::parse(&text, Path::new("ports.toml")).unwrap_or_else(|problems| panic!("{problems}"));
        let machine = Machine { interfaces: vec![1], ..Machine::default() };
        let input = plan.input(&plan.settings(), &machine).unwrap_or_else(|problems| panic!("{problems}"));
        let compiled = compile(&input, &mut self.book).unwrap_or_else(|problems| panic!("{problems}"));
        self.datapath.install(&compiled).expect("a generation");
        self.book.installed();
        self.datapath.retire();

        let mut open = [vec![false; 65_536], vec![false; 65_536]];
        for rule in plan.catalogue.resolve(roles, reading).expect("the roles go together").inbound {
            let set = match rule.transport {
                PortTransport::Tcp => &mut open[0],
                PortTransport::Udp => &mut open[1],
            };
            for port in rule.first..=rule.last {
                set[usize::from(port)] = true;
            }
        }
        open
    }

    /// The answers for the frame sent to port 0, 1, 2, …; its transport header is the last thing in it.
    fn judge_every_port(&mut self, (mut frame, port_at): (Vec<u8>, usize)) -> Vec<Action> {
        let program = self.datapath.program().expect("the program is loaded");
        let answers = (0..=u16::MAX).map(|port| {
            frame[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
            judge(program, &frame).expect("a test run")
        });
        let answers: Vec<_> = answers.collect();
        self.frames += answers.len() as u64;
        answers
    }

    /// What the rules and the reasons counted, and the drops by port.
    fn counts(&self) -> Counts {
        let counters = self.datapath.counters().expect("the counters can be read");
        let drops = self.datapath.port_drops().expect("the counters can be read");
        Counts {
            reasons: counters.reasons,
            rules: counters.rules,
            drops: drops.into_iter().map(|(transport, port, count)| ((transport, port), count)).collect(),
        }
    }

    /// The rules of the live generation counted each of their ports once over IPv4 and once over IPv6.
    fn check_counts(&self, what: &str, before: &Counts, passed: u64) {
        let after = self.counts();
        let dropped = 4 * 65_536 - passed;
        for (old, new) in before.reasons.iter().zip(&after.reasons) {
            let expected = match (new.0, new.1) {
                (Reason::Allowed, Verdict::Pass) => passed,
                (Reason::Closed, Verdict::Drop) => dropped,
                _ => 0,
            };
            assert_eq!(new.2 - old.2, expected, "{what}: {} {}", new.0, new.1);
        }
        let mut expected = before.rules.clone();
        expected.resize(after.rules.len(), 0);
        for counter in self.book.live() {
            match self.book.label(counter) {
                Some(Identity::Rule { first, last, .. }) => {
                    expected[counter as usize] += 2 * (u64::from(*last) - u64::from(*first) + 1);
                }
                other => panic!("{what}: the counter {counter} is of {other:?}"),
            }
        }
        assert_eq!(after.rules, expected, "{what}");
        let drops = |counts: &Counts| counts.drops.values().sum::<u64>();
        assert_eq!(drops(&after) - drops(before), dropped, "{what}");
        assert!(after.drops.iter().all(|(port, count)| {
            let more = count - before.drops.get(port).copied().unwrap_or(0);
            more == 0 || more == 2
        }));
    }
}

struct Counts {
    reasons: Vec<(Reason, Verdict, u64)>,
    rules: Vec<u64>,
    drops: BTreeMap<(PortTransport, u16), u64>,
}

type Frames = [(&'static str, (Vec<u8>, usize)); 2];

fn syns() -> Frames {
    frames(&|ip| ip.with(Tcp::syn(40_000, 0)), 20)
}

fn datagrams() -> Frames {
    frames(&|ip| ip.with(Udp::new(40_000, 0)), 8)
}

/// A frame over IPv4 and one over IPv6, each with the place of its destination port; `header` bytes at the end are the
/// transport header. Checksums are those of port 0: the program leaves them to the network stack.
fn frames(with: &dyn Fn(Packet) -> Packet, header: usize) -> Frames {
    let made = |ip: Packet| {
        let frame = with(ip).build();
        let port_at = frame.len() - header + 2;
        (frame, port_at)
    };
    [("IPv4", made(Pair::frame_v4())), ("IPv6", made(Pair::frame_v6()))]
}
