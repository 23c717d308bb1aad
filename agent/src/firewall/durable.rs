//! Files of the state directory: each is a JSON object with a checksum, and has a copy beside it. Whatever
//! happens to one of the two, the other one holds the state.
//!
//! A write replaces the file and then its copy, each completely or not at all. So the copy is equal to the
//! file, or, after a crash between the two, the state before.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use lyncwall_policy::compile::fnv1a;
use nix::libc;

/// The beginning of a file with a checksum: 16 hexadecimal digits of the 64-bit FNV-1a of everything behind
/// `",` follow. Earlier versions wrote files without one.
const HEAD: &[u8] = b"{\"checksum\":\"";

/// Between the checksum and the rest.
const TAIL: &[u8] = b"\",";

/// What a file and its copy hold.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// The content; `None` without a file, or if it is lost.
    pub(super) content: Option<T>,
    /// What is wrong, in one sentence; `None` if nothing was lost.
    pub(super) damage: Option<String>,
}

/// The content of one of the two files.
pub(super) enum Content {
    /// There is no such file.
    Missing,
    /// Its checksum fits, or it has none.
    Intact(Vec<u8>),
    /// It was changed behind lyncwall's back; or it cannot be read, and is empty here.
    Damaged(Vec<u8>, String),
}

/// Reads a file; `parse` makes sense of its text. Takes the copy if that fails.
pub(super) fn read<T>(file: &Path, parse: impl Fn(&[u8]) -> Result<T>) -> Found<T> {
    let of = |file: &Path| match content(file) {
        Content::Missing => Ok(None),
        Content::Intact(text) => parse(&text).map(Some).map_err(|error| format!("{error:#}")),
        Content::Damaged(_, why) => Err(why),
    };
    let copy = copy_of(file);
    let (why, lost) = match of(file) {
        Ok(Some(content)) => return Found { content: Some(content), damage: None },
        Ok(None) => ("it is missing, and its copy is there".to_owned(), false),
        Err(why) => (why, true),
    };
    match of(&copy) {
        Ok(None) if !lost => Found { content: None, damage: None },
        Ok(Some(content)) => Found {
            content: Some(content),
            damage: Some(format!("{}: {why}; took the copy", file.display())),
        },
        Ok(None) => {
            Found { content: None, damage: Some(format!("{}: {why}; it has no copy", file.display())) }
        }
        Err(also) => {
            let damage = format!("{}: {why}; its copy: {also}", file.display());
            Found { content: None, damage: Some(damage) }
        }
    }
}

/// The content of one file, or of one copy.
pub(super) fn content(file: &Path) -> Content {
    match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Content::Missing,
        Err(error) => Content::Damaged(Vec::new(), error.to_string()),
        Ok(text) => match text.strip_prefix(HEAD) {
            None => Content::Intact(text),
            Some(rest) if is_whole(rest) => Content::Intact(text),
            Some(_) => Content::Damaged(text, "its checksum does not fit its content".to_owned()),
        },
    }
}

/// The path of a file's copy: `NAME.copy.json`.
pub(super) fn copy_of(file: &Path) -> PathBuf {
    file.with_extension("copy.json")
}

/// Writes a file and its copy. `text` is a JSON object with at least one key.
pub(super) fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let body = text.get(1..).unwrap_or_default();
    let checksum = format!("{:016x}", fnv1a(body));
    let sealed = [HEAD, checksum.as_bytes(), TAIL, body].concat();
    replace(file, &sealed)?;
    replace(&copy_of(file), &sealed)
}

/// Moves a damaged file aside, to `NAME.damaged.json`, so that an administrator can look into it. Best effort: the next
/// write replaces the file anyway.
pub(super) fn set_aside(file: &Path) {
    if let Err(error) = fs::rename(file, file.with_extension("damaged.json"))
        && error.kind() != ErrorKind::NotFound
    {
        tracing::debug!("cannot set {} aside: {error}", file.display());
    }
}

/// Removes a file and its copy. The copy goes first: alone, it would count as the rest of a loss.
pub(super) fn remove(file: &Path) -> Result<()> {
    for file in [&copy_of(file), file] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", file.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Creates the directory if needed, and locks it until the file is dropped; `None` if another agent holds it.
pub(super) fn lock(directory: &Path) -> io::Result<Option<File>> {
    make(directory)?;
    let file = File::open(directory)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Replaces a file completely or not at all, even if the power fails. Only its owner may read it.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    make(directory)?;
    let new = file.with_extension("new");
    let written = write_new(&new, text).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        fs::remove_file(&new).ok();
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_new(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut written = options.open(file)?;
    // The mask of the process, and a file of before, may have given it another mode.
    written.set_permissions(Permissions::from_mode(0o600))?;
    written.write_all(text)?;
    written.sync_all()
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// True if the checksum at the beginning of `rest` fits what follows it.
fn is_whole(rest: &[u8]) -> bool {
    let Some((checksum, rest)) = rest.split_at_checked(16) else { return false };
    let Some(body) = rest.strip_prefix(TAIL) else { return false };
    checksum == format!("{:016x}", fnv1a(body)).as_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    use nix::sys::stat::{Mode, umask};
    use serde_json::{Value, json};

    use super::{Found, copy_of, lock, read, remove, write};

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("lyncwall-durable-{name}-{}", std::process::id()));
        fs::remove_dir_all(&directory).ok();
        directory
    }

    fn found(file: &std::path::Path) -> Found<u64> {
        read(file, |text| {
            let value: Value = serde_json::from_slice(text)?;
            value["n"].as_u64().ok_or_else(|| anyhow::anyhow!("no number"))
        })
    }

    #[test]
    fn any_damage_to_one_file_loses_nothing_and_is_said() {
        let directory = directory("damage");
        let file = directory.join("state.json");
        assert!(matches!(found(&file), Found { content: None, damage: None }), "nothing was stored");
        write(&file, json!({"n": 7, "text": "é"}).to_string().as_bytes()).expect("a file");
        assert!(matches!(found(&file), Found { content: Some(7), damage: None }));

        let whole = fs::read(&file).expect("the file");
        let json: Value = serde_json::from_slice(&whole).expect("it is JSON with the checksum");
        assert_eq!(json["n"], 7);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x04;
            for damaged in [&damaged[..], &whole[..at]] {
                fs::write(&file, damaged).expect("damage");
                let Found { content, damage } = found(&file);
                assert_eq!(content, Some(7), "byte {at}: {damage:?}");
                // In the word "checksum", the content is untouched, and without a checksum.
                assert!(damage.is_some() || (2..10).contains(&at), "byte {at}");
            }
        }
        fs::remove_file(&file).expect("it is there");
        assert!(matches!(found(&file), Found { content: Some(7), damage: Some(_) }), "the copy is left");
        fs::write(copy_of(&file), "{").expect("damage");
        assert!(matches!(found(&file), Found { content: None, damage: Some(_) }), "both are lost");
        fs::write(&file, r#"{"n": 8}"#).expect("a file of an earlier version");
        assert!(matches!(found(&file), Found { content: Some(8), damage: None }));
        remove(&file).expect("both go");
        assert_eq!(fs::read_dir(&directory).expect("the directory").count(), 0);
        fs::remove_dir_all(&directory).expect("no directory");
    }

    #[test]
    fn only_the_owner_may_read_whatever_the_mask() {
        let directory = directory("mode");
        let file = directory.join("state.json");
        for mask in [Mode::empty(), Mode::from_bits_truncate(0o077)] {
            let before = umask(mask);
            let written = write(&file, b"{\"n\":1}");
            umask(before);
            written.expect("a file");
            for file in [&file, &copy_of(&file)] {
                assert_eq!(fs::metadata(file).expect("it is there").mode() & 0o7777, 0o600);
            }
        }
        fs::remove_dir_all(&directory).expect("no directory");
    }

    #[test]
    fn one_agent_holds_the_directory() {
        let directory = directory("lock");
        let held = lock(&directory).expect("a directory").expect("nobody holds it");
        assert!(lock(&directory).expect("a directory").is_none());
        drop(held);
        assert!(lock(&directory).expect("a directory").is_some());
        fs::remove_dir_all(&directory).expect("no directory");
    }
}
