//! The pin directory: maps by their names, links in `links/` and `egress/`. The pins outlive the agent, so
//! they are checked before adoption, and only one agent at a time may use the directory.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::{Array, Map, MapData, MapInfo};
use aya_obj::Object;
use aya_obj::maps::PinningType;
use lyncwall_common::abi::{ABI_VERSION, map};

use super::links::PinnedLinks;
use super::state::StateMap;
use super::{egress, xdp};
use lyncwall_policy::problem::{Problem, Problems};

/// All our pins in the pin directory except links.
pub(super) const MAPS: [&str; map::PINNED.len()] = map::PINNED;

/// The directory of the links, inside the pin directory.
pub(super) const LINKS: &str = "links";

/// The directory of the egress attachments.
pub(super) const EGRESS: &str = "egress";

const DETACH: &str = "the old rules stay in force meanwhile; run `lyncwall detach`, which opens the box and loses flows \
                      and counters, and start again at once";

/// The pin directory, locked until this is dropped.
pub(super) struct PinDir {
    path: PathBuf,
    /// The open directory, whose lock we hold; `None` for the pins of an agent that does not answer.
    lock: Option<File>,
    /// The pinned maps, to pin them again.
    held: Vec<(&'static str, MapData)>,
    /// The undo list for drop, until the first start has succeeded.
    undo: Option<Undo>,
}

/// The pins from before this start.
struct Undo {
    maps: BTreeSet<&'static str>,
    /// Directories that this start created, inner first.
    made: Vec<PathBuf>,
}

impl PinDir {
    /// Creates the directory if needed, and locks it. Drop removes all later pins unless [`PinDir::keep`] is
    /// called.
    ///
    /// # Errors
    /// A [`Problem`] if another agent holds the directory.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let made = if make(path)? { vec![path.to_owned()] } else { Vec::new() };
        private(path)?;
        let lock = lock(path)?.with_context(|| format!("{} was removed meanwhile", path.display()))?;
        let mut pins = Self { path: path.to_owned(), lock: Some(lock), held: Vec::new(), undo: None };
        let maps = pins.maps()?.into_iter().collect();
        let undo = pins.undo.insert(Undo { maps, made });
        for directory in [LINKS, EGRESS].map(|name| path.join(name)) {
            if make(&directory)? {
                undo.made.insert(0, directory.clone());
            }
            private(&directory)?;
        }
        Ok(pins)
    }

    /// Locks the directory if it exists.
    ///
    /// # Errors
    /// A [`Problem`] if another agent holds the directory.
    pub(super) fn open_existing(path: &Path) -> Result<Option<Self>> {
        if exists(path)? {
            private(path)?;
        }
        let locked = lock(path)?;
        Ok(locked.map(|lock| Self { path: path.to_owned(), lock: Some(lock), held: Vec::new(), undo: None }))
    }

    /// The directory without its lock, to remove the pins of an agent that does not answer.
    pub(super) fn unlocked(path: &Path) -> Result<Option<Self>> {
        if !exists(path)? {
            return Ok(None);
        }
        private(path)?;
        Ok(Some(Self { path: path.to_owned(), lock: None, held: Vec::new(), undo: None }))
    }

    /// The start has succeeded: keeps all pins.
    pub(super) fn keep(&mut self) -> Result<()> {
        for name in self.maps()? {
            self.held.push((name, self.map(name)?));
        }
        self.undo = None;
        Ok(())
    }

    /// Pins the maps again whose pins are gone, and returns their names. Somebody may have removed the
    /// directory as well, and its lock with it.
    ///
    /// # Errors
    /// A [`Problem`] if another agent holds the new directory.
    pub(super) fn pin_again(&mut self) -> Result<Vec<&'static str>> {
        make(&self.path)?;
        private(&self.path)?;
        if !self.holds_lock()? {
            self.lock = lock(&self.path)?;
        }
        for directory in [LINKS, EGRESS].map(|name| self.path.join(name)) {
            make(&directory)?;
            private(&directory)?;
        }
        let mut pinned = Vec::new();
        for (name, map) in &self.held {
            let path = self.path.join(name);
            if !exists(&path)? {
                map.pin(&path).with_context(|| format!("pinning {}", path.display()))?;
                pinned.push(*name);
            }
        }
        Ok(pinned)
    }

    /// True if the locked directory is still the one at this path.
    fn holds_lock(&self) -> Result<bool> {
        match &self.lock {
            Some(locked) => is_at(locked, &self.path),
            None => Ok(false),
        }
    }

    fn map(&self, name: &str) -> Result<MapData> {
        let path = self.path.join(name);
        MapData::from_pin(&path).with_context(|| format!("opening the map {}", path.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn links_dir(&self) -> PathBuf {
        self.path.join(LINKS)
    }

    pub(super) fn egress_dir(&self) -> PathBuf {
        self.path.join(EGRESS)
    }

    /// True if an earlier agent's program is on an interface.
    pub(super) fn judges(&self) -> Result<bool> {
        Ok(PinnedLinks::read(&self.links_dir())?.into_iter().any(|link| link.judges()))
    }

    /// The pinned maps of lyncwall.
    pub(super) fn maps(&self) -> Result<Vec<&'static str>> {
        let mut pinned = Vec::new();
        for name in MAPS {
            if exists(&self.path.join(name))? {
                pinned.push(name);
            }
        }
        Ok(pinned)
    }

    /// Prepares the directory for `object`: true if it has maps of an earlier agent to adopt.
    ///
    /// # Errors
    /// [`Problems`] if they have another version.
    pub(super) fn prepare(&mut self, object: &Object) -> Result<bool> {
        ensure!(
            object
                .maps
                .iter()
                .all(|(name, map)| map.pinning() == PinningType::None || MAPS.contains(&name.as_str())),
            "the BPF object pins a map that the agent does not know"
        );
        let pinned = self.maps()?;
        if pinned.is_empty() {
            return Ok(false);
        }
        let mut problems = Problems::default();
        for name in &pinned {
            let definition =
                object.maps.get(*name).with_context(|| format!("the BPF object has no map {name}"))?;
            self.compare(name, definition, &mut problems)?;
        }
        let version = if problems.is_empty() { self.version(&pinned)? } else { None };
        match version {
            Some(version) if version != ABI_VERSION => problems.push(Problem::new(
                format!(
                    "the maps in {} are of version {version} (in the map {}), and this lyncwall has version \
                     {ABI_VERSION}",
                    self.path.display(),
                    map::STATE
                ),
                DETACH,
            )),
            None if problems.is_empty() && PinnedLinks::read(&self.links_dir())?.is_empty() => {
                // An agent was killed during its first start. These maps enforce nothing.
                tracing::warn!(directory = %self.path.display(), "removing the maps of an aborted start");
                for name in pinned {
                    remove_file(&self.path.join(name))?;
                }
                return Ok(false);
            }
            None if problems.is_empty() => problems.push(Problem::new(
                format!("the map {} in {} has no version", map::STATE, self.path.display()),
                DETACH,
            )),
            Some(_) | None => {}
        }
        problems.or(true).map_err(Into::into)
    }

    /// aya accepts a pinned map of the right name, whatever its type.
    fn compare(&self, name: &str, definition: &aya_obj::Map, problems: &mut Problems) -> Result<()> {
        let path = self.path.join(name);
        let info =
            MapInfo::from_pin(&path).with_context(|| format!("reading the pinned map {}", path.display()))?;
        let kind = info.map_type().with_context(|| format!("the type of {}", path.display()))?;
        // The configuration sets the size of these maps.
        let sized = [map::FLOWS_V4, map::FLOWS_V6].contains(&name);
        let entries = if sized { info.max_entries() } else { definition.max_entries() };
        let pairs = [
            ("type", kind as u32, definition.map_type()),
            ("key size", info.key_size(), definition.key_size()),
            ("value size", info.value_size(), definition.value_size()),
            ("maximum of entries", info.max_entries(), entries),
            ("flags", info.map_flags(), definition.map_flags()),
        ];
        for (what, pinned, ours) in pairs {
            if pinned != ours {
                problems.push(Problem::new(
                    format!(
                        "the map {name} in {} has the {what} {pinned}, and this lyncwall needs {ours}",
                        self.path.display()
                    ),
                    DETACH,
                ));
            }
        }
        Ok(())
    }

    pub(super) fn version(&self, pinned: &[&str]) -> Result<Option<u32>> {
        if !pinned.contains(&map::STATE) {
            return Ok(None);
        }
        self.state()?.version()
    }

    fn state(&self) -> Result<StateMap> {
        let map = Array::try_from(Map::Array(self.map(map::STATE)?))
            .with_context(|| format!("the map {}", map::STATE))?;
        StateMap::new(map)
    }

    /// Empties the agent's state, if it is pinned and of this version.
    pub(super) fn empty_state(&self) -> Result<()> {
        let pinned = self.maps()?;
        if self.version(&pinned)? == Some(ABI_VERSION) { self.state()?.store(&[]) } else { Ok(()) }
    }

    /// Memory of the maps in bytes, as the kernel counts it.
    pub(super) fn memory(&self) -> Result<u64> {
        let mut total = 0;
        for name in self.maps()? {
            total += super::memlock(self.map(name)?.fd()).with_context(|| format!("the size of {name}"))?;
        }
        Ok(total)
    }

    /// Removes all pins of lyncwall: links first, so that no packet is judged by half of the maps. The maps
    /// stay if a link does: the next agent finds both.
    pub(super) fn remove(self) -> Result<Detached> {
        let mut detached = Detached::default();
        let interfaces = xdp::all()?;
        for link in PinnedLinks::read(&self.links_dir())?.into_iter() {
            let interface = link.interface(&interfaces);
            if let Err(error) = link.end() {
                detached.failed.push(format!("{error:#}"));
                detached.guarded.push(interface);
                continue;
            }
            detached.interfaces.push(interface);
            if let Err(error) = link.remove_pin() {
                detached.failed.push(format!("{error:#}"));
            }
        }
        if !detached.guarded.is_empty() {
            return Ok(detached);
        }
        // No packet is dropped from here on, whatever cannot be removed.
        let mut note = |done: Result<()>| {
            let failed = done.err().map(|error| format!("{error:#}"));
            let done = failed.is_none();
            detached.failed.extend(failed);
            done
        };
        note(egress::detach_except(&self.egress_dir(), &[]));
        let mut maps = Vec::new();
        for name in self.maps()? {
            if note(remove_file(&self.path.join(name))) {
                maps.push(name.to_owned());
            }
        }
        for directory in [self.links_dir(), self.egress_dir(), self.path.clone()] {
            note(remove_directory(&directory).map(drop));
        }
        detached.maps = maps;
        if detached.failed.is_empty() && exists(&self.path)? {
            let entries =
                fs::read_dir(&self.path).with_context(|| format!("listing {}", self.path.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("listing {}", self.path.display()))?;
                detached.left.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(detached)
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        let undone = || -> Result<()> {
            for name in self.maps()?.into_iter().filter(|name| !undo.maps.contains(name)) {
                remove_file(&self.path.join(name))?;
            }
            for directory in &undo.made {
                remove_directory(directory)?;
            }
            Ok(())
        };
        if let Err(error) = undone() {
            tracing::warn!("cleaning up after a failed start: {error:#}");
        }
    }
}

/// The removed objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detached {
    /// Interfaces that are open now.
    pub interfaces: Vec<String>,
    /// The removed maps.
    pub maps: Vec<String>,
    /// Foreign entries of the pin directory.
    pub left: Vec<String>,
    /// Interfaces from which the program could not be taken.
    pub guarded: Vec<String>,
    /// Why they are still guarded, or a pin is left; empty if everything is removed.
    pub failed: Vec<String>,
}

impl Detached {
    /// True if there was nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.interfaces.is_empty() && self.maps.is_empty() && self.failed.is_empty()
    }
}

/// Locks a directory; `None` without one. A lock on a directory that was removed meanwhile does not count.
fn lock(path: &Path) -> Result<Option<File>> {
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let problem = Problem::new(
                    format!("another lyncwall agent uses {}", path.display()),
                    "stop it, or name another directory with `--pin-dir`",
                );
                return Err(Problems::from(problem).into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

/// True if this open directory is the one at `path`.
fn is_at(directory: &File, path: &Path) -> Result<bool> {
    let asking = || format!("asking for {}", path.display());
    let open = directory.metadata().with_context(asking)?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(asking),
    }
}

/// The process that holds the lock of a directory, if this user can see it.
pub(super) fn holder(path: &Path) -> Result<Option<i32>> {
    let Ok(there) = fs::metadata(path) else { return Ok(None) };
    let (major, minor) = (nix::sys::stat::major(there.dev()), nix::sys::stat::minor(there.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", there.ino());
    let locks = fs::read_to_string("/proc/locks").context("reading /proc/locks")?;
    // Fields of proc_locks(5): number, FLOCK, ADVISORY, WRITE, process, device and inode, range.
    let held = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&&*wanted)).then(|| fields[4].parse().ok())
    });
    Ok(held.flatten())
}

/// True if the directory was created.
fn make(path: &Path) -> Result<bool> {
    if exists(path)? {
        return Ok(false);
    }
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(anyhow!(error)).with_context(|| {
            format!("creating {} (a BPF file system accepts no name with a dot)", path.display())
        }),
        Err(error) => Err(error).with_context(|| format!("creating {}", path.display())),
    }
}

/// Refuses a directory that another user could change pins in: a BPF file system that was mounted without a
/// mode is open to everybody.
fn private(path: &Path) -> Result<()> {
    let there = fs::symlink_metadata(path).with_context(|| format!("asking for {}", path.display()))?;
    let owner = nix::unistd::geteuid().as_raw();
    if there.is_dir() && there.uid() == owner && there.mode() & 0o022 == 0 {
        return Ok(());
    }
    let problem = Problem::new(
        format!("{} is not a directory that only user {owner} can write to", path.display()),
        "remove it (its pins may be foreign), or name another directory with `--pin-dir`",
    );
    Err(Problems::from(problem).into())
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().with_context(|| format!("looking for {}", path.display()))
}

fn remove_file(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("removing {}", path.display()))
}

/// False if it is not empty.
fn remove_directory(path: &Path) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}
