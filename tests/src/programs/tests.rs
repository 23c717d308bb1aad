use std::fs;

use super::*;
use crate::prerequisites::require_root;
use crate::traffic::eventually;

/// As long as anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_missing_program_is_a_failure_that_names_its_package() {
    let unknown = find("telnetd").expect_err("nobody lists it").to_string();
    assert!(unknown.contains("programs.tsv does not list telnetd"), "{unknown}");
    let packages: Vec<&str> = list().map(|(_, package)| package).collect();
    assert!(packages.len() > 10 && packages.iter().all(|package| !package.is_empty()), "{packages:?}");
}

#[test]
fn the_documents_name_every_package() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/development.md");
    let page = fs::read_to_string(page).expect("the page is there");
    for (_, package) in list() {
        assert!(page.contains(&format!("`{package}`")), "docs/development.md does not name {package}");
    }
}

#[test]
fn what_a_program_started_dies_with_it_also_after_a_panic() {
    require_root();
    let namespace = Netns::new().expect("a namespace");
    let folder = Folder::new().expect("a folder");
    // A program that starts another and says which.
    let script =
        folder.script("children", "#!/bin/sh\nsleep 60 &\necho \"child $!\"\nwait\n").expect("a script");
    let start = || {
        let mut command = namespace.command(&script);
        command.process_group(0);
        let running = Running::spawn(&mut command).expect("it starts");
        Program { name: "children".to_owned(), running }
            .ready(PATIENCE, |wrote| wrote.contains("child "))
            .expect("it says so")
    };
    let child = |program: &Program| {
        let wrote = program.output();
        wrote.trim().strip_prefix("child ").expect("one line").to_owned()
    };
    let is_gone = |pid: &str| {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };

    let program = start();
    let pid = child(&program);
    assert!(!is_gone(&pid));
    drop(program);
    assert!(eventually(PATIENCE, || is_gone(&pid)), "{pid} outlived a drop");

    let mut pid = String::new();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let program = start();
        pid = child(&program);
        panic!("as expected");
    }));
    panicked.expect_err("it panicked");
    assert!(eventually(PATIENCE, || is_gone(&pid)), "{pid} outlived a panic");
}

#[test]
fn a_program_that_ends_or_is_never_ready_is_a_failure_with_what_it_wrote() {
    require_root();
    let namespace = Netns::new().expect("a namespace");
    let folder = Folder::new().expect("a folder");
    let program =
        Program::start(&namespace, &folder, "nginx", ["-c", "/nonexistent/nginx.conf"]).expect("nginx");
    let said = program.ready(PATIENCE, |_| false).expect_err("it has no configuration").to_string();
    assert!(said.contains("ended with") && said.contains("/nonexistent/nginx.conf"), "{said}");
    let program = Program::start(&namespace, &folder, "ip", ["monitor"]).expect("ip");
    let said = program.ready(Duration::from_millis(50), |_| false).expect_err("it waits").to_string();
    assert!(said.contains("was not ready within 50ms"), "{said}");
}
