//! Explains why a kernel or a driver refused the program on an interface.

use std::io;

use anyhow::Error;
use nix::errno::Errno;

use crate::xdp::Mode;
use lyncwall_policy::problem::{Problem, Problems};

/// Drivers return it for EOPNOTSUPP; it is internal to the kernel and has no name in userspace.
const ENOTSUPP: i32 = 524;

/// A reason and its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The reason, as the second half of a sentence.
    pub(super) why: String,
    fix: &'static str,
}

impl Refusal {
    /// The meaning of an error from attaching; `None` for an unexpected error.
    pub(super) fn of(error: &Error, mode: Mode) -> Option<Self> {
        let code = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())?;
        let errno = if code == ENOTSUPP { Errno::EOPNOTSUPP } else { Errno::from_raw(code) };
        let (why, fix) = known(errno, mode)?;
        let words = kernels_words(error).map(|words| format!("; kernel: {words}"));
        Some(Self { why: format!("{why} ({errno:?}){}", words.unwrap_or_default()), fix })
    }

    /// An unexpected error from attaching.
    pub(super) fn unknown(error: &Error) -> Self {
        Self { why: format!("{error:#}"), fix: "look at the kernel's log with `dmesg`" }
    }

    /// The problem for the user.
    pub(super) fn problem(self, interface: &str, mode: Mode) -> Problems {
        let Self { why, fix } = self;
        let program = match mode {
            Mode::Native => "a native XDP program",
            Mode::Generic => "an XDP program in generic mode",
        };
        let mut fix = fix.to_owned();
        if mode == Mode::Native {
            fix += "; or set `attach` to \"auto\" or \"generic\"";
        }
        Problem::new(format!("`{interface}` refused {program}: {why}"), fix).into()
    }
}

/// The errors of `dev_xdp_attach` in net/core/dev.c and of the drivers below it.
fn known(errno: Errno, mode: Mode) -> Option<(&'static str, &'static str)> {
    Some(match (errno, mode) {
        (Errno::EOPNOTSUPP, Mode::Native) => (
            "its driver has no native XDP, or not with the enabled offloads; a bond needs it in every member",
            "try `ethtool -K INTERFACE lro off rx-gro-hw off`, and remove XDP programs from a bond's members",
        ),
        (Errno::EOPNOTSUPP, Mode::Generic) => {
            ("this kind of interface has no XDP", "guard the interface below it")
        }
        (Errno::EINVAL, Mode::Native) => (
            "its driver refuses the program with this setup: often the MTU exceeds one buffer, or LRO is \
            on",
            "lower the MTU (`ip link set INTERFACE mtu 1500`) or turn LRO off (`ethtool -K INTERFACE lro off`)",
        ),
        (Errno::ERANGE, Mode::Native) => (
            "incoming frames may be longer than the program supports: the MTU of a veth's peer is too large",
            "lower the MTU of the other end (`ip link set PEER mtu 1500`)",
        ),
        (Errno::ENOTCONN, Mode::Native) => {
            ("the other end of the veth pair is gone", "create the pair again")
        }
        (Errno::EINVAL, Mode::Generic) => (
            "the kernel refuses the program with this setup of the interface",
            "look at its MTU and offloads with `ip -d link show INTERFACE` and `ethtool -k INTERFACE`",
        ),
        (Errno::EBUSY, _) => {
            ("another XDP program is on it", "look at it with `bpftool net show`, and stop its owner")
        }
        (Errno::EEXIST, _) => (
            "an XDP program is on it in the other mode, or on its bond",
            "look at it with `bpftool net show`, and stop its owner; for a bond, guard only the bond",
        ),
        (Errno::ENOMEM | Errno::ENOSPC, Mode::Native) => (
            "its driver has no memory or queues left for a program; most drivers need one more transmit queue for each CPU",
            "give it more or fewer queues (`ethtool -L INTERFACE combined N`)",
        ),
        (Errno::ENODEV, _) => ("it disappeared meanwhile", "start again once it is back"),
        (Errno::EPERM | Errno::EACCES, _) => (
            "the kernel forbids it",
            "run lyncwall as root, and look for a security module or a container that forbids bpf(2)",
        ),
        _ => return None,
    })
}

/// The kernel's message for a netlink request, which aya embeds as `["…"]`.
fn kernels_words(error: &Error) -> Option<String> {
    let text = error.chain().map(ToString::to_string).find(|text| text.contains("[\""))?;
    let (_, words) = text.split_once("[\"")?;
    let (words, _) = words.split_once("\"]")?;
    Some(words.replace("\", \"", "; "))
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;
    use nix::errno::Errno;

    use super::{ENOTSUPP, Mode, Refusal};

    fn of(code: i32, mode: Mode) -> Option<Refusal> {
        Refusal::of(&anyhow!(io::Error::from_raw_os_error(code)).context("`bpf_link_create` failed"), mode)
    }

    #[test]
    fn every_known_error_has_a_reason_and_a_fix() {
        let errors = [
            (Errno::EOPNOTSUPP, "native XDP"),
            (Errno::EINVAL, "MTU"),
            (Errno::ERANGE, "veth's peer"),
            (Errno::ENOTCONN, "other end"),
            (Errno::EBUSY, "another XDP program"),
            (Errno::EEXIST, "bond"),
            (Errno::ENOMEM, "queue"),
            (Errno::ENODEV, "disappeared"),
            (Errno::EPERM, "forbids"),
        ];
        for (errno, said) in errors {
            let refusal = of(errno as i32, Mode::Native).expect("it is known");
            assert!(
                refusal.why.contains(said) && refusal.why.contains(&format!("({errno:?})")),
                "{refusal:?}"
            );
            let text = refusal.problem("eth0", Mode::Native).to_string();
            assert!(text.starts_with("`eth0` refused a native XDP program: "), "{text}");
            assert!(text.ends_with("; or set `attach` to \"auto\" or \"generic\""), "{text}");
        }
        assert_eq!(of(ENOTSUPP, Mode::Native), of(Errno::EOPNOTSUPP as i32, Mode::Native));
        assert_eq!(of(Errno::EIO as i32, Mode::Native), None);
    }

    #[test]
    fn generic_mode_is_not_offered_where_it_was_refused() {
        for errno in [Errno::EOPNOTSUPP, Errno::EINVAL, Errno::EBUSY, Errno::EEXIST, Errno::ENODEV] {
            let refusal = of(errno as i32, Mode::Generic).expect("it is known");
            let text = refusal.problem("eth0", Mode::Generic).to_string();
            assert!(text.contains("in generic mode") && !text.contains("`generic`"), "{text}");
        }
    }

    #[test]
    fn the_words_of_the_kernel_are_told() {
        let error = anyhow!(io::Error::from_raw_os_error(Errno::EINVAL as i32))
            .context("netlink error: [\"MTU is too large to set XDP\"]");
        let refusal = Refusal::of(&error, Mode::Native).expect("it is known");
        assert!(refusal.why.ends_with("(EINVAL); kernel: MTU is too large to set XDP"), "{refusal:?}");
    }
}
