//! Debian's kernels: fetched once by apt, unpacked under the target folder, used from there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::folder;
use crate::apt::{self, Apt, sources};
use crate::process::{Failure, in_short, say};

/// A kernel to test on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What it is called on the command line, in reports and under the target folder.
    pub(crate) name: &'static str,
    /// The suite of Debian's archive that has it.
    suite: &'static str,
}

/// All of them, oldest first. Each is the newest of its suite.
pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", suite: "bullseye" },
    Kernel { name: "6.1", suite: "bookworm" },
    Kernel { name: "6.12", suite: "trixie" },
    Kernel { name: "newest", suite: "sid" },
];

/// The package that names the kernel of a suite: for virtual machines, so small, and with what containers need.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// What the names of a kernel's own packages begin with; from 7 on, an image is several of them.
const PARTS: [&str; 4] = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"];

/// The one that is called `name`, by its version or its suite.
///
/// # Errors
/// A sentence with the names that there are.
pub(crate) fn parse(name: &str) -> Result<Kernel, String> {
    KERNELS.into_iter().find(|kernel| kernel.name == name || kernel.suite == name).ok_or_else(|| {
        let names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
        format!("kernels are {}, or their suites of Debian's", names.join(", "))
    })
}

/// A kernel that lies under the target folder.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Which.
    pub(crate) kernel: Kernel,
    /// The image to boot.
    pub(crate) image: PathBuf,
    /// The folder that is named after its release and holds its modules.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// True for the oldest and the newest.
    pub(crate) fn is_at_an_end(self) -> bool {
        [KERNELS.first(), KERNELS.last()].contains(&Some(&self))
    }

    /// Where everything of it lies.
    ///
    /// # Errors
    /// When the target folder cannot be named.
    pub(crate) fn folder(self) -> Result<PathBuf> {
        Ok(folder()?.join(self.name))
    }

    /// The kernel, fetched where it is not there or, with `update`, where the archive has a newer one.
    ///
    /// # Errors
    /// A [`Failure`] where it is not there and cannot be had.
    pub(crate) fn provide(self, update: bool) -> Result<Unpacked> {
        let unpacked = self.folder()?.join("kernel");
        if update || !unpacked.exists() {
            apt::require_programs("boot other kernels on Debian or Ubuntu, which have apt")?;
            self.fetch(&unpacked)?;
        }
        self.find(&unpacked)
    }

    fn fetch(self, unpacked: &Path) -> Result<()> {
        let mut failed = Vec::new();
        for mirror in sources::mirrors() {
            match self.fetch_from(&mirror, unpacked) {
                Ok(()) => return Ok(()),
                Err(error) => failed.push(in_short(&error)),
            }
        }
        let fix =
            "apt says above why; the network is needed for a kernel that is not there yet, and for --update";
        Err(Failure::new(
            format!(
                "Linux {} of Debian's {} cannot be fetched: {}",
                self.name,
                self.suite,
                failed.join("; ")
            ),
            fix,
        )
        .into())
    }

    fn fetch_from(self, mirror: &str, unpacked: &Path) -> Result<()> {
        let apt = Apt::with_suite(&folder()?.join("apt").join(self.suite), mirror, self.suite)?;
        let packages = own_packages(&apt.closure(PACKAGE)?);
        if packages.is_empty() {
            return Err(Failure::new(format!("{} has no {PACKAGE}", self.suite), "").into());
        }
        let versions = packages
            .iter()
            .map(|package| format!("{package} {}\n", apt.candidate(package).unwrap_or_default()))
            .collect::<String>();
        let record = unpacked.with_extension("packages");
        if unpacked.exists() && fs::read_to_string(&record).is_ok_and(|had| had == versions) {
            say(&format!("Linux {}: the archive has no newer one", self.name));
            return Ok(());
        }
        apt.unpack(&packages, unpacked, "the disk may be full: a kernel takes 100 MB")?;
        fs::write(&record, versions).with_context(|| record.display().to_string())
    }

    fn find(self, unpacked: &Path) -> Result<Unpacked> {
        let folders = ["lib/modules", "usr/lib/modules"].map(|folder| unpacked.join(folder));
        let modules = folders.iter().find_map(|folder| fs::read_dir(folder).ok()?.flatten().next());
        let found = modules.and_then(|entry| {
            let modules = entry.path();
            let release = modules.file_name()?.to_str()?;
            let images = [unpacked.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
            let image = images.into_iter().find(|image| image.exists())?;
            Some(Unpacked { kernel: self, image, modules })
        });
        found.ok_or_else(|| {
            let fix = format!("delete {} and run this again", unpacked.display());
            Failure::new(format!("{} holds no image with modules", unpacked.display()), fix).into()
        })
    }
}

/// The packages of the kernel among those that it depends on.
fn own_packages(closure: &[String]) -> Vec<String> {
    let versioned = |name: &str| {
        let rest = PARTS.iter().find_map(|part| name.strip_prefix(part));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    closure.iter().filter(|name| versioned(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_goes_by_its_version_and_by_its_suite() {
        assert_eq!(parse("6.1"), Ok(KERNELS[1]));
        assert_eq!(parse("sid"), Ok(KERNELS[3]));
        assert!(parse("4.19").is_err_and(|message| message.contains("5.10, 6.1")));
    }

    #[test]
    fn the_packages_of_one_kernel_are_those_with_its_version() {
        let closure = [
            "linux-image-cloud-amd64",
            "linux-base-cloud-amd64",
            "linux-image-7.2.13+deb14-cloud-amd64",
            "linux-base-7.2.13+deb14-cloud-amd64",
            "linux-base",
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-modules-7.2.13+deb14-cloud-amd64",
            "libselinux1",
        ]
        .map(str::to_owned);
        let own = own_packages(&closure);
        assert_eq!(own.len(), 4);
        assert!(own.iter().all(|name| name.contains("-7.2.13+")), "{own:?}");
    }
}
