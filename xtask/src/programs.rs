//! The test programs of the workspace, all built by one command.
//!
//! One command is one set of features for the dependencies: a program that is asked for alone is the one that a run of
//! all tests uses, and nothing is built twice.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use cargo_metadata::{Artifact, Message, TargetKind};

use crate::build::{self, Built};
use crate::process::{self, Failure};
use crate::toolchain;

/// One test program, as cargo built it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The package that it tests, as `lyncwall`.
    pub(crate) package: String,
    /// `lib` for the unit tests of a library, else the name of the program or of the integration test.
    pub(crate) name: String,
    /// The executable.
    pub(crate) file: PathBuf,
    /// The folder of the package, where cargo runs its tests.
    pub(crate) folder: PathBuf,
}

impl Program {
    /// The command that runs it, as cargo would.
    pub(crate) fn command(&self, built: &Built) -> Command {
        let mut command = Command::new(&self.file);
        built.export_to(&mut command);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder).stdin(Stdio::null());
        command
    }

    /// For people: `lyncwall-tests kernel`.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.package, self.name)
    }
}

/// Builds the BPF object, the agent with the object inside, the programs of the tests, and the tests: all of them, or
/// those integration tests that `only` names (`lib` for the unit tests of all libraries).
///
/// # Errors
/// A [`Failure`] of the step that failed.
pub(crate) fn build(toolchain: &toolchain::Selection, only: &[String]) -> Result<(Built, Vec<Program>)> {
    let object = build::object_of_workspace(toolchain)?;
    process::say("build the agent and the tests");
    let start = std::time::Instant::now();
    let mut command = build::host("test")?;
    command
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .env(build::OBJECT_VARIABLE, &object);
    for name in only {
        match name.as_str() {
            "lib" => command.arg("--lib"),
            name => command.args(["--test", name]),
        };
    }
    // Cargo builds a package's programs for the sake of its own integration tests alone, and takes `--bin` for their unit tests.
    if !only.is_empty() {
        command.args(["--test", build::A_TEST]);
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| Failure::new(format!("cargo test: {error}"), "install Rust by rustup"))?;
    let mut running = child;
    let output = running.stdout.take().context("the output of cargo test")?;
    let mut programs = Vec::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) = message.context("the output of cargo test")? {
            programs.extend(program(&artifact));
        }
    }
    let status = running.wait();
    process::judge("build the tests", &command, status, "mend what the compiler says above")?;
    process::say(&format!("build the agent and the tests: {}", process::elapsed(start)));
    Ok((Built::debug(object)?, programs))
}

/// The test program that a message of cargo's is about, if it is about one.
fn program(artifact: &Artifact) -> Option<Program> {
    let file = artifact.executable.as_ref().filter(|_| artifact.profile.test)?;
    let folder = artifact.manifest_path.parent()?;
    let is_library = artifact.target.kind.iter().any(|kind| matches!(kind, TargetKind::Lib));
    Some(Program {
        package: package(artifact.package_id.repr.as_str(), folder.as_std_path()),
        name: if is_library { "lib".to_owned() } else { artifact.target.name.clone() },
        file: file.into(),
        folder: folder.into(),
    })
}

/// The name in a package's id: `path+file:///…/agent#lyncwall@0.1.0`, or without the name where the folder has it.
fn package(id: &str, folder: &Path) -> String {
    let fragment = id.rsplit_once('#').map_or("", |(_, fragment)| fragment);
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, test: bool, executable: &str) -> Artifact {
        let text = format!(
            r#"{{"package_id":"path+file:///r/tests#lyncwall-tests@0.1.0","manifest_path":"/r/tests/Cargo.toml",
                "target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"kernel","src_path":"/r/tests/tests/kernel/main.rs",
                "edition":"2024","doc":false,"doctest":false,"test":true}},
                "profile":{{"opt_level":"1","debuginfo":1,"debug_assertions":true,"overflow_checks":true,"test":{test}}},
                "features":[],"filenames":["/t/kernel"],"executable":{executable},"fresh":true}}"#
        );
        serde_json::from_str(&text).expect("a message of cargo's")
    }

    #[test]
    fn only_test_programs_are_taken_from_cargos_messages() {
        let found = program(&message("test", true, r#""/t/kernel""#)).expect("a test program");
        assert_eq!(
            (found.title().as_str(), found.file.as_path()),
            ("lyncwall-tests kernel", Path::new("/t/kernel"))
        );
        assert_eq!(found.folder, Path::new("/r/tests"));
        assert_eq!(program(&message("lib", true, r#""/t/kernel""#)).expect("unit tests").name, "lib");
        assert_eq!(program(&message("bin", false, r#""/t/kernel""#)), None);
        assert_eq!(program(&message("lib", true, "null")), None);
    }

    #[test]
    fn a_package_is_named_by_its_id_or_its_folder() {
        assert_eq!(package("path+file:///r/agent#lyncwall@0.1.0", Path::new("/r/agent")), "lyncwall");
        assert_eq!(package("path+file:///r/xtask#0.1.0", Path::new("/r/xtask")), "xtask");
    }
}
