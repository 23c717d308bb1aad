//! What runs in a guest, one program after the other, and the script that runs it.

/// The words that begin a line of the script's own among the output of the programs.
pub(crate) const MARKER: &str = "lyncwall-vm:";

/// A test program of the crate `lyncwall-tests`.
#[derive(Debug)]
struct TestProgram {
    name: &'static str,
    /// True where its tests are ignored outside a guest, as they need interfaces of a machine of their own.
    guest_only: bool,
    /// Which of its tests, where no kernel would make a difference to the others; a part of their names.
    part: Option<&'static str>,
}

/// The test programs that run on every kernel, in this order.
const TESTS: [TestProgram; 9] = [
    TestProgram { name: "verdicts", guest_only: false, part: None },
    TestProgram { name: "datapath", guest_only: false, part: None },
    TestProgram { name: "agent", guest_only: false, part: Some("ends::") },
    TestProgram { name: "traffic", guest_only: false, part: None },
    TestProgram { name: "switch", guest_only: false, part: None },
    TestProgram { name: "audit", guest_only: false, part: None },
    TestProgram { name: "confirm", guest_only: false, part: Some("goes_back") },
    TestProgram { name: "see", guest_only: false, part: Some("everywhere::") },
    TestProgram { name: "devices", guest_only: true, part: None },
];

/// The program that measures: it prints one line of [`super::figures`].
pub(crate) const FIGURES: &str = "guest";

/// The test program that is to fail with a broken BPF program, and the part of it about transport ports.
pub(crate) const VERDICTS: &str = "verdicts";
const PORT_TEST: &str = "transport_headers_ports_and_replies";

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
    /// True where at least one test has to pass.
    pub(crate) must_pass: bool,
}

impl Step {
    /// The program, where it lies in the guest.
    pub(crate) fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}

/// The names that [`tests`] can be narrowed to.
pub(crate) fn names() -> Vec<&'static str> {
    TESTS.iter().map(|test| test.name).chain([FIGURES]).collect()
}

/// The programs of a kernel's tests: those in `only`, or all where that is empty; `filter` is a part of the names of
/// the tests in them.
pub(crate) fn tests(only: &[String], filter: Option<&str>) -> Vec<Step> {
    let chosen = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut steps: Vec<Step> = TESTS
        .iter()
        .filter(|test| chosen(test.name))
        .map(|test| {
            let part = if only.is_empty() { filter.or(test.part) } else { filter };
            let more = test.guest_only.then_some("--include-ignored").into_iter().chain(part);
            Step { must_pass: filter.is_none(), ..test_program(test.name, test.name, more, OBJECT) }
        })
        .collect();
    if chosen(FIGURES) && (filter.is_none() || !only.is_empty()) {
        let command = vec![format!("/bin/{FIGURES}")];
        steps.push(Step { name: FIGURES.to_owned(), command, object: OBJECT, must_pass: false });
    }
    steps
}

/// The steps that show a broken BPF program to be found out, and that nothing else fails.
pub(crate) fn broken() -> Vec<Step> {
    vec![
        test_program(CONTROL, VERDICTS, [PORT_TEST], OBJECT),
        test_program(BROKEN, VERDICTS, [], BROKEN_OBJECT),
    ]
}

/// True for a test about transport ports.
pub(crate) fn is_about_ports(test: &str) -> bool {
    test == PORT_TEST
}

fn test_program<'a>(
    step: &str,
    program: &str,
    more: impl IntoIterator<Item = &'a str>,
    object: &'static str,
) -> Step {
    // One at a time: a guest has one processor.
    let command = [format!("/tests/{program}"), "--test-threads=1".to_owned()];
    let command = command.into_iter().chain(more.into_iter().map(str::to_owned)).collect();
    Step { name: step.to_owned(), command, object, must_pass: false }
}

/// The first process of the guest: mounts, modules, the steps, power off.
pub(crate) fn init(steps: &[Step]) -> String {
    let mut script = String::from(PRELUDE);
    for step in steps {
        let words: Vec<String> = step.command.iter().map(|word| quoted(word)).collect();
        script.push_str(&format!("step {} {} {}\n", quoted(&step.name), step.object, words.join(" ")));
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
    export LYNCWALL_BPF_OBJECT=$2
    shift 2
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
    use super::*;

    #[test]
    fn all_programs_run_and_the_figures_come_last() {
        let steps = tests(&[], None);
        let run: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(
            run,
            [
                "verdicts", "datapath", "agent", "traffic", "switch", "audit", "confirm", "see", "devices",
                "guest"
            ]
        );
    }

    #[test]
    fn a_filter_goes_to_the_tests_and_leaves_the_figures_out() {
        let steps = tests(&[], Some("it's"));
        assert!(steps.iter().all(|step| step.name != FIGURES && !step.must_pass));
        let init = init(&tests(&["devices".to_owned()], Some("it's")));
        let line = init.lines().find(|line| line.starts_with("step '")).expect("one step");
        assert_eq!(
            line,
            r"step 'devices' /lib/lyncwall.o '/tests/devices' '--test-threads=1' '--include-ignored' 'it'\''s'"
        );
    }

    #[test]
    fn the_script_marks_lines_with_the_marker() {
        assert!(PRELUDE.contains(&format!("echo \"{MARKER} begin")));
        assert!(init(&[]).contains("echo \"lyncwall-vm: done $overall\""));
    }
}
