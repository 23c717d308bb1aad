//! The plan: a valid configuration together with its catalogue.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lyncwall_common::abi::Limit;

use crate::catalogue::{self, Catalogue, Choices, Resolved};
use crate::compile::{Answers, CounterBook, GroupInput, Input, Rule, TargetInput, compile};
use crate::config::{self, CatalogueName, Config, Group, OnClosed, Openings, Target};
use crate::net::OwnAddresses;
use crate::problem::{Place, Problem, Problems};
use crate::text::counted;

mod references;
mod settings;
mod warnings;
mod zones;

pub use settings::{Roles, Settings};

/// A valid configuration, with its catalogue.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The file.
    pub file: PathBuf,
    /// The text of the file.
    pub text: String,
    /// The configuration.
    pub config: Config,
    /// The catalogue, with the own roles of the configuration.
    pub catalogue: Catalogue,
}

/// The state of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The interfaces of the configuration, by the kernel's number, in the order of the file; 0 where one does not exist.
    pub interfaces: Vec<u32>,
    /// The members of bonds: the number of the bond, and that of the member.
    pub members: Vec<(u32, u32)>,
    /// The destinations that the kernel delivers to this network namespace.
    pub own: OwnAddresses,
    /// True if the machine forwards IPv4 or IPv6.
    pub forwards: bool,
    /// The numbers of the interfaces by which the program may answer, with their Ethernet addresses. Empty if no
    /// target has `on-closed = "reject"`.
    pub answering: Vec<(u32, [u8; 6])>,
}

impl Machine {
    /// A copy with only the `wanted` interfaces; the others count as missing.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(u32) -> bool) -> Self {
        let interfaces = self.interfaces.iter().map(|&ifindex| if wanted(ifindex) { ifindex } else { 0 });
        Self { interfaces: interfaces.collect(), ..self.clone() }
    }
}

impl Plan {
    /// Reads a configuration and its catalogue.
    ///
    /// # Errors
    /// The mistakes in both files, and what does not fit into the tables.
    pub fn read(file: &Path) -> Result<Self, Problems> {
        Self::parse(&config::text(file)?, file)
    }

    /// Like [`Plan::read`], for a text that is, or may become, the content of `file`.
    ///
    /// # Errors
    /// The mistakes in both files, and what does not fit into the tables.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Problems> {
        let (declared, config) = config::parse_declared(text, file);
        let mut problems = Problems::default();
        let config = config.map_err(|found| problems.append(found)).ok();
        // Roles and groups are checked even if the file has other mistakes, so that the user sees all
        // mistakes at once.
        let catalogue = declared.and_then(|declared| match load(&declared.catalogue, file) {
            Ok(mut catalogue) => {
                problems.append(references::check(&mut catalogue, &declared));
                Some(catalogue)
            }
            Err(found) => {
                problems.append(found);
                None
            }
        });
        let problems = problems.in_the_order_of(file).first();
        match (config, catalogue) {
            (Some(config), Some(catalogue)) => {
                let plan =
                    problems.or(Self { file: file.to_owned(), text: text.to_owned(), config, catalogue })?;
                plan.fits()?;
                Ok(plan)
            }
            _ => Err(problems),
        }
    }

    /// Compiles the settings of the file, so that nobody accepts a file that a reload refuses: its tables must
    /// fit on a machine that has all its interfaces.
    fn fits(&self) -> Result<(), Problems> {
        let interfaces = (1..).take(self.config.interfaces.len()).collect();
        let machine = Machine { interfaces, ..Machine::default() };
        let compiled = self
            .input(&self.settings(), &machine)
            .and_then(|input| compile(&input, &mut CounterBook::default()));
        let whole = Place { file: self.file.clone(), line: 0, column: 0, key: String::new() };
        compiled.map(drop).map_err(|problems| problems.placed(&whole))
    }

    /// The rules of some roles in the named target; without a target, ignores overrides and options.
    ///
    /// # Errors
    /// An unknown role, or roles that do not go together.
    pub fn resolve(&self, target: &str, roles: &[String]) -> Result<Resolved, Problems> {
        let keys: Vec<&str> = roles.iter().map(String::as_str).collect();
        let target = self.config.targets.iter().find(|known| *known.name == *target);
        self.catalogue.resolve_with(&keys, self.config.reading, &self.choices(target))
    }

    /// The choices of the configuration for the roles of a target.
    #[must_use]
    pub fn choices(&self, target: Option<&Target>) -> Choices {
        let bound = self.config.groups.iter().map(|group| group.name.to_string()).collect();
        let mut choices = Choices { bound: Some(bound), ..Choices::default() };
        if let Some(target) = target {
            choices.overrides =
                target.overrides.iter().map(|own| (own.row.name.clone(), own.ports.clone())).collect();
            choices.optional = target.optional.iter().map(|row| row.name.clone()).collect();
        }
        choices
    }

    /// The input of the policy compiler under these settings.
    ///
    /// # Errors
    /// An unknown role, or roles that do not go together.
    pub fn input(&self, settings: &Settings, machine: &Machine) -> Result<Input, Problems> {
        let config = &self.config;
        let mut problems = Problems::default();
        let mut targets = Vec::new();
        for target in &config.targets {
            match self.resolve(&target.name, settings.roles_of(&target.name)) {
                Ok(resolved) => targets.push(TargetInput {
                    name: target.name.to_string(),
                    zone: target.zone,
                    address: target.address.clone(),
                    inbound: resolved.inbound.into_iter().map(Rule::from).collect(),
                }),
                Err(found) => problems.append(found),
            }
        }
        // Unknown roles are reported already.
        let zones = self.zones(&settings.roles).unwrap_or_default();
        problems.or(Input {
            zones,
            targets,
            allow: config.allow.clone(),
            groups: config.groups.iter().map(GroupInput::from).collect(),
            management: config.management.clone(),
            mode: settings.mode,
            modes: config.targets.iter().map(|target| settings.mode_of(&target.name)).collect(),
            interfaces: zones::interfaces(config, machine),
            local: machine.own.clone(),
            forwards: machine.forwards,
            flow_times: config.flows.times,
            early_fragments: config.early_fragments,
            limits: limits(config),
            answers: Answers {
                targets: config.targets.iter().map(|target| target.on_closed).collect(),
                interfaces: machine.answering.clone(),
            },
        })
    }

    /// The differences from `before` except settings, one sentence each.
    #[must_use]
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let (new, old) = (&self.config, &before.config);
        let mut differences = Vec::new();
        if new.on_exit != old.on_exit {
            differences.push(format!("on-exit: {:?} to {:?}", old.on_exit, new.on_exit).to_lowercase());
        }
        if new.flows.times != old.flows.times {
            let times = |config: &Config| {
                let times = config.flows.times;
                format!("tcp-established {} s, udp {} s", times.tcp_established, times.udp)
            };
            differences.push(format!("flows: {} to {}", times(old), times(new)));
        }
        if new.flows.size != old.flows.size {
            let size = |config: &Config| {
                config.flows.size.map_or("by the memory".to_owned(), |size| size.to_string())
            };
            differences.push(format!("flows: size {} to {}, from the next boot on", size(old), size(new)));
        }
        if new.early_fragments != old.early_fragments {
            let (from, to) = (old.early_fragments, new.early_fragments);
            differences.push(format!("fragments: early {from} to {to}"));
        }
        differences.extend(changed_limits(old, new));
        differences.extend(changed_answers(old, new));
        differences.extend(zones::differences(old, new));
        let management =
            |config: &Config| config.management.as_ref().map_or("none".to_owned(), ToString::to_string);
        if new.management != old.management {
            differences.push(format!("management: {} to {}", management(old), management(new)));
        }
        let rules = |config: &Config| config.allow.iter().map(ToString::to_string).collect::<Vec<_>>();
        added_and_removed(&mut differences, "allow rule", &rules(old), &rules(new));
        differences.extend(changed_groups(old, new));
        differences.extend(changed_api(old, new));
        let names = |config: &Config| {
            config.interfaces.iter().map(|interface| interface.name.to_string()).collect::<Vec<_>>()
        };
        added_and_removed(&mut differences, "interface", &names(old), &names(new));
        differences
    }
}

/// The differences in the users of the socket, and in the addresses of the metrics.
fn changed_api(old: &Config, new: &Config) -> Vec<String> {
    let name = |group: &Option<config::Named>| {
        group.as_ref().map_or("root only".to_owned(), |group| group.name.clone())
    };
    let mut differences = Vec::new();
    for (key, before, after) in [
        ("readers", name(&old.api.readers), name(&new.api.readers)),
        ("group", name(&old.api.group), name(&new.api.group)),
    ] {
        if before != after {
            differences.push(format!("api.{key}: {before} to {after}"));
        }
    }
    let addresses =
        |config: &Config| config.metrics.iter().map(|listen| listen.address.to_string()).collect::<Vec<_>>();
    added_and_removed(&mut differences, "metrics address", &addresses(old), &addresses(new));
    differences
}

/// The limits on openings by target: its own, or its share of that of the whole box.
fn limits(config: &Config) -> Vec<Limit> {
    let limit = |(policy, target): (u32, &Target)| match (target.limit, config.limit) {
        (Some(own), _) => Limit { scope: policy, ..Limit::of_box(own.per_second, own.burst) },
        (None, Some(all)) => Limit::of_box(all.per_second, all.burst),
        (None, None) => Limit::NONE,
    };
    (0..).zip(&config.targets).map(limit).collect()
}

/// The catalogue of a configuration.
fn load(named: &CatalogueName, file: &Path) -> Result<Catalogue, Problems> {
    let directory = file.parent().unwrap_or(Path::new(""));
    // A missing catalogue is a mistake in the configuration; a faulty catalogue has places of its own.
    Catalogue::load(&named.name, directory).map_err(|problems| {
        if problems.iter().all(|problem| problem.place.is_none()) {
            problems.placed(&named.place)
        } else {
            problems
        }
    })
}

/// The differences in the limits on openings.
fn changed_limits(old: &Config, new: &Config) -> Vec<String> {
    let text = |limit: Option<Openings>| match limit {
        Some(Openings { per_second, burst }) => format!("{per_second} openings per second, burst {burst}"),
        None => "none".to_owned(),
    };
    let mut changes = vec![("limit".to_owned(), old.limit, new.limit)];
    for target in &new.targets {
        let before = old.targets.iter().find(|before| before.name == target.name);
        let name = format!("limit of target {}", target.name);
        changes.push((name, before.and_then(|before| before.limit), target.limit));
    }
    let changes = changes.into_iter().filter(|(_, before, after)| before != after);
    changes.map(|(what, before, after)| format!("{what}: {} to {}", text(before), text(after))).collect()
}

/// The differences in what closed ports answer.
fn changed_answers(old: &Config, new: &Config) -> Vec<String> {
    let changed = new.targets.iter().filter_map(|target| {
        let before = old.targets.iter().find(|before| before.name == target.name);
        let before = before.map_or(OnClosed::Drop, |before| before.on_closed);
        (before != target.on_closed).then(|| {
            format!("on-closed of target {}: {} to {}", target.name, before.name(), target.on_closed.name())
        })
    });
    changed.collect()
}

/// The differences in the groups, as numbers of prefixes: the lists would be too long.
fn changed_groups(old: &Config, new: &Config) -> Vec<String> {
    let names: BTreeSet<&str> = old.groups.iter().chain(&new.groups).map(|group| &*group.name).collect();
    let changes = names.into_iter().filter_map(|name| {
        let [before, after] =
            [old, new].map(|config| config.groups.iter().find(|group| *group.name == *name));
        let text = |config: &Config, group: &Group| match zone_name(config, group) {
            Some(zone) => format!("zone {zone}"),
            None => count(group.prefixes.len()),
        };
        match (before, after) {
            (None, None) => None,
            (None, Some(after)) => Some(format!("group added: {name}, {}", text(new, after))),
            (Some(_), None) => Some(format!("group removed: {name}")),
            (Some(before), Some(after)) if zone_name(old, before) != zone_name(new, after) => {
                Some(format!("group {name}: {} to {}", text(old, before), text(new, after)))
            }
            (Some(before), Some(after)) => {
                let [before, after] =
                    [before, after].map(|group| group.prefixes.iter().collect::<BTreeSet<_>>());
                let (added, removed) = (after.difference(&before).count(), before.difference(&after).count());
                (added + removed > 0)
                    .then(|| format!("group {name}: {} added, {} removed", count(added), count(removed)))
            }
        }
    });
    changes.collect()
}

fn zone_name<'a>(config: &'a Config, group: &Group) -> Option<&'a str> {
    config.zones.get(group.zone?).map(|zone| &*zone.name)
}

fn count(prefixes: usize) -> String {
    counted(prefixes, "prefix", "prefixes")
}

fn added_and_removed(differences: &mut Vec<String>, what: &str, old: &[String], new: &[String]) {
    differences
        .extend(new.iter().filter(|name| !old.contains(name)).map(|name| format!("{what} added: {name}")));
    differences
        .extend(old.iter().filter(|name| !new.contains(name)).map(|name| format!("{what} removed: {name}")));
}

impl From<catalogue::Open> for Rule {
    fn from(open: catalogue::Open) -> Self {
        let groups = open.scope().to_vec();
        Self { transport: open.transport, first: open.first, last: open.last, groups, rows: open.rows }
    }
}

impl Problems {
    /// The mistakes, with `place` for those without a place.
    fn placed(self, place: &Place) -> Self {
        let mut placed = Self::default();
        for problem in self.iter() {
            placed.push(Problem {
                place: problem.place.clone().or_else(|| Some(place.clone())),
                ..problem.clone()
            });
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lyncwall_common::abi::{MAX_PREFIXES, MAX_SOURCES};

    use super::Plan;

    fn plan(text: &str) -> Plan {
        Plan::parse(text, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn an_unknown_role_is_told_together_with_other_mistakes() {
        let text = "mode = \"audi\"\n[management]\nfrom = [\"192.0.2.0/28\"]\ntcp = [22]\n\
                    [[interface]]\nname = \"eth0\"\n[[target]]\nroles = [\"reverse-prox\"]\n";
        let problems = Plan::parse(text, Path::new("test.toml")).expect_err("two mistakes").to_string();
        assert!(
            problems.contains("test.toml:1:8: mode")
                && problems.contains("test.toml:8:10: target[0].roles[0]"),
            "{problems}"
        );
    }

    /// A good file with this many management sources, and this many in a group that a rule uses: every other
    /// address, so that they do not merge.
    fn sources(management: u32, group: u32) -> String {
        let list = |count: u32, first: u32| {
            let every_other = |n| format!("\"{}\"", std::net::Ipv4Addr::from_bits(first + 2 * n));
            (0..count).map(every_other).collect::<Vec<_>>().join(", ")
        };
        format!(
            "[management]\nfrom = [{}]\ntcp = [22]\n[[interface]]\nname = \"eth0\"\n[[target]]\nroles = []\n\
             [groups]\nbranch = [{}]\n[[allow]]\nname = \"rdp\"\ntransport = \"tcp\"\nports = [3389]\ngroups = [\"branch\"]\n",
            list(management, 0x0a00_0000),
            list(group, 0x1400_0000)
        )
    }

    #[test]
    fn what_does_not_fit_into_the_tables_is_a_mistake_of_the_file() {
        let [management, group] = [MAX_PREFIXES, MAX_SOURCES];
        plan(&sources(management, group));
        for (text, said) in [
            (sources(management + 1, group), "test.toml: management.from has 65537 IPv4 prefixes"),
            (sources(1, group + 1), "[groups] and [[allow]] rules has 131073 IPv4 prefixes"),
        ] {
            let problems = Plan::parse(&text, Path::new("test.toml")).expect_err("too many").to_string();
            assert!(problems.contains(said), "{problems}");
        }
    }

    /// The mistakes of a bad file, and how long it takes to find them.
    fn mistakes(text: &str) -> (usize, std::time::Duration) {
        let start = std::time::Instant::now();
        let problems = Plan::parse(text, Path::new("test.toml")).expect_err("mistakes");
        (problems.iter().count(), start.elapsed())
    }

    #[test]
    fn many_mistakes_on_one_line_cost_no_more_than_on_lines_of_their_own() {
        // Each prefix has bits behind its length.
        let prefix = |n: u32| format!("\"{}/24\"", std::net::Ipv4Addr::from_bits(0x0a00_0001 + (n << 8)));
        let list = (0..40_000).map(prefix).collect::<Vec<_>>();
        let bad = |between: &str| {
            sources(1, 1).replace("branch = [", &format!("branch = [{}, ", list.join(between)))
        };
        let [(told, one_line), (_, lines)] = [mistakes(&bad(", ")), mistakes(&bad(",\n"))];
        assert_eq!(told, 101, "the first hundred, and how many more");
        assert!(one_line < lines * 10 + std::time::Duration::from_secs(1), "{one_line:?}, but {lines:?}");
    }

    #[test]
    fn a_file_of_mistakes_is_not_read_again_for_each_of_them() {
        let unquoted = "x = 1.2.3.4\n".repeat(200_000);
        let unknown = (0..20_000).map(|n| format!("key{n} = 1\n")).collect::<String>();
        let sections = "[[allow]]\ntarget = \"x\"\n".repeat(20_000);
        // The mistakes that are told tell how often the text was parsed.
        assert!((1..5).contains(&mistakes(&unquoted).0));
        assert_eq!(mistakes(&("x = 1.2.3.4\n".repeat(60) + &sources(1, 1))).0, 50);
        assert_eq!(mistakes(&(unknown + &sources(1, 1))).0, 101);
        assert_eq!(mistakes(&(sources(1, 1) + &sections)).0, 101);
        assert_eq!(mistakes(&"[".repeat(100_000)).0, 1);
    }

    #[test]
    fn a_reload_tells_what_it_changes_besides_ports() {
        let before = plan(
            "[management]\nfrom = [\"192.0.2.0/28\"]\ntcp = [22]\n\
             [[interface]]\nname = \"eth0\"\n[[target]]\nroles = []\n",
        );
        let after = plan(
            "[management]\nfrom = [\"198.51.100.0/24\"]\ntcp = [22]\n[[interface]]\nname = \"eth1\"\n\
             [[target]]\nroles = []\n[[allow]]\nname = \"rdp\"\ntransport = \"tcp\"\nports = [3389]\n",
        );
        assert_eq!(
            after.differences(&before),
            [
                "management: tcp 22 from 192.0.2.0/28 to tcp 22 from 198.51.100.0/24",
                "allow rule added: rdp: tcp 3389 from anywhere",
                "interface added: eth1",
                "interface removed: eth0",
            ]
        );
        assert!(after.differences(&after).is_empty());
    }
}
