//! apt as a downloader: it reads the machine's sources, or one suite of Debian's archive, and writes only below a
//! folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{self, Failure, capture};

pub(crate) mod sources;

/// A view of the package lists.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
    /// Settings beside the machine's, as `-o` takes them.
    settings: Vec<(&'static str, PathBuf)>,
}

impl Apt {
    /// Over the machine's own lists, as the last `apt-get update` left them.
    ///
    /// # Errors
    /// When `folder` cannot be written.
    pub(crate) fn with_machine_lists(folder: &Path) -> Result<Self> {
        Self::new(folder, Vec::new())
    }

    /// Over lists that are fetched now from the machine's sources; the machine's own stay as they are.
    ///
    /// # Errors
    /// A [`Failure`] when the lists cannot be fetched.
    pub(crate) fn with_own_lists(folder: &Path) -> Result<Self> {
        let apt = Self::new(folder, vec![("Dir::State::lists", folder.join("lists"))])?;
        process::run(
            "fetch apt's package lists into a folder of our own",
            apt.command("apt-get").arg("update"),
            "apt's sources must be reachable, among them the security suite of Debian 12",
        )?;
        Ok(apt)
    }

    /// Over one suite of Debian's archive at `mirror`, whatever this machine runs: its lists are fetched now, and
    /// checked by Debian's keys.
    ///
    /// # Errors
    /// A [`Failure`] when the keys are missing or the lists cannot be fetched.
    pub(crate) fn with_suite(folder: &Path, mirror: &str, suite: &str) -> Result<Self> {
        let (list, status) = (folder.join("sources.list"), folder.join("status"));
        let none = || PathBuf::from("/dev/null");
        let apt = Self::new(
            folder,
            vec![
                ("Dir::State::lists", folder.join("lists")),
                // Of the machine: neither its sources, nor its pins, nor what it has installed.
                ("Dir::Etc::sourcelist", list.clone()),
                ("Dir::Etc::sourceparts", none()),
                ("Dir::Etc::preferences", none()),
                ("Dir::Etc::preferencesparts", none()),
                ("Dir::State::status", status.clone()),
                // Without it, `update` ends well where it has fetched nothing.
                ("APT::Update::Error-Mode", PathBuf::from("any")),
            ],
        )?;
        fs::write(&list, sources::line(mirror, suite, sources::keyring()?))
            .with_context(|| list.display().to_string())?;
        fs::write(&status, "").with_context(|| status.display().to_string())?;
        process::run(
            &format!("fetch the package lists of Debian's {suite} from {mirror}"),
            apt.command("apt-get").args(["update", "-qq"]),
            "the mirror must be reachable and hold the suite",
        )?;
        Ok(apt)
    }

    /// The version of `package` that would be installed, if the lists have one.
    pub(crate) fn candidate(&self, package: &str) -> Option<String> {
        let policy = capture(self.command("apt-cache").args(["policy", package])).ok()?;
        parse_candidate(&policy)
    }

    /// The direct dependencies of `package`.
    ///
    /// # Errors
    /// A [`Failure`] when the lists do not know it.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        Ok(parse_depends(&capture(self.command("apt-cache").args(["depends", "--important", package]))?))
    }

    /// `package` and everything that it depends on.
    ///
    /// # Errors
    /// A [`Failure`] when the lists do not know it.
    pub(crate) fn closure(&self, package: &str) -> Result<Vec<String>> {
        let mut apt_cache = self.command("apt-cache");
        Ok(parse_closure(&capture(apt_cache.args(["depends", "--recurse", "--important", package]))?))
    }

    /// Downloads the candidates of `packages` and unpacks them into `folder`, which gets its name only when everything
    /// is in it; what was there before is gone then.
    ///
    /// # Errors
    /// A [`Failure`] when a package cannot be had or unpacked; `fix` says what unpacking may lack.
    pub(crate) fn unpack(&self, packages: &[String], folder: &Path, fix: &str) -> Result<()> {
        let partial = folder.with_extension("partial");
        remove(&partial)?;
        let archives = partial.join("archives");
        fs::create_dir_all(&archives).with_context(|| archives.display().to_string())?;
        self.download(packages, &archives)?;
        for entry in fs::read_dir(&archives).with_context(|| archives.display().to_string())? {
            let archive = entry.with_context(|| archives.display().to_string())?.path();
            process::run(
                &format!("unpack {}", archive.file_name().unwrap_or_default().display()),
                Command::new("dpkg").arg("-x").args([&archive, &partial]),
                fix,
            )?;
        }
        remove(&archives)?;
        remove(folder)?;
        fs::rename(&partial, folder).with_context(|| folder.display().to_string())
    }

    fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        process::run(
            &format!("download {}", packages.join(" ")),
            self.command("apt-get").arg("download").args(packages).current_dir(into),
            "",
        )
    }

    fn new(folder: &Path, settings: Vec<(&'static str, PathBuf)>) -> Result<Self> {
        for part in ["cache/archives/partial", "lists/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
        }
        // Read after the machine's configuration, so that its hooks, which write elsewhere, can be cleared.
        let configuration = folder.join("apt.conf");
        fs::write(
            &configuration,
            "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n",
        )
        .with_context(|| configuration.display().to_string())?;
        Ok(Self { folder: folder.to_path_buf(), settings })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &Path| {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        };
        option("Dir::Cache", &self.folder.join("cache"));
        // Downloads go where the user of this program may write, not where apt's own user may.
        option("APT::Sandbox::User", Path::new("root"));
        for (name, value) in &self.settings {
            option(name, value);
        }
        command.arg("-c").arg(self.folder.join("apt.conf")).env("LC_ALL", "C");
        command
    }
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// The packages among `packages` that are not installed on this machine.
///
/// # Errors
/// A [`Failure`] when dpkg-query does not run.
pub(crate) fn not_installed(packages: &[String]) -> Result<Vec<String>> {
    let listed = capture(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\\n"]))?;
    Ok(missing_from(&listed, packages))
}

/// Says that the programs are there which [`Apt`] and unpacking need.
///
/// # Errors
/// A [`Failure`] that names what is missing, with `fix`.
pub(crate) fn require_programs(fix: &str) -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg", "dpkg-query"] {
        capture(Command::new(program).arg("--version")).map_err(|_| {
            Failure::new(format!("{program} does not run, so Debian's packages cannot be used"), fix)
        })?;
    }
    Ok(())
}

fn missing_from(listed: &str, packages: &[String]) -> Vec<String> {
    let is_installed = |package: &String| {
        listed.lines().any(|line| line.strip_suffix(" installed").is_some_and(|name| name == package))
    };
    packages.iter().filter(|package| !is_installed(package)).cloned().collect()
}

fn parse_candidate(policy: &str) -> Option<String> {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (candidate != "(none)").then(|| candidate.to_owned())
}

fn parse_depends(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    // Angle brackets mark names that no package bears.
    names.filter(|name| !name.starts_with('<')).map(str::to_owned).collect()
}

fn parse_closure(text: &str) -> Vec<String> {
    let packages = text.lines().filter(|line| !line.starts_with([' ', '<', '|']) && !line.is_empty());
    packages.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_read_and_none_is_none() {
        let policy =
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(parse_candidate("x:\n  Installed: 1\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }

    #[test]
    fn dependencies_are_read_without_virtual_names() {
        let text = "libllvm22\n  Depends: libc6\n  Depends: <libc-dev>\n    libc6-dev\nlibc6\n  Depends: libgcc-s1\n<x>\n";
        assert_eq!(parse_depends(text), ["libc6", "libgcc-s1"]);
        assert_eq!(parse_closure(text), ["libllvm22", "libc6"]);
    }

    #[test]
    fn removed_and_unknown_packages_are_not_installed() {
        let listed = "libedit2 installed\nlibz3-4 config-files\n";
        let packages = ["libedit2", "libz3-4", "libxml2"].map(str::to_owned);
        assert_eq!(missing_from(listed, &packages), ["libz3-4", "libxml2"]);
    }
}
