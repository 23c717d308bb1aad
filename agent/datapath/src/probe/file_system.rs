//! The place of the pins.

use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::sys::statvfs::FsFlags;

use lyncwall_policy::problem::{Problem, Problems};

/// Checks that the pin directory, or its nearest existing parent, is on a BPF file system.
///
/// # Errors
/// If the file system cannot be queried.
pub(in super::super) fn file_system(pin_dir: &Path) -> Result<Problems> {
    let mut problems = Problems::default();
    if !pin_dir.is_absolute() {
        problems.push(Problem::new(
            format!("the pin directory {} is not an absolute path", pin_dir.display()),
            "use an absolute path, as /sys/fs/bpf/lyncwall",
        ));
        return Ok(problems);
    }
    for directory in pin_dir.ancestors() {
        match statfs(directory) {
            Ok(found) => {
                if found.filesystem_type() != BPF_FS_MAGIC {
                    problems.push(Problem::new(
                        format!("the pin directory {} is not on a BPF file system", pin_dir.display()),
                        "mount one with `mount -t bpf bpf /sys/fs/bpf`, or name a directory on one",
                    ));
                } else if found.flags().contains(FsFlags::ST_RDONLY) {
                    problems.push(Problem::new(
                        format!("the BPF file system at {} is mounted read-only", directory.display()),
                        format!("make it writable with `mount -o remount,rw {}`", directory.display()),
                    ));
                }
                return Ok(problems);
            }
            Err(Errno::ENOENT) => {}
            Err(Errno::ENOTDIR) => {
                problems.push(Problem::new(
                    format!("{} is below something that is not a directory", pin_dir.display()),
                    "name another pin directory",
                ));
                return Ok(problems);
            }
            // systemd mounts the file system for root only.
            Err(Errno::EACCES) => {
                problems.push(Problem::new(
                    format!("this user may not look at {}", directory.display()),
                    "run lyncwall as root",
                ));
                return Ok(problems);
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("asking for the file system of {}", directory.display()));
            }
        }
    }
    Ok(problems)
}
