//! The programs that are measured, the policies they have, and the packets they get.

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::{Program, Xdp};
use lyncwall_common::abi::{FLOWS, FlowTimes, NetPort, PortTransport};
use lyncwall_datapath::{Datapath, LogLevel};
use lyncwall_policy::compile::{
    Answers, Compiled, CounterBook, Input, Rule, TargetInput, ZoneInput, compile,
};
use lyncwall_policy::config::{Address, Allow, AllowWhat, Management, Mode};
use lyncwall_policy::net::{OwnAddresses, PortRange, Transports};
use lyncwall_policy::problem::Problems;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Tcp, Udp, Vlan, ip};
use lyncwall_tests::run::{Action, judge};

use crate::output::Load;

/// The names of the packets, in the order of [`frames`].
pub(crate) const PACKETS: [&str; 5] = ["TCP 443", "UDP 50000", "v6 TCP 5061", "VLAN TCP 443", "TCP 3389"];

/// What a program that filters does with them.
const FILTERED: [Action; 5] = [Action::Pass, Action::Pass, Action::Pass, Action::Pass, Action::Drop];

/// The name of the program that does the least.
pub(crate) const REFERENCE: &str = "reference";

/// The name of the program with the policy that the reference has.
pub(crate) const LYNCWALL: &str = "lyncwall";

/// The packets that are measured.
fn frames() -> [Vec<u8>; 5] {
    let tagged = Pair::frame().with(Vlan::new(10)).with(ip(Pair::CLIENT_V4.into(), Pair::HOST_V4.into()));
    let payload = [0; 64];
    [
        Pair::frame_v4().with(Tcp::syn(40_000, 443)).with(payload.to_vec()),
        Pair::frame_v4().with(Udp::new(40_000, 50_000)).with(payload.to_vec()),
        Pair::frame_v6().with(Tcp::syn(40_000, 5061)).with(payload.to_vec()),
        tagged.with(Tcp::syn(40_000, 443)).with(payload.to_vec()),
        Pair::frame_v4().with(Tcp::syn(40_000, 3389)).with(payload.to_vec()),
    ]
    .map(|packet| packet.build())
}

/// A program with a policy, and what it must answer.
#[derive(Clone, Copy)]
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) program: &'a Xdp,
    /// By packet.
    pub(crate) frames: &'a [Vec<u8>; 5],
    /// By packet; `None` where this program's policy is not about the packet.
    pub(crate) expected: [Option<Action>; 5],
}

/// Everything that is loaded.
pub(crate) struct Contenders {
    frames: [Vec<u8>; 5],
    /// The programs that are not lyncwall's.
    yardstick: Ebpf,
    /// One data path for each policy.
    variants: Vec<Variant>,
}

struct Variant {
    name: &'static str,
    expected: [Option<Action>; 5],
    compiled: Compiled,
    datapath: Datapath,
}

impl Contenders {
    pub(crate) fn load(bpffs: &Bpffs) -> Result<Self> {
        let variants = policies()
            .into_iter()
            .enumerate()
            .map(|(number, policy)| Variant::load(policy, bpffs, number))
            .collect::<Result<_>>()?;
        Ok(Self { frames: frames(), yardstick: yardstick()?, variants })
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Contender<'_>> {
        let frames = &self.frames;
        let others = [
            ("empty pass", "empty_pass", [Action::Pass; 5]),
            ("empty drop", "empty_drop", [Action::Drop; 5]),
            (REFERENCE, "reference", FILTERED),
        ];
        let others = others.into_iter().filter_map(|(name, program, expected)| {
            let Program::Xdp(program) = self.yardstick.program(program)? else { return None };
            Some(Contender { name, program, frames, expected: expected.map(Some) })
        });
        let ours = self.variants.iter().filter_map(|Variant { name, expected, datapath, .. }| {
            Some(Contender { name, program: datapath.program().ok()?, frames, expected: *expected })
        });
        others.chain(ours).collect()
    }

    /// Makes sure that each program drops and passes what it must, the host's judge agreeing: a fast program that lets
    /// everything in proves nothing.
    pub(crate) fn verify(&self) -> Result<()> {
        let all = self.all();
        ensure!(all.len() == self.variants.len() + 3, "a program is missing");
        for contender in all {
            for ((frame, expected), packet) in self.frames.iter().zip(contender.expected).zip(PACKETS) {
                let Some(expected) = expected else { continue };
                let action = judge(contender.program, frame)?;
                ensure!(action == expected, "{} answers {action:?} to {packet}", contender.name);
            }
        }
        for variant in &self.variants {
            for (frame, expected) in self.frames.iter().zip(variant.expected) {
                let verdict = lyncwall_policy::judge::judge(&variant.compiled, 0, frame);
                let passes = matches!(verdict.action, lyncwall_common::reason::Action::Pass);
                ensure!(expected.is_none_or(|expected| passes == (expected == Action::Pass)), "{verdict:?}");
            }
        }
        Ok(())
    }

    /// How long each data path took to load.
    pub(crate) fn loads(&self) -> Result<Vec<Load>> {
        self.variants
            .iter()
            .map(|variant| {
                let status = variant.datapath.status()?;
                Ok(Load { time: status.load_time, verified: status.verified_instructions })
            })
            .collect()
    }

    /// The data path that has the same policy as the reference, and two policies to switch between.
    pub(crate) fn pair_to_switch(&mut self) -> Result<(&mut Datapath, [Compiled; 2])> {
        let policies = [compiled(&forty_ports(), &[], Mode::Enforce), switched()]
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let variant = self.variants.first_mut().context("a data path")?;
        Ok((&mut variant.datapath, policies.try_into().ok().context("two policies")?))
    }
}

impl Variant {
    fn load(policy: Policy, bpffs: &Bpffs, number: usize) -> Result<Self> {
        let Policy { name, expected, compiled, log } = policy;
        let compiled = compiled?;
        let object = lyncwall::object::require().map_err(Problems::from)?;
        let directory = bpffs.path().join(format!("bench{number}"));
        let mut datapath = Datapath::open_with(object, &directory, FLOWS, log)?;
        datapath.install(&compiled)?;
        datapath.set_management(&compiled.management)?;
        Ok(Self { name, expected, compiled, datapath })
    }
}

/// A policy to measure.
struct Policy {
    name: &'static str,
    expected: [Option<Action>; 5],
    compiled: Result<Compiled>,
    /// Which lines the program writes into the log. Nobody reads them here, so the buffer is full most of the time.
    log: LogLevel,
}

fn policies() -> Vec<Policy> {
    let forty = forty_ports();
    let only_443 =
        [Rule { transport: PortTransport::Tcp, first: 443, last: 443, groups: Vec::new(), rows: Vec::new() }];
    let mut forty_thousand = forty_ports();
    forty_thousand.extend(rules(10_000, 49_959));
    let filtered = FILTERED.map(Some);
    let tcp_only = [filtered[0], None, None, filtered[3], filtered[4]];
    let policy = |name, expected, compiled| Policy { name, expected, compiled, log: LogLevel::Off };
    vec![
        policy(LYNCWALL, filtered, compiled(&forty, &[], Mode::Enforce)),
        policy("… with 4 allow rules", filtered, compiled(&forty, &allow_rules(), Mode::Enforce)),
        policy("… with 16 targets", filtered, sixteen_targets()),
        policy("… with 1 open port", tcp_only, compiled(&only_443, &[], Mode::Enforce)),
        policy("… with 40,000 open ports", filtered, compiled(&forty_thousand, &[], Mode::Enforce)),
        policy("… in audit mode", [Some(Action::Pass); 5], compiled(&forty, &[], Mode::Audit)),
        Policy {
            log: LogLevel::Debug,
            ..policy("… with log lines", filtered, compiled(&forty, &[], Mode::Enforce))
        },
    ]
}

/// The ports that are open: those of the packets, and others that nobody sends to.
const OPEN: [(u16, u16); 4] = [(443, 443), (5061, 5061), (8001, 8037), (50_000, 50_000)];

fn forty_ports() -> Vec<Rule> {
    OPEN.iter().flat_map(|(first, last)| *first..=*last).flat_map(|port| rules(port, port)).collect()
}

/// A range for both transports.
fn rules(first: u16, last: u16) -> Vec<Rule> {
    PortTransport::ALL
        .map(|transport| Rule { transport, first, last, groups: Vec::new(), rows: Vec::new() })
        .to_vec()
}

/// What a reverse proxy may have besides: none of them matches a packet here, each makes the program look.
fn allow_rules() -> Vec<Allow> {
    let from =
        || vec!["198.51.100.0/24".parse().expect("a prefix"), "2001:db8:1::/48".parse().expect("a prefix")];
    let ports = |port| vec![PortRange::new(port, port).expect("a range")];
    [
        ("node exporter", AllowWhat::Ports { transport: Transports::Tcp, ports: ports(9100) }),
        ("syslog", AllowWhat::Ports { transport: Transports::Udp, ports: ports(514) }),
        ("vrrp", AllowWhat::Protocol(112)),
        ("gre", AllowWhat::Protocol(47)),
    ]
    .map(|(name, what)| Allow { name: name.to_owned(), what, from: from(), groups: Vec::new(), target: None })
    .to_vec()
}

/// The packets' destination is the last of 16 targets with two addresses each.
fn sixteen_targets() -> Result<Compiled> {
    let target = |number: u8, address: Vec<IpAddr>| TargetInput {
        name: format!("target {number}"),
        zone: 0,
        address: Address::List(address),
        inbound: forty_ports(),
    };
    let mut targets: Vec<_> = (0..15)
        .map(|number| {
            let v4 = Ipv4Addr::new(198, 51, 100, number + 1);
            target(number, vec![v4.into(), v4.to_ipv6_mapped().segments().map(|s| s ^ 0x2001).into()])
        })
        .collect();
    targets.push(target(15, vec![Pair::HOST_V4.into(), Pair::HOST_V6.into()]));
    compiled_targets(targets, &[], Mode::Enforce)
}

/// Another policy than [`forty_ports`]: a media range and some ports.
fn switched() -> Result<Compiled> {
    let mut open = rules(49_152, 65_535);
    open.extend((7001..=7040).flat_map(|port| rules(port, port)));
    compiled(&open, &[], Mode::Enforce)
}

fn compiled(inbound: &[Rule], allow: &[Allow], mode: Mode) -> Result<Compiled> {
    let (name, inbound) = ("host".to_owned(), inbound.to_vec());
    let host = TargetInput { name, zone: 0, address: Address::Host, inbound };
    compiled_targets(vec![host], allow, mode)
}

fn compiled_targets(targets: Vec<TargetInput>, allow: &[Allow], mode: Mode) -> Result<Compiled> {
    let ssh = PortRange::new(22, 22).context("a range")?;
    let management =
        Management { from: vec!["10.0.0.0/8".parse().context("a prefix")?], tcp: vec![ssh], udp: Vec::new() };
    let input = Input {
        zones: vec![ZoneInput::default()],
        targets,
        allow: allow.to_vec(),
        groups: Vec::new(),
        management: Some(management),
        mode,
        modes: vec![],
        interfaces: Vec::new(),
        local: OwnAddresses::default(),
        forwards: false,
        flow_times: FlowTimes::DEFAULT,
        early_fragments: 0,
        limits: Vec::new(),
        answers: Answers::default(),
    };
    Ok(compile(&input, &mut CounterBook::default())?)
}

/// Loads the programs of the reference object, and opens the same forty ports.
fn yardstick() -> Result<Ebpf> {
    let path = env::var_os("LYNCWALL_REFERENCE_OBJECT")
        .context("LYNCWALL_REFERENCE_OBJECT is not set: run the benchmark by `cargo xtask bench`")?;
    let object = fs::read(&path).with_context(|| path.display().to_string())?;
    let mut ebpf = Ebpf::load(&object).context("the reference object")?;
    let mut ports = [0_u8; 2 << 16];
    for (class, rule) in (1..).zip(forty_ports()) {
        ports[(rule.transport as usize) << 16 | NetPort::new(rule.first).index()] = class;
    }
    let map = ebpf.map_mut("REFERENCE_PORTS").context("the reference's ports")?;
    Array::<_, [u8; 2 << 16]>::try_from(map)?.set(0, ports, 0)?;
    for (name, program) in ebpf.programs_mut() {
        let Program::Xdp(program) = program else { continue };
        program.load().with_context(|| format!("the program {name}"))?;
    }
    Ok(ebpf)
}
