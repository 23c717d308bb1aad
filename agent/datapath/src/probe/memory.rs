//! The limit on locked memory.

use anyhow::{Context as _, Result};
use aya::util::KernelVersion;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::privileges::may_raise_limits;
use lyncwall_policy::problem::{Problem, Problems};

/// Kernels from this version on charge maps to the control group instead.
const UNCHARGED: KernelVersion = KernelVersion::new(5, 11, 0);

/// Whether the kernel charges BPF maps to the limit on locked memory, and the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// True on kernels before 5.11, which charge BPF maps to it.
    pub charged: bool,
    /// The limit in bytes; `None` for no limit.
    pub bytes: Option<u64>,
    /// True if this process may raise it.
    pub liftable: bool,
}

impl MemoryLimit {
    /// Reads the limit.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub(in super::super) fn ask() -> Result<Self> {
        let kernel = KernelVersion::current().context("reading the kernel's version")?;
        let (soft, hard) =
            getrlimit(Resource::RLIMIT_MEMLOCK).context("reading the limit on locked memory")?;
        Ok(Self {
            charged: kernel < UNCHARGED,
            bytes: (soft != RLIM_INFINITY).then_some(soft),
            liftable: hard == RLIM_INFINITY || may_raise_limits()?,
        })
    }

    /// The problem, if the limit is in the way.
    #[must_use]
    pub fn problems(self) -> Problems {
        match self {
            Self { charged: true, bytes: Some(bytes), liftable: false } => Problem::new(
                format!(
                    "this kernel charges BPF maps to the limit on locked memory, which is {bytes} bytes here"
                ),
                "run lyncwall as root with CAP_SYS_RESOURCE, or raise the limit first (`LimitMEMLOCK=infinity` in the \
                 unit, `ulimit -l unlimited` in a shell)",
            )
            .into(),
            Self { .. } => Problems::default(),
        }
    }

    /// Raises the limit, if needed.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(in super::super) fn lift(self) -> Result<()> {
        if !self.charged || self.bytes.is_none() {
            return Ok(());
        }
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
            .context("raising the limit on locked memory, which this kernel charges BPF maps to")
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryLimit;

    #[test]
    fn only_a_limit_that_counts_and_stays_is_a_problem() {
        let limit = |charged, bytes, liftable| MemoryLimit { charged, bytes, liftable };
        for good in
            [limit(false, Some(65_536), false), limit(true, None, false), limit(true, Some(65_536), true)]
        {
            assert!(good.problems().is_empty(), "{good:?}");
        }
        let text = limit(true, Some(65_536), false).problems().to_string();
        assert!(text.contains("65536 bytes") && text.contains("LimitMEMLOCK=infinity"), "{text}");
    }
}
