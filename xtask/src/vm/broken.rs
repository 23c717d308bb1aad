//! A BPF program that is wrong on purpose: if the tests do not find it out, they prove nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::output::Ended;
use super::steps::{self, BROKEN, CONTROL};
use crate::build;
use crate::process::{Failure, say};
use crate::toolchain::{self, Place};
use crate::workspace;

/// The file that is changed, and the change: ports are looked up in the byte order of the processor.
const FILE: &str = "common/src/abi/policy.rs";
const RIGHT: &str = "match self.ports[port.index()] {";
const WRONG: &str = "match self.ports[(port.index() as u16).swap_bytes() as usize] {";

/// Builds the broken object from a copy of the sources.
///
/// # Errors
/// A [`Failure`] where the line to break is not there or not alone, and when the build fails.
pub(crate) fn object(options: &toolchain::Selection) -> Result<PathBuf> {
    let folder = super::folder()?.join("broken");
    let place = Place { sources: folder.join("sources"), output: folder.join("bpf") };
    say(&format!("copy the sources to {}, with one change in {FILE}", place.sources.display()));
    copy(&workspace::root(), &place.sources)?;
    build::object(options, &place, workspace::BPF_PROGRAM)
}

/// How the tests found out.
///
/// # Errors
/// A sentence where they did not, or where something else failed.
pub(crate) fn judge(steps: &[Ended]) -> Result<&'static str, String> {
    let find = |name: &str| steps.iter().find(|step| step.name == name);
    let (Some(control), Some(broken)) = (find(CONTROL), find(BROKEN)) else {
        return Err("a step did not run".to_owned());
    };
    if control.status != 0 || control.sum().passed == 0 {
        return Err("the tests about ports fail with the right program too".to_owned());
    }
    if broken.status == 0 {
        return Err("the tests pass with the broken program".to_owned());
    }
    if !broken.failed().into_iter().any(steps::is_about_ports) {
        return Err("tests fail with the broken program, but not those about ports".to_owned());
    }
    if broken.lines.iter().any(|line| line.contains("the verifier's last lines")) {
        return Ok("the verifier refuses the program");
    }
    if broken.sum().passed == 0 {
        return Err("every test fails, and not for the verifier".to_owned());
    }
    Ok("verdicts differ")
}

/// Copies what is to be built, and breaks it. Files that are there already with the same content stay as they are, so
/// that cargo sees what has changed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = workspace::target_dir()?;
    let enter = |folder: &Path| {
        let is_git = folder.file_name().is_some_and(|name| name == ".git");
        folder != output && !workspace::is_output(folder) && !is_git
    };
    for path in workspace::files(from, enter)? {
        let name = path.strip_prefix(from)?;
        let mut content = fs::read(&path).with_context(|| path.display().to_string())?;
        if name == Path::new(FILE) {
            content = broken(&String::from_utf8_lossy(&content))?.into_bytes();
        }
        let copy = to.join(name);
        if fs::read(&copy).ok().as_ref() != Some(&content) {
            let folder = copy.parent().unwrap_or(to);
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            fs::write(&copy, content).with_context(|| copy.display().to_string())?;
        }
    }
    Ok(())
}

fn broken(source: &str) -> Result<String> {
    match source.matches(RIGHT).count() {
        1 => Ok(source.replace(RIGHT, WRONG)),
        count => Err(Failure::new(
            format!("`{RIGHT}` stands {count} times in {FILE}, so it is not clear what to break"),
            "mend the text of the change in xtask/src/vm/broken.rs",
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_line_to_break_is_in_the_source_once() {
        let source = fs::read_to_string(workspace::root().join(FILE)).expect("the source");
        let broken = broken(&source).expect("one line to break");
        assert!(broken.contains(WRONG) && !broken.contains(RIGHT));
        assert!(super::broken(&format!("{source}{RIGHT}")).is_err());
    }

    fn step(name: &str, status: i32, lines: &[&str]) -> Ended {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        Ended { name: name.to_owned(), status, took: Duration::ZERO, lines }
    }

    #[test]
    fn only_failures_about_ports_count_as_found_out() {
        let ports = "test verdicts::transport_headers_ports_and_replies ... FAILED";
        let some = "test result: FAILED. 5 passed; 2 failed; 0 ignored";
        let none = "test result: FAILED. 0 passed; 7 failed; 0 ignored";
        let control = || step(CONTROL, 0, &["test result: ok. 1 passed; 0 failed; 0 ignored"]);
        let verdict = |broken: Ended| judge(&[control(), broken]);
        assert_eq!(verdict(step(BROKEN, 101, &[ports, some])), Ok("verdicts differ"));
        assert_eq!(
            verdict(step(BROKEN, 101, &[ports, "ingress: EINVAL; the verifier's last lines:", none])),
            Ok("the verifier refuses the program")
        );
        for wrong in [
            step(BROKEN, 0, &["test result: ok. 7 passed; 0 failed; 0 ignored"]),
            step(BROKEN, 101, &["test verdicts::ethernet_and_vlan_tags ... FAILED", some]),
            step(BROKEN, 101, &[ports, "no such file", none]),
            step(BROKEN, 127, &["/tests/verdicts: not found"]),
        ] {
            assert!(verdict(wrong).is_err());
        }
        let broken = || step(BROKEN, 101, &[ports, some]);
        assert!(judge(&[step(CONTROL, 101, &[]), broken()]).is_err());
        assert!(judge(&[broken()]).is_err());
    }
}
