//! The policies that the frames are judged by.

use std::path::Path;

use lyncwall_common::abi::{FlowTimes, Limit, PortTransport};
use lyncwall_policy::compile::{
    Answers, Compiled, CounterBook, GroupInput, Identity, Input, InterfaceInput, Rule, TargetInput,
    ZoneInput, compile,
};
use lyncwall_policy::config::{self, Mode};
use lyncwall_policy::net::{OwnAddresses, Prefix};

/// A configuration; the client of [`Pair`](lyncwall_tests::netns::Pair) is no management source in any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum World {
    /// The box alone, with many allow rules.
    Host,
    /// The box and a virtual address.
    Targets,
    /// A virtual address alone; what goes elsewhere is dropped.
    VipDrop,
    /// The same; what goes elsewhere passes.
    VipPass,
    /// The box alone; lo is the interface of a DHCP client.
    Dhcp,
    /// The box and a virtual address, with ports that are only for groups of sources.
    Groups,
    /// The box alone, with a block-list.
    Blocked,
    /// The box and a virtual address, with a limit on openings each.
    Limited,
    /// The box and a virtual address; later fragments may come before their first one.
    Early,
}

impl World {
    pub(crate) const ALL: [Self; 9] = [
        Self::Host,
        Self::Targets,
        Self::VipDrop,
        Self::VipPass,
        Self::Dhcp,
        Self::Groups,
        Self::Blocked,
        Self::Limited,
        Self::Early,
    ];

    /// What is blocked for good; administrators are among it.
    pub(crate) fn blocked(self) -> Vec<Prefix> {
        let list: &[&str] = match self {
            Self::Blocked => &["203.0.113.0/24", "2001:db8:b::/48", "192.0.2.77", "2001:db8::/64"],
            _ => &[],
        };
        list.iter().map(|text| text.parse().expect("a prefix")).collect()
    }
}

/// A compiled world, and the names of its counters.
pub(crate) struct Policy {
    pub(crate) compiled: Compiled,
    book: CounterBook,
}

impl Policy {
    pub(crate) fn of(world: World, mode: Mode) -> Self {
        Self::from_input(&input(world, mode))
    }

    pub(crate) fn from_input(input: &Input) -> Self {
        let mut book = CounterBook::default();
        let compiled = compile(input, &mut book).expect("a policy without mistakes");
        book.installed();
        Self { compiled, book }
    }

    /// The counter of a rule: `row` for a catalogue row, `allow/NAME` for an allow rule.
    pub(crate) fn counter(&self, name: &str) -> u32 {
        let named = |counter: &u32| match self.book.label(*counter) {
            Some(Identity::Rule { rows, .. }) => rows == &[name],
            Some(Identity::Allow { name: own, .. }) => name.strip_prefix("allow/") == Some(own),
            None => false,
        };
        self.book.live().find(named).unwrap_or_else(|| panic!("no rule has the name {name}"))
    }
}

/// What [`Policy::of`] compiles.
pub(crate) fn input(world: World, mode: Mode) -> Input {
    let text = match world {
        World::Host | World::Dhcp | World::Blocked => format!("{HEAD}{HOST}{ALLOW}"),
        World::Targets | World::Limited | World::Early => {
            format!("{HEAD}{HOST}{VIP}{ALLOW_BY_TARGET}{ALLOW_FOR_BOX}")
        }
        World::VipDrop => format!("{HEAD}{VIP}{ALLOW_BY_TARGET}"),
        World::VipPass => format!("{HEAD}{UNMATCHED_PASS}{VIP}{ALLOW_BY_TARGET}"),
        World::Groups => format!("{HEAD}{GROUPS}{GROUPED}{VIP}{ALLOW_FOR_GROUPS}"),
    };
    let config =
        config::parse(&text, Path::new("world.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    let rules = |role: &config::Role| match role.key.as_str() {
        "web" => web(),
        "mail" => mail(),
        "grouped" => grouped(),
        other => panic!("there is no role {other} here"),
    };
    let zone = |zone: &config::Zone| ZoneInput {
        name: zone.name.clone(),
        unmatched: zone.unmatched,
        outbound: None,
    };
    Input {
        zones: config.zones.iter().map(zone).collect(),
        targets: config
            .targets
            .iter()
            .map(|target| TargetInput {
                name: target.name.to_string(),
                zone: target.zone,
                address: target.address.clone(),
                inbound: target.roles.iter().flat_map(rules).collect(),
            })
            .collect(),
        allow: config.allow,
        groups: config.groups.iter().map(GroupInput::from).collect(),
        management: config.management,
        mode,
        modes: vec![],
        // Test runs happen on lo, which is number 1 in every network namespace.
        interfaces: vec![InterfaceInput {
            ifindex: 1,
            dhcp_client: world == World::Dhcp,
            ..InterfaceInput::default()
        }],
        local: OwnAddresses::default(),
        forwards: false,
        flow_times: FlowTimes::DEFAULT,
        // The fixtures have fewer.
        early_fragments: if world == World::Early { 1_000 } else { 0 },
        limits: match world {
            World::Limited => vec![Limit::of_box(1, 1), Limit { scope: 1, ..Limit::of_box(1, 2) }],
            _ => Vec::new(),
        },
        answers: Answers::default(),
    }
}

fn web() -> Vec<Rule> {
    vec![
        rule(PortTransport::Tcp, 443, 443, "https"),
        rule(PortTransport::Tcp, 5061, 5061, "sip"),
        rule(PortTransport::Tcp, 50_000, 50_010, "media-tcp"),
        rule(PortTransport::Udp, 3478, 3478, "stun"),
        rule(PortTransport::Udp, 50_000, 50_010, "media-udp"),
        rule(PortTransport::Udp, 65_535, 65_535, "last"),
    ]
}

fn mail() -> Vec<Rule> {
    vec![rule(PortTransport::Tcp, 25, 25, "smtp"), rule(PortTransport::Udp, 2525, 2525, "mail-udp")]
}

fn grouped() -> Vec<Rule> {
    let only = |groups: &[&str], rule: Rule| Rule {
        groups: groups.iter().map(ToString::to_string).collect(),
        ..rule
    };
    vec![
        rule(PortTransport::Tcp, 443, 443, "https"),
        only(&["proxies"], rule(PortTransport::Tcp, 4443, 4443, "published")),
        only(&["servers"], rule(PortTransport::Tcp, 444, 444, "between-servers")),
        only(&["proxies", "servers"], rule(PortTransport::Tcp, 5061, 5062, "both-groups")),
        only(&["servers"], rule(PortTransport::Udp, 1434, 1434, "browser")),
        only(&["last"], rule(PortTransport::Udp, 60_050, 60_050, "grouped-ephemeral")),
    ]
}

fn rule(transport: PortTransport, first: u16, last: u16, row: &str) -> Rule {
    Rule { transport, first, last, groups: Vec::new(), rows: vec![row.to_owned()] }
}

const HEAD: &str = r#"
[management]
from = ["192.0.2.77", "2001:db8::77", "10.20.0.0/16", "2001:db8:20::/48"]
tcp = [22, "2200-2201"]
udp = [161]

[[interface]]
name = "eth0"
"#;

const UNMATCHED_PASS: &str = r#"
[[zone]]
name = "outside"
unmatched = "pass"
"#;

const HOST: &str = r#"
[[target]]
name = "box"
address = "host"
roles = ["web"]
"#;

/// `servers` lies around a part of `proxies`, which lies around one of its own.
const GROUPS: &str = r#"
[groups]
proxies = ["192.0.2.0/28", "198.51.100.7", "2001:db8::/124", "2001:db8:7::7"]
servers = ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/64", "fd00::/8"]
one = ["192.0.2.1", "2001:db8::1"]
everybody = ["0.0.0.0/0", "::/0"]
last = ["203.0.113.9", "2001:db8:9::9"]
"#;

const GROUPED: &str = r#"
[[target]]
name = "box"
address = "host"
roles = ["grouped"]
"#;

const ALLOW_FOR_GROUPS: &str = r#"
[[allow]]
name = "for-one"
transport = "tcp"
ports = [9100, 4443]
groups = ["one"]

[[allow]]
name = "for-last-and-more"
transport = "both"
ports = [9200]
from = ["203.0.113.10", "2001:db8:9::a"]
groups = ["last"]

[[allow]]
name = "gre-of-servers"
protocol = "gre"
groups = ["servers"]
"#;

const VIP: &str = r#"
[[target]]
name = "vip"
address = ["198.51.100.10", "2001:db8:100::10"]
roles = ["mail"]
"#;

/// The first rule that matches counts.
const ALLOW: &str = r#"
[[allow]]
name = "exporter"
transport = "tcp"
ports = [9100, "9101-9103"]
from = ["192.0.2.1", "2001:db8::1"]

[[allow]]
name = "syslog"
transport = "udp"
ports = [514]

[[allow]]
name = "both"
transport = "both"
ports = [7000]
from = ["192.0.2.0/24", "2001:db8::/64"]

[[allow]]
name = "both-for-one"
transport = "both"
ports = [7000]
from = ["192.0.2.1", "198.51.100.0/24", "2001:db8::1", "2001:db8:5::/48"]

[[allow]]
name = "over-open"
transport = "tcp"
ports = [443]
from = ["203.0.113.9", "2001:db8:9::9"]

[[allow]]
name = "mdns"
transport = "udp"
ports = [5353]

[[allow]]
name = "vrrp"
protocol = "vrrp"
from = ["192.0.2.1", "2001:db8::1"]

[[allow]]
name = "esp"
protocol = "esp"

[[allow]]
name = "ah"
protocol = "ah"

[[allow]]
name = "gre"
protocol = "gre"
from = ["203.0.113.0/24", "2001:db8:9::/48"]

[[allow]]
name = "ospf"
protocol = "ospf"

[[allow]]
name = "sctp"
protocol = "sctp"

[[allow]]
name = "eigrp"
protocol = 88
"#;

const ALLOW_BY_TARGET: &str = r#"
[[allow]]
name = "vip-only"
transport = "tcp"
ports = [9200]
target = "vip"

[[allow]]
name = "anywhere"
transport = "tcp"
ports = [9300]

[[allow]]
name = "vip-sctp"
protocol = "sctp"
target = "vip"

[[allow]]
name = "any-vrrp"
protocol = "vrrp"
"#;

const ALLOW_FOR_BOX: &str = r#"
[[allow]]
name = "box-only"
transport = "tcp"
ports = [9100]
target = "box"
"#;
