//! Where a program finds its configuration and leaves its files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A folder that goes on drop. Its path is short, as it may have to hold a socket.
#[derive(Debug)]
pub struct Folder {
    directory: TempDir,
}

impl Folder {
    /// An empty one.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("lyncwall-field-").tempdir().context("a folder")?;
        Ok(Self { directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path of a file in it, as configurations name it.
    pub fn file(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// Writes a file and says where it is.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Writes a script that programs can start.
    ///
    /// # Errors
    /// As [`Folder::write`].
    pub fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.write(name, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("making it executable")?;
        Ok(path)
    }

    /// What a program has written to a file here; nothing where there is no such file yet.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }
}
