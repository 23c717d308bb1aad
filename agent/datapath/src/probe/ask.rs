//! Probes kernel features by using them. Version numbers say less: distributions backport features, and leave
//! others out.
//!
//! Attaching and detaching cost grace periods of many milliseconds. So these features are probed with a
//! request that fails, whose error shows whether the kernel knows the request. If the kernel seems not to
//! know it, the probe attaches for real: to the loopback interface of a new network namespace, which leaves
//! the machine's interfaces alone. A hardened unit may not create one; then the error decides.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use aya::programs::tc::qdisc_add_clsact;
use aya::sys::is_map_supported;
use aya_obj::generated::{
    BPF_F_MMAPABLE, BPF_F_XDP_HAS_FRAGS, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, bpf_attach_type,
    bpf_func_id, bpf_prog_type,
};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::features::{Answer, Feature, Features, Id, MAP_TYPES};
use crate::sys;

/// The number of `lo` in every network namespace.
const LOOPBACK: u32 = 1;
/// A number without an interface.
const NO_INTERFACE: u32 = i32::MAX as u32;

impl Features {
    /// Probes the kernel for each feature. Touches no interface of the machine.
    ///
    /// # Errors
    /// If the kernel's release cannot be read.
    pub fn ask() -> Result<Self> {
        const RELEASE: &str = "/proc/sys/kernel/osrelease";
        let release = fs::read_to_string(RELEASE).with_context(|| format!("reading {RELEASE}"))?;
        let start = Instant::now();
        let features = all();
        tracing::debug!(micros = start.elapsed().as_micros(), "asked the kernel for its features");
        Ok(Self { release: release.trim().to_owned(), features })
    }
}

/// Every feature, in the order of [`Id::ALL`].
fn all() -> Vec<Feature> {
    let pass = [mov_r0(2), EXIT];
    let program = sys::load_program(bpf_prog_type::BPF_PROG_TYPE_XDP, &pass, 0);
    let attached = Attached::ask(&program);
    let feature = |id| {
        let (answer, asked) = match id {
            Id::MapTypes => map_types(),
            Id::MappedArray => answer_to(sys::create_array(BPF_F_MMAPABLE), "creating one"),
            Id::RingBuffer => map_type(aya::maps::MapType::RingBuf),
            Id::Jiffies => jiffies(),
            Id::XdpLink => attached.link.clone(),
            Id::LinkUpdate => attached.update.clone(),
            Id::Frags => answer_to(
                sys::load_program(bpf_prog_type::BPF_PROG_TYPE_XDP, &pass, BPF_F_XDP_HAS_FRAGS),
                "loading one",
            ),
            Id::KernelTypes => kernel_types(),
            Id::Tcx => attached.tcx.clone(),
            Id::Clsact => attached.clsact.clone(),
            Id::TestRunInterface => with(&program, test_run),
            Id::Barrier => barrier(),
            Id::Jit => with(&program, jit),
        };
        Feature { id, answer, asked }
    };
    Id::ALL.map(feature).into()
}

type Finding = (Answer, String);

/// The verifier reads the context of a global function from these types.
fn kernel_types() -> Finding {
    const TYPES: &str = "/sys/kernel/btf/vmlinux";
    let answer = if Path::new(TYPES).exists() { Answer::Found } else { Answer::Missing };
    (answer, format!("looked for {TYPES}"))
}

/// Probes that need an attachment.
struct Attached {
    link: Finding,
    update: Finding,
    tcx: Finding,
    clsact: Finding,
}

impl Attached {
    fn ask(program: &io::Result<OwnedFd>) -> Self {
        let classifier = sys::load_program(bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, &[mov_r0(-1), EXIT], 0);
        let tcx = with(&classifier, tcx);
        let program = match program {
            Ok(program) => program,
            Err(error) => return Self::unknown(error, tcx),
        };
        let (mut link, mut update) = by_error(program.as_fd());
        let mut clsact = (Answer::Unknown, "tcx is there".to_owned());
        let (wants_links, wants_clsact) = (link.0 != Answer::Found, tcx.0 != Answer::Found);
        if wants_links || wants_clsact {
            match in_namespace(program, wants_links, wants_clsact) {
                Some(done) => {
                    (link, update) = done.links.unwrap_or((link, update));
                    clsact = done.clsact.unwrap_or(clsact);
                }
                None if wants_clsact => clsact = ingress_module(),
                None => {}
            }
        }
        Self { link, update, tcx, clsact }
    }

    fn unknown(error: &io::Error, tcx: Finding) -> Self {
        let unknown = from_error(error, "loading an XDP program");
        Self { link: unknown.clone(), update: unknown.clone(), tcx, clsact: unknown }
    }
}

/// The results of attaching in a network namespace.
struct Done {
    /// Attaching, and replacing.
    links: Option<(Finding, Finding)>,
    clsact: Option<Finding>,
}

/// Attaches to the loopback interface of a new network namespace; `None` if no namespace can be created.
fn in_namespace(program: &OwnedFd, wants_links: bool, wants_clsact: bool) -> Option<Done> {
    const HOW: &str = "in a new network namespace";
    let program = program.try_clone().ok()?;
    let (answer, answered) = mpsc::channel();
    let ask = move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return;
        }
        let link = wants_links.then(|| {
            sys::create_link(program.as_fd(), LOOPBACK, bpf_attach_type::BPF_XDP, XDP_FLAGS_SKB_MODE)
        });
        let links = link.as_ref().map(|link| {
            let update = match link {
                // With the attached program, which costs no grace period.
                Ok(link) => {
                    let updated = sys::update_link(link.as_fd(), program.as_fd());
                    answer_to(updated, &format!("replacing it {HOW}"))
                }
                Err(error) => from_error(error, "attaching one first"),
            };
            (answer_to(link.as_ref(), &format!("attaching one {HOW}")), update)
        });
        let clsact = wants_clsact.then(|| match qdisc_add_clsact("lo") {
            Ok(()) => (Answer::Found, format!("adding it {HOW}")),
            // The module is missing; the error for that differs between versions.
            Err(error) => (Answer::Missing, format!("adding it {HOW}: {error}")),
        });
        // The caller gets the answer first, as detaching takes time. The receiver is gone only after a panic.
        answer.send(Done { links, clsact }).ok();
        drop(link);
    };
    thread::Builder::new().name("probe".to_owned()).spawn(ask).ok()?;
    answered.recv().ok()
}

/// Probes links and their update with errors: an unknown request fails with EINVAL, a known one for another
/// reason.
fn by_error(program: BorrowedFd<'_>) -> (Finding, Finding) {
    // `lo` has no driver to take a program, so a kernel with links answers EOPNOTSUPP, or EEXIST if `lo` has
    // a generic program. For an interface that does not exist, such a kernel answers EINVAL too.
    let link = refused(
        sys::create_link(program, LOOPBACK, bpf_attach_type::BPF_XDP, XDP_FLAGS_DRV_MODE),
        "attaching a native one to `lo`, which has no driver for it",
    );
    let update = match link.0 {
        Answer::Found => (Answer::Found, "part of XDP links".to_owned()),
        Answer::Missing | Answer::Unknown => link.clone(),
    };
    (link, update)
}

fn tcx(classifier: BorrowedFd<'_>) -> Finding {
    refused(
        sys::create_link(classifier, NO_INTERFACE, bpf_attach_type::BPF_TCX_EGRESS, 0),
        "attaching to an interface that does not exist",
    )
}

/// Whether the kernel has the module of clsact, from lists on the disk.
fn ingress_module() -> Finding {
    const MODULE: &str = "sch_ingress";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = format!("/lib/modules/{}", release.trim());
    let lists =
        ["/proc/modules".to_owned(), format!("{modules}/modules.builtin"), format!("{modules}/modules.dep")];
    for list in lists {
        if fs::read_to_string(&list).is_ok_and(|text| text.contains(MODULE)) {
            return (Answer::Found, format!("{MODULE} is in {list}"));
        }
    }
    (Answer::Unknown, format!("no readable list of modules has {MODULE}"))
}

fn map_types() -> Finding {
    let mut answer = Answer::Found;
    let mut missing = Vec::new();
    for kind in MAP_TYPES {
        match map_type(kind) {
            (Answer::Found, _) => {}
            (Answer::Missing, _) => missing.push(format!("{kind:?}")),
            (Answer::Unknown, why) => return (Answer::Unknown, why),
        }
    }
    let mut asked = "creating one of each".to_owned();
    if !missing.is_empty() {
        answer = Answer::Missing;
        asked = format!("{asked}, but for {}", missing.join(", "));
    }
    (answer, asked)
}

fn map_type(kind: aya::maps::MapType) -> Finding {
    const HOW: &str = "creating one";
    match is_map_supported(kind) {
        Ok(true) => (Answer::Found, HOW.to_owned()),
        Ok(false) => (Answer::Missing, HOW.to_owned()),
        Err(error) => from_error(&error.io_error, HOW),
    }
}

fn jiffies() -> Finding {
    let program = [call(bpf_func_id::BPF_FUNC_jiffies64), mov_r0(2), EXIT];
    answer_to(
        sys::load_program(bpf_prog_type::BPF_PROG_TYPE_XDP, &program, 0),
        "loading a program that calls it",
    )
}

fn test_run(program: BorrowedFd<'_>) -> Finding {
    let frame = [0; 64];
    // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    let context = [0, frame.len() as u32, 0, LOOPBACK, 0, 0];
    answer_to(sys::test_run(program, &frame, &context), "running one with a frame from `lo`")
}

fn barrier() -> Finding {
    const HOW: &str = "asking membarrier(2) for its commands";
    match sys::has_barrier() {
        Ok(true) => (Answer::Found, HOW.to_owned()),
        Ok(false) => (Answer::Missing, HOW.to_owned()),
        Err(error) if error.raw_os_error() == Some(Errno::ENOSYS as i32) => (Answer::Missing, HOW.to_owned()),
        Err(error) => from_error(&error, HOW),
    }
}

fn jit(program: BorrowedFd<'_>) -> Finding {
    const HOW: &str = "the size of a loaded program's machine code";
    match sys::machine_code(program) {
        Ok(0) => (Answer::Missing, HOW.to_owned()),
        Ok(_) => (Answer::Found, HOW.to_owned()),
        Err(error) => from_error(&error, HOW),
    }
}

fn with(program: &io::Result<OwnedFd>, ask: impl FnOnce(BorrowedFd<'_>) -> Finding) -> Finding {
    match program {
        Ok(program) => ask(program.as_fd()),
        Err(error) => from_error(error, "loading a program for it"),
    }
}

/// The answer from an attempt.
fn answer_to<T, E: std::borrow::Borrow<io::Error>>(done: Result<T, E>, how: &str) -> Finding {
    match done {
        Ok(_) => (Answer::Found, how.to_owned()),
        Err(error) => from_error(error.borrow(), how),
    }
}

/// The answer from an attempt that must fail: an error other than EINVAL means that the kernel knows the
/// request.
fn refused<T>(done: io::Result<T>, how: &str) -> Finding {
    let Err(error) = done else { return (Answer::Found, how.to_owned()) };
    let answer = match from_error(&error, how).0 {
        Answer::Missing => Answer::Missing,
        Answer::Unknown if !is_forbidden(&error) => Answer::Found,
        Answer::Unknown | Answer::Found => Answer::Unknown,
    };
    (answer, format!("{how}: {error}"))
}

/// bpf(2) answers EINVAL to unknown requests, and E2BIG to unknown attributes.
fn from_error(error: &io::Error, how: &str) -> Finding {
    let code = error.raw_os_error().map(Errno::from_raw);
    match code {
        Some(Errno::EINVAL | Errno::E2BIG) => (Answer::Missing, how.to_owned()),
        _ if is_forbidden(error) => (Answer::Unknown, "this user may not ask".to_owned()),
        _ => (Answer::Unknown, format!("{how}: {error}")),
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// `exit`
const EXIT: [u8; 8] = instruction(0x95, 0);

/// `r0 = value`
const fn mov_r0(value: i32) -> [u8; 8] {
    instruction(0xb7, value)
}

/// `call helper`
const fn call(helper: bpf_func_id) -> [u8; 8] {
    instruction(0x85, helper as i32)
}

/// An instruction with registers and offset 0 (`struct bpf_insn`).
const fn instruction(code: u8, immediate: i32) -> [u8; 8] {
    let [a, b, c, d] = immediate.to_ne_bytes();
    [code, 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::fd::AsFd as _;
    use std::thread;

    use aya_obj::generated::{bpf_attach_type, bpf_prog_type};
    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};

    use super::{Answer, EXIT, LOOPBACK, answer_to, by_error, in_namespace, mov_r0, refused, tcx};
    use crate::sys;

    #[test]
    fn errors_tell_the_same_as_attaching() {
        let load = |kind| sys::load_program(kind, &[mov_r0(2), EXIT], 0).expect("this needs root");
        let program = load(bpf_prog_type::BPF_PROG_TYPE_XDP);
        let done = in_namespace(&program, true, true).expect("a namespace");
        let (link, update) = done.links.expect("links were wanted");
        assert_eq!((link.0, update.0), (Answer::Found, Answer::Found), "{link:?} {update:?}");
        let by_error = by_error(program.as_fd());
        assert_eq!((by_error.0.0, by_error.1.0), (link.0, update.0), "{by_error:?}");
        assert_eq!(
            done.clsact.map(|answer_to| answer_to.0),
            Some(Answer::Found),
            "Linux 4.5 has it, as the module sch_ingress"
        );

        // tcx is asked for by an error alone.
        let classifier = load(bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS);
        let attached = thread::scope(|scope| {
            let attach = || {
                unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
                sys::create_link(classifier.as_fd(), LOOPBACK, bpf_attach_type::BPF_TCX_EGRESS, 0).is_ok()
            };
            scope.spawn(attach).join().expect("it ends")
        });
        assert_eq!(tcx(classifier.as_fd()).0 == Answer::Found, attached);
    }

    #[test]
    fn an_error_says_whether_the_kernel_knows() {
        let error = |errno: Errno| io::Result::<()>::Err(errno.into());
        assert_eq!(answer_to(io::Result::Ok(()), "x").0, Answer::Found);
        assert_eq!(answer_to(error(Errno::EINVAL), "x").0, Answer::Missing);
        assert_eq!(answer_to(error(Errno::EPERM), "x").0, Answer::Unknown);
        assert_eq!(answer_to(error(Errno::ENOMEM), "x").0, Answer::Unknown);
        assert_eq!(refused(error(Errno::EINVAL), "x").0, Answer::Missing);
        assert_eq!(refused(error(Errno::ENODEV), "x").0, Answer::Found);
        assert_eq!(refused(error(Errno::EPERM), "x").0, Answer::Unknown);
    }
}
