//! What is in a guest: the programs of this machine's build, with the loader and the libraries that they use.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::archive::Archive;
use super::requirements::BUSYBOX;
use super::steps::{BROKEN_OBJECT, FIGURES, OBJECT, Step};
use super::{folder, modules};
use crate::build::Built;
use crate::process::{self, Failure, capture};
use crate::programs::Program;
use crate::vm::kernels::Unpacked;

/// The shell and the commands of the guest's script, all of them busybox.
const APPLETS: [&str; 9] = ["sh", "mount", "insmod", "ip", "dmesg", "tail", "poweroff", "cat", "ls"];

/// The part of the first root folder that all guests share.
///
/// # Errors
/// When a program or a library of it cannot be read.
pub(crate) fn common(
    built: &Built,
    tests: &[Program],
    steps: &[Step],
    broken: Option<&Path>,
) -> Result<Vec<u8>> {
    process::say("pack the guests");
    let mut archive = Archive::default();
    for mount_point in ["dev", "proc", "sys", "sys/fs/bpf", "run", "tmp", "modules", "root", "etc"] {
        archive.folder(mount_point);
    }
    // Where the first process finds its terminal before anything is mounted.
    archive.device("dev/console", (5, 1));
    let busybox = BUSYBOX.find().with_context(|| BUSYBOX.name)?;
    let mut programs =
        vec![("/bin/busybox".to_owned(), busybox), ("/bin/lyncwall".to_owned(), built.agent())];
    for path in steps.iter().map(Step::program).collect::<BTreeSet<_>>() {
        let name = path.rsplit('/').next().unwrap_or(path);
        let file = if name == FIGURES { built.path(name) } else { test(tests, name)?.to_path_buf() };
        programs.push((path.to_owned(), file));
    }
    let mut libraries = BTreeSet::new();
    for (path, file) in &programs {
        archive.file(path, &read(&stripped(file)?)?);
        libraries.extend(libraries_of(file)?);
    }
    for library in &libraries {
        archive.file(library, &read(Path::new(library))?);
    }
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.file(OBJECT, &read(built.object())?);
    if let Some(broken) = broken {
        archive.file(BROKEN_OBJECT, &read(broken)?);
    }
    Ok(archive.finish())
}

/// Where cargo put a test program.
fn test<'a>(tests: &'a [Program], name: &str) -> Result<&'a Path> {
    let found = tests.iter().find(|program| program.name == name).map(|program| program.file.as_path());
    found.with_context(|| format!("cargo built no test program {name}"))
}

/// The part of one guest: its kernel's modules, numbered in the order to insert them in, and the first process.
///
/// # Errors
/// When a module cannot be read.
pub(crate) fn own(kernel: &Unpacked, init: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (number, module) in modules::of(kernel)?.iter().enumerate() {
        archive.file(&format!("modules/{number:02}-{}.ko", module.name), &module.object);
    }
    archive.file("init", init.as_bytes());
    Ok(archive.finish())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| file.display().to_string())
}

/// A copy without debugging information, made again when the program is newer.
fn stripped(file: &Path) -> Result<PathBuf> {
    let copies = folder()?.join("stripped");
    fs::create_dir_all(&copies).with_context(|| copies.display().to_string())?;
    let copy = copies.join(file.file_name().with_context(|| file.display().to_string())?);
    let modified = |file: &Path| fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    if modified(&copy) <= modified(file) {
        capture(Command::new("strip").args(["--strip-debug", "-o"]).args([&copy, file]))?;
    }
    Ok(copy)
}

/// The libraries and the loader that a program uses, where they lie on this machine; they lie there in the guest too.
fn libraries_of(program: &Path) -> Result<Vec<String>> {
    let mut ldd = Command::new("ldd");
    // What cargo puts there is for programs that are linked with Rust's own libraries, and the guest does not set it.
    ldd.arg(program).env_remove("LD_LIBRARY_PATH").env("LC_ALL", "C").stdin(Stdio::null());
    let output = ldd.output().context("ldd")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    process::judge("ldd", &ldd, Ok(output.status), said.trim())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        return Err(
            Failure::new(format!("{}: {}", program.display(), line.trim()), "install the library").into()
        );
    }
    Ok(parse_libraries(&text))
}

/// The files in the output of `ldd`; the library that the kernel makes has none.
fn parse_libraries(text: &str) -> Vec<String> {
    let file = |line: &str| {
        let place = line.split_once(" => ").map_or(line, |(_, place)| place).trim();
        let file = place.split(" (").next().unwrap_or(place);
        (file.starts_with('/')).then(|| file.to_owned())
    };
    text.lines().filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007faf659ed000)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007faf659bc000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007faf659ef000)\n\tstatically linked\n";
        assert_eq!(
            parse_libraries(text),
            ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib64/ld-linux-x86-64.so.2"]
        );
    }
}
