//! What runs in a guest, one program after the other, and the script that runs it.

use super::Extent;

/// The words that begin a line of the script's own among the output of the programs.
pub(crate) const MARKER: &str = "lyncwall-vm:";

/// A module of a test program of the crate `lyncwall-tests`.
#[derive(Debug)]
struct Module {
    /// As the names of its tests begin, and as reports and the command line call it.
    name: &'static str,
    /// The test program.
    program: &'static str,
    /// Parts of the names of those tests that a guest runs; all of them where there is none.
    only: &'static [&'static str],
    /// Parts of the names of tests that run only with [`Extent::All`], as no kernel can make a difference to them: the bytecode
    /// is one for all, and this machine's kernel runs them.
    not_by_kernel: &'static [&'static str],
    /// True where the kernels between the oldest and the newest leave it out, unless [`Extent::All`] is asked for: it depends on the
    /// hooks of a kernel alone, and those are the ones of the oldest or of the newest.
    ends_only: bool,
    /// How many of its tests run at a time. A guest has one processor, but many tests wait for most of their time.
    threads: u8,
    /// True where its tests are ignored outside a guest, as they need interfaces of a machine of their own.
    guest_only: bool,
}

const fn module(name: &'static str, program: &'static str) -> Module {
    Module { name, program, only: &[], not_by_kernel: &[], ends_only: false, threads: 3, guest_only: false }
}

/// What runs on every kernel, in this order.
const MODULES: [Module; 9] = [
    Module {
        not_by_kernel: &["verdicts::modes::", "every_reason_but", "every_ether_type"],
        ..module("verdicts", KERNEL)
    },
    module("datapath", KERNEL),
    Module {
        only: &["agent::ends::"],
        not_by_kernel: &["detach_leaves_what"],
        ends_only: true,
        ..module("agent", AGENT)
    },
    Module {
        not_by_kernel: &[
            "traffic::groups::",
            "traffic::targets::each",
            "traffic::targets::destinations",
            "traffic::reachable::audit",
            "traffic::reachable::management",
            "traffic::reachable::an_allow",
            "traffic::limit::a_targets",
            "traffic::blocked::audit",
            "traffic::blocked::mistakes",
            "traffic::blocked::the_block_list",
            "traffic::frames::a_drop_event",
            "traffic::frames::other_protocols",
            "traffic::frames::what_cannot",
            "traffic::gateway::zones",
            "traffic::blocked::an_ipv4",
            "traffic::gateway::a_destination_that",
            "traffic::lives::a_keepalive",
            "traffic::lives::flows_that",
            "traffic::lives::forwarded",
            "traffic::lives::where_room",
            "traffic::reordered::early_fragments",
        ],
        ..module("traffic", KERNEL)
    },
    // They measure time.
    Module { ends_only: true, threads: 1, ..module("streams", KERNEL) },
    Module {
        not_by_kernel: &[
            "audit::a_mode_is",
            "audit::a_mode_of",
            "audit::enforcement_that",
            "audit::a_session_from",
            "audit::an_explicit",
            "audit::a_restart",
        ],
        ends_only: true,
        ..module("audit", KERNEL)
    },
    Module {
        only: &["confirm::what_nobody_confirms_goes_back", "confirm::the_program_goes_back"],
        ends_only: true,
        ..module("confirm", AGENT)
    },
    Module { only: &["see::everywhere::"], ..module("see", AGENT) },
    Module { guest_only: true, ..module("devices", KERNEL) },
];

impl Module {
    /// The arguments of its program; `filter` is a part of the names of the tests to run.
    fn arguments(&self, extent: Extent, filter: Option<&str>) -> Vec<String> {
        let mut arguments = vec![format!("--test-threads={}", self.threads)];
        if self.guest_only {
            arguments.push("--include-ignored".to_owned());
        }
        match filter {
            None if self.only.is_empty() => arguments.push(format!("{}::", self.name)),
            None => arguments.extend(self.only.iter().map(|&part| part.to_owned())),
            // A program takes any test that one of its filters names, so the other modules are left out by their names.
            Some(filter) => {
                arguments.push(filter.to_owned());
                let others = MODULES.iter().filter(|other| other.name != self.name);
                arguments.extend(others.flat_map(|other| ["--skip".to_owned(), format!("{}::", other.name)]));
            }
        }
        if extent == Extent::ByKernel && filter.is_none() {
            arguments
                .extend(self.not_by_kernel.iter().flat_map(|&part| ["--skip".to_owned(), part.to_owned()]));
        }
        arguments
    }
}

/// The program of what a kernel can make different.
const KERNEL: &str = "kernel";

/// The program of what the agent does on any kernel; a few of its tests are about what it leaves in the kernel.
const AGENT: &str = "agent";

/// The program that measures: it prints one line of [`super::figures`].
pub(crate) const FIGURES: &str = "guest";

/// The test that is to fail with a broken BPF program.
const PORT_TEST: &str = "verdicts::transport_headers_ports_and_replies";

/// A test that passes with the broken program: it knows no ports.
const OTHER_TEST: &str = "verdicts::ethernet_and_vlan_tags";

/// The step that shows [`PORT_TEST`] to pass with the right BPF program.
pub(crate) const CONTROL: &str = "control";

/// The step with the broken BPF program.
pub(crate) const BROKEN: &str = "broken";

/// Where the BPF objects lie in the guest.
pub(crate) const OBJECT: &str = "/lib/lyncwall.o";
/// The broken one.
pub(crate) const BROKEN_OBJECT: &str = "/lib/broken.o";

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What reports call it.
    pub(crate) name: String,
    /// The words of its command.
    command: Vec<String>,
    /// The BPF object that it takes.
    object: &'static str,
    /// In which forms frames are judged, for `LYNCWALL_VARIANTS`.
    variants: &'static str,
    /// True where at least one test has to pass.
    pub(crate) must_pass: bool,
    /// True where only the oldest and the newest kernel run it.
    pub(crate) ends_only: bool,
}

impl Step {
    /// The program, where it lies in the guest.
    pub(crate) fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}

/// The modules of the program `kernel`, all of which guests run.
pub(crate) fn kernel_modules() -> impl Iterator<Item = &'static str> {
    MODULES.iter().filter(|module| module.program == KERNEL).map(|module| module.name)
}

/// The test programs that guests need.
pub(crate) fn programs() -> Vec<String> {
    [KERNEL, AGENT].map(str::to_owned).to_vec()
}

/// The names that [`tests`] can be narrowed to.
pub(crate) fn names() -> Vec<&'static str> {
    MODULES.iter().map(|module| module.name).chain([FIGURES]).collect()
}

/// The steps of a kernel's tests: those in `only`, or all where that is empty; `filter` is a part of the names of
/// the tests in them.
pub(crate) fn tests(extent: Extent, only: &[String], filter: Option<&str>) -> Vec<Step> {
    let named = |name: &str| only.iter().any(|only| only == name);
    let chosen = |name: &str| only.is_empty() || named(name);
    // With a filter, the program `agent` would run the tests of its other modules once for each of those here.
    let again = |module: &Module| {
        filter.is_some() && module.program == AGENT && module.name != AGENT && !named(module.name)
    };
    let variants = if extent == Extent::All { "all" } else { "none" };
    let mut steps: Vec<Step> = MODULES
        .iter()
        .filter(|module| chosen(module.name) && !again(module))
        .map(|module| {
            let arguments = module.arguments(extent, filter);
            let step = test_program(module.name, module.program, arguments, OBJECT, variants);
            let ends_only =
                module.ends_only && extent == Extent::ByKernel && only.is_empty() && filter.is_none();
            Step { must_pass: filter.is_none(), ends_only, ..step }
        })
        .collect();
    if chosen(FIGURES) && (filter.is_none() || !only.is_empty()) {
        let command = vec![format!("/bin/{FIGURES}")];
        steps.push(Step {
            name: FIGURES.to_owned(),
            command,
            object: OBJECT,
            variants,
            must_pass: false,
            ends_only: false,
        });
    }
    steps
}

/// The steps that show a broken BPF program to be found out, and that nothing else fails.
pub(crate) fn broken() -> Vec<Step> {
    vec![
        test_program(CONTROL, KERNEL, [PORT_TEST, OTHER_TEST].map(str::to_owned), OBJECT, "none"),
        test_program(BROKEN, KERNEL, [PORT_TEST, OTHER_TEST].map(str::to_owned), BROKEN_OBJECT, "none"),
    ]
}

/// True for a test about transport ports.
pub(crate) fn is_about_ports(test: &str) -> bool {
    test == PORT_TEST
}

fn test_program(
    step: &str,
    program: &str,
    more: impl IntoIterator<Item = String>,
    object: &'static str,
    variants: &'static str,
) -> Step {
    let command = std::iter::once(format!("/tests/{program}")).chain(more).collect();
    Step { name: step.to_owned(), command, object, variants, must_pass: false, ends_only: false }
}

/// The first process of the guest: mounts, modules, the steps, power off.
pub(crate) fn init<'a>(steps: impl IntoIterator<Item = &'a Step>) -> String {
    let mut script = String::from(PRELUDE);
    for step in steps {
        let words: Vec<String> = step.command.iter().map(|word| quoted(word)).collect();
        script.push_str(&format!(
            "step {} {} {} {}\n",
            quoted(&step.name),
            step.object,
            step.variants,
            words.join(" ")
        ));
    }
    script.push_str(&format!("echo \"{MARKER} done $overall\"\n"));
    // The last one to close the line waits until all of it is sent.
    script.push_str(") > /dev/ttyS1 2>&1 < /dev/null\ndmesg | tail -n 60\npoweroff -f\n");
    script
}

const PRELUDE: &str = r#"#!/bin/sh
export PATH=/bin HOME=/tmp TMPDIR=/tmp RUST_BACKTRACE=0 LYNCWALL_BIN=/bin/lyncwall
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ip link set lo up
for module in /modules/*; do insmod "$module" || echo "insmod: $module"; done
overall=0
step() {
    name=$1
    export LYNCWALL_BPF_OBJECT=$2 LYNCWALL_VARIANTS=$3
    shift 3
    echo "lyncwall-vm: begin $name"
    "$@"
    status=$?
    echo
    echo "lyncwall-vm: end $name $status"
    [ "$status" = 0 ] || overall=1
}
(
"#;

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workspace;

    #[test]
    fn all_programs_run_and_the_figures_come_last() {
        let steps = tests(Extent::ByKernel, &[], None);
        let run: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(
            run,
            [
                "verdicts", "datapath", "agent", "traffic", "streams", "audit", "confirm", "see", "devices",
                "guest"
            ]
        );
    }

    #[test]
    fn a_filter_goes_to_the_tests_of_its_part_alone_and_leaves_the_figures_out() {
        let steps = tests(Extent::ByKernel, &[], Some("it's"));
        assert!(steps.iter().all(|step| step.name != FIGURES && !step.must_pass));
        let init = init(&tests(Extent::All, &["devices".to_owned()], Some("it's")));
        let line = init.lines().find(|line| line.starts_with("step '")).expect("one step");
        let start = "step 'devices' /lib/lyncwall.o all '/tests/kernel' '--test-threads=3' '--include-ignored' 'it'\\''s'";
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains("'--skip' 'verdicts::'") && !line.contains("'devices::'"), "{line}");
    }

    #[test]
    fn guests_run_every_module_of_the_program_kernel() {
        let program = workspace::root().join("tests/tests/kernel/main.rs");
        let text = fs::read_to_string(&program).expect("the program");
        let mut written: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
        let mut run: Vec<&str> = kernel_modules().collect();
        written.sort_unstable();
        run.sort_unstable();
        assert_eq!(run, written);
    }

    #[test]
    fn what_no_kernel_makes_different_runs_in_guests_when_everything_does() {
        let words = |extent| tests(extent, &["verdicts".to_owned()], None).remove(0).command.join(" ");
        assert!(words(Extent::ByKernel).ends_with(
            "verdicts:: --skip verdicts::modes:: --skip every_reason_but --skip every_ether_type"
        ));
        assert!(words(Extent::All).ends_with("--test-threads=3 verdicts::"));
    }

    #[test]
    fn the_script_marks_lines_with_the_marker() {
        assert!(PRELUDE.contains(&format!("echo \"{MARKER} begin")));
        assert!(init(&[]).contains("echo \"lyncwall-vm: done $overall\""));
    }
}
