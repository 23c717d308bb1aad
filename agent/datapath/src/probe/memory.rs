//! The limit on locked memory.

use anyhow::{Context as _, Result};
use aya::util::KernelVersion;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::privileges::may_raise_limits;
use lyncwall_policy::problem::{Problem, Problems};

/// Kernels from this one on charge maps to the control group instead.
const UNCHARGED: KernelVersion = KernelVersion::new(5, 11, 0);

/// Whether BPF maps are charged to the limit on locked memory, and what that limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// True on kernels before 5.11, which charge BPF maps to it.
    pub charged: bool,
    /// The limit in bytes; `None` for no limit.
    pub bytes: Option<u64>,
    /// True where this process may lift it.
    pub liftable: bool,
}

impl MemoryLimit {
    /// Asks.
    ///
    /// # Errors
    /// Where the kernel does not tell.
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

    /// That the limit stands in the way.
    #[must_use]
    pub fn problems(self) -> Problems {
        match self {
            Self { charged: true, bytes: Some(bytes), liftable: false } => Problem::new(
                format!(
                    "this kernel charges BPF maps to the limit on locked memory, which is {bytes} bytes here"
                ),
                "run lyncwall as root with CAP_SYS_RESOURCE, or lift the limit first (`LimitMEMLOCK=infinity` in the \
                 unit, `ulimit -l unlimited` in a shell)",
            )
            .into(),
            Self { .. } => Problems::default(),
        }
    }

    /// Lifts it, where that is needed.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(in super::super) fn lift(self) -> Result<()> {
        if !self.charged || self.bytes.is_none() {
            return Ok(());
        }
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
            .context("lifting the limit on locked memory, which this kernel counts BPF maps against")
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
