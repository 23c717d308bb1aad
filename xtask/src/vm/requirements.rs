//! What this machine needs to boot guests.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::process::Failure;

/// A program of this machine, and Debian's package that has it.
#[derive(Debug)]
pub(crate) struct Program {
    /// As it is called.
    pub(crate) name: &'static str,
    /// Where it comes from.
    pub(crate) package: &'static str,
}

/// The emulator.
pub(crate) const QEMU: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86" };

/// Ends a guest with the program that watches it, however that one ends.
pub(crate) const SETPRIV: Program = Program { name: "setpriv", package: "util-linux" };

/// The shell and the tools of the guest.
pub(crate) const BUSYBOX: Program = Program { name: "busybox", package: "busybox-static" };

/// All that is needed.
pub(crate) const PROGRAMS: [Program; 6] = [
    QEMU,
    SETPRIV,
    BUSYBOX,
    // Modules of newer kernels are compressed.
    Program { name: "xz", package: "xz-utils" },
    // The tests' debugging information would be five times as large as the tests.
    Program { name: "strip", package: "binutils" },
    Program { name: "ldd", package: "libc-bin" },
];

impl Program {
    /// Where it lies, if it is installed.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let path = env::var_os("PATH")?;
        env::split_paths(&path).map(|folder| folder.join(self.name)).find(|file| file.is_file())
    }
}

/// Demands all of them.
///
/// # Errors
/// A [`Failure`] that names all that are missing and the command that brings them.
pub(crate) fn check() -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        return Err(Failure::new(
            format!(
                "the guests are x86_64 and run this machine's own test programs, which are {}",
                env::consts::ARCH
            ),
            "run this on an x86_64 machine",
        )
        .into());
    }
    let missing: Vec<&Program> = PROGRAMS.iter().filter(|program| program.find().is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
    Err(Failure::new(format!("guests need {}", names.join(", ")), install(&missing)).into())
}

/// The command that installs `programs`.
pub(crate) fn install(programs: &[&Program]) -> String {
    let packages: Vec<&str> = programs.iter().map(|program| program.package).collect();
    format!("`apt-get install --no-install-recommends {}`", packages.join(" "))
}
