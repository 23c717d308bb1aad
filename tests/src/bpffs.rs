//! A BPF file system for one test.

use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::prerequisites::raise_memlock;

/// The usual place of a BPF file system; the directory is there wherever sysfs is mounted and the kernel has BPF.
const PLACE: &str = "/sys/fs/bpf";

/// A private BPF file system at `/sys/fs/bpf`, in a mount namespace that the calling thread moves into.
///
/// This thread sees it, and so do the threads and processes that it starts **afterwards**; nobody else does. Make
/// it first in a test, then the agents. It is unmounted on drop; where the process is killed, the namespace dies
/// with it, and the mount and its pins with the namespace. No directory is left anywhere.
#[derive(Debug)]
pub struct Bpffs {
    /// Only the thread that moved into the namespace can unmount, so this must not be sent to another.
    not_send: PhantomData<*const ()>,
}

impl Bpffs {
    /// Moves the calling thread into a mount namespace of its own and mounts the file system there. The limit on
    /// locked memory is lifted as well, where the kernel needs that.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or where there is no `/sys/fs/bpf` to mount on.
    pub fn mount() -> Result<Self> {
        raise_memlock()?;
        unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of this thread's own")?;
        let nothing = None::<&Path>;
        // Without this the mount below would show up in the namespace we came from.
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .context("making the mounts of the new namespace private")?;
        mount(Some("bpf"), PLACE, Some("bpf"), MsFlags::empty(), nothing)
            .with_context(|| format!("mounting a BPF file system on {PLACE}"))?;
        Ok(Self { not_send: PhantomData })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        Path::new(PLACE)
    }

    /// A directory in it, made if it is not there.
    ///
    /// # Errors
    /// Where the file system refuses the name; a BPF file system refuses names with a dot.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Detached, because a process that still runs may hold a pin open.
        if let Err(error) = umount2(PLACE, MntFlags::MNT_DETACH) {
            eprintln!("unmounting {PLACE}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sys::statfs::{FsType, statfs};

    use super::{Bpffs, PLACE};
    use crate::prerequisites::require_root;

    /// BPF_FS_MAGIC of linux/magic.h.
    const MAGIC: FsType = FsType(0xcafe_4a11);

    fn kind() -> FsType {
        statfs(PLACE).expect("the place is there").filesystem_type()
    }

    #[test]
    fn it_is_seen_by_later_threads_and_gone_after_drop() {
        require_root();
        let before = kind();
        let bpffs = Bpffs::mount().expect("a BPF file system");
        assert_eq!(kind(), MAGIC);
        let directory = bpffs.directory("one").expect("a directory");
        let seen = thread::scope(|scope| scope.spawn(|| (kind(), directory.is_dir())).join());
        assert_eq!(seen.expect("a thread"), (MAGIC, true));
        drop(bpffs);
        assert_eq!(kind(), before);
        assert!(!directory.exists());
    }

    #[test]
    fn two_tests_at_once_do_not_see_each_other() {
        require_root();
        let mine = Bpffs::mount().expect("a BPF file system");
        mine.directory("mine").expect("a directory");
        let other = thread::spawn(|| {
            let theirs = Bpffs::mount().expect("a BPF file system");
            theirs.directory("theirs").expect("a directory");
            theirs.path().join("mine").exists()
        });
        assert!(!other.join().expect("a thread"));
        assert!(!mine.path().join("theirs").exists());
    }
}
