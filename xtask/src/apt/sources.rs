//! Where Debian's archive is: the mirror that the machine's own sources name, and the keys that sign it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::process::Failure;

/// The mirror that serves everyone.
const EVERYONE: &str = "http://deb.debian.org/debian";

/// Debian's keys, under the names of the package `debian-archive-keyring`, older and newer.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Suites of Debian's main archive; a source that names one of them names a mirror of it.
const SUITES: [&str; 10] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// The mirrors to try: what the machine's own sources name, then [`EVERYONE`].
///
/// Other archives may look like a mirror here. Debian's keys tell, as these refuse what others have signed.
pub(crate) fn mirrors() -> Vec<String> {
    let mut mirrors: Vec<String> = Vec::new();
    for mirror in files().iter().flat_map(|file| named(file)).chain([EVERYONE.to_owned()]) {
        if !mirrors.contains(&mirror) {
            mirrors.push(mirror);
        }
    }
    mirrors
}

/// The file of Debian's keys.
///
/// # Errors
/// A [`Failure`] where there is none.
pub(crate) fn keyring() -> Result<&'static Path> {
    KEYRINGS.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
        Failure::new(
            "no keys to check Debian's packages with",
            "`apt-get install debian-archive-keyring`, which Debian and Ubuntu have",
        )
        .into()
    })
}

/// The line of a source list for one suite: the package lists only, no translations, contents or icons.
pub(crate) fn line(mirror: &str, suite: &str, keyring: &Path) -> String {
    format!(
        "deb [arch=amd64 lang=none target=Packages signed-by={}] {mirror} {suite} main\n",
        keyring.display()
    )
}

/// The texts of the machine's source lists; what cannot be read names no mirror.
fn files() -> Vec<String> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        paths.extend(entries.flatten().map(|entry| entry.path()));
    }
    paths.sort();
    paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// The mirrors of Debian's main archive in the text of a source list, of either form.
fn named(text: &str) -> Vec<String> {
    text.lines().filter_map(one_line).chain(text.split("\n\n").filter_map(stanza)).collect()
}

/// A line as `deb [options] URI SUITE COMPONENT…`.
fn one_line(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let (uri, suite, mut components) = (words.next()?, words.next()?, words);
    (SUITES.contains(&suite) && components.any(|component| component == "main")).then(|| usable(uri))?
}

/// A stanza of the form deb822: fields with `Name: value`, a disabled one not counted.
fn stanza(text: &str) -> Option<String> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let has = |name: &str, wanted: &[&str]| {
        field(name).is_some_and(|value| value.split_whitespace().any(|word| wanted.contains(&word)))
    };
    let disabled = field("Enabled").is_some_and(|value| value == "no");
    (!disabled && has("Types", &["deb"]) && has("Suites", &SUITES) && has("Components", &["main"]))
        .then(|| field("URIs"))?
        .and_then(|uris| uris.split_whitespace().find_map(usable))
}

/// An address that apt reads from the network without more settings, with the name that every mirror gives the main
/// archive; installers leave CDs and mirror lists behind.
fn usable(uri: &str) -> Option<String> {
    let uri = uri.trim_end_matches('/');
    let network = uri.starts_with("http://") || uri.starts_with("https://");
    (network && uri.ends_with("/debian")).then(|| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_of_a_stanza_is_found() {
        let text = "Types: deb\nURIs: https://packages.example/x\nSuites: nodistro\nComponents: main\n\n\
                    Types: deb\n# an older snapshot\nURIs: http://mirror.example/debian/\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/k.gpg\n";
        assert_eq!(named(text), ["http://mirror.example/debian"]);
    }

    #[test]
    fn the_security_archive_disabled_and_source_stanzas_are_no_mirrors() {
        for text in [
            "Types: deb\nURIs: http://m.example/debian-security\nSuites: bookworm-security\nComponents: main\n",
            "Enabled: no\nTypes: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\n",
            "Types: deb-src\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\n",
            "Types: deb\nURIs: mirror+file:/etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\n",
        ] {
            assert_eq!(named(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn the_mirror_of_a_line_is_found() {
        for (line, expected) in [
            ("deb http://m.example/debian bookworm main contrib", Some("http://m.example/debian")),
            (
                "deb [arch=amd64 signed-by=/k.gpg] https://m.example/debian/ sid main",
                Some("https://m.example/debian"),
            ),
            ("# deb http://m.example/debian bookworm main", None),
            ("deb-src http://m.example/debian bookworm main", None),
            ("deb http://m.example/debian-security bookworm-security main", None),
            ("deb cdrom:[Debian 12]/ bookworm main", None),
            ("deb https://packages.example/apt cloud-sdk-bookworm main", None),
            ("deb https://browser.example/linux/deb/ stable main", None),
        ] {
            assert_eq!(named(line), Vec::from_iter(expected), "{line}");
        }
    }
}
