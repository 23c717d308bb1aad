//! Kernel modules for the guest, in an order in which each finds what it depends on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::kernels::Unpacked;
use crate::process::{Failure, say};
use crate::workspace;

/// What the tests make interfaces and attach programs with, and what lists sockets.
const WANTED: [&str; 12] = [
    "veth",
    "sch_ingress",
    "cls_bpf",
    "dummy",
    "8021q",
    "bonding",
    "bridge",
    "ip_gre",
    "tun",
    "vrf",
    "tcp_diag",
    "udp_diag",
];

/// A module, ready to be inserted.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its name, as the kernel writes it.
    pub(crate) name: String,
    /// The object, not compressed.
    pub(crate) object: Vec<u8>,
}

/// The modules of `kernel` that the tests need, dependencies first.
///
/// One that is not there is taken to be part of the image; if it is not, the tests say what they cannot make.
///
/// # Errors
/// When a module cannot be read.
pub(crate) fn of(kernel: &Unpacked) -> Result<Vec<Module>> {
    let files = files(&kernel.modules)?;
    let mut chosen = Vec::new();
    let mut absent = Vec::new();
    for name in WANTED {
        choose(name, &files, &mut chosen, &mut absent)?;
    }
    if !absent.is_empty() {
        say(&format!("Linux {}: no modules {}, so taken as built in", kernel.kernel.name, absent.join(", ")));
    }
    Ok(chosen)
}

fn choose(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    chosen: &mut Vec<Module>,
    absent: &mut Vec<String>,
) -> Result<()> {
    let name = canonical(name);
    if chosen.iter().any(|module| module.name == name) || absent.contains(&name) {
        return Ok(());
    }
    let Some(file) = files.get(&name) else {
        absent.push(name);
        return Ok(());
    };
    let object = read(file)?;
    for needed in depends(&object) {
        choose(&needed, files, chosen, absent)?;
    }
    chosen.push(Module { name, object });
    Ok(())
}

/// All modules below `folder`, by name.
fn files(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let named = |path: PathBuf| match path.file_name()?.to_str()?.split_once('.')? {
        (name, "ko" | "ko.xz") => Some((canonical(name), path)),
        _ => None,
    };
    Ok(workspace::files(folder, |_| true)?.into_iter().filter_map(named).collect())
}

/// File names have dashes where the kernel's names have underscores.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| file.display().to_string());
    }
    // The kernel would take it as it is, but not every `insmod` hands it over.
    let mut xz = Command::new("xz");
    let output = xz.args(["-dc".as_ref(), file.as_os_str()]).stdin(Stdio::null()).output().context("xz")?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(said, format!("delete the folder of {} and run this again", file.display())).into())
}

/// The names after `depends=` in the module's section of information, which is a list of strings that end with NUL.
fn depends(object: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = object.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = object[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(canonical).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_object() {
        assert_eq!(depends(b"\x7fELF\0license=GPL\0depends=stp,llc\0intree=Y\0"), ["stp", "llc"]);
        assert_eq!(depends(b"license=GPL\0depends=\0name=veth\0"), [""; 0]);
        assert_eq!(depends(b"no module"), [""; 0]);
    }

    #[test]
    fn a_module_comes_after_what_it_needs_and_once() {
        let folder = std::env::temp_dir().join(format!("xtask-modules-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let files = BTreeMap::from([
            ("bridge".to_owned(), write("bridge.ko", "\0depends=stp,llc\0")),
            ("stp".to_owned(), write("stp.ko", "\0depends=llc\0")),
            ("llc".to_owned(), write("llc.ko", "\0depends=\0")),
        ]);
        let (mut chosen, mut absent) = (Vec::new(), Vec::new());
        for name in ["bridge", "stp", "dummy"] {
            choose(name, &files, &mut chosen, &mut absent).expect("readable");
        }
        fs::remove_dir_all(&folder).expect("removable");
        let names: Vec<&str> = chosen.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["llc", "stp", "bridge"]);
        assert_eq!(absent, ["dummy"]);
    }
}
