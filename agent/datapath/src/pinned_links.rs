//! Links that are pinned in a directory, one file each.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::programs::links::PinnedLink;

use super::sys::{self, LinkInfo, LinkKind};

/// A link of lyncwall.
pub(super) struct Pinned {
    pub(super) path: PathBuf,
    pub(super) info: LinkInfo,
}

impl Pinned {
    /// Takes the program off the interface.
    pub(super) fn unpin(&self) -> Result<()> {
        unpin(&self.path)
    }

    /// The first half of [`Pinned::unpin`]: the interface is open afterwards.
    pub(super) fn end(&self) -> Result<()> {
        end(&self.path)
    }

    /// The second half.
    pub(super) fn remove_pin(&self) -> Result<()> {
        remove_pin(&self.path)
    }

    /// True if there is an interface, in any network namespace, that the program is on.
    pub(super) fn judges(&self) -> bool {
        self.info.ifindex != 0
    }
}

/// The links of a kind in a directory, sorted by path; empty without the directory. Other entries are
/// foreign, or markers.
pub(super) fn links(directory: &Path, kind: LinkKind) -> Result<Vec<Pinned>> {
    let mut found = Vec::new();
    // For a directory, the kernel answers an attempt to open it as a pin with EPERM.
    for path in entries(directory)?.into_iter().filter(|path| !path.is_dir()) {
        match sys::link_info(&path, kind) {
            Ok(info) => found.push(Pinned { path, info }),
            Err(error) if error.kind() == ErrorKind::InvalidData => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
    Ok(found)
}

/// The sorted entries of a directory; empty without the directory.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = || format!("listing {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(listing),
    };
    let paths = entries.map(|entry| Ok(entry.with_context(listing)?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}

/// Ends a link at once and removes its pin. Without the first step the interface could keep the program after
/// this call: kernel 5.10 releases the link of a removed pin later, from a work queue.
pub(super) fn unpin(pin: &Path) -> Result<()> {
    end(pin)?;
    remove_pin(pin)
}

fn end(pin: &Path) -> Result<()> {
    sys::detach_link(pin).with_context(|| format!("ending the link at {}", pin.display()))
}

fn remove_pin(pin: &Path) -> Result<()> {
    let link = PinnedLink::from_pin(pin).with_context(|| format!("opening {}", pin.display()))?;
    drop(link.unpin().with_context(|| format!("removing {}", pin.display()))?);
    Ok(())
}

/// A BPF file system accepts no name with a dot, as in names of VLAN interfaces; no interface name has a
/// colon.
pub(super) fn pin_name(interface: &str) -> String {
    interface.replace('.', ":")
}

#[cfg(test)]
mod tests {
    use super::pin_name;

    #[test]
    fn the_pin_of_a_vlan_has_no_dot() {
        assert_eq!(pin_name("eth0.100"), "eth0:100");
        assert_eq!(pin_name("eth0"), "eth0");
    }
}
